//! What the log says, folded here once more in the plainest way: what every queue must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use skylark_broker::folds::kinds::{self, Change};
use skylark_broker::folds::topics::{TopicDeleted, TopicPut};
use skylark_broker::system;
use skylark_protocol::message::StoredMessage;
use skylark_storage::{CommitLog, Group, PhysicalOffset};

use super::story::{Fate, QueueName, Recalled, Story, recognise};

/// Every message there has ever been, trimmed ones too: it is read before anything is trimmed.
#[derive(Debug, Default)]
pub struct Truth {
    pub queues: BTreeMap<QueueName, Queue>,
    /// Of messages that clients sent, in the queue of their topic: where, by number.
    places: BTreeMap<u64, (QueueName, u64)>,
    pub deletions: u64,
    topics: BTreeSet<String>,
    read_to: PhysicalOffset,
}

#[derive(Debug, Default)]
pub struct Queue {
    pub items: BTreeMap<u64, Item>,
    /// What lies below belongs to an earlier life of the topic.
    pub hidden_below: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub number: u64,
    pub times: i32,
    pub at: u64,
    pub stored_at: u64,
}

impl Queue {
    pub fn next(&self) -> u64 {
        self.items.last_key_value().map_or(0, |(offset, _)| offset + 1)
    }

    /// What can be read if the log begins at `trimmed`.
    pub fn range(&self, trimmed: PhysicalOffset) -> Range<u64> {
        let next = self.next();
        let kept = self.items.iter().find(|(_, item)| item.at >= trimmed.get());
        kept.map_or(next, |(offset, _)| *offset).max(self.hidden_below)..next
    }
}

