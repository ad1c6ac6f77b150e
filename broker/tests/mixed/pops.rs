//! A group that pops: nobody else gets a message while it is invisible, what was acknowledged in time never comes again,
//! and everything else does.

use std::collections::{BTreeMap, VecDeque};

use rand::RngExt;
use skylark_protocol::code::RequestCode;

use super::client::{Client, Scene, body, name_of};
use super::delays::Told;
use super::logs::{Logs, POPPED, POPPED_QUEUES};
use crate::consumer::{Popped, messages, pop_fields, with};
use crate::support::raw::{Answer, send_fields};

pub const PRODUCER: u32 = 30;
/// For how long popped messages are invisible.
const INVISIBLE_MS: u64 = 800;
const MESSAGES_MAX: i64 = 16;
const WINDOW: usize = 4;
const NOTHING_FOUND: i32 = 210;

/// What is known of a message.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    pub sent: Told,
    /// Where the broker said that it is.
    pub place: Option<(u32, u64)>,
    pub acknowledged: Told,
    /// Nobody else may get it before, if it was popped by this broker's process.
    pub visible_at: u64,
}

enum Under {
    Send(u64, u32),
    Pop,
    Ack { number: u64, until: u64, is_of_this_life: bool },
}

#[derive(Default)]
pub struct Popper {
    pub items: BTreeMap<u64, Item>,
    open: BTreeMap<i32, Under>,
    /// To be acknowledged: until when that is in time, and whether the broker has not been killed since it was popped.
    to_ack: VecDeque<(u64, Popped, u64, bool)>,
    turn: u64,
    promises: usize,
}

impl Popper {
    fn send(&mut self, scene: &mut Scene<'_>) {
        let number = self.items.len() as u64;
        let queue = u32::from(number.is_multiple_of(2)) % POPPED_QUEUES;
        let item = Item { sent: Told::Nothing, place: None, acknowledged: Told::Nothing, visible_at: 0 };
        self.items.insert(number, item);
        let fields = send_fields(POPPED, queue, "");
        let opaque = scene.wire.ask(RequestCode::SEND_MESSAGE_V2, &fields, &body((PRODUCER, number)));
        self.open.insert(opaque, Under::Send(number, queue));
    }

    fn pop(&mut self, scene: &mut Scene<'_>) {
        let fields = pop_fields(-1, MESSAGES_MAX, scene.wire.now_ms(), 0);
        let fields = with(fields, "invisibleTime", INVISIBLE_MS.into());
        let opaque = scene.wire.ask(RequestCode::POP_MESSAGE, &fields, &[]);
        self.open.insert(opaque, Under::Pop);
    }

    fn ack(&mut self, scene: &mut Scene<'_>) {
        let Some((number, popped, until, is_of_this_life)) = self.to_ack.pop_front() else { return };
        let opaque = scene.wire.ask(RequestCode::ACK_MESSAGE, &popped.ack_fields(), &[]);
        self.open.insert(opaque, Under::Ack { number, until, is_of_this_life });
    }

    /// What a pop was answered with.
    pub fn popped(&mut self, answer: &Answer, scene: &mut Scene<'_>) {
        let popped_at = answer.number("popTime");
        for popped in messages(answer) {
            let (producer, number) = name_of(popped.body.as_bytes());
            assert_eq!(producer, PRODUCER);
            self.got(number, popped_at);
            // Some consumers do not come to it.
            if scene.is_resting || scene.random.random_ratio(3, 4) {
                self.to_ack.push_back((number, popped, popped_at + INVISIBLE_MS, true));
            }
        }
    }

    /// A message was popped.
    pub fn got(&mut self, number: u64, popped_at: u64) {
        let Some(item) = self.items.get_mut(&number) else { panic!("{number} was never sent") };
        assert_ne!(item.acknowledged, Told::Done, "{number} was acknowledged, and came again");
        let visible_at = item.visible_at;
        assert!(
            popped_at >= visible_at,
            "{number} was popped at {popped_at}, and invisible until {visible_at}"
        );
        item.visible_at = popped_at + INVISIBLE_MS;
    }
}

