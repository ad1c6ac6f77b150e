//! What the broker's queues hold, read by somebody who takes no part.

use std::collections::BTreeMap;

use serde_json::json;
use skylark_protocol::code::RequestCode;
use skylark_protocol::message::StoredMessage;
use skylark_protocol::outgoing::Value;

use super::client::{Look, Name, name_of};
use crate::support::raw::pull_fields;

/// Sent to by several producers, singly and in batches; consumed by several groups.
pub const PLAIN: &str = "plain";
pub const PLAIN_QUEUES: u32 = 3;
/// For messages that wait.
pub const DELAYED: &str = "delayed";
/// For messages of transactions.
pub const TRANSACTED: &str = "transacted";
/// Popped by a group of its own.
pub const POPPED: &str = crate::consumer::TOPIC;
pub const POPPED_QUEUES: u32 = 2;
/// Who sends messages back, where they come again, and where they end.
pub const RETURNING: &str = "returning";
pub const RETRIES: &str = "%RETRY%returning";
pub const DEAD_LETTERS: &str = "%DLQ%returning";
/// How often the group tries again, and how long a message waits before each time.
pub const RETRIES_MAX: i32 = 2;
pub const PAUSES_MS: [u64; 2] = [100, 200];
/// Who reads everything.
const CHECKER: &str = "checker";

pub const TOPICS: [(&str, u32); 6] = [
    (PLAIN, PLAIN_QUEUES),
    (DELAYED, 1),
    (TRANSACTED, 1),
    (POPPED, POPPED_QUEUES),
    (RETRIES, 1),
    (DEAD_LETTERS, 1),
];

/// A queue of a topic.
pub type Queue = (&'static str, u32);

/// A message that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct There {
    pub name: Name,
    pub stored_at: u64,
    /// How often it was sent back.
    pub times: i32,
}

/// Every queue from offset 0 on, as far as it was read.
#[derive(Default)]
pub struct Logs {
    queues: BTreeMap<Queue, Vec<There>>,
    /// How long each queue was before the last look.
    before: BTreeMap<Queue, usize>,
}

impl Logs {
    /// What one look at empty queues would have found.
    pub fn of(queues: &[(Queue, Vec<There>)]) -> Self {
        Self { queues: queues.iter().cloned().collect(), before: BTreeMap::new() }
    }

    /// Reads each queue on to its end.
    pub fn look(&mut self, broker: &mut dyn Look) {
        for queue in queues() {
            let known = self.queues.entry(queue).or_default();
            self.before.insert(queue, known.len());
            read_on(broker, queue, known);
        }
    }

    /// Reads everything once more: what was there is there.
    pub fn look_again(&self, broker: &mut dyn Look) {
        for queue in queues() {
            let mut again = Vec::new();
            read_on(broker, queue, &mut again);
            let known = &self.queues[&queue];
            assert!(
                again.starts_with(known),
                "{queue:?} is not what it was: {} and {}",
                known.len(),
                again.len()
            );
        }
    }

    /// The whole queue.
    pub fn all(&self, queue: Queue) -> &[There] {
        self.queues.get(&queue).map_or(&[], Vec::as_slice)
    }

    /// What the last look found.
    pub fn fresh(&self, queue: Queue) -> &[There] {
        &self.all(queue)[self.before.get(&queue).copied().unwrap_or(0)..]
    }

    /// What stands at an offset.
    pub fn at(&self, queue: Queue, offset: u64) -> Option<Name> {
        self.all(queue).get(usize::try_from(offset).unwrap()).map(|there| there.name)
    }

    pub fn len(&self) -> usize {
        self.queues.values().map(Vec::len).sum()
    }
}

fn queues() -> impl Iterator<Item = Queue> {
    TOPICS.into_iter().flat_map(|(topic, queues)| (0..queues).map(move |queue| (topic, queue)))
}

fn read_on(broker: &mut dyn Look, queue: Queue, known: &mut Vec<There>) {
    loop {
        let offset = known.len() as u64;
        let fields = pull_fields(CHECKER, queue.0, queue.1, offset);
        let answer = broker.look(RequestCode::PULL_MESSAGE, &fields, &[]);
        match answer.code {
            19 => return,
            // An index file is being written again.
            2 => continue,
            code => assert_eq!(code, 0, "{queue:?} from {offset}: {}", answer.remark),
        }
        for message in StoredMessage::parse_all(&answer.body) {
            let message = message.expect("a message");
            assert_eq!(message.queue_offset, known.len() as u64, "offsets of {queue:?} are dense");
            let name = name_of(message.body);
            known.push(There { name, stored_at: message.store_timestamp, times: message.reconsume_times });
        }
    }
}

/// Makes the topics, which a broker without a nameserver would never answer.
pub fn make_topics(broker: &mut dyn Look) {
    for (topic, queues) in TOPICS {
        let fields = [
            ("topic", Value::Text(topic)),
            ("defaultTopic", Value::Text("TBW102")),
            ("readQueueNums", queues.into()),
            ("writeQueueNums", queues.into()),
            ("perm", Value::Number(6)),
            ("topicFilterType", Value::Text("SINGLE_TAG")),
            ("topicSysFlag", Value::Number(0)),
            ("order", Value::Flag(false)),
        ];
        let answer = broker.look(RequestCode::UPDATE_AND_CREATE_TOPIC, &fields, &[]);
        assert_eq!(answer.code, 0, "{topic}: {}", answer.remark);
    }
}

/// Makes the groups.
pub fn make_groups(broker: &mut dyn Look) {
    for group in [RETURNING, CHECKER, super::filters::GROUP, super::resets::GROUP] {
        let policy = json!({"type": "CUSTOMIZED", "customizedRetryPolicy": {"next": [0, 0, PAUSES_MS[0], PAUSES_MS[1]]}});
        let config = json!({"groupName": group, "retryMaxTimes": RETRIES_MAX, "groupRetryPolicy": policy});
        let code = RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP;
        let answer = broker.look(code, &[], config.to_string().as_bytes());
        assert_eq!(answer.code, 0, "{group}: {}", answer.remark);
    }
}
