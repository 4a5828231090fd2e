//! Examples of each detector, as data, and texts that were cut.

use super::*;

/// Each detector alone with its lines.
#[test]
fn each_detector_finds_its_examples_and_nothing_in_its_counterexamples() {
    let mut seen: Vec<(&str, bool)> = Vec::new();
    let mut wrong = Vec::new();
    for line in include_str!("../examples.txt").lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once(' ').unwrap();
        let (positive, marked) = (rest.starts_with('+'), &rest[2..]);
        seen.push((name, positive));
        let text = marked.replace(['«', '»'], "");
        let mut engine = engine(&RedactConfig { detectors: vec![name.to_owned()], ..RedactConfig::default() });
        let mut expected: Vec<String> = marked.split('«').skip(1).map(|part| part.split('»').next().unwrap().to_owned()).collect();
        let mut found: Vec<String> = engine.find(text.as_bytes(), &[]).iter().map(|hit| text[hit.start..hit.end].to_owned()).collect();
        expected.sort();
        found.sort();
        if found != expected || positive == expected.is_empty() {
            wrong.push(format!("{line}\n  found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (name, ..) in detectors() {
        assert!(seen.contains(&(name, true)) && seen.contains(&(name, false)), "{name} needs an example of each kind");
    }
}

/// However a text is cut in pieces, these say together what the whole would: no half of a value is in any of them.
#[test]
fn a_cut_leaves_no_half_of_a_value() {
    let text = "a@b.org 4111 1111 1111 1111 x \\u0040 8.8.8.8 pay 4111%201111%201111%201111!";
    let whole = redacted(text);
    for (first, second) in (0..=text.len()).flat_map(|first| (first..=text.len()).map(move |second| (first, second))) {
        let mut batch = batch_with(Shared::empty(), &[text]);
        let field = *batch.record(0).fields().last().unwrap();
        let around = field.value;
        let base = around.start as usize;
        batch.retain(|_| false);
        for (start, end) in [(0, first), (first, second), (second, text.len())] {
            let value = Span::new(base + start, base + end);
            batch.push(0, &[Field { value, ..field }]);
            batch.cuts().push(Cut { value, around });
        }
        apply(&mut *transform(json!({"type": "redact", "detectors": ["email", "ipv4"]})), &mut batch);
        apply(&mut *transform(json!({"type": "redact", "detectors": ["credit_card"]})), &mut batch);
        let message = |view: skidder_pipeline::batch::RecordView<'_>| view.iter().next().unwrap().1.plain_str().into_owned();
        let pieces: Vec<String> = batch.records().map(message).collect();
        assert_eq!(pieces.concat(), whole, "cut at {first} and {second}: {pieces:?}");
    }
}
