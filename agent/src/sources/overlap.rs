//! Sources that would read the same file: found in the configuration, where globs can tell.
//!
//! A file belongs to one source: read by two, its records would come twice under one id. Whether two globs can match the
//! same path is found by looking for such a path, and the path is tried with the sources' own rules before anything is said,
//! so that nothing is refused that could not happen. What links and excludes hide from this is seen when both sources meet
//! the file: see [`super::claims`].

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};

use skidder_pipeline::problem::Problem;

use super::SourceConfig;

/// How many alternatives a glob's braces are taken apart to.
const MAX_ALTERNATIVES: usize = 64;
/// How far a path is looked for before the question is left to the time of running: some milliseconds.
const MAX_STATES: usize = 20_000;

/// The files that a source may read.
pub(super) struct Reach {
    /// Each a list of globs of which a path matches all.
    pub globs: Vec<Vec<String>>,
    /// Whether it would read a file at this path.
    pub reads: Box<dyn Fn(&Path) -> bool>,
}

/// All pairs of sources that would read the same file, with what is wrong with the second.
pub(crate) fn check_overlaps(sources: &[Option<&SourceConfig>], base_dir: &Path) -> Vec<(usize, usize, Problem)> {
    let mut problems = Vec::new();
    let reaches: Vec<Option<Reach>> = sources.iter().map(|source| source.and_then(|source| source.reach(base_dir))).collect();
    for (second, reach) in reaches.iter().enumerate() {
        for (first, other) in reaches[..second].iter().enumerate() {
            if let (Some(reach), Some(other)) = (reach, other)
                && let Some(path) = common_path(reach, other)
            {
                let message = format!("another source would read the same files, such as `{}`", path.display());
                let help = "a file belongs to one source, which may feed any number of sinks: make the globs of one of them narrower";
                problems.push((first, second, Problem::at("", message).help(help)));
            }
            let is_stdin = |index: usize| matches!(sources[index], Some(SourceConfig::Stdin(_)));
            if is_stdin(first) && is_stdin(second) {
                problems.push((first, second, Problem::at("", "another source reads the standard input already")));
            }
        }
    }
    problems
}

/// A path that both would read, if one is found.
fn common_path(one: &Reach, other: &Reach) -> Option<PathBuf> {
    let pairs = one.globs.iter().flat_map(|a| other.globs.iter().map(move |b| [&a[..], &b[..]].concat()));
    let found = pairs.flat_map(|globs| alternatives(&globs)).filter_map(|globs| common_text(&globs)).map(PathBuf::from);
    found.into_iter().find(|path| (one.reads)(path) && (other.reads)(path))
}

/// A step of a glob.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Token {
    Char(char),
    /// Any character of a name.
    Any,
    /// Any characters of a name.
    Star,
    /// Any characters.
    Deep,
}

/// A text that all of `globs` match, as far as [`tokens`] knows them.
fn common_text(globs: &[Vec<Token>]) -> Option<String> {
    let mut queue = VecDeque::from([(vec![0; globs.len()], String::new())]);
    let mut seen = HashSet::new();
    while let Some((at, text)) = queue.pop_front() {
        if seen.len() >= MAX_STATES {
            return None;
        }
        if !seen.insert(at.clone()) {
            continue;
        }
        let next: Vec<Option<Token>> = globs.iter().zip(&at).map(|(glob, at)| glob.get(*at).copied()).collect();
        if next.iter().all(Option::is_none) {
            return Some(text);
        }
        for (glob, token) in next.iter().enumerate() {
            if matches!(token, Some(Token::Star | Token::Deep)) {
                let mut skipped = at.clone();
                skipped[glob] += 1;
                queue.push_back((skipped, text.clone()));
            }
        }
        let asked = next.iter().find_map(|token| if let Some(Token::Char(c)) = token { Some(*c) } else { None });
        let c = asked.unwrap_or('0');
        let step = |(at, token): (&usize, &Option<Token>)| match token.as_ref()? {
            Token::Char(own) => (*own == c).then_some(at + 1),
            Token::Any => (c != '/').then_some(at + 1),
            Token::Star => (c != '/').then_some(*at),
            Token::Deep => Some(*at),
        };
        if let Some(stepped) = at.iter().zip(&next).map(step).collect::<Option<Vec<_>>>() {
            queue.push_back((stepped, format!("{text}{c}")));
        }
    }
    None
}

/// Every way to choose one alternative in the braces of each glob.
fn alternatives(globs: &[String]) -> Vec<Vec<Vec<Token>>> {
    let mut all = vec![vec![]];
    for glob in globs {
        let ways = expand(glob);
        all = all.iter().flat_map(|before: &Vec<_>| ways.iter().map(move |way| [&before[..], &[tokens(way)]].concat())).collect();
        all.truncate(MAX_ALTERNATIVES);
    }
    all
}

