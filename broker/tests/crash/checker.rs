//! What clients may rely on, given what they were told and what is there.

use std::collections::{BTreeMap, BTreeSet};

use skylark_protocol::code::RequestCode;
use skylark_protocol::message::StoredMessage;
use skylark_protocol::outgoing::Value;

use super::clients::{Name, QUEUES, RETRY_TOPIC, Returned, TOPIC, Told, level, name};
use crate::support::raw::{Raw, pull_fields};

/// A message that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct There {
    pub name: Name,
    pub stored_at: u64,
}

/// What the broker has, by queue, each from offset 0. Grows with each look; what was trimmed later stays.
pub type Log = BTreeMap<u32, Vec<There>>;

/// Reads what is new in a queue, and checks every body. What is new is there: it was not trimmed yet.
pub fn read_on(connection: &mut Raw, topic: &str, queue: u32, known: &mut Vec<There>) {
    let moved = read_from(connection, topic, queue, known);
    assert_eq!(moved, None, "{topic} {queue} begins behind {}", known.len());
}

/// Reads a queue on to its end, or says where it begins by now.
fn read_from(connection: &mut Raw, topic: &str, queue: u32, known: &mut Vec<There>) -> Option<usize> {
    loop {
        let offset = known.len() as u64;
        let answer = connection
            .call(RequestCode::PULL_MESSAGE, &pull_fields("checker", topic, queue, offset), &[])
            .expect("the broker answers");
        // The end; or a topic that was not needed so far.
        if answer.code == 19 || (answer.code == 17 && topic == RETRY_TOPIC) {
            return None;
        }
        if answer.code == 21 {
            return Some(usize::try_from(answer.number("nextBeginOffset")).unwrap());
        }
        // An index file is being written again.
        if answer.code == 2 {
            continue;
        }
        assert_eq!(answer.code, 0, "pulling {topic} {queue} from {offset}: {}", answer.remark);
        for message in StoredMessage::parse_all(&answer.body) {
            let message = message.expect("a message");
            assert_eq!(message.queue_offset, known.len() as u64, "offsets are dense");
            known.push(There { name: name(&message), stored_at: message.store_timestamp });
        }
        assert_eq!(answer.number("nextBeginOffset"), known.len() as u64);
    }
}

/// Reads every queue from its minimum once more, and says what the minima are.
pub fn read_again(connection: &mut Raw, log: &Log) -> BTreeMap<u32, u64> {
    let mut minima = BTreeMap::new();
    for queue in 0..QUEUES {
        let fields = [("topic", Value::Text(TOPIC)), ("queueId", queue.into())];
        let answer = connection.call(RequestCode::GET_MIN_OFFSET, &fields, &[]).expect("the broker answers");
        let min = usize::try_from(answer.number("offset")).unwrap();
        let mut again = log[&queue][..min].to_vec();
        // The log may be trimmed while it is read.
        while let Some(min) = read_from(connection, TOPIC, queue, &mut again) {
            again = log[&queue][..min].to_vec();
        }
        // Delayed messages may have come since.
        assert!(again.starts_with(&log[&queue]), "queue {queue} is not what it was");
        minima.insert(queue, min as u64);
    }
    minima
}

/// The delayed messages that were acknowledged and have not been delivered.
pub fn waiting(log: &Log, told: &[Told]) -> Vec<Name> {
    let there: BTreeSet<Name> = log.values().flatten().map(|there| there.name).collect();
    let delayed = (0..).zip(told).flat_map(|(producer, told)| {
        let delayed = told.acknowledged.iter().filter(|(_, offset, _)| offset.is_none());
        delayed.map(move |(_, _, sequence)| (producer, *sequence))
    });
    delayed.filter(|name| !there.contains(name)).collect()
}

/// What was acknowledged is there, and nothing twice, early, or out of order.
pub fn check(log: &Log, told: &[Told], is_at_rest: bool) {
    let mut delayed: BTreeMap<Name, u32> = BTreeMap::new();
    for (queue, messages) in log {
        let mut latest = BTreeMap::new();
        for There { name: (producer, sequence), stored_at } in messages {
            let told = told.get(*producer as usize);
            let sent = told.map_or(u64::MAX, |told| told.sent);
            assert!(*sequence < sent, "queue {queue} holds {producer}:{sequence}, which was never sent");
            if level(*sequence).is_some() {
                let before = delayed.insert((*producer, *sequence), *queue);
                assert_eq!(before, None, "{producer}:{sequence} was delivered twice");
                let due_ms = told.and_then(|told| told.due_ms.get(sequence)).copied().unwrap_or(0);
                assert!(*stored_at >= due_ms, "{producer}:{sequence} was delivered early");
                continue;
            }
            let before = latest.insert(producer, sequence);
            assert!(before < Some(sequence), "queue {queue}: {producer}:{sequence} came behind {before:?}");
        }
    }
    for (producer, told) in (0..).zip(told) {
        for (queue, offset, sequence) in &told.acknowledged {
            if let Some(offset) = offset {
                let there = log[queue].get(usize::try_from(*offset).unwrap()).map(|there| there.name);
                let expected = Some((producer, *sequence));
                assert_eq!(there, expected, "queue {queue} at {offset}: acknowledged and not there");
            } else if is_at_rest {
                let there = delayed.get(&(producer, *sequence));
                assert_eq!(there, Some(queue), "{producer}:{sequence} was acknowledged, and not delivered");
            }
        }
    }
}

/// What was sent back came again, once.
pub fn check_returned(retries: &[There], returned: &Returned, is_at_rest: bool) {
    let mut found: BTreeMap<Name, usize> = BTreeMap::new();
    retries.iter().for_each(|there| *found.entry(there.name).or_default() += 1);
    let count = |names: &[Name]| {
        let mut counts: BTreeMap<Name, usize> = BTreeMap::new();
        names.iter().for_each(|name| *counts.entry(*name).or_default() += 1);
        counts
    };
    let (sure, perhaps) = (count(&returned.acknowledged), count(&returned.unknown));
    let of = |counts: &BTreeMap<Name, usize>, name| counts.get(name).copied().unwrap_or(0);
    for (name, found) in &found {
        let most = of(&sure, name) + of(&perhaps, name);
        assert!(*found <= most, "{name:?} came again {found} times, and was sent back {most} times");
    }
    for (name, sure) in sure.iter().filter(|_| is_at_rest) {
        let found = of(&found, name);
        assert!(found >= *sure, "{name:?} came again {found} times, and was sent back {sure} times");
    }
}
