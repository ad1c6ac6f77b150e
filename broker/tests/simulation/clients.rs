//! Two clients, as models: what they were told is what the broker is held to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::Context;

use skylark_protocol::code::RequestCode;
use skylark_protocol::frame::{Encoding, Frame};
use skylark_protocol::message::StoredMessage;
use skylark_protocol::outgoing::{Outgoing, Value};
use skylark_protocol::transport::{CloseReason, Outbox, Session};

pub const TOPIC: &str = "simulated";
pub const QUEUES: u32 = 3;

/// What a producer knows.
#[derive(Debug, Default)]
pub struct Producer {
    /// How many more messages it may send just now.
    pub allowance: u32,
    /// Messages sent so far, which is also the number of the next.
    pub sent: u64,
    /// Acknowledged: queue, offset, message.
    pub acknowledged: Vec<(u32, u64, u64)>,
    /// Codes of those that were answered with an error: nobody knows whether they are there.
    pub refused: Vec<i32>,
    pub connected: bool,
    open: BTreeMap<i32, (u32, u64)>,
    opaque: i32,
}

/// A message's body, which anyone can make again from its number.
pub fn body(number: u64) -> Vec<u8> {
    let length = usize::try_from(number * 37 % 701).unwrap();
    let mut body = format!("{number} ").into_bytes();
    body.resize(body.len() + length, b'a' + u8::try_from(number % 26).unwrap());
    body
}

