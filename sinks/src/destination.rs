//! Destinations made of fields: an index, a path. Data chooses within what the template leaves open and never beyond.

use std::sync::Arc;

use skidder_pipeline::batch::RecordView;
use skidder_pipeline::body::Bodies;
use skidder_pipeline::path::Path;
use skidder_pipeline::shared::Shared;
use skidder_pipeline::template::Template;

/// What stands for a field that a record does not have.
pub const MISSING: &str = "missing";

/// A date that no record has, for records without one: it sorts first and is seen at once.
const NO_DATE: Date = *b"1970-01-01";

type Date = [u8; 10];

/// A template with the date parts `%Y`, `%m` and `%d` of the record's `timestamp` (as it is written there, in its own time
/// zone), and the rule that confines what fields may say.
#[derive(Clone, Debug)]
pub struct Destination {
    parts: Vec<Part>,
    confine: Confine,
    dated: bool,
    timestamp: Path,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Template),
    Year,
    Month,
    Day,
}

/// Appends what may stand in the destination for a field's value.
pub type Confine = fn(Option<&str>, &mut String);

impl Destination {
    /// Reads a template.
    pub fn parse(source: &str, confine: Confine) -> Result<Destination, String> {
        let timestamp = Path::parse("timestamp").map_err(|e| e.to_string())?;
        let mut destination = Destination { parts: Vec::new(), confine, dated: false, timestamp };
        let mut text = String::new();
        let mut rest = source;
        while let Some(at) = rest.find(['%', '{']) {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(inside) = rest.strip_prefix("{{") {
                // A field's place is taken over as a whole: a `%` in it is not ours.
                let end = inside.find("}}").ok_or("`{{` is not closed by `}}`")? + 4;
                text.push_str(&rest[..end]);
                rest = &rest[end..];
                continue;
            }
            let part = match rest.get(..2) {
                Some("%Y") => Part::Year,
                Some("%m") => Part::Month,
                Some("%d") => Part::Day,
                _ if rest.starts_with('{') => {
                    text.push('{');
                    rest = &rest[1..];
                    continue;
                }
                Some("%%") => {
                    text.push('%');
                    rest = &rest[2..];
                    continue;
                }
                _ => return Err("after `%` comes `Y`, `m` or `d` (or another `%` for itself)".to_owned()),
            };
            destination.push_text(&mut text)?;
            destination.parts.push(part);
            destination.dated = true;
            rest = &rest[2..];
        }
        text.push_str(rest);
        destination.push_text(&mut text)?;
        Ok(destination)
    }

    fn push_text(&mut self, text: &mut String) -> Result<(), String> {
        if !text.is_empty() {
            self.parts.push(Part::Text(Template::parse(&std::mem::take(text)).map_err(|e| e.to_string())?));
        }
        Ok(())
    }

    /// The text before the first field or date.
    pub fn literal_prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(template)) => template.literal_prefix(),
            _ => "",
        }
    }

    /// The text where neither field nor date takes part.
    pub fn as_literal(&self) -> Option<&str> {
        match &self.parts[..] {
            [] => Some(""),
            [Part::Text(template)] => template.as_literal(),
            _ => None,
        }
    }

    /// The destination of a record that has `value` in every field: to check what stands between them.
    pub fn sample(&self, value: &str) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(template) => template.render_confined(|_| None, |_, out| out.push_str(value), &mut out),
                Part::Year => out.push_str("1970"),
                Part::Month | Part::Day => out.push_str("01"),
            }
        }
        out
    }

    /// What every destination matches, with `*` for fields and dates.
    pub fn pattern(&self) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(template) => template.render_confined(|_| None, |_, out| out.push('*'), &mut out),
                Part::Year | Part::Month | Part::Day => out.push('*'),
            }
        }
        // A date is one `*`, whatever stands between its parts.
        for (long, short) in [("*.*.*", "*"), ("*-*-*", "*"), ("**", "*")] {
            if self.dated || long == "**" {
                out = out.replace(long, short);
            }
        }
        out
    }

    /// The number of fields and the number of bytes that are none.
    pub fn fields_and_literal_bytes(&self) -> (usize, usize) {
        let mut fields = 0;
        let mut literal = String::new();
        for part in &self.parts {
            match part {
                Part::Text(template) => template.render_confined(|_| None, |_, _| fields += 1, &mut literal),
                Part::Year => literal.push_str("1970"),
                Part::Month | Part::Day => literal.push_str("01"),
            }
        }
        (fields, literal.len())
    }

    fn is_shared(&self, shared: &Shared) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Text(template) => template.is_shared(shared),
            _ => true,
        })
    }

    fn render(&self, record: &RecordView<'_>, date: &Date, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(template) => template.render_confined(|path| record.get(path), self.confine, out),
                Part::Year => push(&date[..4], out),
                Part::Month => push(&date[5..7], out),
                Part::Day => push(&date[8..], out),
            }
        }
    }

    fn date(&self, record: &RecordView<'_>) -> Date {
        if !self.dated {
            return NO_DATE;
        }
        let value = record.get(&self.timestamp).filter(|value| value.kind.is_text());
        value.and_then(|value| value.raw.first_chunk::<10>()).filter(|date| is_date(date)).copied().unwrap_or(NO_DATE)
    }
}