impl Truth {
    /// Reads what has become visible since. What cannot be read just now is left for later.
    pub fn read_on<T: Send + 'static>(&mut self, log: &CommitLog<T>, story: &Story) {
        if log.frontiers().visible_end <= self.read_to {
            return;
        }
        let mut scan = log.scan(self.read_to);
        while let Some(Ok(group)) = scan.next() {
            self.take(&group, story);
            self.read_to = group.end;
        }
    }

    /// A broker started on what was left: everything that was visible and is not trimmed is as it was.
    pub fn compare<T: Send + 'static>(&self, log: &CommitLog<T>) {
        let frontiers = log.frontiers();
        assert!(frontiers.durable_end >= self.read_to, "what was visible is gone: {frontiers:?}");
        let mut found = 0;
        for group in log.scan(frontiers.trimmed) {
            let group = group.expect("a log that was recovered can be read");
            if group.start >= self.read_to {
                break;
            }
            for_messages(&group, |queue, offset, item| {
                let known = self.queues.get(&queue).and_then(|known| known.items.get(&offset));
                assert_eq!(known, Some(&item), "{queue:?} at {offset} is something else");
                found += 1;
            });
        }
        let items = self.queues.values().flat_map(|queue| queue.items.values());
        let kept = items.filter(|item| item.at >= frontiers.trimmed.get()).count();
        assert_eq!(found, kept, "messages are gone");
    }

    fn take(&mut self, group: &Group, story: &Story) {
        for (at, record) in group.records() {
            let fields = record.header.fields();
            if fields.kind.is_internal() {
                continue;
            }
            if kinds::is_message(fields.kind) {
                let (message, _) = StoredMessage::parse(record.payload).expect("a message");
                self.message(at, &message, story);
                continue;
            }
            match Change::decode(fields.kind, record.payload).expect("a change") {
                Change::TopicPut(TopicPut { topic, .. }) => {
                    self.topics.insert(topic);
                }
                Change::TopicDeleted(TopicDeleted { topic }) => {
                    self.deletions += 1;
                    self.topics.remove(&topic);
                    for ((of, _), queue) in &mut self.queues {
                        if *of == topic {
                            queue.hidden_below = queue.next();
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn message(&mut self, at: PhysicalOffset, message: &StoredMessage<'_>, story: &Story) {
        let (name, offset, item) = placed(at, message);
        if !system::holds_timers(&name.0) {
            story.check_due(item.number, &name.0);
        }
        let is_first = message.reconsume_times == 0 && !name.0.starts_with('%');
        if is_first && !system::holds_timers(&name.0) {
            let before = self.places.insert(item.number, (name.clone(), offset));
            assert_eq!(before, None, "{} is there twice: {name:?} at {offset}", item.number);
        }
        let has_topic = self.topics.contains(&name.0);
        let queue = self.queues.entry(name).or_default();
        assert_eq!(offset, queue.next(), "offsets are dense");
        queue.items.insert(offset, item);
        if !has_topic {
            queue.hidden_below = offset + 1;
        }
    }

    /// How often the message stands in the queues of this topic after it was tried so often.
    fn count(&self, topic: &str, number: u64, times: i32) -> u64 {
        let queues = self.queues.iter().filter(|((of, _), _)| of == topic);
        let items = queues.flat_map(|(_, queue)| queue.items.values());
        items.filter(|item| (item.number, item.times) == (number, times)).count() as u64
    }

    /// Whether clients were told the truth, once everything has come to rest.
    pub fn check(&self, story: &Story, trimmed: PhysicalOffset) {
        for (sent, number) in story.sent.iter().zip(0..) {
            let place = self.places.get(&number);
            match sent.recall {
                Some(Recalled::Sure) => {
                    assert_eq!(place, None, "{number} was recalled, and delivered");
                    continue;
                }
                Some(Recalled::Unknown) => continue,
                Some(Recalled::Not) | None => {}
            }
            match (sent.fate, sent.delay_ms) {
                (Fate::Acknowledged(offset, at), None) => {
                    let (name, offset) = ((sent.topic.to_owned(), sent.queue), offset);
                    assert_eq!(place, Some(&(name.clone(), offset)), "{number} was acknowledged there");
                    assert_eq!(self.queues[&name].items[&offset].at, at);
                }
                (Fate::Acknowledged(..), Some(_)) => {
                    let queue = place.map(|(name, _)| name);
                    let wanted = (sent.topic.to_owned(), sent.queue);
                    assert_eq!(queue, Some(&wanted), "{number} was acknowledged, and not delivered");
                }
                (Fate::Open | Fate::Unknown, _) => {}
            }
        }
        for (name, queue) in &self.queues {
            let mut latest = None;
            let plain = |item: &&Item| story.sent[usize::try_from(item.number).unwrap()].delay_ms.is_none();
            for item in queue.items.values().filter(plain).filter(|_| !name.0.starts_with('%')) {
                if system::holds_timers(&name.0) {
                    continue;
                }
                assert!(latest < Some(item.number), "{name:?}: {} is out of order", item.number);
                latest = Some(item.number);
            }
        }
        for ((name, offset), seen) in &story.seen {
            let item = self.queues.get(name).and_then(|queue| queue.items.get(offset));
            let is = item.map(|item| (item.number, item.times));
            assert_eq!(is, Some(*seen), "{name:?} at {offset}: a consumer saw something else");
        }
        for (name, from, to) in &story.jumps {
            let queue = &self.queues[name];
            for (offset, item) in queue.items.range(*from..*to) {
                let is_gone = item.at < trimmed.get() || *offset < queue.hidden_below;
                assert!(is_gone, "{name:?}: a consumer was told that {offset} is gone");
            }
        }
        for ((topic, number, times), count) in &story.back {
            let found = self.count(topic, *number, *times);
            assert!(count.allows(found), "{topic}: {number} is there {found} times after {times}: {count:?}");
        }
        let back = self.queues.iter().filter(|((topic, _), _)| topic.starts_with('%'));
        for ((topic, _), queue) in back {
            for Item { number, times, .. } in queue.items.values() {
                let asked = story.back.keys().any(|key| (key.0, key.1, key.2) == (topic, *number, *times));
                assert!(asked, "{topic}: nobody sent {number} back for time {times}");
            }
        }
        assert!(story.deletions.allows(self.deletions), "{} of {:?}", self.deletions, story.deletions);
    }
}

fn for_messages(group: &Group, mut each: impl FnMut(QueueName, u64, Item)) {
    for (at, record) in group.records() {
        if kinds::is_message(record.header.fields().kind) {
            let (message, _) = StoredMessage::parse(record.payload).expect("a message");
            let (name, offset, item) = placed(at, &message);
            each(name, offset, item);
        }
    }
}

fn placed(at: PhysicalOffset, message: &StoredMessage<'_>) -> (QueueName, u64, Item) {
    let (number, times) = recognise(message);
    assert_eq!(message.physical_offset, at.get());
    let item = Item { number, times, at: at.get(), stored_at: message.store_timestamp };
    ((message.topic.to_owned(), message.queue_id), message.queue_offset, item)
}
