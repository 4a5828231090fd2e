//! Recall on labelled lines that were written apart from the detectors, from the formats that providers and countries document.
//!
//! They stand in `tests/redaction/labelled`: what is to be taken out stands in «», and `¦` splits tokens, which are made up, so
//! that no scanner of repositories takes them for real ones. A value counts as found where nothing of it is left; any other
//! change is a false positive.

use std::fmt::Write;

use skidder_tests::workspace;

use super::*;

/// The lines of a set, each with the places of its values.
fn lines_of(set: &str) -> Vec<(String, Vec<(usize, usize)>)> {
    let path = workspace::root().join("tests/redaction/labelled").join(set);
    let text = std::fs::read_to_string(&path).unwrap().replace('¦', "");
    let labelled = |line: &str| {
        let (mut plain, mut values) = (String::new(), Vec::new());
        for (at, part) in line.split('«').enumerate() {
            let (value, after) = if at == 0 { ("", part) } else { part.split_once('»').unwrap() };
            if at > 0 {
                values.push((plain.len(), plain.len() + value.len()));
            }
            plain.push_str(value);
            plain.push_str(after);
        }
        (plain, values)
    };
    text.lines().filter(|line| !line.starts_with('#')).map(labelled).collect()
}

/// How many values of a set there are and were found, the false positives, and what went wrong.
fn score(set: &str) -> (usize, usize, usize, String) {
    let mut redactor = LineRedactor::new(&RedactConfig::default()).unwrap();
    redactor.explain();
    let (mut all, mut hit, mut wrong, mut report) = (0, 0, 0, String::new());
    for (line, values) in lines_of(set) {
        redactor.redact(line.as_bytes());
        let found = redactor.found();
        for &(start, end) in &values {
            all += 1;
            let covered = (start..end).filter(|at| found.iter().any(|found| (found.start..found.end).contains(at))).count();
            // Up to four characters may be left, as a mask leaves them: a fraction, a sign.
            if covered > 0 && end - start - covered <= 4.min((end - start) * 2 / 5) {
                hit += 1;
            } else {
                writeln!(report, "missed «{}» in {line}", &line[start..end]).unwrap();
            }
        }
        for found in found.iter().filter(|found| !values.iter().any(|(start, end)| found.start < *end && *start < found.end)) {
            wrong += 1;
            writeln!(report, "{} took «{}» in {line}", found.rule, &line[found.start..found.end]).unwrap();
        }
    }
    (all, hit, wrong, report)
}

#[test]
fn recall_reaches_the_marks() {
    let mut failed = String::new();
    let sets = [("thai.txt", 95), ("json.txt", 92), ("secrets.txt", 95), ("thai-2.txt", 95), ("json-2.txt", 92), ("secrets-2.txt", 95)];
    for (set, mark) in sets {
        let (all, hit, wrong, report) = score(set);
        assert!(all > 80, "{set} has {all} values");
        if hit * 100 < all * mark || wrong > 0 {
            write!(failed, "{set}: {hit} of {all} found, {mark} % wanted; {wrong} false positives\n{report}").unwrap();
        }
    }
    assert!(failed.is_empty(), "{failed}");
}

/// Lines of other systems' logs have nothing in them to find.
#[test]
fn nothing_is_found_in_lines_of_other_systems() {
    let (all, _, wrong, report) = score("systems.txt");
    assert!(all == 0 && wrong == 0, "{report}");
    assert!(lines_of("systems.txt").len() > 100);
}
