//! The servers themselves: they start, keep what they were given over a `kill -9`, and go when they are dropped.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpStream;

use skidder_tests::client::post;
use skidder_tests::servers::{Kind, Server};

#[test]
fn a_server_keeps_its_data_and_its_place_over_a_kill() {
    for kind in [Kind::ClickHouse, Kind::ClickHouse18] {
        let mut server = Server::start(kind).unwrap();
        let url = server.url().to_owned();
        post(server.url(), "/", "CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a").unwrap();
        post(server.url(), "/", "INSERT INTO t VALUES (7)").unwrap();
        server.kill().unwrap();
        assert!(TcpStream::connect(url.strip_prefix("http://").unwrap()).is_err(), "{kind:?} answers after it was killed");
        server.restart().unwrap();
        assert_eq!(server.url(), url);
        assert_eq!(post(server.url(), "/", "SELECT a FROM t").unwrap().text(), "7\n", "{}", server.log());
        drop(server);
        assert!(TcpStream::connect(url.strip_prefix("http://").unwrap()).is_err(), "{kind:?} outlives its test");
    }
}

#[test]
fn what_cannot_start_says_why() {
    let error = Server::start_with(Kind::Elasticsearch8, &["no.such.setting=1"]).err().unwrap();
    assert!(error.contains("no.such.setting"), "{error}");
}
