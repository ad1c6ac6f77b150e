//! Sends messages, some of which are to be delivered later.

use std::collections::BTreeMap;

use rand::RngExt;
use skylark_protocol::code::RequestCode;

use super::{Client, FLEETING, STEADY, Scene};
use crate::simulation::line::Line;
use crate::simulation::story::{Fate, Sent, Story, body};
use crate::support::raw::send_fields;

/// The broker's levels.
pub const LEVELS: &str = "1s 2s 5s 60s";
const LEVELS_MS: [u64; 4] = [1000, 2000, 5000, 60_000];

#[derive(Default)]
pub struct Producer {
    pub line: Line,
    open: BTreeMap<i32, u64>,
}

impl Producer {
    /// Sends one more; a delayed one in a third of the cases.
    pub fn send(&mut self, scene: &mut Scene<'_>) {
        let (topic, queues) = if scene.random.random_ratio(1, 4) { FLEETING } else { STEADY };
        // A deleted topic gets no delayed message: it would have no place to go to.
        let level = (topic == STEADY.0 && scene.random.random_ratio(1, 3))
            .then(|| scene.random.random_range(0..LEVELS_MS.len()));
        let queue = scene.random.random_range(0..queues);
        self.send_to(topic, queue, level, scene.story, scene.wall_ms);
    }

    pub fn send_to(
        &mut self,
        topic: &'static str,
        queue: u32,
        level: Option<usize>,
        story: &mut Story,
        wall_ms: u64,
    ) {
        let number = story.sent.len() as u64;
        story.sent.push(Sent {
            topic,
            queue,
            delay_ms: level.map(|level| LEVELS_MS[level]),
            wall_low: wall_ms,
            wall_high: wall_ms,
            fate: Fate::Open,
        });
        let properties = level.map(|level| format!("DELAY\u{1}{}\u{2}", level + 1)).unwrap_or_default();
        let mut fields = send_fields(topic, queue, &properties);
        fields.retain(|(name, _)| *name != "d");
        let queues = if topic == STEADY.0 { STEADY.1 } else { FLEETING.1 };
        fields.push(("d", queues.into()));
        let opaque = self.line.call(RequestCode::SEND_MESSAGE_V2, &fields, &body(number));
        self.open.insert(opaque, number);
    }
}

fn place(message_id: &str) -> u64 {
    u64::from_str_radix(&message_id[message_id.len() - 16..], 16).expect("an offset message id")
}

impl Client for Producer {
    fn line(&self) -> &Line {
        &self.line
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        for _ in 0..scene.random.random_range(1..6) {
            self.send(scene);
        }
    }

    fn hear(&mut self, scene: &mut Scene<'_>) {
        for answer in self.line.hear() {
            let number = self.open.remove(&answer.opaque).expect("one answer to each request");
            let sent = &mut scene.story.sent[usize::try_from(number).unwrap()];
            if answer.code == 0 {
                assert_eq!(answer.number("queueId"), u64::from(sent.queue));
                sent.fate = Fate::Acknowledged(answer.number("queueOffset"), place(&answer.fields["msgId"]));
            } else {
                sent.fate = Fate::Unknown;
                scene.story.refused.push(answer.code);
            }
        }
    }

    fn lost(&mut self, scene: &mut Scene<'_>) {
        for number in std::mem::take(&mut self.open).into_values() {
            scene.story.sent[usize::try_from(number).unwrap()].fate = Fate::Unknown;
        }
    }
}
