//! What clients did and were told: what the broker is held to.

use std::collections::BTreeMap;

use skylark_protocol::message::StoredMessage;

/// A queue, by topic and number.
pub type QueueName = (String, u32);

/// A message that a producer sent.
#[derive(Debug)]
pub struct Sent {
    pub topic: &'static str,
    pub queue: u32,
    /// In milliseconds, for a delayed one.
    pub delay_ms: Option<u64>,
    /// The lowest that the wall clock showed until it was answered, in milliseconds.
    pub wall_low: u64,
    /// The highest that it has shown since it was sent.
    pub wall_high: u64,
    pub fate: Fate,
    /// What became of its recall, if there was one.
    pub recall: Option<Recalled>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recalled {
    /// The broker said so.
    Sure,
    /// It said that it cannot be.
    Not,
    /// It is under way, or nobody knows.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Open,
    /// Queue offset and place in the log; of a delayed one, while it waits.
    Acknowledged(u64, u64),
    /// Nobody knows whether it is there.
    Unknown,
}

/// How many of something there must be at least, and how many more there may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub sure: u64,
    pub perhaps: u64,
}

#[derive(Debug, Default)]
pub struct Story {
    pub sent: Vec<Sent>,
    /// Every message that a consumer has ever seen: its number, and how often it had been tried.
    pub seen: BTreeMap<(QueueName, u64), (u64, i32)>,
    /// Queues that consumers were told begin later: from and to.
    pub jumps: Vec<(QueueName, u64, u64)>,
    /// Messages sent back, by where they go, number and how often they were tried then.
    pub back: BTreeMap<(&'static str, u64, i32), Count>,
    /// Deletions of topics.
    pub deletions: Count,
    /// Codes of sends that were answered with an error.
    pub refused: Vec<i32>,
}

/// A message's body, which anyone can make again from its number.
pub fn body(number: u64) -> Vec<u8> {
    let length = usize::try_from(number * 37 % 3701).unwrap();
    let mut body = format!("{number} ").into_bytes();
    body.resize(body.len() + length, b'a' + u8::try_from(number % 26).unwrap());
    body
}

/// The number of the message, and how often it was tried; checks that its body is its own.
pub fn recognise(message: &StoredMessage<'_>) -> (u64, i32) {
    let text = message.body.split(|byte| *byte == b' ').next().unwrap();
    let number = std::str::from_utf8(text).unwrap().parse().unwrap();
    assert_eq!(message.body, body(number), "the body of {number} was altered");
    (number, message.reconsume_times)
}

impl Sent {
    /// Before this, by any clock there was, it must not be delivered.
    pub fn due_ms(&self) -> u64 {
        self.wall_low + self.delay_ms.unwrap_or(0)
    }
}

impl Story {
    /// The wall clock shows something else.
    pub fn clock_shows(&mut self, wall_ms: u64) {
        for sent in self.sent.iter_mut().filter(|sent| sent.delay_ms.is_some()) {
            if sent.fate == Fate::Open {
                sent.wall_low = sent.wall_low.min(wall_ms);
            }
            sent.wall_high = sent.wall_high.max(wall_ms);
        }
    }

    /// A consumer got a message.
    pub fn saw(&mut self, queue: &QueueName, message: &StoredMessage<'_>) {
        let known = recognise(message);
        assert_eq!((message.topic, message.queue_id), (&*queue.0, queue.1));
        self.check_due(known.0, message.topic);
        let before = self.seen.insert((queue.clone(), message.queue_offset), known);
        let same = before.is_none_or(|before| before == known);
        assert!(same, "{queue:?} at {}: {before:?} became {known:?}", message.queue_offset);
    }

    /// A message is where consumers can get it.
    pub fn check_due(&self, number: u64, topic: &str) {
        let sent = self.sent.get(usize::try_from(number).unwrap()).expect("it was sent");
        if sent.delay_ms.is_some() && topic == sent.topic {
            assert!(sent.wall_high > sent.due_ms(), "{number} was delivered early: {sent:?}");
        }
    }

    /// A message was sent back, and came to stand in this topic, or perhaps did.
    pub fn sent_back(&mut self, topic: &'static str, number: u64, times: i32, is_sure: bool) {
        let count = self.back.entry((topic, number, times)).or_default();
        count.add(is_sure);
    }
}

impl Count {
    pub fn add(&mut self, is_sure: bool) {
        if is_sure {
            self.sure += 1;
        } else {
            self.perhaps += 1;
        }
    }

    pub fn allows(&self, found: u64) -> bool {
        (self.sure..=self.sure + self.perhaps).contains(&found)
    }
}
