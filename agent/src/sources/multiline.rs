//! Which lines belong together: stack traces and other records of several lines.

use regex::bytes::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use skidder_pipeline::problem::Problem;

/// How lines of one stream are joined to records.
///
/// Either a `preset` alone, or a `mode` with its patterns, as Vector has them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MultilineConfig {
    /// Patterns made for the stack traces of one language, in place of `mode`.
    pub preset: Option<Preset>,
    /// How the patterns are to be understood.
    pub mode: Option<Mode>,
    /// A regular expression for the first line of a record of several lines. A line that comes while no record is open and
    /// does not match it is a record of its own. Without it every line may be a first one.
    pub start_pattern: Option<String>,
    /// The regular expression that `mode` speaks of.
    pub condition_pattern: Option<String>,
    /// How long a record waits for further lines after the last one, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// The most lines of one record; the line after it starts another. Bounds what a wrong pattern can swallow.
    #[serde(default = "default_max_lines")]
    pub max_lines: u32,
}

fn default_timeout_ms() -> u64 {
    1_000
}

fn default_max_lines() -> u32 {
    500
}

/// How `condition_pattern` decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All lines that follow and match belong to the record.
    ContinueThrough,
    /// All lines that follow and match, and one more: for lines that end with a backslash.
    ContinuePast,
    /// All lines up to one that matches, which belongs to the next record.
    HaltBefore,
    /// All lines up to one that matches, which is the record's last.
    HaltWith,
    /// All lines that follow and are indented; takes no patterns.
    Indent,
}

/// Stack traces of a language.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// `at …`, `Caused by: …`, `... 12 more`, after whatever line comes before them.
    Java,
    /// `Traceback (most recent call last):` with its indented lines and the exception that ends it.
    Python,
    /// `panic:`, `fatal error:` and the goroutines that follow.
    Go,
    /// `at …` and the indented or braced properties of an error.
    Node,
}

impl MultilineConfig {
    /// All mistakes, with paths below the source's table.
    pub(crate) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.preset.is_some() == self.mode.is_some() {
            problems.push(
                Problem::at("multiline", "exactly one of `preset` and `mode` is needed").help(
                    "for example multiline = { preset = \"java\" }, or { mode = \"halt_before\", condition_pattern = \"^\\\\d{4}-\" }",
                ),
            );
        }
        let takes_pattern = self.preset.is_none() && self.mode.is_some_and(|mode| mode != Mode::Indent);
        if takes_pattern && self.condition_pattern.is_none() {
            problems.push(Problem::at("multiline", "this `mode` needs a `condition_pattern`"));
        }
        let patterns = [("multiline.start_pattern", &self.start_pattern), ("multiline.condition_pattern", &self.condition_pattern)];
        for (path, pattern) in patterns {
            let Some(pattern) = pattern else { continue };
            if (self.preset.is_some() || self.mode.is_some()) && !takes_pattern {
                problems.push(Problem::at(path, "a preset and the mode `indent` bring their own patterns").help("remove it"));
            } else if let Err(error) = Regex::new(pattern) {
                problems.push(Problem::at(path, format!("not a regular expression: {}", last_line(&error.to_string()))));
            }
        }
        if self.timeout_ms == 0 {
            problems.push(Problem::at("multiline.timeout_ms", "must be at least 1"));
        }
        if self.max_lines < 2 {
            problems.push(Problem::at("multiline.max_lines", "must be at least 2"));
        }
        problems
    }

    /// The decider; an error where [`MultilineConfig::check`] has one.
    pub(crate) fn build(&self) -> anyhow::Result<Multiline> {
        let (mode, start, condition) = match (self.preset, self.mode) {
            (Some(preset), _) => preset.patterns(),
            (None, Some(Mode::Indent)) => (Mode::ContinueThrough, None, r"^[ \t]"),
            (None, Some(mode)) => (mode, self.start_pattern.as_deref(), self.condition_pattern.as_deref().unwrap_or_default()),
            (None, None) => anyhow::bail!("multiline needs a preset or a mode"),
        };
        Ok(Multiline {
            mode,
            start: start.map(Regex::new).transpose()?,
            condition: Regex::new(condition)?,
            timeout: std::time::Duration::from_millis(self.timeout_ms),
            max_lines: self.max_lines,
        })
    }
}

