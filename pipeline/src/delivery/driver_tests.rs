#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::*;
use crate::batch::Batch;
use crate::body::Bodies;
use crate::edge::SplitMix;
use crate::queue::tests::{Plain, group};
use crate::sink::{Encode, Sending};

/// A store of lines. What it answers is scripted: the verdict stands in the response's body.
struct Lines {
    verdicts: Mutex<BTreeMap<Bytes, Verdict>>,
}

impl Sink for Lines {
    fn encoder(&self) -> Box<dyn Encode> {
        struct None;
        impl Encode for None {
            fn encode(&mut self, _: &Batch, _: u8, _: &mut Bodies) {}
        }
        Box::new(None)
    }
    fn judge(&self, _: &Frame, response: &Response) -> Verdict {
        self.verdicts.lock().unwrap().remove(&response.body).unwrap()
    }
    fn cut(&self, body: &[u8], records: &[u32]) -> Vec<u8> {
        let lines: Vec<&str> = std::str::from_utf8(body).unwrap().lines().collect();
        records.iter().map(|r| format!("{}\n", lines[*r as usize])).collect::<String>().into()
    }
    fn show(&self, body: &[u8], index: u32) -> Vec<u8> {
        format!("{:?}", std::str::from_utf8(body).unwrap().lines().nth(index as usize).unwrap()).into()
    }
}

/// What the store does with a send.
enum Does {
    Answer(Verdict),
    AnswerWithNote(Note),
    Fail,
    Hang,
    Panic,
}

type Script = Box<dyn FnMut(&[&str]) -> Does + Send>;

struct Scripted {
    sink: Arc<Lines>,
    script: Mutex<Script>,
    sent: Mutex<Vec<(Duration, BatchId, String)>>,
    under_way: AtomicUsize,
    most: AtomicUsize,
    clock: Arc<TestClock>,
}

impl Transport for Scripted {
    fn send<'a>(&'a self, frame: &'a Frame) -> Sending<'a> {
        let header = frame.header();
        let text = String::from_utf8(decompress(header.compression, frame.body(), header.raw_bytes).unwrap()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), header.records as usize);
        let does = (self.script.lock().unwrap())(&lines);
        let mut sent = self.sent.lock().unwrap();
        sent.push((self.clock.now().since(Nanos(0)), header.id, text.replace('\n', " ").trim().to_owned()));
        let key = Bytes::from(sent.len().to_string());
        drop(sent);
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(under_way, Ordering::SeqCst);
        Box::pin(async move {
            // The round trip, in which other sends go out.
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            let (verdict, note) = match does {
                Does::Answer(verdict) => (verdict, None),
                Does::AnswerWithNote(note) => (Verdict::Delivered { duplicates: 0 }, Some(note)),
                Does::Fail => return Err(TransportError("connection refused".into())),
                Does::Hang => std::future::pending().await,
                Does::Panic => panic!("scripted"),
            };
            self.sink.verdicts.lock().unwrap().insert(key.clone(), verdict);
            Ok(Response { body: key, note, ..Response::ok() })
        })
    }
}

/// tokio's paused time.
struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now(&self) -> Nanos {
        Nanos(self.0.elapsed().as_nanos() as u64)
    }
    fn unix_nanos(&self) -> i64 {
        self.now().0 as i64
    }
}

#[derive(Clone, Default)]
struct Grave(Arc<Mutex<Vec<Letter>>>, Arc<AtomicUsize>);

impl Bury for Grave {
    fn bury(&mut self, letters: &[Letter]) -> io::Result<()> {
        if self.1.load(Ordering::SeqCst) > 0 {
            self.1.fetch_sub(1, Ordering::SeqCst);
            return Err(io::Error::other("no space left"));
        }
        self.0.lock().unwrap().extend_from_slice(letters);
        Ok(())
    }
}

struct Rig {
    queue: Arc<Queue<Plain>>,
    transport: Arc<Scripted>,
    grave: Grave,
    control: Control,
    clock: Arc<TestClock>,
    running: tokio::task::JoinHandle<Ended>,
}

fn rig(script: impl FnMut(&[&str]) -> Does + Send + 'static) -> Rig {
    let clock = Arc::new(TestClock(tokio::time::Instant::now()));
    let sink = Arc::new(Lines { verdicts: Mutex::default() });
    let transport = Arc::new(Scripted {
        sink: sink.clone(),
        script: Mutex::new(Box::new(script)),
        sent: Mutex::default(),
        under_way: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        clock: clock.clone(),
    });
    let queue = Queue::plain(1000, Arc::new(|| ()));
    let grave = Grave::default();
    let (control, signal) = control();
    let delivery = Delivery {
        name: "test".into(),
        sink,
        transport: transport.clone(),
        queue: queue.clone(),
        dead_letters: Box::new(grave.clone()),
        options: Options::default(),
        clock: clock.clone(),
        chance: Box::new(SplitMix(1)),
    };
    Rig { queue, transport, grave, control, clock, running: tokio::spawn(delivery.run(signal)) }
}

