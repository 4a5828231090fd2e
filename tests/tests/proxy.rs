//! The way to a store through a proxy, as the environment says.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use skidder_tests::agent::{Agent, DEADLINE, command};
use skidder_tests::site::Site;
use skidder_tests::store::{Keep, Store};

/// A proxy that notes the first line of each request: it passes those in the absolute form on to `store`, and refuses tunnels.
fn proxy(store: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (store, noted) = (store.clone(), noted.clone());
            std::thread::spawn(move || pass_on(client, &store, &noted));
        }
    });
    (address, seen)
}

fn pass_on(mut client: TcpStream, store: &str, noted: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n") && client.read(&mut byte).is_ok_and(|count| count > 0) {
        head.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&head).trim().to_owned();
    noted.lock().unwrap().push(line.clone());
    if line.starts_with("CONNECT") {
        let _ = client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return;
    }
    let Ok(mut server) = TcpStream::connect(store.trim_start_matches("http://")) else { return };
    // To the origin a request names its path alone.
    let path = line.splitn(4, '/').nth(3).unwrap_or_default();
    server.write_all(format!("POST /{path}\r\n").as_bytes()).unwrap();
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let _ = std::io::copy(&mut client, &mut server);
    let _ = server.shutdown(std::net::Shutdown::Write);
    let _ = back.join();
}

fn site(endpoint: &str) -> Site {
    let config = format!(
        "data_dir = \"state\"\n[sources.in]\ntype = \"file\"\ninclude = [\"in.log\"]\n\n[sinks.out]\ntype = \"elasticsearch\"\n\
         inputs = [\"in\"]\nendpoints = [\"{endpoint}\"]\nmode = \"bulk\"\nindex = \"logs\"\n"
    );
    let site = Site::new(config).unwrap();
    site.append("in.log", "one\ntwo\n").unwrap();
    site
}

/// Runs the agent to its end within a few seconds, with variables of the environment.
fn run(site: &Site, variables: &[(&str, &str)]) -> bool {
    let mut command = command(site.root()).unwrap();
    command.args(["run", "--once", "--timeout", "5", "-c", "pipeline.toml"]).envs(variables.iter().copied());
    Agent::spawn(command).unwrap().wait(DEADLINE).unwrap().status.success()
}

#[test]
fn a_store_is_reached_through_the_proxy_of_the_environment() {
    let store = Store::start(Keep::Documents).unwrap();
    let (proxy, seen) = proxy(store.url());
    // A name that leads nowhere: only the proxy can be asked.
    assert!(run(&site("http://store.invalid:9200"), &[("http_proxy", &proxy)]));
    assert_eq!(store.counts().stored, 2);
    let line = seen.lock().unwrap()[0].clone();
    assert!(line.starts_with("POST http://store.invalid:9200/"), "{line}");

    // One that is excepted is spoken to directly.
    let count = seen.lock().unwrap().len();
    assert!(run(&site(&store.url()), &[("http_proxy", &proxy), ("no_proxy", "127.0.0.1")]));
    assert_eq!((store.counts().stored, seen.lock().unwrap().len()), (4, count));
}

#[test]
fn tls_goes_through_a_tunnel() {
    let (proxy, seen) = proxy(String::new());
    assert!(!run(&site("https://store.invalid:9243"), &[("https_proxy", &proxy)]));
    let line = seen.lock().unwrap()[0].clone();
    assert!(line.starts_with("CONNECT store.invalid:9243 "), "{line}");
}