fn number_of(body: &[u8]) -> u64 {
    let text = body.split(|byte| *byte == b' ').next().unwrap();
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

fn write(code: RequestCode, opaque: i32, fields: &[(&str, Value<'_>)], body: &[u8], out: &mut Outbox) {
    let request = Outgoing { encoding: Encoding::Json, code: code.0, opaque, flag: 0, remark: None, fields };
    request.write(body.len(), out.buffer());
    out.buffer().extend_from_slice(body);
}

/// A producer's end of a connection.
pub struct ProducerSession(pub Arc<Mutex<Producer>>);

impl Session for ProducerSession {
    fn receive(&mut self, frame: Frame<'_>, _out: &mut Outbox) -> Result<(), CloseReason> {
        let header = frame.parse().expect("a broker's header");
        let mut producer = self.0.lock().unwrap();
        let (queue, number) = producer.open.remove(&header.opaque).expect("one answer to each request");
        if header.code == 0 {
            let offset = header.fields.number("queueOffset").expect("a sound answer");
            producer.acknowledged.push((queue, offset, number));
        } else {
            assert!(header.remark.is_some(), "an error without a reason");
            producer.refused.push(header.code);
        }
        Ok(())
    }

    fn poll(&mut self, _cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        let mut producer = self.0.lock().unwrap();
        while producer.allowance > 0 {
            producer.allowance -= 1;
            let (number, opaque) = (producer.sent, producer.opaque);
            producer.sent += 1;
            producer.opaque += 1;
            let queue = u32::try_from(number % u64::from(QUEUES)).unwrap();
            producer.open.insert(opaque, (queue, number));
            let fields = [
                ("a", Value::Text("PG")),
                ("b", Value::Text(TOPIC)),
                ("c", Value::Text("TBW102")),
                ("d", QUEUES.into()),
                ("e", queue.into()),
                ("f", Value::Number(0)),
                ("g", Value::Number(0)),
                ("h", Value::Number(0)),
            ];
            write(RequestCode::SEND_MESSAGE_V2, opaque, &fields, &body(number), out);
        }
        Ok(())
    }

    fn closed(&mut self, _reason: &CloseReason) {
        let mut producer = self.0.lock().unwrap();
        producer.connected = false;
        producer.open.clear();
    }
}

/// What a consumer knows.
#[derive(Debug, Default)]
pub struct Consumer {
    /// Every message it has ever seen, by queue and offset.
    pub seen: BTreeMap<(u32, u64), u64>,
    /// Where it goes on.
    pub next: BTreeMap<u32, u64>,
    /// The highest offset it has committed.
    pub committed: BTreeMap<u32, u64>,
    pub connected: bool,
    open: BTreeMap<i32, Asked>,
    opaque: i32,
}

#[derive(Debug)]
enum Asked {
    Pull(u32),
    Offset(u32),
    Commit,
}

/// A consumer's end of a connection.
pub struct ConsumerSession {
    consumer: Arc<Mutex<Consumer>>,
    has_asked: bool,
}

impl ConsumerSession {
    /// A connection of this consumer that has just opened.
    pub fn new(consumer: Arc<Mutex<Consumer>>) -> Self {
        Self { consumer, has_asked: false }
    }
}

impl Session for ConsumerSession {
    fn receive(&mut self, frame: Frame<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        let header = frame.parse().expect("a broker's header");
        let mut consumer = self.consumer.lock().unwrap();
        let number = |field| header.fields.number::<u64>(field).expect("a sound answer");
        match consumer.open.remove(&header.opaque).expect("one answer to each request") {
            Asked::Pull(queue) => match header.code {
                0 => {
                    for message in StoredMessage::parse_all(frame.body) {
                        consumer.saw(queue, &message.expect("a sound message"));
                    }
                    let next = number("nextBeginOffset");
                    consumer.next.insert(queue, next);
                    let committed = consumer.committed.entry(queue).or_default();
                    *committed = next.max(*committed);
                    let opaque = consumer.ask(Asked::Commit);
                    let fields = [
                        ("consumerGroup", Value::Text("CG")),
                        ("topic", Value::Text(TOPIC)),
                        ("queueId", queue.into()),
                        ("commitOffset", next.into()),
                    ];
                    write(RequestCode::UPDATE_CONSUMER_OFFSET, opaque, &fields, &[], out);
                }
                19 | 20 => {}
                21 => {
                    let (moved, was) =
                        (number("nextBeginOffset"), consumer.next.get(&queue).copied().unwrap_or(0));
                    panic!("queue {queue} ends at {moved}; messages up to {was} were shown to a consumer");
                }
                // The topic is made by the first send.
                17 => {}
                code => panic!("a pull was answered with {code}: {:?}", header.remark),
            },
            Asked::Offset(queue) => match header.code {
                0 => {
                    let highest = consumer.committed.get(&queue).copied().unwrap_or(0);
                    assert!(number("offset") <= highest, "queue {queue}: an offset that was never committed");
                }
                22 => {}
                code => panic!("a question for an offset was answered with {code}: {:?}", header.remark),
            },
            Asked::Commit => {}
        }
        Ok(())
    }

    fn poll(&mut self, _cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        let mut consumer = self.consumer.lock().unwrap();
        if !std::mem::replace(&mut self.has_asked, true) {
            consumer.ask_offsets(out);
        }
        for queue in 0..QUEUES {
            let is_open = |asked: &Asked| matches!(asked, Asked::Pull(open) if *open == queue);
            if consumer.open.values().any(is_open) {
                continue;
            }
            let offset = consumer.next.get(&queue).copied().unwrap_or(0);
            let opaque = consumer.ask(Asked::Pull(queue));
            let fields = [
                ("consumerGroup", Value::Text("CG")),
                ("topic", Value::Text(TOPIC)),
                ("queueId", queue.into()),
                ("queueOffset", offset.into()),
                ("maxMsgNums", Value::Number(8)),
                // It waits, and brings its own subscription.
                ("sysFlag", Value::Number(6)),
                ("commitOffset", Value::Number(0)),
                ("suspendTimeoutMillis", Value::Number(15_000)),
                ("subscription", Value::Text("*")),
                ("subVersion", Value::Number(0)),
            ];
            write(RequestCode::PULL_MESSAGE, opaque, &fields, &[], out);
        }
        Ok(())
    }

    fn closed(&mut self, _reason: &CloseReason) {
        let mut consumer = self.consumer.lock().unwrap();
        consumer.connected = false;
        consumer.open.clear();
    }
}

impl Consumer {
    fn ask(&mut self, asked: Asked) -> i32 {
        let opaque = self.opaque;
        self.opaque += 1;
        self.open.insert(opaque, asked);
        opaque
    }

    /// Asks where the group is, as a consumer does that has just connected.
    fn ask_offsets(&mut self, out: &mut Outbox) {
        for queue in 0..QUEUES {
            let opaque = self.ask(Asked::Offset(queue));
            let fields = [
                ("consumerGroup", Value::Text("CG")),
                ("topic", Value::Text(TOPIC)),
                ("queueId", queue.into()),
                ("setZeroIfNotFound", Value::Flag(false)),
            ];
            write(RequestCode::QUERY_CONSUMER_OFFSET, opaque, &fields, &[], out);
        }
    }

    fn saw(&mut self, queue: u32, message: &StoredMessage<'_>) {
        let number = number_of(message.body);
        assert_eq!(message.body, body(number), "the body of {number} was altered");
        assert_eq!((message.topic, message.queue_id), (TOPIC, queue));
        let before = self.seen.insert((queue, message.queue_offset), number);
        let same = before.is_none_or(|before| before == number);
        assert!(same, "queue {queue} at {}: {before:?} became {number}", message.queue_offset);
    }
}
