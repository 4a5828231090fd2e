//! VictoriaLogs, the real one, as an endpoint that takes lines of JSON: what is read is there, field by field, also through a faulty
//! front.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use skidder_tests::agent::{self, Agent, until};
use skidder_tests::chance;
use skidder_tests::client::{get, percent_encode};
use skidder_tests::front::Front;
use skidder_tests::mixed::Mixed;
use skidder_tests::real::{self, pods_site};
use skidder_tests::servers::{Kind, Server};
use skidder_tests::workspace;

fn sink(url: &str) -> String {
    format!(
        "type = \"http\"\nendpoints = [\"{url}/insert/jsonline?_time_field=timestamp&_msg_field=message&_stream_fields=kubernetes.pod_name\"]\n\
         id_field = \"id\"\nrequest.retry_max_duration_secs = 1.0"
    )
}

/// What a query gives, a line of JSON each.
fn query(server: &Server, logsql: &str) -> Vec<BTreeMap<String, String>> {
    let answer = get(server.url(), &format!("/select/logsql/query?query={}", percent_encode(logsql))).unwrap();
    assert_eq!(answer.status, 200, "{logsql}: {}", answer.text());
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The fields of a record as VictoriaLogs has them: texts, objects taken apart, nothing that is empty.
fn flat(name: &str, json: &Value, out: &mut BTreeMap<String, String>) {
    match json {
        Value::Object(members) => members.iter().for_each(|(key, value)| flat(&format!("{name}.{key}"), value, out)),
        Value::String(text) if !text.is_empty() => drop(out.insert(name.to_owned(), text.clone())),
        Value::Bool(value) => drop(out.insert(name.to_owned(), value.to_string())),
        _ => {}
    }
}

#[test]
fn mixed_records_arrive_in_victorialogs() {
    let server = Server::start(Kind::VictoriaLogs).unwrap();
    let front = Front::start(server.url()).unwrap();
    let seed = chance::seed();
    front.set_faults(real::faults(seed, &[]));
    let begin = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap() - 600_000_000_000;
    eprintln!("seed {seed}, begin {begin}");
    let mixed = Mixed::new(seed, 4, begin);
    let site = pods_site(&sink(&front.url())).unwrap();
    // Without the lines of 300 KiB: this store throws away what is longer than 256.
    let long = 777;
    mixed.write(&site.path("pods"), 0, long).unwrap();
    mixed.write(&site.path("pods"), long + 1, 20_000).unwrap();
    site.once().unwrap();
    let records = 19_999;
    let mut stored = Vec::new();
    // What was taken is not at once to be found.
    let all = until(|| {
        stored = query(&server, "*");
        let ids: BTreeSet<&String> = stored.iter().map(|record| &record["id"]).collect();
        (ids.len() >= records).then_some(ids.len())
    });
    assert_eq!(all, Some(records), "{} of {records}; {:?}", stored.len(), front.seen());
    eprintln!("{} twice, the front: {:?}", stored.len() - records, front.seen());
    let mut checked = 0;
    for record in &stored {
        let time = &record["_time"];
        let Some(seq) = mixed.seq(nanos(time)) else { panic!("no record has the time {time}") };
        let mut expected = BTreeMap::new();
        for (name, json) in mixed.record(seq).fields() {
            let name = if name == "message" { "_msg" } else { &name };
            // Numbers beyond what serde_json holds are compared by others' tests.
            serde_json::from_str::<Value>(&json).into_iter().for_each(|value| flat(name, &value, &mut expected));
        }
        for (name, value) in expected {
            assert_eq!(record.get(&name), Some(&value), "record {seq}, {name}");
            checked += 1;
        }
        assert_eq!(record["kubernetes.pod_name"], mixed.pod(seq));
    }
    assert!(checked > 50_000, "{checked}");
}

#[test]
fn the_example_does_what_its_readme_says() {
    let server = Server::start(Kind::VictoriaLogs).unwrap();
    let mut command = agent::command(workspace::root()).unwrap();
    command.args(["run", "--once", "-c", "examples/victorialogs/pipeline.toml"]).env("VICTORIALOGS_URL", server.url());
    Agent::spawn(command).unwrap().wait(agent::DEADLINE).unwrap().expect_success().unwrap();
    // As its script asks.
    let stored = until(|| Some(query(&server, "*")).filter(|stored| stored.len() == 48)).expect("48 records");
    assert!(stored.iter().all(|record| record["env"] == "demo" && !record["_msg"].contains("@example.com")), "{stored:?}");
    assert_eq!(query(&server, "kubernetes.pod_namespace:catalog").len(), 24);
}

/// A time of RFC 3339 in UTC, in nanoseconds since 1970.
fn nanos(text: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    // Days since 1970: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
    let y = if month <= 2 { year - 1 } else { year };
    let of_era = y.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = y.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
    let fraction = text[19..].trim_start_matches('.').trim_end_matches('Z');
    seconds * 1_000_000_000 + format!("{fraction:0<9}").parse::<i64>().unwrap()
}