impl Client for Popper {
    fn act(&mut self, scene: &mut Scene<'_>) {
        if self.open.len() >= WINDOW {
            return;
        }
        self.turn += 1;
        match self.turn % 4 {
            0 if !scene.is_resting => self.send(scene),
            1 => self.pop(scene),
            _ => self.ack(scene),
        }
    }

    fn hear(&mut self, answer: &Answer, scene: &mut Scene<'_>) {
        match self.open.remove(&answer.opaque) {
            None => {}
            Some(Under::Send(number, queue)) => {
                assert_eq!(answer.code, 0, "a healthy broker refuses nothing: {}", answer.remark);
                let item = self.items.get_mut(&number).expect("it was sent");
                item.sent = Told::Done;
                item.place = Some((queue, answer.number("queueOffset")));
                self.promises += 1;
            }
            Some(Under::Pop) if answer.code == NOTHING_FOUND => {}
            Some(Under::Pop) => self.popped(answer, scene),
            Some(Under::Ack { number, until, is_of_this_life }) => {
                assert_eq!(answer.code, 0, "{}", answer.remark);
                let item = self.items.get_mut(&number).expect("it was sent");
                if item.acknowledged == Told::Done {
                    return;
                }
                // Too late, or by the receipt of a pop that may be lost, it changes nothing.
                let is_in_time = is_of_this_life && scene.wire.now_ms() < until;
                item.acknowledged = if is_in_time { Told::Done } else { Told::Unknown };
                self.promises += 1;
            }
        }
    }

    fn lost(&mut self) {
        for under in std::mem::take(&mut self.open).into_values() {
            match under {
                Under::Send(number, _) => {
                    self.items.get_mut(&number).expect("it was sent").sent = Told::Unknown
                }
                Under::Ack { number, .. } => {
                    let item = self.items.get_mut(&number).expect("it was sent");
                    if item.acknowledged != Told::Done {
                        item.acknowledged = Told::Unknown;
                    }
                }
                Under::Pop => {}
            }
        }
        // A pop is answered before it is durable: one that is lost has not been.
        self.items.values_mut().for_each(|item| item.visible_at = 0);
        self.to_ack.iter_mut().for_each(|(.., is_of_this_life)| *is_of_this_life = false);
    }

    fn clock_set(&mut self) {
        // A message that was visible again while the clock was ahead is given out again.
        self.items.values_mut().for_each(|item| item.visible_at = 0);
        self.to_ack.iter_mut().for_each(|(.., is_of_this_life)| *is_of_this_life = false);
        for under in self.open.values_mut() {
            if let Under::Ack { is_of_this_life, .. } = under {
                *is_of_this_life = false;
            }
        }
    }

    fn check(&mut self, logs: &Logs) {
        for queue in 0..POPPED_QUEUES {
            for there in logs.fresh((POPPED, queue)) {
                let (producer, number) = there.name;
                assert!(producer == PRODUCER && self.items.contains_key(&number), "nobody sent {there:?}");
            }
        }
        for (number, item) in &self.items {
            if let Some((queue, offset)) = item.place {
                let expected = Some((PRODUCER, *number));
                let there = logs.at((POPPED, queue), offset);
                assert_eq!(there, expected, "queue {queue} at {offset}: acknowledged, and not there");
            }
        }
    }

    fn missing(&self, _logs: &Logs) -> Option<String> {
        let missing = self.items.iter().find(|(_, item)| {
            item.sent == Told::Done && matches!(item.acknowledged, Told::Nothing | Told::Refused)
        });
        missing.map(|(number, item)| format!("the popped message {number}: {item:?}"))
    }

    fn promises(&self) -> usize {
        self.promises
    }
}
