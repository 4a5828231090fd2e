//! Frames that were frozen for other columns than the table has by now, as bodies for those that it has.
//!
//! A frame cannot be encoded again from its records: they are gone. But its rows can be read, and JSONEachRow names every
//! value, so the server takes each for the column of that name, whatever its type and place are now; what has no column any
//! more goes to the one that takes the rest. A frame from before the columns were known holds records, of which rows are made
//! just as the encoder would have. Pure: the same frame and the same columns give the same body, and the records keep their order.

use std::sync::Arc;

use skidder_pipeline::batch::Batch;
use skidder_pipeline::json;
use skidder_pipeline::path::Path;
use skidder_pipeline::position::FileKey;
use skidder_pipeline::shared::{Shared, SharedFields};
use skidder_pipeline::value::{Kind, Span, Value};

use super::encode::RAW;
use super::layout::{Form, Layout, Source};
use super::map::Mapper;
use super::rows::Rows;
use super::types::Type;
use crate::lines;

/// `body`, written for the layout `tag`, for `layout`; and in what form that is. `None` where it cannot be read.
pub fn convert(body: &[u8], tag: &str, layout: &Arc<Layout>, mapper: Mapper) -> Option<(Vec<u8>, Form)> {
    if tag == RAW {
        return Some((rows_of_records(body, layout, mapper)?, layout.form));
    }
    let mut out = Vec::with_capacity(2 * body.len());
    match Rows::read(body) {
        Some(rows) => {
            for row in rows.rows() {
                let mut members = Vec::new();
                rows.members(row, |name, value| members.push((name.to_owned(), value.to_vec())));
                write(members, layout, &mut out);
            }
        }
        None => {
            for line in split(body) {
                let mut members = Vec::new();
                json::members(json::value(line).ok()?, |name, value| {
                    let mut text = Vec::new();
                    value.write_json(&mut text);
                    members.push((String::from_utf8_lossy(&json::unescape(name)).into_owned(), text));
                });
                write(members, layout, &mut out);
            }
        }
    }
    Some((out, Form::Json))
}

fn split(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Appends a row of JSONEachRow.
fn write(members: Vec<(String, Vec<u8>)>, layout: &Layout, out: &mut Vec<u8>) {
    let place = |name: &str| layout.columns.iter().find(|column| column.name == name);
    let rest = layout.columns.iter().find(|column| column.source == Source::Rest);
    let (known, homeless): (Vec<_>, Vec<_>) = members.into_iter().partition(|(name, _)| place(name).is_some());
    out.push(b'{');
    let mut comma = false;
    let mut rest_value = Vec::new();
    for (name, value) in known {
        // A NULL may meet a column that takes none by now; left out it is the same where one does.
        if value == b"null" {
            continue;
        }
        if rest.is_some_and(|rest| rest.name == name) && !homeless.is_empty() {
            rest_value = value;
            continue;
        }
        write_member(&name, &value, &mut comma, out);
    }
    if let Some(rest) = rest.filter(|_| !homeless.is_empty()) {
        let as_texts = matches!(rest.of, Some(Type::Map(..)));
        let text = add_members(&rest_value, &homeless, as_texts);
        write_member(&rest.name, &text, &mut comma, out);
    }
    out.extend_from_slice(b"}\n");
}

fn write_member(name: &str, value: &[u8], comma: &mut bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if *comma { b",\"" } else { b"\"" });
    json::escape(name.as_bytes(), out);
    out.extend_from_slice(b"\":");
    out.extend_from_slice(value);
    *comma = true;
}

/// The object `value` with further members, each as a text where `as_texts`.
fn add_members(value: &[u8], more: &[(String, Vec<u8>)], as_texts: bool) -> Vec<u8> {
    let object = json::value(value).ok();
    // A column of texts holds its object as a text.
    let unescaped = object.filter(|value| value.kind == Kind::String).map(|value| value.plain().into_owned());
    let inner = match (&unescaped, object) {
        (Some(text), _) => json::value(text).ok(),
        (None, object) => object,
    };
    let mut out = vec![b'{'];
    let mut comma = false;
    if let Some(inner) = inner.filter(|inner| inner.kind == Kind::Object) {
        let inside = inner.raw[1..inner.raw.len() - 1].trim_ascii();
        out.extend_from_slice(inside);
        comma = !inside.is_empty();
    }
    for (name, member) in more {
        match json::value(member) {
            Ok(member) if as_texts => {
                let mut text = Vec::new();
                Value::text(&member.plain()).write_json(&mut text);
                write_member(name, &text, &mut comma, &mut out);
            }
            _ => write_member(name, member, &mut comma, &mut out),
        }
    }
    out.push(b'}');
    if unescaped.is_none() {
        return out;
    }
    let mut text = Vec::new();
    Value::text(&out).write_json(&mut text);
    text
}

fn rows_of_records(body: &[u8], layout: &Arc<Layout>, mut mapper: Mapper) -> Option<Vec<u8>> {
    let mut out = if layout.form == Form::Rows { layout.head.clone() } else { Vec::new() };
    let mut batch = Batch::new(Shared::empty(), FileKey([0; 16]));
    let mut same: &[u8] = b"{}";
    let mut ids: Vec<&[u8]> = Vec::new();
    let mut flush = |batch: &Batch, ids: &mut Vec<&[u8]>| {
        mapper.begin(batch);
        for (record, id) in batch.records().zip(ids.drain(..)) {
            mapper.write(layout, &record, id, &mut out);
        }
    };
    for line in split(body) {
        let line = json::value(line).ok()?;
        let (id, shared, own) = (json::member(line, b"id")?, json::member(line, b"shared")?, json::member(line, b"own")?);
        if shared.raw != same {
            flush(&batch, &mut ids);
            let mut fields = SharedFields::default();
            json::members(shared, |key, value| fields.set(key, value));
            batch.reset(Shared::new(fields), FileKey([0; 16]));
            same = shared.raw;
        }
        let span = batch.append(own.raw);
        let mut fields = Vec::new();
        json::walk(batch.bytes(), Span { start: span.start, end: span.end }, &mut fields).ok()?;
        batch.push(0, &fields);
        ids.push(id.raw);
    }
    flush(&batch, &mut ids);
    Some(out)
}

/// The record that a line of a body from before the columns were known holds, as one object; `None` for other lines.
pub fn record(line: &[u8]) -> Option<Vec<u8>> {
    let line = json::value(line).ok()?;
    let (shared, own) = (json::member(line, b"shared")?, json::member(line, b"own")?);
    let mut out = vec![b'{'];
    for part in [own, shared] {
        json::members(part, |key, value| lines::write_member(key, value, out.len() > 1, &mut out));
    }
    out.push(b'}');
    Some(out)
}

/// A mapper as the encoders have it.
pub fn mapper(time: Option<&Path>, tables: &super::tables::Tables) -> Mapper {
    Mapper::new(time.cloned(), tables.left_out.clone())
}
