//! A group that commits and sends some messages back: it gets every message at least once, what was sent back comes again
//! as often and not before its pause is over, and after its last try it is a dead letter.

use std::collections::{BTreeMap, VecDeque};

use skylark_protocol::code::RequestCode;
use skylark_protocol::message::StoredMessage;
use skylark_protocol::outgoing::Value;

use super::client::{Client, Name, Scene, name_of};
use super::logs::{DEAD_LETTERS, Logs, PAUSES_MS, PLAIN, Queue, RETRIES, RETRIES_MAX, RETURNING};
use crate::support::raw::{Answer, pull_fields};

const QUEUES: [Queue; 3] = [(PLAIN, 0), (PLAIN, 1), (RETRIES, 0)];
/// The broker knows no offset of the group.
const NOT_FOUND: i32 = 22;

/// Whether the group cannot process this message after so many retries: some never.
pub fn fails(name: Name, times: i32) -> bool {
    match name.1 % 32 {
        5 => times < 1,
        13 => true,
        _ => false,
    }
}

/// How often a message was sent back after so many retries, and when first by the clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Back {
    pub sure: u32,
    pub perhaps: u32,
    pub first_ms: u64,
    /// How often it came of that.
    pub found: u32,
}

/// What is under way in a queue.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Where to go on has to be asked.
    Unknown,
    Idle,
    Asked,
    /// So many messages are on their way back; then this is committed.
    Returning(usize, u64),
}

struct Place {
    phase: Phase,
    next: u64,
    /// The highest offset that was ever to be committed, and the lowest at which the broker may be.
    committed: (u64, u64),
}

enum Under {
    Query(usize),
    Pull(usize),
    Back(usize, Name, i32),
    Commit(usize),
}

pub struct Returner {
    places: Vec<Place>,
    turn: usize,
    open: BTreeMap<i32, Under>,
    /// To be sent back: of which queue, what, from where.
    to_return: VecDeque<(usize, Name, i32, u64)>,
    /// Seen since the last check.
    pub seen: Vec<(usize, u64, Name)>,
    pub back: BTreeMap<(Name, i32), Back>,
    promises: usize,
}

impl Default for Returner {
    fn default() -> Self {
        let place = || Place { phase: Phase::Unknown, next: 0, committed: (0, 0) };
        Self {
            places: QUEUES.iter().map(|_| place()).collect(),
            turn: 0,
            open: BTreeMap::new(),
            to_return: VecDeque::new(),
            seen: Vec::new(),
            back: BTreeMap::new(),
            promises: 0,
        }
    }
}

impl Returner {
    fn send_back(&mut self, scene: &mut Scene<'_>) {
        let Some((place, name, times, at)) = self.to_return.pop_front() else { return };
        let fields = [
            ("offset", at.into()),
            ("group", Value::Text(RETURNING)),
            ("delayLevel", Value::Number(0)),
            ("unitMode", Value::Flag(false)),
        ];
        let now_ms = scene.wire.now_ms();
        let new = Back { first_ms: now_ms, ..Back::default() };
        let back = self.back.entry((name, times)).or_insert(new);
        // The clock may have been set back since.
        back.first_ms = back.first_ms.min(now_ms);
        // Until there is an answer.
        back.perhaps += 1;
        let opaque = scene.wire.ask(RequestCode::CONSUMER_SEND_MSG_BACK, &fields, &[]);
        self.open.insert(opaque, Under::Back(place, name, times));
    }

    /// Whatever the place is to do next that needs a request.
    fn go_on(&mut self, place: usize, scene: &mut Scene<'_>) -> bool {
        let (topic, queue) = QUEUES[place];
        let at = &mut self.places[place];
        let of_queue = [
            ("consumerGroup", Value::Text(RETURNING)),
            ("topic", Value::Text(topic)),
            ("queueId", queue.into()),
        ];
        let (opaque, under) = match at.phase {
            Phase::Unknown => {
                let fields = [&of_queue[..], &[("setZeroIfNotFound", Value::Flag(false))]].concat();
                (scene.wire.ask(RequestCode::QUERY_CONSUMER_OFFSET, &fields, &[]), Under::Query(place))
            }
            Phase::Idle => {
                let mut fields = pull_fields(RETURNING, topic, queue, at.next);
                fields.retain(|(name, _)| *name != "maxMsgNums");
                fields.push(("maxMsgNums", Value::Number(64)));
                (scene.wire.ask(RequestCode::PULL_MESSAGE, &fields, &[]), Under::Pull(place))
            }
            Phase::Returning(0, next) => {
                at.committed.1 = at.committed.1.max(next);
                at.next = next;
                let fields = [&of_queue[..], &[("commitOffset", next.into())]].concat();
                (scene.wire.ask(RequestCode::UPDATE_CONSUMER_OFFSET, &fields, &[]), Under::Commit(place))
            }
            Phase::Asked | Phase::Returning(..) => return false,
        };
        at.phase = Phase::Asked;
        self.open.insert(opaque, under);
        true
    }

