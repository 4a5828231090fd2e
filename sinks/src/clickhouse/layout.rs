//! What a table looks like, and what that means for the records that go there: which column takes what of them.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use skidder_pipeline::path::Path;

use super::coerce::{write_length, write_text};
use super::types::Type;

/// A column as the server describes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type, as the server writes it.
    pub r#type: String,
    /// `DEFAULT`, `MATERIALIZED`, `ALIAS`, `EPHEMERAL` or nothing.
    #[serde(default)]
    pub default_kind: String,
}

/// What columns take where the configuration says more than their names do.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    /// Column and field, of `columns`.
    pub columns: Vec<(String, Path)>,
    /// The column that takes what has none, of `catch_all`.
    pub catch_all: Option<String>,
}

/// What a column takes of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// When it happened.
    Time,
    /// The trace, as 32 hexadecimal digits.
    TraceId,
    /// The span, as 16 hexadecimal digits.
    SpanId,
    /// The level, as it is written.
    SeverityText,
    /// OpenTelemetry's number of it.
    SeverityNumber,
    /// The service.
    ServiceName,
    /// The record's id.
    Id,
    /// What is the same for the records of a container.
    Resource,
    /// A field.
    Field(Path),
    /// All fields that no other column takes.
    Rest,
}

/// A column that is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type; `None` for those that are written as JSON only.
    pub of: Option<Type>,
    /// What it takes.
    pub source: Source,
}

/// How rows are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// `RowBinaryWithNamesAndTypes`.
    Rows,
    /// `JSONEachRow`.
    Json,
}

/// The columns of a table that are written, in the order of the rows: what takes the rest comes last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The columns.
    pub columns: Vec<Column>,
    /// How rows are written.
    pub form: Form,
    /// What a body of [`Form::Rows`] begins with.
    pub head: Vec<u8>,
    /// Tells it apart from other layouts, in the destinations of frames.
    pub tag: String,
    /// Whether some column takes what is the same for the records of a container.
    pub has_resource: bool,
    /// Whether some column takes what no other takes.
    pub has_rest: bool,
    /// Whether a column of the type `JSON` is among them.
    pub has_json: bool,
}

/// Columns that take the rest where `catch_all` names none, if they are there and can.
const CATCH_ALL: [&str; 2] = ["LogAttributes", "attributes"];

