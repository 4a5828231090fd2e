//! A store that takes ClickHouse's inserts by HTTP, with its window of de-duplication.
//!
//! There is one table, `default.logs (_id String, pod_name String, attributes String)`, of one partition. An insert is
//! synchronous and one block: all of it or nothing. The table remembers the last [`WINDOW`] blocks, by
//! `insert_deduplication_token` where the insert has one and by what is in it where it has none, and answers a block that it
//! remembers with 200 without storing it (`non_replicated_deduplication_window`).

use std::collections::{HashSet, VecDeque};
use std::io::{self, Read};
use std::sync::Mutex;

use flate2::read::GzDecoder;
use hyper::header::CONTENT_ENCODING;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::door::{Behind, lock};
use super::kept::{Spool, Tally, sum};
use super::proto::{take, varint};
use super::running::{Holds, Running};

/// How many blocks the table remembers: ClickHouse's own default for replicated tables was 100 for years and is 10,000 now.
pub const WINDOW: usize = 1_000;

/// Its columns; what no other takes goes to `attributes`.
const COLUMNS: [&str; 3] = ["_id", "pod_name", "attributes"];

/// The store. What it counts are rows, whatever is in them.
pub type ClickHouse = Running<Table>;

/// What it holds.
pub struct Table(Mutex<Rows>);

struct Rows {
    remembered: HashSet<u64>,
    order: VecDeque<u64>,
    rows: Spool,
    tally: Tally,
}

impl Holds for Table {
    fn new() -> io::Result<Table> {
        Ok(Table(Mutex::new(Rows { remembered: HashSet::new(), order: VecDeque::new(), rows: Spool::new()?, tally: Tally::default() })))
    }

    fn tally(&self) -> Tally {
        lock(&self.0).tally
    }

    fn each(&self, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        lock(&self.0).rows.each(each)
    }
}

impl Behind for Table {
    fn answer(&self, head: &Parts, body: &[u8]) -> Option<Response<Vec<u8>>> {
        let query = head.uri.query().unwrap_or_default();
        let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let Some(insert) = parameter("query") else { return Some(answer(StatusCode::OK, ask(&String::from_utf8_lossy(body)))) };
        let is_gzip = head.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding == "gzip");
        let mut plain = Vec::new();
        if is_gzip && GzDecoder::new(body).read_to_end(&mut plain).is_err() {
            return Some(exception(33, "CANNOT_READ_ALL_DATA"));
        }
        let plain = if is_gzip { &plain } else { body };
        let rows = if insert.ends_with("JSONEachRow") { json_rows(plain) } else { binary_rows(plain) };
        let Some(rows) = rows else { return Some(exception(117, "INCORRECT_DATA")) };
        match lock(&self.0).insert(parameter("insert_deduplication_token"), plain, &rows) {
            Ok(()) => Some(answer(StatusCode::OK, String::new())),
            Err(_) => Some(exception(243, "NOT_ENOUGH_SPACE")),
        }
    }
}

impl Rows {
    fn insert(&mut self, token: Option<&str>, body: &[u8], rows: &[Vec<u8>]) -> io::Result<()> {
        let block = token.map_or_else(|| sum(&[body]), |token| sum(&[b"token", token.as_bytes()]));
        if self.remembered.contains(&block) {
            self.tally.refused += rows.len() as u64;
            return Ok(());
        }
        rows.iter().try_for_each(|row| self.rows.push(row))?;
        self.tally.stored += rows.len() as u64;
        self.remembered.insert(block);
        self.order.push_back(block);
        if self.order.len() > WINDOW
            && let Some(oldest) = self.order.pop_front()
        {
            self.remembered.remove(&oldest);
        }
        Ok(())
    }
}