impl Rig {
    fn append(&self, bodies: &[&str]) {
        bodies.iter().for_each(|body| assert!(matches!(self.queue.append(group(body), Nanos(0)), crate::buffer::Appended::Kept)));
    }

    async fn drain(self) -> (Vec<String>, Vec<(u32, String)>, crate::stats::SinkStats) {
        self.control.drain(None);
        assert_eq!(self.running.await.unwrap(), Ended { drained: true, put_back: 0 });
        assert!(self.queue.is_empty());
        let sent = self.transport.sent.lock().unwrap().iter().map(|(_, _, text)| text.clone()).collect();
        let letters = self.grave.0.lock().unwrap();
        let dead = letters.iter().map(|l| (l.index, String::from_utf8(l.record.clone()).unwrap())).collect();
        let stats = self.queue.stats();
        let copy = crate::stats::SinkStats::default();
        for (from, to) in [
            (&stats.delivered, &copy.delivered),
            (&stats.duplicates, &copy.duplicates),
            (&stats.rejected, &copy.rejected),
            (&stats.retries, &copy.retries),
        ] {
            to.set(from.get());
        }
        (sent, dead, copy)
    }
}

fn ok() -> Does {
    Does::Answer(Verdict::Delivered { duplicates: 0 })
}

fn busy() -> Does {
    Does::Answer(Verdict::Retry { reason: "HTTP 429".into() })
}

