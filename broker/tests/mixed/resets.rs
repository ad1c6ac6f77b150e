//! A group that an operator moves while a member pulls and commits: a reset that was answered is never forgotten, and the
//! next pull is sent to where it leads. A commit counts once a pull was, and may be forgotten.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use skylark_protocol::code::RequestCode;
use skylark_protocol::outgoing::Value;

use super::client::{Client, Scene};
use super::logs::{Logs, PLAIN, PLAIN_QUEUES};
use crate::support::raw::{Answer, pull_fields};

pub const GROUP: &str = "moved";
/// The broker knows no offset of the group.
const NOT_FOUND: i32 = 22;
/// The pull is to go on elsewhere.
const MOVED: i32 = 21;

/// Where the group goes on in a queue; nothing if it has not begun.
pub type Offset = Option<u64>;

/// What is known of a queue.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where the group may go on: what the last reset that was answered said, or whatever was asked for since.
    pub possible: BTreeSet<Offset>,
    /// Where the next pull is to be sent: that reset came behind the last pull.
    pub moved_to: Offset,
    /// It was asked for since the last change, by a connection that came behind the last crash.
    is_seen: bool,
    is_asked: bool,
    /// The queue's length, when it was looked at last.
    length: u64,
}

#[derive(Clone, Copy)]
enum Under {
    Reset(u32, u64),
    Commit(u32),
    /// And where it is to be sent.
    Pull(u32, Offset),
    Query(u32),
}

pub struct Moved {
    places: Vec<Place>,
    open: BTreeMap<i32, Under>,
    turn: u32,
    promises: usize,
}

impl Default for Moved {
    fn default() -> Self {
        let possible = [None].into();
        let place = Place { possible, moved_to: None, is_seen: false, is_asked: false, length: 0 };
        let places = vec![place; PLAIN_QUEUES as usize];
        Self { places, open: BTreeMap::new(), turn: 0, promises: 0 }
    }
}

impl Moved {
    pub fn place(&mut self, queue: u32) -> &mut Place {
        &mut self.places[queue as usize]
    }

    /// A reset was answered with success: nothing before it counts.
    pub fn was_reset(&mut self, queue: u32, offset: u64) {
        let place = self.place(queue);
        place.possible = [Some(offset)].into();
        place.moved_to = Some(offset);
    }

    /// A pull that was to be sent elsewhere, or not, was.
    pub fn pulled(&mut self, queue: u32, expected: Offset, moved_to: Offset) {
        let place = self.place(queue);
        let is_expected = expected.is_none() || moved_to == expected;
        let is_possible = moved_to.is_none() || place.possible.contains(&moved_to);
        assert!(
            is_expected && is_possible,
            "a pull of queue {queue} was sent to {moved_to:?}, and not to {expected:?}: {place:?}"
        );
    }

    /// The group goes on there, says the broker.
    pub fn found(&mut self, queue: u32, offset: Offset) {
        let place = self.place(queue);
        assert!(place.possible.contains(&offset), "queue {queue} goes on at {offset:?}: {place:?}");
        place.is_seen = true;
    }
}

impl Client for Moved {
    fn connected(&mut self, _scene: &mut Scene<'_>) {
        for place in &mut self.places {
            (place.is_seen, place.is_asked) = (false, false);
        }
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        self.turn = (self.turn + 1) % PLAIN_QUEUES;
        let queue = self.turn;
        let place = self.place(queue);
        // One at a time, so that the order is known in which they happen.
        if place.is_asked || scene.is_resting && place.is_seen {
            return;
        }
        place.is_asked = true;
        let offset = scene.random.random_range(0..=place.length);
        let what = if scene.is_resting { 11 } else { scene.random.random_range(0..12) };
        if what < 6 {
            place.possible.insert(Some(offset));
            place.is_seen = false;
        }
        let (opaque, under) = match what {
            0..3 => {
                place.moved_to = None;
                let fields = [
                    ("group", Value::Text(GROUP)),
                    ("topic", Value::Text(PLAIN)),
                    ("queueId", queue.into()),
                    ("offset", offset.into()),
                    ("timestamp", Value::Number(-1)),
                    ("isForce", Value::Flag(true)),
                ];
                let opaque = scene.wire.ask(RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, &fields, &[]);
                (opaque, Under::Reset(queue, offset))
            }
            3..6 => {
                let fields = [&of_queue(queue)[..], &[("commitOffset", offset.into())]].concat();
                let opaque = scene.wire.ask(RequestCode::UPDATE_CONSUMER_OFFSET, &fields, &[]);
                (opaque, Under::Commit(queue))
            }
            6..9 => {
                let expected = place.moved_to.take();
                let fields = pull_fields(GROUP, PLAIN, queue, offset);
                (scene.wire.ask(RequestCode::PULL_MESSAGE, &fields, &[]), Under::Pull(queue, expected))
            }
            _ => {
                let fields = [&of_queue(queue)[..], &[("setZeroIfNotFound", Value::Flag(false))]].concat();
                (scene.wire.ask(RequestCode::QUERY_CONSUMER_OFFSET, &fields, &[]), Under::Query(queue))
            }
        };
        self.open.insert(opaque, under);
    }

    fn hear(&mut self, answer: &Answer, _scene: &mut Scene<'_>) {
        let Some(under) = self.open.remove(&answer.opaque) else { return };
        let (Under::Reset(queue, _) | Under::Commit(queue) | Under::Pull(queue, _) | Under::Query(queue)) =
            under;
        self.place(queue).is_asked = false;
        match (under, answer.code) {
            (Under::Reset(_, offset), 0) => {
                self.was_reset(queue, offset);
                self.promises += 1;
            }
            (Under::Commit(_), 0) => {}
            (Under::Pull(_, expected), MOVED) => {
                self.pulled(queue, expected, Some(answer.number("nextBeginOffset")));
            }
            // Messages, the end, or an index file is being written again.
            (Under::Pull(_, expected), 0 | 19 | 2) => self.pulled(queue, expected, None),
            (Under::Query(_), 0) => self.found(queue, Some(answer.number("offset"))),
            (Under::Query(_), NOT_FOUND) => self.found(queue, None),
            (_, code) => panic!("{code}: {}", answer.remark),
        }
    }

    fn lost(&mut self) {
        self.open.clear();
    }

    fn check(&mut self, logs: &Logs) {
        for (queue, place) in (0..).zip(&mut self.places) {
            place.length = logs.all((PLAIN, queue)).len() as u64;
        }
    }

    fn missing(&self, _logs: &Logs) -> Option<String> {
        let missing = (0..).zip(&self.places).find(|(_, place): &(u32, _)| !place.is_seen);
        missing.map(|(queue, place)| format!("where {GROUP} goes on in queue {queue}: {place:?}"))
    }

    fn promises(&self) -> usize {
        self.promises
    }
}

fn of_queue(queue: u32) -> [(&'static str, Value<'static>); 3] {
    [("consumerGroup", Value::Text(GROUP)), ("topic", Value::Text(PLAIN)), ("queueId", queue.into())]
}
