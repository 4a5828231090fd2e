use std::io::{Read, Write};

use skidder_pipeline::edge::{Nanos, SystemClock};
use skidder_pipeline::stats::Stats;
use skidder_pipeline::transform::Report;

use super::*;
use crate::lockdown::Lockdown;

fn view() -> View {
    let stats = Arc::new(Stats::new(["pods".to_owned()].into_iter(), ["es".to_owned()].into_iter()));
    stats.sources["pods"].records.add(7);
    stats.sources["pods"].lost_by_pod.add("shop", "cart-x2", 9, Nanos(u64::MAX));
    let es = &stats.sinks["es"];
    es.delivered.add(5);
    es.dropped.add(2);
    es.lost.add(3);
    es.standing.set(2);
    es.oldest_waiting.set(1);
    let mut report = Report::default();
    report.redacted(&"email.mask".into(), Some(&"gone".into()), 3);
    report.redacted(&"jwt".into(), None, 1);
    stats.add_report(&report);
    let component = |name: &str, kind, type_name: &str| Component { name: name.to_owned(), kind, type_name: type_name.to_owned() };
    let components = vec![component("pods", "source", "kubernetes_logs"), component("es", "sink", "elasticsearch")];
    let counts = Counts::new(stats, components, Arc::new(SystemClock::new()), Lockdown { writes: true, ..Lockdown::default() })
        .with_metadata(Some(Arc::default()));
    View { counts: Arc::new(RwLock::new(counts)), life: Arc::default() }
}

/// The server in a thread of its own, until the test's process ends.
fn served(view: View) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            serve(listener, view).await;
        });
    });
    told.recv().unwrap()
}

fn talk(address: SocketAddr, request: &str) -> String {
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    let _ = connection.write_all(request.as_bytes());
    let mut answer = String::new();
    let _ = connection.read_to_string(&mut answer);
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    talk(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
}

#[test]
fn answers_what_it_is_asked_and_nothing_else() {
    let view = view();
    let life = view.life.clone();
    let address = served(view);
    assert!(get(address, "/health").starts_with("HTTP/1.1 200"));
    assert!(get(address, "/ready").ends_with(r#"{"status":"ready"}"#));
    life.stop();
    assert!(get(address, "/ready").starts_with("HTTP/1.1 503"));
    assert!(get(address, "/health").starts_with("HTTP/1.1 200"), "a stop is no reason to be killed");
    assert!(get(address, "/else").starts_with("HTTP/1.1 404"));
    let refused = talk(address, "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}");
    assert!(refused.starts_with("HTTP/1.1 405") && refused.to_lowercase().contains("allow: get"), "{refused}");
}

#[test]
fn metrics_have_the_names_that_dashboards_know() {
    let answer = get(served(view()), "/metrics");
    let of_es = r#"component_id="es",component_kind="sink",component_type="elasticsearch""#;
    for line in [
        r#"skidder_component_received_events_total{component_id="pods",component_kind="source",component_type="kubernetes_logs"} 7"#,
        &format!("skidder_component_sent_events_total{{{of_es}}} 5"),
        &format!(r#"skidder_component_discarded_events_total{{{of_es},intentional="true",reason="buffer_full"}} 2"#),
        &format!(r#"skidder_component_discarded_events_total{{{of_es},intentional="false",reason="buffer_damaged"}} 1"#),
        &format!("skidder_sink_paused{{{of_es}}} 1.0"),
        // No log of the namespace is open.
        r#"skidder_redactions_total{rule="email",action="mask",pod_namespace="_others"} 3"#,
        r#"skidder_redactions_total{rule="jwt",action="replace"} 1"#,
        r#"skidder_kubernetes_lost_bytes_total{component_id="pods",pod_namespace="shop",pod_name="cart-x2"} 9"#,
        "# EOF",
    ] {
        assert!(answer.lines().any(|found| found == line), "no line {line}\nin {answer}");
    }
    let lag = answer.lines().find_map(|line| line.strip_prefix(&format!("skidder_sink_lag_seconds{{{of_es}}} "))).unwrap();
    assert!(lag.parse::<f64>().unwrap() >= 3600.0, "the clock starts at an hour: {lag}");
    assert!(answer.contains("skidder_process_resident_memory_bytes "));
    for name in answer.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        assert_eq!(answer.matches(&format!("# TYPE {name}\n")).count(), 1, "{name} is described twice");
    }
}

#[test]
fn every_metric_is_in_the_documents() {
    let documents = include_str!("../../../docs/operations.md");
    let answer = view().counts.read().unwrap().text().unwrap();
    for line in answer.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let name = match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        };
        assert!(documents.contains(&format!("`{}`", name.strip_prefix("skidder_").unwrap())), "{name} is not in docs/operations.md");
    }
}

#[test]
fn a_client_cannot_take_much() {
    let address = served(view());
    let long = format!("GET /health HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(2 * MAX_REQUEST_BYTES));
    assert!(!talk(address, &long).starts_with("HTTP/1.1 200"));
    // Connections that say nothing leave room for one that does.
    let silent: Vec<_> = (1..MAX_CONNECTIONS).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    assert!(get(address, "/health").starts_with("HTTP/1.1 200"));
    drop(silent);
}
