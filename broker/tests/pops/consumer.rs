//! What a consumer makes of a pop's answer.

use std::collections::BTreeMap;

use skylark_broker::changes::ControlRecord;
use skylark_broker::config::Settings;
use skylark_broker::engine::Next;
use skylark_broker::folds::Fold;
use skylark_broker::folds::topics::{TopicConfig, TopicPut};
use skylark_protocol::code::RequestCode;
use skylark_protocol::message::StoredMessage;
use skylark_protocol::outgoing::Value;

use crate::support::raw::Answer;
use crate::world::World;

pub const TOPIC: &str = "t";
pub const GROUP: &str = "g";
pub const RETRIES: &str = "%RETRY%g_t";
/// For how long popped messages are invisible here.
pub const INVISIBLE_MS: u64 = 10_000;

pub type Fields<'a> = Vec<(&'static str, Value<'a>)>;

/// A message that was popped.
#[derive(Clone, Debug)]
pub struct Popped {
    /// As the message says.
    pub topic: String,
    /// The topic it was read from.
    pub real_topic: String,
    pub queue: u32,
    pub offset: u64,
    pub body: String,
    pub reconsume_times: i32,
    pub receipt: String,
    pub properties: BTreeMap<String, String>,
}

pub fn pop_fields(queue: i32, messages: i64, now_ms: u64, poll_ms: i64) -> Fields<'static> {
    vec![
        ("consumerGroup", Value::Text(GROUP)),
        ("topic", Value::Text(TOPIC)),
        ("queueId", Value::Number(queue.into())),
        ("maxMsgNums", Value::Number(messages)),
        ("invisibleTime", INVISIBLE_MS.into()),
        ("pollTime", Value::Number(poll_ms)),
        ("bornTime", now_ms.into()),
        ("initMode", Value::Number(0)),
        ("order", Value::Flag(false)),
    ]
}

pub fn with<'a>(mut fields: Fields<'a>, name: &'static str, value: Value<'a>) -> Fields<'a> {
    fields.retain(|(known, _)| *known != name);
    fields.push((name, value));
    fields
}

/// The messages of an answer, with receipts as Java's client makes them.
pub fn messages(answer: &Answer) -> Vec<Popped> {
    assert_eq!(answer.code, 0, "{answer:?}");
    let list = |field: &str| -> BTreeMap<(String, u32), Vec<u64>> {
        let entries = answer.fields[field].split(';').map(|entry| {
            let [flag, queue, offsets] = entry.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let offsets = offsets.split(',').map(|offset: &str| offset.parse().unwrap()).collect();
            ((flag.to_owned(), queue.parse().unwrap()), offsets)
        });
        let entries: Vec<_> = entries.collect();
        let count = entries.len();
        let map: BTreeMap<_, _> = entries.into_iter().collect();
        assert_eq!(map.len(), count, "a queue comes once");
        map
    };
    let (starts, offsets) = (list("startOffsetInfo"), list("msgOffsetInfo"));
    let mut found: BTreeMap<(String, u32), Vec<u64>> = BTreeMap::new();
    let popped = StoredMessage::parse_all(&answer.body).map(|message| {
        let message = message.unwrap();
        assert!(message.body_is_intact());
        let properties: BTreeMap<String, String> =
            message.properties().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let known = properties.get("POP_CK");
        let flag = if known.is_some() { "1" } else { "0" };
        let key = (flag.to_owned(), message.queue_id);
        found.entry(key.clone()).or_default().push(message.queue_offset);
        let receipt = known.cloned().unwrap_or_else(|| {
            format!(
                "{} {} {} {} {flag} broker-a {} {}",
                starts[&key][0],
                answer.fields["popTime"],
                answer.fields["invisibleTime"],
                answer.fields["reviveQid"],
                message.queue_id,
                message.queue_offset
            )
        });
        Popped {
            topic: message.topic.to_owned(),
            real_topic: if known.is_some() { RETRIES.to_owned() } else { message.topic.to_owned() },
            queue: message.queue_id,
            offset: message.queue_offset,
            body: String::from_utf8(message.body.to_vec()).unwrap(),
            reconsume_times: message.reconsume_times,
            receipt,
            properties,
        }
    });
    let popped = popped.collect();
    assert_eq!(found, offsets, "the lists say what the body holds");
    popped
}