/// A regex error draws the pattern over several lines; the last one says what is wrong.
fn last_line(error: &str) -> &str {
    error.lines().last().unwrap_or(error).trim_start_matches("error: ")
}

impl Preset {
    fn patterns(self) -> (Mode, Option<&'static str>, &'static str) {
        match self {
            Preset::Java => (Mode::ContinueThrough, None, r"^(?:[ \t]|Caused by: |Suppressed: |\.\.\. \d+ )"),
            Preset::Python => (Mode::ContinuePast, Some(r"^Traceback \(most recent call last\):"), r"^[ \t]"),
            Preset::Go => (
                Mode::ContinueThrough,
                Some(r"^(?:panic: |fatal error: |http: panic serving |goroutine \d+ \[)"),
                r"^(?:$|[ \t]|panic: |goroutine \d+ \[|created by |\[signal |exit status |[\w.$/*()\[\]{}·-]+\(.*\)$)",
            ),
            Preset::Node => (Mode::ContinueThrough, None, r"^(?:[ \t]+|[}\]])"),
        }
    }
}

/// Decides line by line.
#[derive(Debug)]
pub(crate) struct Multiline {
    mode: Mode,
    start: Option<Regex>,
    condition: Regex,
    pub timeout: std::time::Duration,
    pub max_lines: u32,
}

/// What becomes of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// A record of its own.
    Alone,
    /// The first line of a record.
    Begin,
    /// The next line of the open record.
    Append,
    /// The last line of the open record.
    AppendLast,
    /// Not of the open record, which is complete: decide again.
    EndFirst,
}

impl Multiline {
    /// What becomes of the line `text`, given whether a record is open.
    pub(crate) fn decide(&self, open: bool, text: &[u8]) -> Decision {
        if !open {
            let begins = self.start.as_ref().is_none_or(|start| start.is_match(text));
            return if begins { Decision::Begin } else { Decision::Alone };
        }
        match (self.mode, self.condition.is_match(text)) {
            (Mode::ContinueThrough | Mode::Indent, true) | (Mode::ContinuePast, true) => Decision::Append,
            (Mode::ContinueThrough | Mode::Indent, false) | (Mode::HaltBefore, true) => Decision::EndFirst,
            (Mode::ContinuePast, false) | (Mode::HaltWith, true) => Decision::AppendLast,
            (Mode::HaltBefore, false) | (Mode::HaltWith, false) => Decision::Append,
        }
    }