fn expand(glob: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut open = vec![glob.to_owned()];
    while let Some(glob) = open.pop() {
        // The innermost braces.
        let braces = glob.find('}').and_then(|end| Some((glob[..end].rfind('{')?, end)));
        match braces {
            Some((start, end)) if open.len() + done.len() < MAX_ALTERNATIVES => {
                let (before, inner, after) = (&glob[..start], &glob[start + 1..end], &glob[end + 1..]);
                open.extend(inner.split(',').map(|choice| format!("{before}{choice}{after}")));
            }
            _ => done.push(glob),
        }
    }
    done
}

/// The steps of a glob without braces. Of a class one character stands for all.
fn tokens(glob: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = glob.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '\\' => Token::Char(chars.next().unwrap_or('\\')),
            '?' => Token::Any,
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                Token::Deep
            }
            '*' => Token::Star,
            '[' => {
                let first = chars.next().unwrap_or('[');
                // A `]` that comes first stands for itself.
                let rest: String = chars.by_ref().take_while(|c| *c != ']').collect();
                if matches!(first, '!' | '^') || rest.is_empty() && first == ']' { Token::Any } else { Token::Char(first) }
            }
            c => Token::Char(c),
        });
    }
    tokens
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn overlap(sources: &[&str]) -> Option<String> {
        let configs: Vec<SourceConfig> = sources.iter().map(|text| toml::from_str(text).unwrap()).collect();
        let problems = check_overlaps(&configs.iter().map(Some).collect::<Vec<_>>(), Path::new("/base"));
        problems.first().map(|(_, _, problem)| problem.message.split('`').nth(1).unwrap_or("stdin").to_owned())
    }

    #[test]
    fn sources_that_would_read_the_same_file_are_told_apart_from_those_that_would_not() {
        // What each source reads: includes and excludes of a `file`, or the options of a `kubernetes_logs`; then a path.
        let file = |include: &str, exclude: &str| format!("type = \"file\"\ninclude = [{include}]\nexclude = [{exclude}]");
        let pods = |options: &str| format!("type = \"kubernetes_logs\"\n{options}");
        let cases = [
            (file("'/a/*.log'", ""), file("'/a/b.log'", ""), Some("/a/b.log")),
            (file("'/a/*.log'", ""), file("'/a/*.txt'", ""), None),
            (file("'/a/*.log'", "'/a/b*'"), file("'/a/b.log'", ""), None),
            (file("'/a/*.log'", "'/a/b*'"), file("'/a/?.log'", ""), Some("/a/0.log")),
            (file("'x/*.log'", ""), file("'/base/x/y*'", ""), Some("/base/x/y.log")),
            (file("'./x.log'", ""), file("'/base/x.log'", ""), Some("/base/x.log")),
            (file("'/a/*/*.log'", ""), file("'/a/**'", "'/a/b/**'"), Some("/a//.log")),
            (file("'/a/*/c.log'", ""), file("'/a/**/*.log'", ""), Some("/a//c.log")),
            (file("'/a/*.log'", ""), file("'/b/*.log'", ""), None),
            (file("'/a/*.log'", ""), file("'/a/b/*.log'", ""), None),
            (file("'/a/{b,c}.log'", ""), file("'/a/{d,c}.log'", ""), Some("/a/c.log")),
            (file("'/a/[bc].log'", ""), file("'/a/[!b].log'", ""), None),
            (file("'/a/[0-9].log'", ""), file("'/a/*.log'", ""), Some("/a/0.log")),
            (file("'/a/\\*.log'", ""), file("'/a/b.log'", ""), None),
            (pods(""), pods(""), Some("/var/log/pods/0_0_0/0/0.log")),
            (pods(""), pods("root = '/other'"), None),
            (pods(""), file("'/var/log/**/*.log'", ""), Some("/var/log/pods/0_0_0/0/0.log")),
            (pods(""), file("'/var/log/*.log'", ""), None),
            (pods("include_paths_glob_patterns = ['pay_*/**']"), pods("exclude_paths_glob_patterns = ['pay_*/**']"), None),
            (pods("include_paths_glob_patterns = ['pay_*/**']"), pods("include_paths_glob_patterns = ['shop_*/**']"), None),
            (
                pods("include_paths_glob_patterns = ['pay_*/**', 'shop_*/**']"),
                pods("exclude_paths_glob_patterns = ['pay_*/**']"),
                Some("/var/log/pods/shop_0_0/0/0.log"),
            ),
            ("type = 'stdin'".into(), "type = 'stdin'".into(), Some("stdin")),
            ("type = 'stdin'".into(), pods(""), None),
            ("type = 'journald'".into(), "type = 'journald'".into(), Some("/var/log/journal/.journal")),
            ("type = 'journald'".into(), "type = 'journald'\njournal_directory = '/var/log/other'".into(), None),
            ("type = 'journald'".into(), file("'/var/log/**'", ""), Some("/var/log/journal/.journal")),
        ];
        for (one, other, expected) in cases {
            let found = overlap(&[&one, &other]);
            assert_eq!(found.is_some(), expected.is_some(), "{one}\n{other}\n{found:?}");
            if let (Some(found), Some(expected)) = (found, expected)
                && !expected.contains("//")
            {
                assert_eq!(found, expected, "{one}\n{other}");
            }
        }
    }
}