fn is_date(date: &Date) -> bool {
    date.iter().enumerate().all(|(i, byte)| if matches!(i, 4 | 7) { *byte == b'-' } else { byte.is_ascii_digit() })
}

fn push(digits: &[u8], out: &mut String) {
    out.extend(digits.iter().map(|digit| char::from(*digit)));
}

/// Gathers the encoded records of a batch by destination, so that each body is written to once a batch.
#[derive(Clone)]
pub struct Router {
    destination: Arc<Destination>,
    groups: Vec<Group>,
    current: Option<usize>,
    /// For the batch at hand all records of one date have one destination.
    shared: bool,
    date: Date,
    name: String,
}

#[derive(Clone, Default)]
struct Group {
    name: String,
    encoded: Vec<u8>,
    records: u32,
}

impl Router {
    /// Scratch that is kept between batches: ordinary ones go to one or two destinations.
    const KEPT: usize = 4;

    /// A router for `destination`.
    pub fn new(destination: Arc<Destination>) -> Router {
        Router { destination, groups: Vec::new(), current: None, shared: false, date: NO_DATE, name: String::new() }
    }

    /// Begins a batch with these shared fields.
    pub fn begin(&mut self, shared: &Shared) {
        self.shared = self.destination.is_shared(shared);
        self.current = None;
    }

    /// Where `record` is to be written; counts it.
    #[inline]
    pub fn scratch(&mut self, record: &RecordView<'_>) -> &mut Vec<u8> {
        self.scratch_of(record).1
    }

    /// The same, and the destination before it.
    #[inline]
    pub fn scratch_of(&mut self, record: &RecordView<'_>) -> (&str, &mut Vec<u8>) {
        let date = self.destination.date(record);
        let index = match self.current {
            Some(index) if self.shared && date == self.date => index,
            _ => self.select(record, date),
        };
        let group = &mut self.groups[index];
        group.records += 1;
        (&group.name, &mut group.encoded)
    }

    fn select(&mut self, record: &RecordView<'_>, date: Date) -> usize {
        self.name.clear();
        self.destination.render(record, &date, &mut self.name);
        let index = match self.groups.iter().position(|group| group.name == self.name) {
            Some(index) => index,
            None => {
                self.groups.push(Group { name: self.name.clone(), ..Group::default() });
                self.groups.len() - 1
            }
        };
        self.date = date;
        self.current = Some(index);
        index
    }

    /// Ends the batch: hands everything to the bodies.
    pub fn end(&mut self, out: &mut Bodies) {
        self.end_with(|name, encoded, records| out.write(name, encoded, records));
    }

    /// Ends the batch: hands out what was encoded for each destination, and for how many records.
    pub fn end_with(&mut self, mut write: impl FnMut(&str, &[u8], u32)) {
        for group in self.groups.iter_mut().filter(|group| group.records > 0) {
            write(&group.name, &group.encoded, group.records);
            group.encoded.clear();
            group.records = 0;
        }
        self.groups.truncate(Self::KEPT);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{batch, frames};

    fn plain(value: Option<&str>, out: &mut String) {
        out.push_str(value.unwrap_or(MISSING));
    }

    fn route(source: &str, shared: &str, records: &[&str]) -> Vec<(String, u32)> {
        let mut router = Router::new(Arc::new(Destination::parse(source, plain).unwrap()));
        let batch = batch(shared, records);
        let out = frames(|out| {
            router.begin(batch.shared());
            for record in batch.records() {
                router.scratch(&record).push(b'x');
            }
            router.end(out);
        });
        out.iter().map(|f| (f.header().destination.to_string(), f.header().records)).collect()
    }

    #[test]
    fn records_go_where_their_fields_and_dates_say() {
        let day = |d: u32| format!("{{\"timestamp\":\"2026-10-0{d}T08:15:30Z\",\"a\":\"{d}\"}}");
        let (one, two) = (day(1), day(2));
        let records = [&*one, &*two, &*one, "{\"timestamp\":7}", "{\"timestamp\":\"2026-1x-01\"}", "{}"];
        assert_eq!(route("logs", "{}", &records), [("logs".to_owned(), 6)]);
        assert_eq!(
            route("l-{{ env }}-%Y.%m.%d", "{\"env\":\"p\"}", &records),
            [("l-p-2026.10.01".to_owned(), 2), ("l-p-2026.10.02".to_owned(), 1), ("l-p-1970.01.01".to_owned(), 3)]
        );
        assert_eq!(
            route("l-{{ a }}", "{\"env\":\"p\"}", &records),
            [("l-1".to_owned(), 2), ("l-2".to_owned(), 1), ("l-missing".to_owned(), 3)]
        );
        assert_eq!(route("{x}100%%", "{}", &["{}"]), [("{x}100%".to_owned(), 1)]);
    }

    #[test]
    fn says_what_is_no_destination() {
        for source in ["%H", "%", "{{ a", "{{ a b }}"] {
            assert!(Destination::parse(source, plain).is_err(), "{source}");
        }
    }
}
