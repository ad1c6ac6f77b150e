//! Sends messages back that it could not consume.

use std::collections::BTreeMap;

use rand::RngExt;
use skylark_protocol::code::RequestCode;
use skylark_protocol::outgoing::Value;

use super::{Client, DEAD_LETTERS, RETRIES_MAX, RETRY_TOPIC, RETURNING_GROUP, Scene};
use crate::simulation::line::Line;

#[derive(Default)]
pub struct Returner {
    pub line: Line,
    /// What it was given: place in the log, number, times tried.
    pub failed: Vec<(u64, u64, i32)>,
    /// Where each goes that is under way, with its number and the times it was tried then.
    open: BTreeMap<i32, (&'static str, u64, i32)>,
}

impl Client for Returner {
    fn line(&self) -> &Line {
        &self.line
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        for (at, number, times) in self.failed.drain(..) {
            // Dead at once, as the broker thinks best, or at an early level.
            let level = [-1, 0, 1, 1, 2, 2][scene.random.random_range(0..6)];
            let topic = if level < 0 || times >= RETRIES_MAX { DEAD_LETTERS } else { RETRY_TOPIC };
            let fields = [
                ("offset", at.into()),
                ("group", Value::Text(RETURNING_GROUP)),
                ("delayLevel", Value::Number(level)),
                ("unitMode", Value::Flag(false)),
            ];
            let opaque = self.line.call(RequestCode::CONSUMER_SEND_MSG_BACK, &fields, &[]);
            self.open.insert(opaque, (topic, number, times + 1));
        }
    }

    fn hear(&mut self, scene: &mut Scene<'_>) {
        for answer in self.line.hear() {
            let (topic, number, times) =
                self.open.remove(&answer.opaque).expect("one answer to each request");
            scene.story.sent_back(topic, number, times, answer.code == 0);
        }
    }

    fn lost(&mut self, scene: &mut Scene<'_>) {
        self.failed.clear();
        for (topic, number, times) in std::mem::take(&mut self.open).into_values() {
            scene.story.sent_back(topic, number, times, false);
        }
    }
}