pub fn bodies(popped: &[Popped]) -> Vec<&str> {
    popped.iter().map(|popped| &*popped.body).collect()
}

impl Popped {
    pub fn ack_fields(&self) -> Fields<'_> {
        vec![
            ("consumerGroup", Value::Text(GROUP)),
            ("topic", Value::Text(&self.real_topic)),
            ("queueId", self.queue.into()),
            ("extraInfo", Value::Text(&self.receipt)),
            ("offset", self.offset.into()),
        ]
    }

    pub fn prolong_fields(&self, ms: u64) -> Fields<'_> {
        with(self.ack_fields(), "invisibleTime", ms.into())
    }

    /// The message under the receipt that a prolongation was answered with.
    pub fn prolonged(&self, answer: &Answer) -> Self {
        let values: Vec<&str> = self.receipt.split(' ').collect();
        let field = |name: &str| &answer.fields[name];
        let receipt = format!(
            "{} {} {} {} {} {} {} {}",
            self.offset,
            field("popTime"),
            field("invisibleTime"),
            field("reviveQid"),
            values[4],
            values[5],
            self.queue,
            self.offset
        );
        Self { receipt, ..self.clone() }
    }
}

/// A world with a topic of so many queues.
pub fn world(seed: u64, queues: u32) -> World {
    world_with(seed, queues, Settings::default())
}

pub fn world_with(seed: u64, queues: u32, settings: Settings) -> World {
    let mut world = World::new(seed, settings);
    let put = TopicPut { topic: TOPIC.to_owned(), config: TopicConfig::with_queues(queues) };
    world.broker().change(|_| vec![ControlRecord::of(&put)]).unwrap();
    world.settle();
    world
}

pub fn send(world: &mut World, bodies: &[&str]) {
    for body in bodies {
        assert_eq!(world.send(TOPIC, "", body.as_bytes()).code, 0);
    }
}

/// Pops without waiting; nothing found is no messages.
pub fn pop(world: &mut World, messages_max: i64) -> Vec<Popped> {
    let answer = world.call(RequestCode::POP_MESSAGE, &pop_fields(-1, messages_max, world.now_ms(), 0), &[]);
    if answer.code == 210 { Vec::new() } else { messages(&answer) }
}

pub fn ack(world: &mut World, popped: &Popped) {
    let answer = world.call(RequestCode::ACK_MESSAGE, &popped.ack_fields(), &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
}

/// Lets time pass and everything come back that is visible again by then.
pub fn advance(world: &mut World, ms: u64) -> Next {
    world.clock.advance(std::time::Duration::from_millis(ms));
    revive(world)
}

pub fn revive(world: &mut World) -> Next {
    loop {
        world.settle();
        match world.broker().pops.step(world.broker()) {
            Next::Now => {}
            Next::Applied(end) if world.end() >= end => {}
            next => {
                agrees(world);
                return next;
            }
        }
    }
}

/// Once everything is applied, the fold holds what was decided.
pub fn agrees(world: &mut World) {
    world.settle();
    let pops = &world.broker().pops;
    let live = pops.live().hash();
    assert_eq!(live, pops.folded.lock().hash(), "the state at the log's end is the fold's");
}

/// Where the tools say that the group goes on in a queue of a topic.
pub fn committed(world: &mut World, topic: &str, queue: u32) -> u64 {
    let fields =
        [("consumerGroup", Value::Text(GROUP)), ("topic", Value::Text(topic)), ("queueId", queue.into())];
    world.call(RequestCode::QUERY_CONSUMER_OFFSET, &fields, &[]).number("offset")
}