/// Does what the list says, send by send, then all is well.
fn list(does: impl IntoIterator<Item = Does>) -> impl FnMut(&[&str]) -> Does {
    let mut does: VecDeque<Does> = does.into_iter().collect();
    move |_| does.pop_front().unwrap_or_else(ok)
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_buffer_is_delivered_and_acknowledged() {
    let rig = rig(list([Does::Answer(Verdict::Delivered { duplicates: 1 })]));
    rig.append(&["a\nb\n", "c\n", "d\n"]);
    let (sent, dead, stats) = rig.drain().await;
    assert_eq!(sent, ["a b", "c", "d"]);
    assert!(dead.is_empty());
    assert_eq!([&stats.delivered, &stats.duplicates, &stats.retries].map(|c| c.get()), [4, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_same_bytes_go_out_until_they_are_taken() {
    let rig = rig(list([busy(), Does::Fail, Does::Hang, Does::Panic]));
    rig.append(&["a\nb\n"]);
    let (transport, clock) = (rig.transport.clone(), rig.clock.clone());
    let (sent, _, stats) = rig.drain().await;
    assert_eq!(sent, ["a b"; 5]);
    let ids: BTreeSet<BatchId> = transport.sent.lock().unwrap().iter().map(|(_, id, _)| *id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!([&stats.delivered, &stats.retries].map(|c| c.get()), [2, 4]);
    let took = clock.now().since(Nanos(0)).as_secs();
    assert!((60..75).contains(&took), "one time-out of a minute and some backoff: {took}");
}

#[tokio::test(start_paused = true)]
async fn only_what_was_not_taken_goes_out_again() {
    let rejected = vec![Rejection { record: 1, status: 400, reason: "no".into() }];
    let again = Rejection { record: 1, status: 404, reason: "nor this".into() };
    let rig = rig(list([
        Does::Answer(Verdict::Partly { duplicates: 1, rejected, retry: vec![2, 4] }),
        Does::Answer(Verdict::Partly { duplicates: 0, rejected: vec![again], retry: vec![] }),
    ]));
    rig.append(&["a\nb\nc\nd\ne\n"]);
    let grave = rig.grave.clone();
    let id = rig.queue.inspect(|b| b.frames[&1].header().id);
    let transport = rig.transport.clone();
    let (sent, dead, stats) = rig.drain().await;
    assert_eq!(sent, ["a b c d e", "c e"]);
    assert_eq!(dead, [(1, "\"b\"".to_owned()), (4, "\"e\"".to_owned())]);
    assert_eq!(grave.0.lock().unwrap().iter().map(|l| (l.batch, l.status)).collect::<Vec<_>>(), [(id, 400), (id, 404)]);
    assert_ne!(transport.sent.lock().unwrap()[1].1, id, "a part is another batch to the store");
    assert_eq!([&stats.delivered, &stats.duplicates, &stats.rejected].map(|c| c.get()), [3, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_halved_and_the_one_record_that_is_dies() {
    let too_large = |lines: &[&str]| if lines.len() > 2 || lines.contains(&"f") { Does::Answer(Verdict::Split) } else { ok() };
    let mut runs = Vec::new();
    for _ in 0..2 {
        let rig = rig(too_large);
        rig.append(&["a\nb\nc\nd\ne\nf\ng\n"]);
        let transport = rig.transport.clone();
        let (sent, dead, stats) = rig.drain().await;
        assert_eq!(dead, [(5, "\"f\"".to_owned())]);
        assert_eq!([&stats.delivered, &stats.rejected].map(|c| c.get()), [6, 1]);
        assert_eq!(sent.iter().filter(|text| text.split(' ').count() <= 2 && !text.contains('f')).count(), 4);
        let ids: BTreeMap<String, BatchId> = transport.sent.lock().unwrap().iter().map(|(_, id, text)| (text.clone(), *id)).collect();
        assert_eq!(ids.values().collect::<BTreeSet<_>>().len(), sent.len(), "each part has its own identity");
        runs.push(ids);
    }
    assert_eq!(runs[0], runs[1], "and has it again when it is cut again");
}

#[tokio::test(start_paused = true)]
async fn a_refused_frame_waits_for_its_dead_letters() {
    let rig = rig(list([Does::Answer(Verdict::Reject { status: 400, reason: "no".into() })]));
    rig.grave.1.store(3, Ordering::SeqCst);
    rig.append(&["a\nb\n"]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!rig.queue.is_empty(), "not acknowledged before the letters are written");
    let (_, dead, stats) = rig.drain().await;
    assert_eq!(dead, [(0, "\"a\"".to_owned()), (1, "\"b\"".to_owned())]);
    assert_eq!(stats.rejected.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_paused_sink_is_tried_slowly_and_goes_on() {
    let paused = || Does::Answer(Verdict::Pause { reason: "HTTP 401".into() });
    let rig = rig(list([paused(), paused(), paused(), paused()]));
    rig.append(&["a\n", "b\n", "c\n", "d\n"]);
    let (transport, clock) = (rig.transport.clone(), rig.clock.clone());
    let (sent, _, stats) = rig.drain().await;
    assert_eq!(stats.delivered.get(), 4);
    assert_eq!(&sent[..2], ["a", "b"], "two were under way when the door closed");
    assert_eq!(&sent[2..5], ["a", "a", "a"], "then one tries");
    assert!(clock.now().since(Nanos(0)) > Duration::from_secs(15 + 30 + 60));
    assert_eq!(transport.most.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn sends_go_out_side_by_side_as_many_as_the_store_bears() {
    let rig = rig(list([]));
    rig.append(&["a\n"; 100]);
    let transport = rig.transport.clone();
    rig.drain().await;
    assert_eq!(transport.most.load(Ordering::SeqCst), 8);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_what_is_under_way_goes_back() {
    let rig = rig(|lines| if lines[0] == "a" { ok() } else { Does::Hang });
    rig.append(&["a\n", "b\n", "c\n", "d\n"]);
    rig.control.drain(Some(rig.clock.now().after(Duration::from_secs(5))));
    let ended = rig.running.await.unwrap();
    assert_eq!(ended, Ended { drained: false, put_back: 2 });
    assert_eq!(rig.clock.now().since(Nanos(0)).as_secs(), 5);
    assert_eq!(
        rig.queue.inspect(|b| (b.taken.clone(), b.frames.keys().copied().collect::<Vec<_>>())),
        (BTreeSet::from([1]), vec![2, 3, 4])
    );
    let again = [rig.queue.next().await, rig.queue.next().await].map(|f| f.header().seq);
    assert_eq!(again, [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_finish_waits_for_what_is_under_way_and_begins_nothing() {
    let rig = rig(list([]));
    rig.append(&["a\n"; 20]);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let under_way = rig.transport.sent.lock().unwrap().len();
    assert!((1..20).contains(&under_way), "{under_way}");
    rig.control.finish(Some(rig.clock.now().after(Duration::from_secs(5))));
    assert!(!rig.running.await.unwrap().drained);
    assert_eq!(rig.transport.sent.lock().unwrap().len(), under_way, "nothing more was sent");
    assert_eq!(rig.queue.inspect(|b| b.frames.len()), 20 - under_way, "and what was sent is acknowledged");
    assert_eq!(rig.clock.now().since(Nanos(0)), Duration::from_millis(10), "one round trip");
}

#[tokio::test(start_paused = true)]
async fn a_finish_gives_up_at_its_deadline_and_can_be_taken_back_before() {
    let mut first = true;
    let rig = rig(move |_| if std::mem::take(&mut first) { Does::Hang } else { ok() });
    rig.append(&["a\n"]);
    tokio::time::sleep(Duration::from_millis(5)).await;
    rig.control.finish(None);
    rig.append(&["b\n"]);
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(!rig.running.is_finished(), "without a deadline it waits");
    assert_eq!(rig.transport.sent.lock().unwrap().len(), 1);
    rig.control.resume();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.transport.sent.lock().unwrap().len(), 2, "it goes on");
    rig.control.finish(Some(rig.clock.now().after(Duration::from_secs(5))));
    assert_eq!(rig.running.await.unwrap(), Ended { drained: false, put_back: 1 });
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_once_where_there_is_nothing() {
    let rig = rig(list([]));
    rig.drain().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_control_it_goes_on() {
    let Rig { queue, control, running, .. } = rig(list([]));
    drop(control);
    tokio::time::sleep(Duration::from_secs(1)).await;
    queue.append(group("a\n"), Nanos(0));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(queue.is_empty() && !running.is_finished());
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn notes_are_kept_with_the_acknowledgement() {
    let note = Note { key: "file".into(), value: vec![7] };
    let rig = rig(list([busy(), Does::AnswerWithNote(note.clone())]));
    rig.append(&["a\n"]);
    let queue = rig.queue.clone();
    rig.drain().await;
    assert_eq!(queue.inspect(|b| b.acknowledged.clone()), [(1, Some(note))]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_cannot_be_read_back_dies_as_a_whole() {
    let rig = rig(list([Does::Answer(Verdict::Split)]));
    let frame = group("a\nb\n").remove(0);
    let mut header = frame.header().clone();
    header.raw_bytes += 1;
    // The transport of this test unpacks too, so it gets the letters' case alone.
    let mut at_work = AtWork::new(Delivery {
        name: "test".into(),
        sink: rig.transport.sink.clone(),
        transport: rig.transport.clone(),
        queue: rig.queue.clone(),
        dead_letters: Box::new(rig.grave.clone()),
        options: Options::default(),
        clock: rig.clock.clone(),
        chance: Box::new(SplitMix(1)),
    });
    at_work.taken(Frame::from_parts(header, frame.body().clone()));
    rig.transport.sink.verdicts.lock().unwrap().insert(Bytes::from_static(b"x"), Verdict::Split);
    let verdict = at_work.judge(0, Response { body: Bytes::from_static(b"x"), ..Response::ok() });
    assert!(matches!(verdict, Verdict::Reject { status: 0, .. }), "{verdict:?}");
    let rejected = [Rejection { record: 1, status: 0, reason: "damaged".into() }];
    let letters = at_work.letters(0, &rejected);
    assert_eq!((letters[0].index, letters[0].record.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_parts_of_an_earlier_life_are_sent_again_as_they_were() {
    const FRAME: &str = "a\nb\nc\nd\ne\nf\n";
    let first = rig(|lines| match lines {
        [_, _, _, _, _, _] => Does::Answer(Verdict::Split),
        ["a", ..] => Does::Answer(Verdict::Partly { duplicates: 0, rejected: vec![], retry: vec![1, 2] }),
        _ => Does::Fail,
    });
    first.append(&[FRAME]);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let cuts = first.queue.inspect(|plain| plain.cuts[&1].clone());
    assert_eq!(cuts.iter().map(|cut| (cut.from, cut.first, cut.parts.len())).collect::<Vec<_>>(), [(0, 1, 2), (1, 3, 1)]);
    let before = first.transport.sent.lock().unwrap().clone();
    let id_of = |text: &str| before.iter().find(|(_, _, sent)| sent == text).map(|(_, id, _)| *id);
    // It dies here. The store takes more by now, and would not know the frame for its parts.
    drop(first);

    let second = rig(|_| ok());
    cuts.into_iter().for_each(|cut| second.queue.cut(1, cut, Nanos(0)));
    second.append(&[FRAME]);
    let transport = second.transport.clone();
    let (mut sent, _, stats) = second.drain().await;
    sent.sort_unstable();
    assert_eq!(sent, ["b c", "d e f"], "what was settled does not come again");
    assert!(transport.sent.lock().unwrap().iter().all(|(_, id, text)| id_of(text) == Some(*id)), "under the same identities");
    assert_eq!(stats.delivered.get(), 5);
}
