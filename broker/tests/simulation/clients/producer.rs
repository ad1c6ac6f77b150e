//! Sends messages, some of which are to be delivered later, and recalls some of those.

use std::collections::BTreeMap;

use rand::RngExt;
use skylark_protocol::code::RequestCode;
use skylark_protocol::command::recall::Recall;

use super::{Client, FLEETING, STEADY, Scene};
use crate::simulation::line::Line;
use crate::simulation::story::{Fate, Recalled, Sent, Story, body};
use crate::support::raw::send_fields;

/// The broker's levels.
pub const LEVELS: &str = "1s 2s 5s 60s";
const LEVELS_MS: [u64; 4] = [1000, 2000, 5000, 60_000];

/// When a message is to be delivered.
#[derive(Clone, Copy, Debug)]
pub enum Delay {
    None,
    /// As messages of this level are, counted from 0.
    Level(usize),
    /// After so many milliseconds.
    Ms(u64),
}

#[derive(Default)]
pub struct Producer {
    pub line: Line,
    /// Where nobody tells the broker of recalls.
    pub keeps_recalls: bool,
    /// Of sends and recalls: the message, and whether it is a recall.
    open: BTreeMap<i32, (u64, bool)>,
    /// Handles of messages that may be recalled.
    handles: Vec<(u64, String)>,
}

impl Producer {
    /// Sends one more; a delayed one in a third of the cases.
    pub fn send(&mut self, scene: &mut Scene<'_>) {
        let (topic, queues) = if scene.random.random_ratio(1, 4) { FLEETING } else { STEADY };
        // A deleted topic gets no delayed message: it would have no place to go to.
        let delay = match scene.random.random_range(0..6) {
            0 if topic == STEADY.0 => Delay::Level(scene.random.random_range(0..LEVELS_MS.len())),
            1 if topic == STEADY.0 => {
                let longest = if scene.random.random() { 3000 } else { 100_000 };
                Delay::Ms(scene.random.random_range(1..longest))
            }
            _ => Delay::None,
        };
        let queue = scene.random.random_range(0..queues);
        self.send_to(topic, queue, delay, scene.story, scene.wall_ms);
    }

    pub fn send_to(
        &mut self,
        topic: &'static str,
        queue: u32,
        delay: Delay,
        story: &mut Story,
        wall_ms: u64,
    ) {
        let number = story.sent.len() as u64;
        story.sent.push(Sent {
            topic,
            queue,
            delay_ms: match delay {
                Delay::None => None,
                Delay::Level(level) => Some(LEVELS_MS[level]),
                Delay::Ms(ms) => Some(ms),
            },
            wall_low: wall_ms,
            wall_high: wall_ms,
            fate: Fate::Open,
            recall: None,
        });
        let properties = match delay {
            Delay::None => String::new(),
            Delay::Level(level) => format!("DELAY\u{1}{}\u{2}", level + 1),
            Delay::Ms(ms) => format!("TIMER_DELAY_MS\u{1}{ms}\u{2}"),
        };
        let mut fields = send_fields(topic, queue, &properties);
        fields.retain(|(name, _)| *name != "d");
        let queues = if topic == STEADY.0 { STEADY.1 } else { FLEETING.1 };
        fields.push(("d", queues.into()));
        let opaque = self.line.call(RequestCode::SEND_MESSAGE_V2, &fields, &body(number));
        self.open.insert(opaque, (number, false));
    }

    /// Recalls one of the messages that it has handles of.
    fn recall(&mut self, scene: &mut Scene<'_>) {
        let (number, handle) = self.handles.swap_remove(scene.random.random_range(0..self.handles.len()));
        let sent = &mut scene.story.sent[usize::try_from(number).unwrap()];
        if self.keeps_recalls {
            sent.recall = Some(Recalled::Sure);
            return;
        }
        sent.recall = Some(Recalled::Unknown);
        let asked = Recall { producer_group: None, topic: STEADY.0, handle: &handle };
        let opaque = self.line.call(RequestCode::RECALL_MESSAGE, &asked.fields(), &[]);
        self.open.insert(opaque, (number, true));
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
        if !self.handles.is_empty() && scene.random.random_ratio(1, 4) {
            self.recall(scene);
        }
    }

    fn hear(&mut self, scene: &mut Scene<'_>) {
        for answer in self.line.hear() {
            let (number, is_recall) = self.open.remove(&answer.opaque).expect("one answer to each request");
            let sent = &mut scene.story.sent[usize::try_from(number).unwrap()];
            if is_recall {
                sent.recall = Some(match answer.code {
                    0 => Recalled::Sure,
                    // It has fired, or its time has come.
                    604 => Recalled::Not,
                    _ => Recalled::Unknown,
                });
                continue;
            }
            if answer.code == 0 {
                assert_eq!(answer.number("queueId"), u64::from(sent.queue));
                self.handles.extend(answer.fields.get("recallHandle").map(|handle| (number, handle.clone())));
                sent.fate = Fate::Acknowledged(answer.number("queueOffset"), place(&answer.fields["msgId"]));
            } else {
                sent.fate = Fate::Unknown;
                scene.story.refused.push(answer.code);
            }
        }
    }

    fn lost(&mut self, scene: &mut Scene<'_>) {
        // A recall that is under way stays unknown.
        let sends = std::mem::take(&mut self.open).into_values().filter(|(_, is_recall)| !is_recall);
        for (number, _) in sends {
            scene.story.sent[usize::try_from(number).unwrap()].fate = Fate::Unknown;
        }
    }
}
