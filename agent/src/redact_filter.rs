//! `skidder redact` and `skidder pseudonym`: redaction to try on a file, and to look a person up in an incident.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use skidder_transforms::TransformConfig;
use skidder_transforms::redact::{KeyConfig, Keys, LineRedactor, RedactConfig, pseudonym};

use crate::config::{Builtin, Pipeline};

/// How much is read from the standard input at once, in bytes.
const READ_BYTES: usize = 256 << 10;

/// A line that is longer is withheld as a whole.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// What `skidder redact` is to do.
#[derive(Debug, clap::Args)]
pub struct RedactArgs {
    /// Take the options of a `redact` transform of this configuration file; without it, the defaults.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which transform of the file, where it has several of the type `redact`.
    #[arg(long, value_name = "NAME", requires = "config")]
    transform: Option<String>,
    /// Detectors and groups to apply, with commas between.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "config")]
    detectors: Option<Vec<String>>,
    /// Detectors and groups to leave out.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "config")]
    except: Vec<String>,
    /// Say on the standard error what was found in each line: its number, the bytes and the detector; never the value.
    #[arg(long)]
    explain: bool,
    /// Leave the lines as they are; with `--explain`, to see what would be taken out.
    #[arg(long)]
    dry_run: bool,
    /// Use plain regular expressions in place of the quick scan.
    #[arg(long)]
    paranoid: bool,
}

/// What `skidder pseudonym` is to do.
#[derive(Debug, clap::Args)]
pub struct PseudonymArgs {
    /// The file that holds the key.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// The key's name in tags.
    #[arg(long, value_name = "ID", default_value = "k1")]
    id: String,
    /// The detector whose values these are: `email`, `phone`, `credit_card`, …
    #[arg(long, value_name = "DETECTOR")]
    kind: String,
    /// The value; without it, one a line from the standard input, which leaves no trace in the shell's history.
    value: Option<String>,
}

/// Copies lines from `input` to `output` without what `redact` takes out, as many lines as there were.
///
/// # Errors
/// What cannot be read or written; a configuration without such a transform.
pub fn redact(
    args: &RedactArgs,
    pipeline: Option<&Pipeline<Builtin>>,
    input: impl Read,
    output: impl Write,
    notes: impl Write,
) -> anyhow::Result<ExitCode> {
    let mut config = match pipeline {
        Some(pipeline) => of_pipeline(pipeline, args.transform.as_deref())?,
        None => RedactConfig { except: args.except.clone(), ..RedactConfig::default() },
    };
    if let Some(detectors) = &args.detectors {
        config.detectors.clone_from(detectors);
    }
    config.paranoid |= args.paranoid;
    let mut redactor = LineRedactor::new(&config).map_err(|problems| {
        anyhow::anyhow!("{}", problems.iter().map(|p| format!("{}: {}", p.path.join("."), p.message)).collect::<Vec<_>>().join("; "))
    })?;
    let mut input = BufReader::with_capacity(READ_BYTES, input);
    let (mut output, mut notes) = (BufWriter::with_capacity(READ_BYTES, output), BufWriter::new(notes));
    if args.explain {
        redactor.explain();
    }
    let mut line = Vec::new();
    let mut number = 0u64;
    loop {
        line.clear();
        if input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let whole = (line.len() as u64) < MAX_LINE_BYTES || line.ends_with(b"\n");
        if !whole {
            // A line stays a line: what is withheld of it ends where it ends.
            line.clear();
            line.extend_from_slice(b"[REDACTED:error]");
            if input.skip_until(b'\n')? > 0 {
                line.push(b'\n');
            }
        }
        number += 1;
        let end = if line.ends_with(b"\n") { line.len() - 1 } else { line.len() };
        let (text, new_line) = line.split_at(end);
        let redacted = redactor.redact(text).map(<[u8]>::to_vec);
        for found in redactor.found() {
            writeln!(notes, "{number}:{}-{} {}", found.start, found.end, found.rule)?;
        }
        // A record that is dropped leaves an empty line, so that lines can be compared by their numbers.
        let dropped = redactor.take_dropped();
        output.write_all(match &redacted {
            _ if args.dry_run => text,
            _ if dropped => b"",
            Some(redacted) => redacted,
            None => text,
        })?;
        output.write_all(new_line)?;
        // Who waits for this line gets it, before more is read.
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
    output.flush()?;
    if args.explain || args.dry_run {
        let mut counts = Vec::new();
        redactor.take_counts(|rule, count| counts.push(format!("{rule} {count}")));
        writeln!(notes, "{number} lines; {}", if counts.is_empty() { "nothing found".to_owned() } else { counts.join(", ") })?;
    }
    notes.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The options of the `redact` transform `name`, or of the only one.
fn of_pipeline(pipeline: &Pipeline<Builtin>, name: Option<&str>) -> anyhow::Result<RedactConfig> {
    let all = pipeline.transforms.iter().filter_map(|named| match &named.config {
        TransformConfig::Redact(config) if name.is_none_or(|name| name == named.name) => Some(config),
        _ => None,
    });
    match all.collect::<Vec<_>>()[..] {
        [config] => Ok(config.clone()),
        [] => anyhow::bail!("the configuration has no such transform of the type `redact`"),
        _ => anyhow::bail!("the configuration has several transforms of the type `redact`; name one with --transform"),
    }
}

/// Writes the pseudonyms of values.
///
/// # Errors
/// A key that cannot be used, a kind that there is none of, what cannot be read or written.
pub fn pseudonyms(args: &PseudonymArgs, input: impl Read, mut output: impl Write) -> anyhow::Result<ExitCode> {
    let key = KeyConfig { id: args.id.clone(), file: Some(args.key_file.clone()), variable: None };
    let keys = Keys::read(&[key]).map_err(|(_, message)| anyhow::anyhow!(message))?;
    let of = |value: &str| pseudonym(&keys, &args.kind, value).map_err(anyhow::Error::msg);
    match &args.value {
        Some(value) => writeln!(output, "{}", of(value)?)?,
        None => {
            for line in BufReader::new(input).lines() {
                writeln!(output, "{}", of(&line.context("cannot read the standard input")?)?)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn run(args: &[&str], input: &str) -> (String, String) {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: RedactArgs,
        }
        let line = <Line as clap::Parser>::parse_from([&["redact"], args].concat());
        let (mut output, mut notes) = (Vec::new(), Vec::new());
        redact(&line.args, None, input.as_bytes(), &mut output, &mut notes).unwrap();
        (String::from_utf8(output).unwrap(), String::from_utf8(notes).unwrap())
    }

    #[test]
    fn lines_stay_lines_and_json_stays_json() {
        let input = "mail a@b.cc\n{\"inn\":7707083893,\"a\":[\"x\"]}\n\nno end a@b.cc";
        let (output, notes) = run(&[], input);
        assert_eq!(output, "mail [EMAIL]\n{\"inn\":\"[INN]\",\"a\":[\"x\"]}\n\nno end [EMAIL]");
        assert_eq!(notes, "");
    }

    #[test]
    fn explains_without_the_value_and_leaves_all_in_a_dry_run() {
        let (output, notes) = run(&["--explain", "--dry-run"], "mail a@b.cc\nnothing\n");
        assert_eq!(output, "mail a@b.cc\nnothing\n");
        assert_eq!(notes, "1:5-11 email\n2 lines; email 1\n");
        assert_eq!(run(&["--except", "contact"], "mail a@b.cc\n").0, "mail a@b.cc\n");
    }
}
