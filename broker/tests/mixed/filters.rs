//! Consumers that select by tag or by SQL92: they get everything they want and nothing else.

use std::collections::BTreeMap;

use skylark_protocol::code::RequestCode;
use skylark_protocol::message::StoredMessage;
use skylark_protocol::outgoing::Value;

use super::client::{Client, Name, Scene, name_of};
use super::logs::{Logs, PLAIN, PLAIN_QUEUES};
use super::sends::tag;
use crate::support::raw::{Answer, pull_fields};

pub const GROUP: &str = "selective";

/// What is selected, in the broker's words and in ours.
pub struct Selected {
    expression_type: &'static str,
    expression: &'static str,
    is_wanted: fn(Name) -> bool,
}

pub const BY_TAG: Selected = Selected {
    expression_type: "TAG",
    expression: "B || C",
    is_wanted: |(_, sequence)| tag(sequence) != "A",
};
pub const BY_SQL: Selected = Selected {
    expression_type: "SQL92",
    expression: "TAGS IN ('A', 'B') AND NOT (number BETWEEN 20 AND 40) AND missing IS NULL",
    is_wanted: |(_, sequence)| tag(sequence) != "C" && !(20..=40).contains(&sequence),
};

/// What a pull gave: all that is wanted of these offsets.
pub struct Stretch {
    pub queue: u32,
    pub from: u64,
    pub to: u64,
    pub found: Vec<(u64, Name)>,
}

/// Remembers itself where it is.
pub struct Selector {
    selected: Selected,
    next: BTreeMap<u32, u64>,
    open: BTreeMap<i32, (u32, u64)>,
    /// Since the last check.
    pub stretches: Vec<Stretch>,
    turn: u32,
    promises: usize,
}

impl Selector {
    pub fn new(selected: Selected) -> Self {
        let (next, open) = (BTreeMap::new(), BTreeMap::new());
        Self { selected, next, open, stretches: Vec::new(), turn: 0, promises: 0 }
    }
}

impl Client for Selector {
    fn act(&mut self, scene: &mut Scene<'_>) {
        if !self.open.is_empty() {
            return;
        }
        self.turn = (self.turn + 1) % PLAIN_QUEUES;
        let from = self.next.get(&self.turn).copied().unwrap_or(0);
        let mut fields = pull_fields(GROUP, PLAIN, self.turn, from);
        fields.retain(|(name, _)| *name != "subscription");
        fields.push(("subscription", Value::Text(self.selected.expression)));
        fields.push(("expressionType", Value::Text(self.selected.expression_type)));
        let opaque = scene.wire.ask(RequestCode::PULL_MESSAGE, &fields, &[]);
        self.open.insert(opaque, (self.turn, from));
    }

    fn hear(&mut self, answer: &Answer, _scene: &mut Scene<'_>) {
        let Some((queue, from)) = self.open.remove(&answer.opaque) else { return };
        if answer.code == 2 {
            return;
        }
        assert!([0, 19, 20].contains(&answer.code), "{}: {}", answer.code, answer.remark);
        let to = answer.number("nextBeginOffset");
        assert!(to >= from, "queue {queue}: {from} is followed by {to}");
        let messages = StoredMessage::parse_all(&answer.body).map(|message| message.expect("a message"));
        let found: Vec<_> = messages.map(|message| (message.queue_offset, name_of(message.body))).collect();
        self.promises += found.len();
        self.next.insert(queue, to);
        self.stretches.push(Stretch { queue, from, to, found });
    }

    fn lost(&mut self) {
        self.open.clear();
    }

    fn check(&mut self, logs: &Logs) {
        for Stretch { queue, from, to, found } in self.stretches.drain(..) {
            let all = logs.all((PLAIN, queue));
            assert!(to <= all.len() as u64, "queue {queue} ends at {}, and {to} was shown", all.len());
            let there = (from..to).map(|offset| (offset, all[usize::try_from(offset).unwrap()].name));
            let wanted: Vec<_> = there.filter(|(_, name)| (self.selected.is_wanted)(*name)).collect();
            assert_eq!(found, wanted, "queue {queue} from {from} to {to} by {}", self.selected.expression);
        }
    }

    fn missing(&self, logs: &Logs) -> Option<String> {
        let next = |queue| self.next.get(&queue).copied().unwrap_or(0);
        let behind = (0..PLAIN_QUEUES).find(|queue| next(*queue) != logs.all((PLAIN, *queue)).len() as u64);
        behind.map(|queue| format!("queue {queue} from {} on by {}", next(queue), self.selected.expression))
    }

    fn promises(&self) -> usize {
        self.promises
    }
}