impl Layout {
    /// The layout of a table with these columns; `binary` says whether the server knows `RowBinaryWithNamesAndTypes`.
    pub fn new(infos: &[ColumnInfo], mapping: &Mapping, binary: bool) -> Layout {
        let catch_all = catch_all(infos, mapping);
        let mut columns: Vec<(Column, &str)> = Vec::new();
        for info in infos.iter().filter(|info| matches!(info.default_kind.as_str(), "" | "DEFAULT")) {
            let named = mapping.columns.iter().find(|(column, _)| *column == info.name).map(|(_, path)| Source::Field(path.clone()));
            let source = match named {
                Some(source) => source,
                None if Some(&*info.name) == catch_all => Source::Rest,
                None => match by_name(&info.name) {
                    Some(source) => source,
                    // The server knows better what is to stand there.
                    None if info.default_kind == "DEFAULT" => continue,
                    None => Source::Field(literal(&info.name)),
                },
            };
            columns.push((Column { name: info.name.clone(), of: Type::parse(&info.r#type), source }, &info.r#type));
        }
        columns.sort_by_key(|(column, _)| column.source == Source::Rest);
        let form = if binary && columns.iter().all(|(column, _)| column.of.is_some()) { Form::Rows } else { Form::Json };
        let mut head = Vec::new();
        write_length(columns.len(), &mut head);
        columns.iter().for_each(|(column, _)| write_text(column.name.as_bytes(), &mut head));
        columns.iter().for_each(|(_, text)| write_text(text.as_bytes(), &mut head));
        let mut tag = String::new();
        let _ = write!(tag, "{}{:016x}", if form == Form::Rows { 'r' } else { 'j' }, fnv(&head));
        let columns: Vec<Column> = columns.into_iter().map(|(column, _)| column).collect();
        let has = |source: &Source| columns.iter().any(|column| column.source == *source);
        let has_json = columns.iter().any(|column| column.of == Some(Type::Json));
        Layout { has_resource: has(&Source::Resource), has_rest: has(&Source::Rest), has_json, columns, form, head, tag }
    }
}

/// The column that takes the rest.
pub fn catch_all<'a>(infos: &'a [ColumnInfo], mapping: &'a Mapping) -> Option<&'a str> {
    let can = |name: &str| infos.iter().any(|info| info.name == name && Type::parse(&info.r#type).is_some_and(|of| of.holds_fields()));
    match &mapping.catch_all {
        Some(name) => Some(name.as_str()).filter(|name| can(name)),
        None => CATCH_ALL.into_iter().find(|name| can(name)),
    }
}

/// What columns take by their names alone: those of OpenTelemetry's table of logs, and what is a record's in every store.
fn by_name(name: &str) -> Option<Source> {
    Some(match name {
        "Timestamp" | "TimestampTime" | "timestamp" => Source::Time,
        "TraceId" | "trace_id" => Source::TraceId,
        "SpanId" | "span_id" => Source::SpanId,
        "SeverityText" => Source::SeverityText,
        "SeverityNumber" => Source::SeverityNumber,
        "ServiceName" => Source::ServiceName,
        "ResourceAttributes" => Source::Resource,
        "Body" => Source::Field(literal("message")),
        "_id" => Source::Id,
        _ => return None,
    })
}

/// The path of one key.
fn literal(key: &str) -> Path {
    let bare = Path::parse(key);
    match bare {
        Ok(path) => path,
        // A name that needs quotes; one with a quote in it is no field that anyone has.
        Err(_) => Path::parse(&format!("\"{}\"", key.replace('"', ""))).unwrap_or_else(|_| fallback()),
    }
}

fn fallback() -> Path {
    #[expect(clippy::expect_used, reason = "a constant")]
    Path::parse("message").expect("a path")
}

/// FNV-1a, 64 bits: tells layouts of one table apart.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn info(name: &str, of: &str, default_kind: &str) -> ColumnInfo {
        ColumnInfo { name: name.to_owned(), r#type: of.to_owned(), default_kind: default_kind.to_owned() }
    }

    #[test]
    fn columns_take_what_their_names_say() {
        let infos = [
            info("LogAttributes", "Map(LowCardinality(String), String)", ""),
            info("Timestamp", "DateTime64(9)", "DEFAULT"),
            info("day", "Date", "MATERIALIZED"),
            info("inserted", "DateTime", "DEFAULT"),
            info("kubernetes.pod_name", "String", ""),
            info("pod", "String", "DEFAULT"),
        ];
        let mapping = Mapping { columns: vec![("pod".to_owned(), Path::parse("kubernetes.pod_name").unwrap())], catch_all: None };
        let layout = Layout::new(&infos, &mapping, true);
        let names: Vec<&str> = layout.columns.iter().map(|column| &*column.name).collect();
        assert_eq!(names, ["Timestamp", "kubernetes.pod_name", "pod", "LogAttributes"]);
        assert_eq!((layout.form, layout.has_rest, layout.has_resource), (Form::Rows, true, false));
        assert_eq!(layout.columns[1].source, Source::Field(Path::parse("kubernetes.pod_name").unwrap()));
        assert_eq!(Layout::new(&infos, &mapping, false).form, Form::Json);
        assert_ne!(Layout::new(&infos, &mapping, false).tag, layout.tag);
    }

    #[test]
    fn a_type_that_no_row_is_written_of_makes_it_json() {
        let layout = Layout::new(&[info("price", "Decimal(9, 2)", "")], &Mapping::default(), true);
        assert_eq!((layout.form, layout.columns[0].of.clone()), (Form::Json, None));
    }

    #[test]
    fn only_what_can_hold_fields_is_a_catch_all() {
        let infos = [info("LogAttributes", "Map(String, UInt8)", ""), info("attributes", "JSON", ""), info("n", "UInt8", "")];
        assert_eq!(catch_all(&infos, &Mapping::default()), Some("attributes"));
        let mapping = |name: &str| Mapping { catch_all: Some(name.to_owned()), ..Mapping::default() };
        assert_eq!(catch_all(&infos, &mapping("n")), None);
    }
}