/// The answer to a query about the server or the table.
fn ask(sql: &str) -> String {
    let rows: Vec<Value> = if sql.contains("FROM system.settings") {
        let names: Vec<&str> = sql.split('\'').skip(1).step_by(2).collect();
        vec![json!({"version": "26.9.2.1", "settings": names})]
    } else if sql.contains("FROM system.columns") {
        COLUMNS.iter().map(|name| json!({"name": name, "type": "String", "default_kind": ""})).collect()
    } else if sql.contains("FROM system.tables") {
        let made = format!("CREATE TABLE default.logs (…) ENGINE = MergeTree SETTINGS non_replicated_deduplication_window = {WINDOW}");
        vec![json!({"engine": "MergeTree", "create_table_query": made})]
    } else {
        Vec::new()
    };
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// The records of a body in `RowBinaryWithNamesAndTypes`, all of whose columns are strings.
fn binary_rows(mut body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let text = |from: &mut &[u8]| {
        let length = varint(from)?;
        take(from, length as usize).map(<[u8]>::to_vec)
    };
    let count = varint(&mut body)? as usize;
    let mut names = (0..count).map(|_| text(&mut body)).collect::<Option<Vec<_>>>()?;
    (0..count).try_for_each(|_| text(&mut body).filter(|of| of == b"String").map(drop))?;
    names.iter_mut().try_for_each(|name| COLUMNS.contains(&std::str::from_utf8(name).ok()?).then_some(()))?;
    let mut rows = Vec::new();
    while !body.is_empty() {
        let values = (0..count).map(|_| text(&mut body)).collect::<Option<Vec<_>>>()?;
        let of = |wanted: &[u8]| names.iter().position(|name| name == wanted).map_or(&b""[..], |at| &values[at]);
        rows.push(record(of(b"pod_name"), of(b"attributes"))?);
    }
    Some(rows)
}

/// The same of `JSONEachRow`.
fn json_rows(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let row = |line: &[u8]| {
        let row: Value = serde_json::from_slice(line).ok()?;
        record(row["pod_name"].as_str()?.as_bytes(), row["attributes"].as_str()?.as_bytes())
    };
    lines.map(row).collect()
}

/// A row as the record that it was: the JSON object of `attributes` with the name of the pod.
fn record(pod_name: &[u8], attributes: &[u8]) -> Option<Vec<u8>> {
    let inside = attributes.strip_prefix(b"{")?.strip_suffix(b"}")?;
    Some([b"{\"pod_name\":\"", pod_name, b"\",", inside, b"}"].concat())
}

fn answer(status: StatusCode, body: String) -> Response<Vec<u8>> {
    let mut response = Response::new(body.into_bytes());
    *response.status_mut() = status;
    response
}

fn exception(code: u32, name: &str) -> Response<Vec<u8>> {
    answer(StatusCode::INTERNAL_SERVER_ERROR, format!("Code: {code}. DB::Exception: by the test's store ({name})"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::client;

    #[test]
    fn a_block_is_stored_once_within_the_window() {
        let store = ClickHouse::start().unwrap();
        let insert = |token: &str, seq: u32| {
            let target = format!("/?query=INSERT%20x%20FORMAT%20JSONEachRow{token}");
            let row = format!("{{\"pod_name\":\"p\",\"attributes\":\"{{\\\"seq\\\":{seq}}}\"}}\n");
            assert_eq!(client::request("POST", &store.url(), &target, &[], row.as_bytes()).unwrap().status, 200);
        };
        let token = |number: usize| format!("&insert_deduplication_token={number}");
        insert(&token(0), 1);
        insert(&token(0), 1);
        insert("", 2);
        insert("", 2);
        (1..WINDOW).for_each(|number| insert(&token(number), 3));
        assert_eq!((store.tally().stored, store.tally().refused), (1 + WINDOW as u64, 2));
        insert(&token(0), 1);
        assert_eq!(store.tally().stored, 2 + WINDOW as u64, "beyond the window it is forgotten");
        let mut lines = Vec::new();
        store.each(&mut |line| lines.push(line.to_vec())).unwrap();
        assert_eq!(lines[0], b"{\"pod_name\":\"p\",\"seq\":1}");
    }

    #[test]
    fn rows_in_binary_are_read() {
        let mut body = vec![2];
        for text in ["pod_name", "attributes", "String", "String", "p", "{\"seq\":7}"] {
            body.push(text.len() as u8);
            body.extend_from_slice(text.as_bytes());
        }
        assert_eq!(binary_rows(&body).unwrap(), [b"{\"pod_name\":\"p\",\"seq\":7}"]);
        assert!(binary_rows(&body[..body.len() - 1]).is_none(), "half a row is no insert");
    }
}
