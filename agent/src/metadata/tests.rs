//! Asking, against a server of a few lines: what is asked for when.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use kube::Config;
use skidder_pipeline::edge::SystemClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// What a server was asked for, and when.
type Asked = Arc<Mutex<Vec<(Instant, String)>>>;

/// Serves what `answer` says to the path of each request, one request a connection, as long as the runtime lives.
async fn serve(answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> (Api, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, answer) = (Asked::default(), Arc::new(answer));
    let noted = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (noted, answer) = (noted.clone(), answer.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let path = String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().to_owned();
                let (status, body) = answer(&path);
                noted.lock().unwrap().push((Instant::now(), path));
                let length = body.len();
                let text = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                stream.write_all(text.as_bytes()).await.unwrap();
            });
        }
    });
    (Api::with(Config::new(url.parse().unwrap())).unwrap(), asked)
}

fn asker(seed: u64) -> Asker {
    let node_name = format!("node-{seed}").into();
    let store = Arc::new(Store::new(KubernetesConfig::default(), node_name, Arc::new(SystemClock::new())));
    Asker { store, chance: SplitMix(seed), failures: 0, expired: 0, what: "pods" }
}

fn times(asked: &Asked) -> Vec<Instant> {
    asked.lock().unwrap().iter().map(|(time, _)| *time).collect()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within half a minute: {what}");
}

/// Forty nodes that get their agents at the same moment, and an API server that is not well: they neither come together nor,
/// once they were all turned away, come back together.
#[tokio::test]
async fn agents_that_start_together_do_not_ask_together() {
    const AGENTS: usize = 40;
    let (api, asked) = serve(|_| (500, String::new())).await;
    let begun = Instant::now();
    let mut agents = JoinSet::new();
    for seed in 0..AGENTS as u64 {
        agents.spawn(asker(seed).pods(api.clone()));
    }
    let of_agent = |seed: usize| -> Vec<f64> {
        let asked = asked.lock().unwrap();
        let own = asked.iter().filter(|(_, path)| path.contains(&format!("spec.nodeName%3Dnode-{seed}&")));
        own.map(|(time, _)| time.duration_since(begun).as_secs_f64()).collect()
    };
    until("two requests of each", || (0..AGENTS).all(|seed| of_agent(seed).len() >= 2)).await;
    let times: Vec<Vec<f64>> = (0..AGENTS).map(of_agent).collect();
    // Where they are spread evenly a tenth of them is in each fifth of a second of the two.
    let herd = |times: &[f64], within: f64| {
        times.iter().map(|from| times.iter().filter(|time| (*from..from + within).contains(time)).count()).max()
    };
    let first: Vec<f64> = times.iter().map(|times| times[0]).collect();
    assert!(herd(&first, 0.2) <= Some(AGENTS / 2), "{first:?}");
    // After the same failure they wait for as long as chance says, up to half a second.
    let waited: Vec<f64> = times.iter().map(|times| times[1] - times[0]).collect();
    assert!(herd(&waited, 0.05) <= Some(AGENTS / 2), "{waited:?}");
}

/// The kubelet has no watch. It is asked again at once where a log waits for its pod, and else twice a minute.
#[tokio::test]
async fn the_kubelet_is_asked_again_where_a_pod_is_not_known() {
    let pod = |name: &str| {
        let metadata = serde_json::json!({"namespace": "ns", "name": name, "uid": name, "labels": {"app": name}});
        serde_json::json!({"metadata": metadata, "spec": {}, "status": {}})
    };
    let list = move |names: &[&str]| {
        let items: Vec<_> = names.iter().copied().map(pod).collect();
        (200, serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}).to_string())
    };
    let phase = Arc::new(AtomicUsize::new(0));
    let now = phase.clone();
    let (kubelet, asked) = serve(move |path| {
        assert_eq!(path, "/pods");
        match now.load(Ordering::SeqCst) {
            0 => list(&["old"]),
            1 => (503, "not yet".to_owned()),
            _ => list(&["new"]),
        }
    })
    .await;
    let asker = asker(1);
    let store = asker.store.clone();
    let knows = |uid: &str| store.snapshot().pods.contains_key(uid);
    tokio::spawn(asker.kubelet_pods(kubelet));
    until("the first pod", || knows("old")).await;
    assert_eq!(store.counts.connected.get(), 1);
    // Nobody waits for anything.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(times(&asked).len(), 1, "it is spared");

    let new = store.slot("new");
    phase.store(1, Ordering::SeqCst);
    store.waits_until(&new, store.clock.now());
    until("a question", || times(&asked).len() > 1).await;
    until("that it failed", || store.counts.connected.get() == 0).await;
    assert!(knows("old") && store.snapshot().gone.is_empty(), "a kubelet that does not answer takes nothing away");
    phase.store(2, Ordering::SeqCst);
    until("the second pod", || knows("new")).await;
    until("the end of the list", || store.snapshot().gone.contains("old")).await;
    assert_eq!(store.counts.connected.get(), 1);
    let count = times(&asked).len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(times(&asked).len(), count, "all is known again");
}

/// While a log waits for a pod that the kubelet does not know either, it is asked once a second and not more often.
#[tokio::test]
async fn the_kubelet_is_not_pressed() {
    let (kubelet, asked) = serve(|_| (200, r#"{"metadata":{},"items":[]}"#.to_owned())).await;
    let asker = asker(1);
    let slot = asker.store.slot("nobody-knows-it");
    asker.store.waits_until(&slot, asker.store.clock.now());
    tokio::spawn(asker.kubelet_pods(kubelet));
    until("four questions", || times(&asked).len() >= 4).await;
    let times = times(&asked);
    assert!(times.windows(2).all(|pair| pair[1].duration_since(pair[0]) >= Duration::from_millis(950)), "{times:?}");
}

/// An agent that is killed knows again what it knew: it is written soon after it was learned, and then not for a while.
#[tokio::test]
async fn what_is_learned_is_written_at_once_and_then_in_turns() {
    let asker = asker(1);
    let store = asker.store.clone();
    let saved = Arc::new(AtomicUsize::new(0));
    let count = saved.clone();
    let task = {
        let store = store.clone();
        tokio::spawn(async move { keep(&store, || Some(()).inspect(|()| _ = count.fetch_add(1, Ordering::SeqCst))).await })
    };
    tokio::task::yield_now().await;
    let put = |uid: &str| store.put(uid, facts::Facts { name: uid.into(), ..Default::default() });
    put("first");
    // Timers of one runtime run in order, however busy the machine is.
    tokio::time::sleep(SAVE_INTERVAL / 2).await;
    assert_eq!(saved.load(Ordering::SeqCst), 1);
    put("second");
    tokio::time::sleep(SAVE_INTERVAL / 4).await;
    assert_eq!(saved.load(Ordering::SeqCst), 1, "a node where pods come and go does not write all the time");
    until("the second", || saved.load(Ordering::SeqCst) == 2).await;
    task.abort();
}
