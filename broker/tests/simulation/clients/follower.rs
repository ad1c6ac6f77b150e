//! Reads the queues of a topic for a group, commits how far it is, and may be moved.

use std::collections::BTreeMap;

use rand::RngExt;
use skylark_protocol::code::RequestCode;
use skylark_protocol::message::StoredMessage;
use skylark_protocol::outgoing::Value;
use skylark_storage::PhysicalOffset;

use super::{Client, Scene};
use crate::simulation::line::Line;
use crate::simulation::register::{Operation, Register};
use crate::simulation::story::QueueName;
use crate::support::raw::Answer;

/// What it does besides reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Nothing.
    Reads,
    /// It says how far it is, and goes on there after a restart.
    Commits,
    /// That too, and an operator moves it again and again.
    IsMoved,
}

pub struct Follower {
    pub line: Line,
    pub group: &'static str,
    pub habit: Habit,
    pub queues: Vec<Followed>,
    /// Messages it got, for who wants to do something about them: place in the log, number, times tried.
    pub got: Vec<(u64, u64, i32)>,
    open: BTreeMap<i32, usize>,
}

pub struct Followed {
    name: QueueName,
    register: Register,
    /// Where it reads on; none until the broker was asked.
    next: Option<u64>,
    /// The highest offset that it has ever read up to.
    highest: u64,
    to_commit: Option<u64>,
    /// It was refused something, and does not ask again before it is told to.
    is_patient: bool,
}

impl Follower {
    pub fn new(group: &'static str, topic: &str, queues: u32, habit: Habit) -> Self {
        let followed = |queue| Followed {
            name: (topic.to_owned(), queue),
            register: Register::default(),
            next: None,
            highest: 0,
            to_commit: None,
            is_patient: false,
        };
        Self {
            line: Line::default(),
            group,
            habit,
            queues: (0..queues).map(followed).collect(),
            got: Vec::new(),
            open: BTreeMap::new(),
        }
    }

    /// The log ends at `end`, and knows every commit so far.
    pub fn told(&mut self, end: PhysicalOffset) {
        self.queues.iter_mut().for_each(|queue| queue.register.told(end));
    }

    /// The broker is gone.
    pub fn crashed(&mut self, durable_end: PhysicalOffset) {
        self.open.clear();
        for queue in &mut self.queues {
            queue.register.crashed(durable_end);
            queue.to_commit = None;
            if self.habit != Habit::Reads {
                queue.next = None;
            }
        }
    }

    /// It begins anew.
    pub fn rewind(&mut self) {
        self.queues.iter_mut().for_each(|queue| queue.next = Some(0));
    }

    /// Whoever was refused something may ask again.
    pub fn ask_again(&mut self) {
        self.queues.iter_mut().for_each(|queue| queue.is_patient = false);
    }

    /// How far it has read each queue.
    pub fn positions(&self) -> impl Iterator<Item = (QueueName, Option<u64>)> {
        self.queues.iter().map(|queue| (queue.name.clone(), queue.next))
    }

    fn begin(&mut self, place: usize, operation: Operation) {
        let queue = &mut self.queues[place];
        queue.register.begin(operation);
        let (topic, number) = (&*queue.name.0, queue.name.1);
        let group = Value::Text(self.group);
        let (code, fields) = match operation {
            Operation::Query => (
                RequestCode::QUERY_CONSUMER_OFFSET,
                vec![("consumerGroup", group), ("setZeroIfNotFound", Value::Flag(false))],
            ),
            Operation::Commit(offset) => (
                RequestCode::UPDATE_CONSUMER_OFFSET,
                vec![("consumerGroup", group), ("commitOffset", offset.into())],
            ),
            Operation::Reset(offset) => (
                RequestCode::INVOKE_BROKER_TO_RESET_OFFSET,
                vec![
                    ("group", group),
                    ("offset", offset.into()),
                    ("timestamp", Value::Number(-1)),
                    ("isForce", Value::Flag(true)),
                ],
            ),
            Operation::Pull(offset) => (
                RequestCode::PULL_MESSAGE,
                vec![
                    ("consumerGroup", group),
                    ("queueOffset", offset.into()),
                    ("maxMsgNums", Value::Number(8)),
                    // It waits, and brings its own subscription.
                    ("sysFlag", Value::Number(6)),
                    ("commitOffset", Value::Number(0)),
                    ("suspendTimeoutMillis", Value::Number(3000)),
                    ("subscription", Value::Text("*")),
                    ("subVersion", Value::Number(0)),
                ],
            ),
        };
        let mut fields = fields;
        fields.extend([("topic", Value::Text(topic)), ("queueId", number.into())]);
        let opaque = self.line.call(code, &fields, &[]);
        self.open.insert(opaque, place);
    }
}

