#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use super::*;
use crate::edge::SplitMix;

const SECOND: u64 = 1_000_000_000;

fn decide(concurrency: Concurrency) -> Decide {
    Decide::new(Options { concurrency, ..Options::default() }, None, Box::new(SplitMix(7)))
}

fn one() -> Decide {
    decide(Concurrency::Fixed(1))
}

fn answer(verdict: Verdict) -> Outcome {
    Outcome::Answered { verdict, retry_after: None }
}

fn delivered() -> Outcome {
    answer(Verdict::Delivered { duplicates: 0 })
}

fn retry() -> Outcome {
    answer(Verdict::Retry { reason: "HTTP 503".into() })
}

fn pause() -> Outcome {
    answer(Verdict::Pause { reason: "HTTP 401".into() })
}

fn rejection(record: u32) -> Rejection {
    Rejection { record, status: 400, reason: "no".into() }
}

fn all(decide: &mut Decide, now: u64) -> Vec<Action> {
    std::iter::from_fn(|| decide.action(Nanos(now))).collect()
}

/// The pieces that are sent now, where nothing but sends is to be done.
fn sends(decide: &mut Decide, now: u64) -> Vec<PieceId> {
    let only = |action| match action {
        Action::Send { piece, .. } => piece,
        other => panic!("{other:?}"),
    };
    all(decide, now).into_iter().map(only).collect()
}

fn acknowledged(seq: u64, delivered: u64, duplicates: u64, rejected: u64) -> Action {
    Action::Acknowledge { seq, account: Account { delivered, duplicates, rejected } }
}

#[test]
fn a_stored_frame_is_acknowledged() {
    let mut d = one();
    assert!(d.wants_frame());
    let piece = d.taken(4, 10, Nanos(0));
    assert!(!d.wants_frame(), "one at a time");
    assert_eq!(all(&mut d, 0), [Action::Send { piece, again: false }]);
    assert_eq!(d.wake_at(), None, "only the answer can come");
    d.answered(piece, answer(Verdict::Delivered { duplicates: 3 }), Nanos(5));
    assert_eq!(all(&mut d, 5), [Action::Forget(piece), acknowledged(4, 10, 3, 0)]);
    assert!(d.is_idle() && d.wants_frame());
}

#[test]
fn a_frame_that_only_moves_positions_is_not_sent() {
    let mut d = one();
    let piece = d.taken(4, 0, Nanos(0));
    assert_eq!(all(&mut d, 0), [Action::Forget(piece), acknowledged(4, 0, 0, 0)]);
    assert!(d.is_idle());
}

#[test]
fn retries_for_ever_with_growing_waits() {
    let mut d = one();
    let piece = d.taken(1, 10, Nanos(0));
    let mut now = 0;
    let mut longest = 0;
    for round in 0..200 {
        let sent = all(&mut d, now);
        assert!(sent.contains(&Action::Send { piece, again: round > 0 }), "{round}: {sent:?}");
        let outcome = match round % 3 {
            0 => retry(),
            1 => Outcome::TimedOut,
            _ => Outcome::Failed { reason: "connection reset".into() },
        };
        d.answered(piece, outcome, Nanos(now));
        while let Some(action) = d.queued.pop_front() {
            assert!(matches!(action, Action::Report(_)), "{action:?}");
        }
        let wake = d.wake_at().unwrap().0;
        assert!(wake - now <= 30 * SECOND);
        if wake > now {
            assert_eq!(all(&mut d, wake - 1), [], "not before its time");
        }
        longest = longest.max(wake - now);
        now = wake;
    }
    assert!(longest > 20 * SECOND, "the waits should grow: {longest}");
    assert_eq!(sends(&mut d, now), [piece]);
    d.answered(piece, delivered(), Nanos(now));
    assert!(all(&mut d, now).contains(&acknowledged(1, 10, 0, 0)));
}

#[test]
fn a_wait_that_the_store_asks_for_holds_all_sends() {
    for (asked, holds) in [(7, 7), (100_000, 600)] {
        let mut d = decide(Concurrency::Fixed(2));
        let (a, b) = (d.taken(1, 10, Nanos(0)), d.taken(2, 10, Nanos(0)));
        assert_eq!(sends(&mut d, 0), [a, b]);
        let verdict = Verdict::Retry { reason: "HTTP 429".into() };
        d.answered(a, Outcome::Answered { verdict, retry_after: Some(Duration::from_secs(asked)) }, Nanos(0));
        d.answered(b, retry(), Nanos(0));
        assert_eq!(d.wake_at(), Some(Nanos(holds * SECOND)));
        assert_eq!(sends(&mut d, holds * SECOND - 1), [0; 0]);
        assert_eq!(sends(&mut d, holds * SECOND), [a, b]);
    }
}

