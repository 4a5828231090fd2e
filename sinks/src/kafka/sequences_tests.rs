//! Tests of the numbers of batches.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tokio::time::timeout;

use super::*;

const P: Producer = Producer { id: 7, epoch: 1 };

fn key(partition: u32) -> Key {
    ("logs".to_owned(), partition)
}

fn batch(number: u8) -> Order {
    (number.into(), BatchId([number; 16]))
}

async fn is_waiting(turn: impl Future<Output = Turn<'_>>) -> bool {
    timeout(Duration::from_millis(20), turn).await.is_err()
}

#[tokio::test]
async fn a_batch_keeps_its_numbers_and_no_other_goes_before_it_is_known() {
    let sequences = Sequences::default();
    let turn = sequences.turn(key(0), batch(1)).await;
    assert_eq!((turn.producer(), turn.begin(P, 10), turn.is_repeat()), (None, (P, 0), false));
    drop(turn);
    // It is unknown what became of it: others wait, those of other partitions do not.
    assert!(is_waiting(sequences.turn(key(0), batch(2))).await);
    assert!(!is_waiting(sequences.turn(key(1), batch(2))).await);
    assert_eq!((sequences.partition("logs", batch(1).1), sequences.partition("other", batch(1).1)), (Some(0), None));
    let turn = sequences.turn(key(0), batch(1)).await;
    assert_eq!((turn.begin(P, 10), turn.is_repeat()), ((P, 0), true));
    turn.stored();
    drop(turn);
    let turn = sequences.turn(key(0), batch(2)).await;
    assert_eq!(turn.begin(P, 5), (P, 10));
    // Refused at the first try: its number is the next one's.
    turn.refused();
    drop(turn);
    let turn = sequences.turn(key(0), batch(3)).await;
    assert_eq!((turn.begin(P, 2), turn.needs_new_producer()), ((P, 10), false));
}

#[tokio::test]
async fn what_may_have_been_stored_before_it_was_refused_leaves_its_number_to_nobody() {
    let sequences = Sequences::default();
    for _ in 0..2 {
        sequences.turn(key(0), batch(1)).await.begin(P, 10);
    }
    let turn = sequences.turn(key(0), batch(1)).await;
    turn.begin(P, 10);
    turn.refused();
    assert!(turn.needs_new_producer() && !turn.needs_new_producer());
    drop(turn);
    let turn = sequences.turn(key(0), batch(2)).await;
    let other = Producer { id: 8, epoch: 0 };
    assert_eq!((turn.producer(), turn.begin(other, 10)), (None, (other, 0)));
}

#[tokio::test]
async fn batches_of_one_partition_go_in_the_order_of_their_frames() {
    let sequences = Sequences::default();
    let first = sequences.turn(key(0), batch(1)).await;
    first.begin(P, 1);
    let (mut third, mut second) = (Box::pin(sequences.turn(key(0), batch(3))), Box::pin(sequences.turn(key(0), batch(2))));
    assert!(is_waiting(third.as_mut()).await && is_waiting(second.as_mut()).await);
    first.stored();
    drop(first);
    assert!(is_waiting(third.as_mut()).await, "the second is before it");
    drop(second.await);
    drop(third.await);
}

#[tokio::test]
async fn an_agent_that_was_killed_sends_its_last_batch_as_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let life = |boot: &str| {
        let (journal, known) = Journal::open(directory.path(), boot).unwrap();
        let sequences = Sequences::default();
        sequences.resume(journal, known);
        sequences
    };
    {
        let sequences = life("boot");
        assert!(Journal::open(directory.path(), "boot").is_err(), "one process at a time");
        for (number, count) in [(1, 10), (2, 20)] {
            let turn = sequences.turn(key(3), batch(number)).await;
            turn.begin(P, count);
            if number == 1 {
                turn.stored();
            }
        }
    }
    {
        let sequences = life("boot");
        // Others may go first: the batch may be known as stored, and not come again.
        assert_eq!(sequences.partition("logs", batch(2).1), Some(3));
        let turn = sequences.turn(key(3), batch(2)).await;
        assert_eq!((turn.producer(), turn.begin(Producer { id: 9, epoch: 0 }, 20), turn.is_repeat()), (Some(P), (P, 10), true));
    }
    {
        let sequences = life("boot");
        let turn = sequences.turn(key(3), batch(3)).await;
        assert_eq!(turn.begin(P, 1), (P, 30));
        turn.stored();
    }
    let sequences = life("another boot");
    assert_eq!(sequences.turn(key(3), batch(3)).await.producer(), None);
}

#[test]
fn a_log_that_is_not_whole_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let sent = |number| Sent { batch: batch(number).1, first: 4, count: 2 };
    let open = || Journal::open(directory.path(), "boot").unwrap();
    let (mut journal, known) = open();
    assert!(known.is_empty());
    journal.append(&key(0), P, sent(1)).unwrap();
    journal.append(&key(1), P, sent(2)).unwrap();
    journal.append(&key(0), P, sent(3)).unwrap();
    drop(journal);
    let (mut journal, mut known) = open();
    known.sort_by_key(|(key, ..)| key.1);
    assert_eq!(known, [(key(0), P, sent(3)), (key(1), P, sent(2))]);
    assert!(!journal.is_long());
    journal.write_anew([(&key(5), P, sent(4))].into_iter()).unwrap();
    journal.append(&key(6), P, sent(5)).unwrap();
    drop(journal);
    assert_eq!(open().1.len(), 2);
    let path = directory.path().join("producer.log");
    let whole = std::fs::read(&path).unwrap();
    for end in 1..whole.len() {
        std::fs::write(&path, &whole[..end]).unwrap();
        // What ends with a line is whole, as far as anyone can tell without another boot.
        assert!(open().1.is_empty() || whole[end - 1] == b'\n', "{end}");
    }
    for at in 0..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        assert!(open().1.is_empty(), "{at}");
    }
}
