//! A producer of transactions, moved by hand.

use skylark_broker::engine::Next;
use skylark_protocol::code::RequestCode;
use skylark_protocol::message::OffsetMessageId;
use skylark_protocol::outgoing::Value;

use crate::support::raw::{Answer, send_fields};
use crate::world::{Pulled, World};

pub const HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub const GIVEN_UP: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
pub const COMMIT: i32 = 8;
pub const ROLLBACK: i32 = 12;

/// A half message, as its producer knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    pub physical_offset: u64,
    pub queue_offset: u64,
    pub key: String,
}

impl Half {
    /// The half message that this answer is about.
    pub fn of(answer: &Answer) -> Self {
        assert_eq!(answer.code, 0, "{}", answer.remark);
        let id: OffsetMessageId = answer.fields["msgId"].parse().unwrap();
        let key = answer.fields["transactionId"].clone();
        Self { physical_offset: id.physical_offset, queue_offset: answer.number("queueOffset"), key }
    }
}

/// The properties of a half message of group PG, and others.
pub fn properties(key: &str, others: &str) -> String {
    format!("TRAN_MSG\u{1}true\u{2}PGROUP\u{1}PG\u{2}UNIQ_KEY\u{1}{key}\u{2}TAGS\u{1}tag\u{2}{others}")
}

/// Sends a half message for queue 2.
pub fn prepare(world: &mut World, topic: &str, key: &str, others: &str) -> Half {
    let properties = properties(key, others);
    let mut fields = send_fields(topic, 2, &properties);
    // The sysFlag of a client that sends a half message.
    fields[5].1 = Value::Number(4);
    Half::of(&world.call(RequestCode::SEND_MESSAGE_V2, &fields, key.as_bytes()))
}

/// The fields of the end of a transaction.
pub fn end_fields(half: &Half, outcome: i32, from_check: bool) -> Vec<(&'static str, Value<'_>)> {
    vec![
        ("producerGroup", Value::Text("PG")),
        ("tranStateTableOffset", half.queue_offset.into()),
        ("commitLogOffset", half.physical_offset.into()),
        ("commitOrRollback", Value::Number(outcome.into())),
        ("fromTransactionCheck", Value::Flag(from_check)),
        ("msgId", Value::Text(&half.key)),
        ("transactionId", Value::Text(&half.key)),
    ]
}

/// Ends a transaction unasked.
pub fn end(world: &mut World, half: &Half, outcome: i32) -> Answer {
    world.call(RequestCode::END_TRANSACTION, &end_fields(half, outcome, false), b"")
}

/// Ends a transaction as an answer to a question.
pub fn answer(world: &mut World, half: &Half, outcome: i32) -> Answer {
    world.call(RequestCode::END_TRANSACTION, &end_fields(half, outcome, true), b"")
}

/// Makes the world's connection a producer of this group.
pub fn join(world: &mut World, group: &str) {
    let heartbeat = format!(r#"{{"clientID":"c","producerDataSet":[{{"groupName":"{group}"}}]}}"#);
    assert_eq!(world.call(RequestCode::HEART_BEAT, &[], heartbeat.as_bytes()).code, 0);
}

/// Lets everything come to rest that can at this moment of the clock, and says what is asked.
pub fn questions(world: &mut World) -> Vec<Answer> {
    loop {
        world.fire();
        let broker = std::sync::Arc::clone(&world.running.broker);
        match broker.transactions.step(&broker) {
            Next::Now => {}
            Next::Applied(end) if broker.log.frontiers().appended_end >= end => {}
            _ => break,
        }
    }
    world.poll();
    let written = world.written();
    written.into_iter().filter(|written| !written.is_response).collect()
}

/// Lets time pass, and says what is asked then.
pub fn after(world: &mut World, ms: u64) -> Vec<Answer> {
    world.clock.advance(std::time::Duration::from_millis(ms));
    questions(world)
}

/// The half message that a question is about.
pub fn asked(question: &Answer) -> Half {
    assert_eq!(question.code, 39);
    Half {
        physical_offset: question.number("commitLogOffset"),
        queue_offset: question.number("tranStateTableOffset"),
        key: question.fields["transactionId"].clone(),
    }
}

/// The keys of messages.
pub fn keys(pulled: &[Pulled]) -> Vec<String> {
    pulled.iter().map(|message| message.properties["UNIQ_KEY"].clone()).collect()
}

/// The keys of what consumers get of the queue that half messages are for.
pub fn consumed(world: &mut World, topic: &str) -> Vec<String> {
    keys(&world.pulled(topic, 2))
}