#[test]
fn only_the_records_that_were_not_taken_are_sent_again() {
    let mut d = one();
    let whole = d.taken(1, 5, Nanos(0));
    assert_eq!(sends(&mut d, 0), [whole]);
    // Unordered, repeated, out of bounds, and one that is both: a record is never lost by what a store answers.
    let verdict = Verdict::Partly { duplicates: 1, rejected: vec![rejection(4), rejection(3), rejection(77)], retry: vec![3, 0, 3, 99] };
    d.answered(whole, answer(verdict), Nanos(0));
    let actions = all(&mut d, 0);
    let [Action::Bury { piece, letters }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((*piece, &letters[..]), (whole, &[rejection(4)][..]));
    d.buried(whole);
    // The cut says of all that is not in it that it is dealt with: after the dead letters.
    let actions = all(&mut d, 0);
    let [Action::Cut { from, parts }, Action::Forget(gone)] = &actions[..] else { panic!("{actions:?}") };
    let [NewPart { into: part, path, records }] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!((*from, *gone, &records[..]), (whole, whole, &[0, 3][..]));
    assert!(*path > 1);
    let at = d.wake_at().unwrap();
    assert_eq!(all(&mut d, at.0), [Action::Send { piece: *part, again: true }]);
    d.answered(*part, delivered(), at);
    assert_eq!(all(&mut d, at.0), [Action::Forget(*part), acknowledged(1, 4, 1, 1)]);
}

#[test]
fn where_no_record_was_taken_nothing_is_cut() {
    let mut d = one();
    let piece = d.taken(1, 2, Nanos(0));
    assert_eq!(sends(&mut d, 0), [piece]);
    d.answered(piece, answer(Verdict::Partly { duplicates: 0, rejected: vec![], retry: vec![0, 1] }), Nanos(0));
    assert_eq!(sends(&mut d, 30 * SECOND), [piece]);
}

#[test]
fn other_records_are_another_part() {
    let paths: BTreeSet<u32> = [&[0][..], &[1], &[0, 1], &[1, 2], &[0, 1, 2]].map(path_of).into();
    assert_eq!(paths.len(), 5);
    assert!(paths.iter().all(|path| *path > 1));
    assert_eq!(path_of(&[3, 9]), path_of(&[3, 9]));
}

/// Frames of `records` records, of which the store takes at most `at_most` at once and never those in `poison`.
fn split_all(records: u32, at_most: usize, poison: &[u32]) -> (usize, Vec<u32>, Action) {
    let mut d = one();
    let root = d.taken(1, records, Nanos(0));
    let mut of: BTreeMap<PieceId, Vec<u32>> = [(root, (0..records).collect())].into();
    let mut stored = 0;
    let mut dead = Vec::new();
    loop {
        match d.action(Nanos(0)).expect("something to do until the end") {
            Action::Send { piece, .. } => {
                let has = &of[&piece];
                let verdict = if has.len() > at_most || has.iter().any(|r| poison.contains(r)) {
                    Verdict::Split
                } else {
                    stored += has.len();
                    Verdict::Delivered { duplicates: 0 }
                };
                d.answered(piece, answer(verdict), Nanos(0));
            }
            Action::Cut { from, parts } => {
                for NewPart { into, records, .. } in parts {
                    let cut = records.iter().map(|r| of[&from][*r as usize]).collect();
                    of.insert(into, cut);
                }
            }
            Action::Bury { piece, letters } => {
                assert_eq!(letters.iter().map(|l| (l.record, l.status)).collect::<Vec<_>>(), [(0, 413)]);
                dead.extend(&of[&piece]);
                d.buried(piece);
            }
            Action::Forget(piece) => drop(of.remove(&piece).expect("forgotten once")),
            done @ Action::Acknowledge { .. } => {
                assert!(of.is_empty() && d.is_idle());
                return (stored, dead, done);
            }
            Action::Report(change) => panic!("{change:?}"),
        }
    }
}

#[test]
fn what_is_too_large_is_halved_down_to_the_record_that_is() {
    assert_eq!(split_all(1000, 100, &[]), (1000, vec![], acknowledged(1, 1000, 0, 0)));
    assert_eq!(split_all(7, 1, &[]), (7, vec![], acknowledged(1, 7, 0, 0)));
    assert_eq!(split_all(1000, 1000, &[0, 499, 999]), (997, vec![0, 499, 999], acknowledged(1, 997, 0, 3)));
    assert_eq!(split_all(1, 0, &[]), (0, vec![0], acknowledged(1, 0, 0, 1)));
}

#[test]
fn a_refused_frame_goes_to_the_dead_letters_before_it_is_acknowledged() {
    let mut d = one();
    let piece = d.taken(1, 2, Nanos(0));
    assert_eq!(sends(&mut d, 0), [piece]);
    d.answered(piece, answer(Verdict::Reject { status: 400, reason: "no".into() }), Nanos(0));
    let letters = vec![rejection(0), rejection(1)];
    assert_eq!(all(&mut d, 0), [Action::Bury { piece, letters: letters.clone() }]);
    d.not_buried(piece, letters.clone(), Nanos(0));
    let at = d.wake_at().expect("another try");
    assert!(at > Nanos(0));
    assert_eq!(all(&mut d, at.0 - 1), []);
    assert_eq!(all(&mut d, at.0), [Action::Bury { piece, letters }]);
    d.buried(piece);
    assert_eq!(all(&mut d, at.0), [Action::Forget(piece), acknowledged(1, 0, 0, 2)]);
}

#[test]
fn a_pause_lets_one_send_try_the_door_now_and_then() {
    let mut d = decide(Concurrency::Fixed(3));
    let pieces = [1, 2, 3].map(|seq| d.taken(seq, 10, Nanos(0)));
    assert_eq!(sends(&mut d, 0), pieces);
    for piece in pieces {
        d.answered(piece, pause(), Nanos(0));
    }
    assert_eq!(all(&mut d, 0), [Action::Report(Change::Paused { reason: "HTTP 401".into() })], "said once");
    let mut now = 0;
    for (low, high) in [(15, 30), (30, 60), (60, 120), (120, 240), (150, 300), (150, 300)] {
        let wake = d.wake_at().unwrap().0;
        assert!((low * SECOND..=high * SECOND).contains(&(wake - now)), "{} should be in {low}..{high}", (wake - now) / SECOND);
        now = wake;
        assert_eq!(sends(&mut d, now), [pieces[0]], "one tries");
        assert!(!d.wants_frame());
        d.answered(pieces[0], pause(), Nanos(now));
        assert_eq!(all(&mut d, now), []);
    }
    now = d.wake_at().unwrap().0;
    assert_eq!(sends(&mut d, now), [pieces[0]]);
    d.answered(pieces[0], delivered(), Nanos(now));
    let actions = all(&mut d, now);
    assert_eq!(actions[0], Action::Report(Change::Recovered { after: Duration::from_nanos(now) }));
    assert!(
        actions.contains(&Action::Send { piece: pieces[1], again: true })
            && actions.contains(&Action::Send { piece: pieces[2], again: true })
    );
}

#[test]
fn states_are_reported_when_they_change_and_not_before_they_are_sure() {
    let mut d = one();
    let mut reports = Vec::new();
    let mut now = 0;
    let mut run = |d: &mut Decide, outcomes: &[Outcome]| {
        for outcome in outcomes {
            let mut piece = None;
            if d.is_idle() {
                d.taken(now, 1, Nanos(now));
            }
            now = now.max(d.wake_at().unwrap().0);
            for action in all(d, now) {
                if let Action::Send { piece: sent, .. } = action {
                    piece = Some(sent);
                }
            }
            d.answered(piece.unwrap(), outcome.clone(), Nanos(now));
            now += 1;
            for action in all(d, now - 1) {
                match action {
                    Action::Report(change) => reports.push(match change {
                        Change::Failing { reason } => format!("failing: {reason}"),
                        Change::Paused { reason } => format!("paused: {reason}"),
                        Change::Recovered { .. } => "recovered".to_owned(),
                    }),
                    Action::Bury { .. } | Action::Cut { .. } => panic!("{action:?}"),
                    _ => {}
                }
            }
        }
        std::mem::take(&mut reports)
    };
    assert_eq!(run(&mut d, &[retry(), retry(), delivered(), retry(), delivered()]), [""; 0]);
    assert_eq!(run(&mut d, &[retry(), retry(), Outcome::TimedOut, retry(), retry()]), ["failing: no answer in time"]);
    assert_eq!(run(&mut d, &[pause(), retry(), pause()]), ["paused: HTTP 401"]);
    assert_eq!(run(&mut d, &[delivered(), delivered()]), ["recovered"]);
}

#[test]
fn the_limit_follows_the_store() {
    let mut d = decide(Concurrency::Adaptive { max: 4 });
    let mut seq = 0;
    let mut most = Vec::new();
    for round in 0..12 {
        let now = round * 100 * SECOND;
        while d.wants_frame() {
            seq += 1;
            d.taken(seq, 1, Nanos(now));
        }
        let sent: Vec<PieceId> =
            all(&mut d, now).iter().filter_map(|a| if let Action::Send { piece, .. } = a { Some(*piece) } else { None }).collect();
        most.push(sent.len());
        for piece in sent {
            d.answered(piece, if (6..8).contains(&round) { retry() } else { delivered() }, Nanos(now + 1));
        }
    }
    assert_eq!(most, [2, 3, 4, 4, 4, 4, 4, 2, 1, 2, 3, 4]);
}

#[test]
fn what_is_given_up_is_put_back() {
    let mut d = decide(Concurrency::Fixed(3));
    let pieces = [5, 6, 7].map(|seq| d.taken(seq, 4, Nanos(0)));
    assert_eq!(sends(&mut d, 0), pieces);
    d.answered(pieces[0], delivered(), Nanos(0));
    d.answered(pieces[1], answer(Verdict::Split), Nanos(0));
    assert!(all(&mut d, 0).contains(&acknowledged(5, 4, 0, 0)));
    assert_eq!(d.abandon(), [6, 7]);
    d.answered(pieces[2], delivered(), Nanos(0));
    assert_eq!(all(&mut d, 0), []);
    assert!(d.is_idle());
}

/// A store of moods, for a hundred seeds: whatever it answers, each record is stored or dead once where answers are
/// truthful, each frame is acknowledged once, and no more is under way than allowed.
#[test]
fn every_record_is_accounted_for_whatever_the_store_answers() {
    for seed in 0..100 {
        let mut mood = SplitMix(seed);
        let mut d = Decide::new(Options::default(), None, Box::new(SplitMix(seed + 1000)));
        let mut now = 0;
        let mut taken = 0u64;
        let mut acknowledged = BTreeSet::new();
        let mut of: BTreeMap<PieceId, Vec<(u64, u32)>> = BTreeMap::new();
        let mut settled: BTreeMap<(u64, u32), u32> = BTreeMap::new();
        let mut under_way: Vec<PieceId> = Vec::new();
        let mut account = Account::default();
        while acknowledged.len() < 40 {
            while taken < 40 && d.wants_frame() {
                taken += 1;
                let records = (mood.fraction() * 20.0) as u32;
                let piece = d.taken(taken, records, Nanos(now));
                of.insert(piece, (0..records).map(|r| (taken, r)).collect());
            }
            while let Some(action) = d.action(Nanos(now)) {
                match action {
                    Action::Send { piece, .. } => under_way.push(piece),
                    Action::Cut { from, parts } => {
                        for NewPart { into, records, .. } in parts {
                            let cut = records.iter().map(|r| of[&from][*r as usize]).collect();
                            of.insert(into, cut);
                        }
                    }
                    Action::Bury { piece, letters } => {
                        if mood.fraction() < 0.3 {
                            d.not_buried(piece, letters, Nanos(now));
                        } else {
                            letters.iter().for_each(|l| *settled.entry(of[&piece][l.record as usize]).or_default() += 1);
                            d.buried(piece);
                        }
                    }
                    Action::Forget(piece) => drop(of.remove(&piece).unwrap()),
                    Action::Acknowledge { seq, account: a } => {
                        assert!(acknowledged.insert(seq), "acknowledged twice");
                        account.delivered += a.delivered;
                        account.rejected += a.rejected;
                    }
                    Action::Report(_) => {}
                }
            }
            assert!(under_way.len() <= 8);
            if !under_way.is_empty() && (d.wake_at().is_none() || mood.fraction() < 0.7) {
                let piece = under_way.swap_remove((mood.fraction() * under_way.len() as f64) as usize);
                now += (mood.fraction() * 1e9) as u64;
                let outcome = moody(&mut mood, &of[&piece], &mut settled);
                d.answered(piece, outcome, Nanos(now));
            } else if let Some(at) = d.wake_at() {
                now = now.max(at.0);
            }
        }
        assert!(d.is_idle() && of.is_empty(), "seed {seed}");
        assert!(settled.values().all(|times| *times == 1), "seed {seed}: a record was settled twice");
        assert_eq!(settled.len() as u64, account.delivered + account.rejected, "seed {seed}");
    }
}

fn moody(mood: &mut SplitMix, records: &[(u64, u32)], settled: &mut BTreeMap<(u64, u32), u32>) -> Outcome {
    let mut store = |record: &(u64, u32)| *settled.entry(*record).or_default() += 1;
    match (mood.fraction() * 10.0) as u32 {
        0..=2 => {
            records.iter().for_each(&mut store);
            delivered()
        }
        3 => retry(),
        4 => Outcome::TimedOut,
        5 => answer(Verdict::Split),
        6 => pause(),
        7 => answer(Verdict::Reject { status: 400, reason: "no".into() }),
        _ => {
            let (mut rejected, mut retry) = (Vec::new(), Vec::new());
            for (i, record) in records.iter().enumerate() {
                match (mood.fraction() * 3.0) as u32 {
                    0 => store(record),
                    1 => rejected.push(rejection(i as u32)),
                    _ => retry.push(i as u32),
                }
            }
            answer(Verdict::Partly { duplicates: 0, rejected, retry })
        }
    }
}

#[test]
fn what_goes_to_one_destination_goes_in_order() {
    let options = Options { concurrency: Concurrency::Fixed(4), ordered: true, ..Options::default() };
    let mut d = Decide::new(options, None, Box::new(SplitMix(7)));
    let send = |piece| Some(Action::Send { piece, again: false });
    let a = d.taken_for(1, 10, 4, Nanos(0));
    let b = d.taken_for(2, 10, 4, Nanos(0));
    let c = d.taken_for(3, 11, 4, Nanos(0));
    assert_eq!((d.action(Nanos(0)), d.action(Nanos(0)), d.action(Nanos(0))), (send(a), send(c), None));
    assert_eq!(d.wake_at(), None, "only an answer lets the next one go");
    // What waits for its next try keeps its place, and so do its halves.
    d.answered(a, Outcome::TimedOut, Nanos(5));
    assert!(d.wake_at().is_some());
    let late = Nanos(60_000_000_000);
    assert_eq!(d.action(late), Some(Action::Send { piece: a, again: true }));
    d.answered(a, Outcome::Answered { verdict: Verdict::Split, retry_after: None }, late);
    let sent: Vec<PieceId> = std::iter::from_fn(|| d.action(late))
        .filter_map(|action| if let Action::Send { piece, .. } = action { Some(piece) } else { None })
        .collect();
    let [first] = sent[..] else { panic!("{sent:?}") };
    assert!(first > c, "the first half, and not the frame behind it");
    d.answered(first, Outcome::Answered { verdict: Verdict::Delivered { duplicates: 0 }, retry_after: None }, late);
    let second = std::iter::from_fn(|| d.action(late)).find_map(|a| if let Action::Send { piece, .. } = a { Some(piece) } else { None });
    d.answered(second.unwrap(), Outcome::Answered { verdict: Verdict::Delivered { duplicates: 0 }, retry_after: None }, late);
    assert!(std::iter::from_fn(|| d.action(late)).any(|action| action == Action::Send { piece: b, again: false }));
}

/// Halves of a first half were sent after the second half once: Kafka's partition had the records out of order.
#[test]
fn parts_of_parts_go_in_the_order_of_their_records() {
    let options = Options { concurrency: Concurrency::Fixed(4), ordered: true, ..Options::default() };
    let mut d = Decide::new(options, None, Box::new(SplitMix(7)));
    let answer = |verdict| Outcome::Answered { verdict, retry_after: None };
    // Which records of the frame each piece has.
    let mut records = std::collections::BTreeMap::from([(d.taken(1, 16, Nanos(0)), (0..16).collect::<Vec<u32>>())]);
    let mut stored: Vec<u32> = Vec::new();
    let late = Nanos(60_000_000_000);
    let mut sends = 0;
    while stored.len() < 16 {
        match d.action(late).unwrap() {
            Action::Cut { from, parts } => {
                for part in parts {
                    let of = part.records.iter().map(|index| records[&from][*index as usize]).collect();
                    records.insert(part.into, of);
                }
            }
            Action::Send { piece, .. } => {
                sends += 1;
                let ours = &records[&piece];
                let verdict = match ours.len() {
                    3.. => Verdict::Split,
                    // One of two is taken later.
                    2 if sends % 3 == 0 => Verdict::Retry { reason: String::new() },
                    _ => {
                        stored.extend(ours);
                        Verdict::Delivered { duplicates: 0 }
                    }
                };
                d.answered(piece, answer(verdict), Nanos(0));
            }
            _ => {}
        }
    }
    assert_eq!(stored, (0..16).collect::<Vec<u32>>());
}
