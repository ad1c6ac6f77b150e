//! Messages that wait, by level and by the millisecond, and some that are recalled: each comes once and not before its
//! time, and one whose recall was answered with success never.

use std::collections::{BTreeMap, VecDeque};

use rand::RngExt;
use skylark_protocol::code::RequestCode;
use skylark_protocol::command::recall::Recall;

use super::client::{Client, Scene, body, property};
use super::logs::{DELAYED, Logs};
use crate::support::raw::{Answer, send_fields};

pub const PRODUCER: u32 = 10;
/// The broker's levels, as it is told and in milliseconds.
pub const LEVELS: &str = "1s 2s";
const LEVELS_MS: [u64; 2] = [1000, 2000];
const DELAY_MS_MAX: u64 = 2000;
const WINDOW: usize = 4;

/// What the broker said about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// Nothing, or nothing that helps, and it may have happened.
    Unknown,
    Done,
    Refused,
}

/// A message that waits, or did.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// It may not come before.
    pub due_ms: u64,
    pub sent: Told,
    pub recalled: Told,
    pub is_there: bool,
}

enum Under {
    Send(u64),
    Recall(u64, String),
}

#[derive(Default)]
pub struct Delayer {
    pub messages: BTreeMap<u64, Waiting>,
    open: BTreeMap<i32, Under>,
    /// To be recalled next.
    handles: VecDeque<(u64, String)>,
    promises: usize,
}

impl Delayer {
    fn send(&mut self, scene: &mut Scene<'_>) {
        let number = self.messages.len() as u64;
        let level = scene.random.random_range(0..LEVELS_MS.len() * 3);
        let (delay_ms, asked) = match LEVELS_MS.get(level) {
            Some(delay_ms) => (*delay_ms, property("DELAY", &(level + 1).to_string())),
            None => {
                let delay_ms = scene.random.random_range(1..DELAY_MS_MAX);
                (delay_ms, property("TIMER_DELAY_MS", &delay_ms.to_string()))
            }
        };
        let due_ms = scene.wire.now_ms() + delay_ms;
        let waiting = Waiting { due_ms, sent: Told::Nothing, recalled: Told::Nothing, is_there: false };
        self.messages.insert(number, waiting);
        let properties = asked + &property("UNIQ_KEY", &format!("D{number}"));
        let fields = send_fields(DELAYED, 0, &properties);
        let opaque = scene.wire.ask(RequestCode::SEND_MESSAGE_V2, &fields, &body((PRODUCER, number)));
        self.open.insert(opaque, Under::Send(number));
    }

    fn waiting(&mut self, number: u64) -> &mut Waiting {
        self.messages.get_mut(&number).expect("it was sent")
    }
}

impl Client for Delayer {
    fn act(&mut self, scene: &mut Scene<'_>) {
        if self.open.len() >= WINDOW {
            return;
        }
        if let Some((number, handle)) = self.handles.pop_front() {
            let asked = Recall { producer_group: Some("PG"), topic: DELAYED, handle: &handle };
            let opaque = scene.wire.ask(RequestCode::RECALL_MESSAGE, &asked.fields(), &[]);
            // Refused this time or not, it may have been done before.
            self.open.insert(opaque, Under::Recall(number, handle));
        } else if !scene.is_resting {
            self.send(scene);
        }
    }

    fn hear(&mut self, answer: &Answer, scene: &mut Scene<'_>) {
        match self.open.remove(&answer.opaque) {
            None => {}
            Some(Under::Send(number)) => {
                assert_eq!(answer.code, 0, "a healthy broker refuses nothing: {}", answer.remark);
                self.waiting(number).sent = Told::Done;
                self.promises += 1;
                if let Some(handle) = answer.fields.get("recallHandle")
                    && scene.random.random_ratio(1, 3)
                {
                    self.handles.push_back((number, handle.clone()));
                }
            }
            Some(Under::Recall(number, handle)) => {
                let waiting = self.waiting(number);
                match answer.code {
                    0 => waiting.recalled = Told::Done,
                    604 if waiting.recalled == Told::Nothing => waiting.recalled = Told::Refused,
                    604 => {}
                    2 => self.handles.push_back((number, handle)),
                    code => panic!("a recall was answered with {code}: {}", answer.remark),
                }
                self.promises += 1;
            }
        }
    }

    fn lost(&mut self) {
        for under in std::mem::take(&mut self.open).into_values() {
            match under {
                Under::Send(number) => self.waiting(number).sent = Told::Unknown,
                Under::Recall(number, handle) => {
                    self.waiting(number).recalled = Told::Unknown;
                    // Whoever got no answer asks again.
                    self.handles.push_back((number, handle));
                }
            }
        }
    }

    fn check(&mut self, logs: &Logs) {
        for there in logs.fresh((DELAYED, 0)) {
            let (producer, number) = there.name;
            assert_eq!(producer, PRODUCER);
            let Some(waiting) = self.messages.get_mut(&number) else { panic!("{number} was never sent") };
            assert!(!waiting.is_there, "{number} was delivered twice");
            waiting.is_there = true;
            let (due_ms, stored_at) = (waiting.due_ms, there.stored_at);
            assert!(stored_at >= due_ms, "{number} was delivered at {stored_at}, and due at {due_ms}");
        }
        for (number, waiting) in &self.messages {
            let is_broken = waiting.is_there && waiting.recalled == Told::Done;
            assert!(!is_broken, "{number} was recalled, and delivered");
        }
    }

    fn missing(&self, _logs: &Logs) -> Option<String> {
        let missing = self.messages.iter().find(|(_, waiting)| {
            let is_to_come = matches!(waiting.recalled, Told::Nothing | Told::Refused);
            waiting.sent == Told::Done && is_to_come && !waiting.is_there
        });
        missing.map(|(number, waiting)| format!("the delayed message {number}: {waiting:?}"))
    }

    fn promises(&self) -> usize {
        self.promises
    }
}