    /// Whether a record without its last line can be told from a whole one.
    pub(crate) fn has_last_line(&self) -> bool {
        matches!(self.mode, Mode::ContinuePast | Mode::HaltWith)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    /// The records that `config` makes of `lines`, without limits.
    fn records(config: &str, lines: &[&str]) -> Vec<String> {
        let config: MultilineConfig = toml::from_str(config).unwrap();
        assert_eq!(config.check(), []);
        let multiline = config.build().unwrap();
        let (mut out, mut open): (Vec<String>, Option<String>) = (Vec::new(), None);
        for line in lines {
            let mut decision = multiline.decide(open.is_some(), line.as_bytes());
            if decision == Decision::EndFirst {
                out.extend(open.take());
                decision = multiline.decide(false, line.as_bytes());
            }
            match decision {
                Decision::Alone => out.push(line.to_string()),
                Decision::Begin => open = Some(line.to_string()),
                Decision::Append => open = open.map(|text| text + "|" + line),
                Decision::AppendLast => out.extend(open.take().map(|text| text + "|" + line)),
                Decision::EndFirst => panic!("decided twice that it ends"),
            }
        }
        out.extend(open);
        out
    }

    #[test]
    fn modes_are_those_of_vector() {
        let through = "mode = \"continue_through\"\nstart_pattern = '^\\S'\ncondition_pattern = '^\\s'";
        assert_eq!(records(through, &["a", " b", " c", "d", "e", " f"]), ["a| b| c", "d", "e| f"]);
        let past = "mode = \"continue_past\"\ncondition_pattern = '\\\\$'";
        assert_eq!(records(past, &["a\\", "b\\", "c", "d"]), ["a\\|b\\|c", "d"]);
        let before = "mode = \"halt_before\"\ncondition_pattern = '^20'";
        assert_eq!(records(before, &["2026 a", "b", "2027 c", "d"]), ["2026 a|b", "2027 c|d"]);
        let with = "mode = \"halt_with\"\nstart_pattern = '^BEGIN'\ncondition_pattern = ';$'";
        assert_eq!(records(with, &["x", "BEGIN", "a", "b;", "c"]), ["x", "BEGIN|a|b;", "c"]);
        assert_eq!(records("mode = \"indent\"", &["a", "\tb", "c"]), ["a|\tb", "c"]);
    }

    /// A preset, what happens, the lines, and of how many lines each record is.
    type Case = (&'static str, &'static str, &'static [&'static str], &'static [usize]);

    const TRACES: &[Case] = &[
        (
            "java",
            "A log line, an exception with its cause and what was left out, and the next line.",
            &["12:00 ERROR x", "java.lang.E: y", "\tat a.b(C.java:1)", "Caused by: z", "\t... 3 more", "12:01 INFO"],
            &[1, 4, 1],
        ),
        (
            "java",
            "Suppressed exceptions, indented and not, and frames that name a module.",
            &[
                "E: x",
                "\tat app//a.B.c(B.java:2)",
                "\tSuppressed: F: y",
                "\t\tat a.b(C.java:1)",
                "Suppressed: G: z",
                "... 12 common frames omitted",
                "next",
            ],
            &[6, 1],
        ),
        (
            "python",
            "A traceback ends with the line that names the exception.",
            &["ok", "Traceback (most recent call last):", "  File \"x\", line 1", "    y()", "    ^^^", "ValueError: z", "ok"],
            &[1, 5, 1],
        ),
        (
            "python",
            "An exception in the handling of another is a record of its own, as is what is said between.",
            &[
                "Traceback (most recent call last):",
                "  File \"x\", line 1",
                "KeyError: 'a'",
                "",
                "During handling",
                "",
                "Traceback (most recent call last):",
                "  File \"y\", line 2",
                "E: b",
            ],
            &[3, 1, 1, 1, 3],
        ),
        ("python", "What is indented without a traceback is no trace.", &["a", "  b", "c"], &[1, 1, 1]),
        (
            "go",
            "A panic with the goroutine that had it, and how the program ended.",
            &["ok", "panic: x", "", "goroutine 1 [running]:", "main.f(0x1)", "\t/a/b.go:3 +0x1", "exit status 2", "listening on :80"],
            &[1, 6, 1],
        ),
        (
            "go",
            "A signal, several goroutines, methods of pointers, and who created one.",
            &[
                "panic: runtime error: invalid memory address or nil pointer dereference",
                "[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x4]",
                "",
                "goroutine 7 [running]:",
                "example.com/app.(*Server).handle(0xc000010000, {0x1, 0x2})",
                "\t/src/app/server.go:42 +0x1d",
                "created by net/http.(*Server).Serve in goroutine 1",
                "\t/go/net/http/server.go:3086 +0x5cb",
                "",
                "goroutine 1 [select]:",
                "main.main()",
                "\t/src/main.go:10 +0x2c",
                "level=info msg=restarted",
            ],
            &[12, 1],
        ),
        ("go", "A call that is logged outside of a panic is no trace.", &["main.f(0x1)", "\tx"], &[1, 1]),
        ("node", "Frames, and what the error holds beside.", &["Error: x", "    at f (a.js:1:2) {", "  code: 'E'", "}", "ok"], &[4, 1]),
        (
            "node",
            "A cause within the braces, with frames of its own.",
            &["Error: x", "    at f (a.js:1:2) {", "  [cause]: Error: y", "      at g (b.js:3:4)", "}", "ok"],
            &[5, 1],
        ),
    ];

    #[test]
    fn presets_keep_traces_whole() {
        for (preset, what, lines, expected) in TRACES {
            let records = records(&format!("preset = \"{preset}\""), lines);
            let counts: Vec<usize> = records.iter().map(|record| record.split('|').count()).collect();
            assert_eq!(counts, *expected, "{preset}: {what} {records:?}");
        }
    }

    #[test]
    fn mistakes_are_all_reported() {
        let config: MultilineConfig = toml::from_str("mode = \"halt_with\"\nstart_pattern = '('\ntimeout_ms = 0").unwrap();
        let paths: Vec<_> = config.check().into_iter().map(|p| p.path.join(".")).collect();
        assert_eq!(paths, ["multiline", "multiline.start_pattern", "multiline.timeout_ms"]);
    }
}
