//! Makes groups, and makes and deletes a topic.

use rand::RngExt;
use skylark_protocol::code::RequestCode;
use skylark_protocol::command::groups::SubscriptionGroupConfig;
use skylark_protocol::outgoing::Value;

use super::{Client, FLEETING, RETRIES_MAX, RETURNING_GROUP, Scene, orderly};
use crate::simulation::line::Line;

/// Those that are not made by whoever first uses them.
pub const GROUPS: [&str; 2] = [RETURNING_GROUP, orderly::GROUP];

#[derive(Default)]
pub struct Operator {
    pub line: Line,
    /// Groups that were made.
    pub groups: usize,
    /// Whether a deletion is under way, if a change of the topic is.
    open: Option<bool>,
    /// The topic may be there.
    exists: bool,
}

impl Operator {
    /// Makes the groups.
    pub fn make_groups(&self) {
        for group in GROUPS {
            let config = SubscriptionGroupConfig {
                group_name: group.to_owned(),
                retry_max_times: RETRIES_MAX,
                ..SubscriptionGroupConfig::default()
            };
            self.line.call(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], &config.encode());
        }
    }
}

impl Client for Operator {
    fn line(&self) -> &Line {
        &self.line
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        if self.open.is_some() {
            return;
        }
        let deletes = scene.random.random_ratio(1, 2);
        let queues = FLEETING.1;
        let topic = ("topic", Value::Text(FLEETING.0));
        if deletes {
            self.line.call(RequestCode::DELETE_TOPIC_IN_BROKER, &[topic], &[]);
        } else {
            let fields = [
                topic,
                ("readQueueNums", queues.into()),
                ("writeQueueNums", queues.into()),
                ("perm", Value::Number(6)),
                ("order", Value::Flag(false)),
            ];
            self.line.call(RequestCode::UPDATE_AND_CREATE_TOPIC, &fields, &[]);
        }
        self.open = Some(deletes);
    }

    fn hear(&mut self, scene: &mut Scene<'_>) {
        for answer in self.line.hear() {
            let Some(deleted) = self.open.take() else {
                assert_eq!(answer.code, 0, "{answer:?}");
                self.groups += 1;
                continue;
            };
            if deleted {
                // To delete what is not there succeeds, and leaves nothing in the log.
                scene.story.deletions.add(answer.code == 0 && self.exists);
            }
            self.exists = !deleted && answer.code == 0;
        }
    }

    fn lost(&mut self, scene: &mut Scene<'_>) {
        if self.open.take() == Some(true) {
            scene.story.deletions.add(false);
        }
        self.exists = false;
    }
}
