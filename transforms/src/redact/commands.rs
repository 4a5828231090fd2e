//! Secrets in command lines: `--password x`, `curl -u user:x`, `mysql -px`.
//!
//! An option and its value are two words, so what an option says is not seen as that of a key is. Words that could be the rest of
//! a sentence about the option (`--password is required`) are none.

use super::catalog::Detector;
use super::names;
use super::text::{Text, is_tag};

/// How far before an option the command's name is looked for.
const MAX_COMMAND_BYTES: usize = 400;

/// The longest name of an option.
const MAX_OPTION_BYTES: usize = 40;

/// The value of the option at `at`, where `--` and a letter stand.
pub(super) fn option(text: &Text<'_>, at: usize) -> Option<(Detector, usize, usize)> {
    if text.before(at) == Some(b'-') && !text.raw {
        return None;
    }
    let rest = &text.bytes[at + 2..];
    let length = rest.iter().take(MAX_OPTION_BYTES).take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')).count();
    let end = at + 2 + length;
    let name = &text.bytes[at + 2..end];
    let user = name == b"user" || name == b"proxy-user";
    let says = names::says(name, false);
    let detector = match says {
        _ if user => Detector::Password,
        Some(says) if matches!(says.detector, Detector::Password | Detector::Secret | Detector::Credentials) => says.detector,
        _ => return None,
    };
    if text.raw {
        // What follows may be escaped.
        return Some((detector, at, end));
    }
    let start = text.run(end, |byte| byte == b' ');
    if start == end {
        return None;
    }
    if user {
        return has_command(text, at, &[b"curl", b"wget", b"http"]).then(|| after_user(text, start)).flatten();
    }
    let (start, end, quoted) = word(text, start);
    let value = &text.bytes[start..end];
    let sentence = !quoted && value.iter().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'.' | b',' | b':' | b')'));
    let path = value.contains(&b'/') && detector == Detector::Password || value.starts_with(b"/");
    (value.len() >= 4 && !sentence && !path && is_value(value)).then_some((detector, start, end))
}

/// The value of the short option at `at`, where ` -p` or ` -u` stands: of commands that take a password so.
pub(super) fn short_option(text: &Text<'_>, at: usize) -> Option<(Detector, usize, usize)> {
    let letter = text.get(at + 2)?;
    let space = text.get(at + 3) == Some(b' ');
    if text.raw {
        return has_command(text, at, &[b"curl", b"mysql", b"mariadb", b"sshpass", b"login"]).then_some((Detector::Password, at, at + 3));
    }
    if letter == b'u' {
        return (space && has_command(text, at, &[b"curl"])).then(|| after_user(text, at + 4)).flatten();
    }
    let commands: &[&[u8]] = if space { &[b"sshpass", b"login"] } else { &[b"mysql", b"mariadb", b"sshpass"] };
    let (start, end, _) = word(text, at + 3 + usize::from(space));
    let value = &text.bytes[start..end];
    (value.len() >= 4 && is_value(value) && has_command(text, at, commands)).then_some((Detector::Password, start, end))
}

/// What follows the name in `name:password` at `start`.
fn after_user(text: &Text<'_>, start: usize) -> Option<(Detector, usize, usize)> {
    let (start, end, _) = word(text, start);
    let colon = start + memchr::memchr(b':', &text.bytes[start..end])?;
    let value = &text.bytes[colon + 1..end];
    (value.len() >= 3 && is_value(value)).then_some((Detector::Password, colon + 1, end))
}

/// The word at `start`, without its quotes, and whether it has some.
fn word(text: &Text<'_>, start: usize) -> (usize, usize, bool) {
    match text.get(start) {
        Some(quote @ (b'"' | b'\'')) => (start + 1, text.run(start + 1, |byte| byte != quote && byte != b'\n'), true),
        _ => {
            (start, text.run(start, |byte| !byte.is_ascii_whitespace() && !matches!(byte, b'"' | b'\'' | b'`' | b';' | b'|' | b')')), false)
        }
    }
}

/// What is no variable, no other option, nothing hidden.
fn is_value(value: &[u8]) -> bool {
    !matches!(value.first(), None | Some(b'-' | b'$' | b'<' | b'{' | b'*' | b'@'))
        && !is_tag(value)
        && !value.windows(3).any(|three| three == b"***")
        && !value.starts_with(b"[")
}

/// Whether one of some commands stands before `at`, in reach.
fn has_command(text: &Text<'_>, at: usize, commands: &[&[u8]]) -> bool {
    let before = &text.bytes[at.saturating_sub(MAX_COMMAND_BYTES)..at];
    // In written bytes, an escape makes the way longer than it is.
    text.raw && before.contains(&b'\\') || commands.iter().any(|command| memchr::memmem::rfind(before, command).is_some())
}