impl Followed {
    fn heard(&mut self, answer: &Answer, got: &mut Vec<(u64, u64, i32)>, scene: &mut Scene<'_>) {
        let operation = self.register.operation();
        match (operation, answer.code) {
            (Operation::Query, 0) => {
                let offset = answer.number("offset");
                self.register.is_at(Some(offset));
                self.register.done();
                self.next.get_or_insert(offset);
            }
            (Operation::Query, 22) => {
                self.register.is_at(None);
                self.register.done();
                self.next.get_or_insert(0);
            }
            (Operation::Commit(_), 0) | (Operation::Reset(_), 0) => self.register.done(),
            (Operation::Pull(from), 0) => {
                self.register.was_not_moved();
                self.register.done();
                let mut next = from;
                for message in StoredMessage::parse_all(&answer.body) {
                    let message = message.expect("a sound message");
                    assert_eq!(message.queue_offset, next, "{:?} has a gap", self.name);
                    scene.story.saw(&self.name, &message);
                    let (number, times) = scene.story.seen[&(self.name.clone(), next)];
                    got.push((message.physical_offset, number, times));
                    next += 1;
                }
                assert_eq!(answer.number("nextBeginOffset"), next);
                self.goes_on(next);
            }
            (Operation::Pull(_), 19) => {
                self.register.was_not_moved();
                self.register.done();
            }
            (Operation::Pull(from), 21) => {
                let next = answer.number("nextBeginOffset");
                if answer.remark.contains("OFFSET_RESET") {
                    self.register.was_moved_to(next);
                    self.register.done();
                    self.next = Some(next);
                    return;
                }
                self.register.was_not_moved();
                self.register.done();
                assert!(
                    next > from,
                    "{:?} ends at {next}; messages up to {from} were shown to a consumer: {answer:?}",
                    self.name
                );
                scene.story.jumps.push((self.name.clone(), from, next));
                self.goes_on(next);
            }
            (Operation::Pull(_), 1) => panic!("a pull was answered with 1: {answer:?}"),
            // The topic is made by the first send, the group by the first pull; an index file is built again; a log
            // that has stopped answers nothing.
            (_, 1 | 2 | 14 | 17 | 26) => {
                self.register.unknown();
                self.is_patient = true;
            }
            (operation, code) => {
                panic!("{operation:?} of {:?} was answered with {code}: {answer:?}", self.name)
            }
        }
    }

    fn goes_on(&mut self, next: u64) {
        self.next = Some(next);
        self.highest = self.highest.max(next);
        self.to_commit = Some(next);
    }
}

impl Client for Follower {
    fn line(&self) -> &Line {
        &self.line
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        for place in 0..self.queues.len() {
            let queue = &mut self.queues[place];
            if !queue.register.is_idle() || queue.is_patient {
                continue;
            }
            let highest = queue.highest;
            let operation = match (self.habit, queue.next) {
                (Habit::Reads, next) => Operation::Pull(next.unwrap_or(0)),
                (_, None) => Operation::Query,
                (habit, Some(next)) => match (queue.to_commit.take(), scene.random.random_range(0..10)) {
                    (_, 0) if habit == Habit::IsMoved => {
                        Operation::Reset(scene.random.random_range(0..=highest))
                    }
                    (_, 1) if habit == Habit::IsMoved => {
                        Operation::Commit(scene.random.random_range(0..=highest))
                    }
                    (_, 2) => Operation::Query,
                    (Some(offset), _) => Operation::Commit(offset),
                    (None, _) => Operation::Pull(next),
                },
            };
            self.begin(place, operation);
        }
    }

    fn hear(&mut self, scene: &mut Scene<'_>) {
        for answer in self.line.hear() {
            let place = self.open.remove(&answer.opaque).expect("one answer to each request");
            self.queues[place].heard(&answer, &mut self.got, scene);
        }
    }

    fn lost(&mut self, _scene: &mut Scene<'_>) {
        self.open.clear();
        self.queues.iter_mut().for_each(|queue| queue.register.unknown());
    }
}