    fn found(&mut self, place: usize, answer: &Answer) {
        let mut next = self.places[place].next;
        let mut failed = 0;
        for message in StoredMessage::parse_all(&answer.body) {
            let message = message.expect("a message");
            assert_eq!(message.queue_offset, next, "{:?} has a gap", QUEUES[place]);
            let (name, times) = (name_of(message.body), message.reconsume_times);
            self.seen.push((place, next, name));
            if fails(name, times) {
                self.to_return.push_back((place, name, times, message.physical_offset));
                failed += 1;
            }
            next += 1;
        }
        self.places[place].phase = Phase::Returning(failed, next);
    }
}

impl Client for Returner {
    fn act(&mut self, scene: &mut Scene<'_>) {
        if !self.to_return.is_empty() {
            return self.send_back(scene);
        }
        // In turn: a queue at its end can be pulled again at any time.
        for _ in 0..QUEUES.len() {
            self.turn = (self.turn + 1) % QUEUES.len();
            if self.go_on(self.turn, scene) {
                return;
            }
        }
    }

    fn hear(&mut self, answer: &Answer, _scene: &mut Scene<'_>) {
        match self.open.remove(&answer.opaque) {
            None => {}
            Some(Under::Query(place)) => {
                let at = &mut self.places[place];
                let offset = match answer.code {
                    0 => answer.number("offset"),
                    NOT_FOUND => 0,
                    code => panic!("where the group is was answered with {code}: {}", answer.remark),
                };
                let (lowest, highest) = at.committed;
                assert!(
                    (lowest..=highest).contains(&offset),
                    "{:?} goes on at {offset}: it was at {lowest}, and {highest} is the last that was committed",
                    QUEUES[place]
                );
                at.committed.0 = offset;
                at.next = offset;
                at.phase = Phase::Idle;
            }
            Some(Under::Pull(place)) => match answer.code {
                0 => self.found(place, answer),
                // The end, or an index file is being written again.
                19 | 2 => self.places[place].phase = Phase::Idle,
                code => panic!("{:?}: {code}: {}", QUEUES[place], answer.remark),
            },
            Some(Under::Back(place, name, times)) => {
                assert_eq!(answer.code, 0, "{}", answer.remark);
                let back = self.back.get_mut(&(name, times)).expect("counted when it was asked");
                (back.sure, back.perhaps) = (back.sure + 1, back.perhaps - 1);
                self.promises += 1;
                if let Phase::Returning(left, _) = &mut self.places[place].phase {
                    *left -= 1;
                }
            }
            Some(Under::Commit(place)) => {
                assert_eq!(answer.code, 0, "{}", answer.remark);
                self.places[place].phase = Phase::Idle;
            }
        }
    }

    fn lost(&mut self) {
        self.open.clear();
        self.to_return.clear();
        self.places.iter_mut().for_each(|place| place.phase = Phase::Unknown);
    }

    fn check(&mut self, logs: &Logs) {
        for (place, offset, name) in self.seen.drain(..) {
            let there = logs.at(QUEUES[place], offset);
            assert_eq!(there, Some(name), "{:?} at {offset}: the group saw something else", QUEUES[place]);
        }
        let came = [((RETRIES, 0), 1..=RETRIES_MAX), ((DEAD_LETTERS, 0), RETRIES_MAX + 1..=RETRIES_MAX + 1)];
        for (queue, times) in came {
            for there in logs.fresh(queue) {
                let name = there.name;
                assert!(times.contains(&there.times), "{name:?} is in {queue:?} after {} tries", there.times);
                let Some(back) = self.back.get_mut(&(name, there.times - 1)) else {
                    panic!("{name:?} is in {queue:?} after {} tries: nobody sent it back", there.times)
                };
                back.found += 1;
                assert!(
                    back.found <= back.sure + back.perhaps,
                    "{name:?} is in {queue:?} too often: {back:?}"
                );
                let pause_ms = usize::try_from(there.times - 1).ok().and_then(|times| PAUSES_MS.get(times));
                let due_ms = back.first_ms + pause_ms.copied().unwrap_or(0);
                assert!(there.stored_at >= due_ms, "{name:?} came again early: {there:?}, due at {due_ms}");
            }
        }
    }

    fn missing(&self, logs: &Logs) -> Option<String> {
        if let Some((what, back)) = self.back.iter().find(|(_, back)| back.found < back.sure) {
            return Some(format!("{what:?}, which was sent back: {back:?}"));
        }
        let behind = QUEUES
            .iter()
            .zip(&self.places)
            .find(|(queue, place)| place.next != logs.all(**queue).len() as u64);
        behind.map(|(queue, place)| format!("the messages of {queue:?} from {} on", place.next))
    }

    fn promises(&self) -> usize {
        self.promises
    }
}
