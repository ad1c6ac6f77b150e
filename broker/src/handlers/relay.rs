//! What is passed on to clients: 307, 309 and 223 for the tools, 324 and 325 for replies to requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use skylark_protocol::code::{RequestCode, ResponseCode};
use skylark_protocol::command::diagnosis::{ConsumeDirectly, RunningInfoRequest};
use skylark_protocol::command::locks::MessageQueue;
use skylark_protocol::command::reply::PushReply;
use skylark_protocol::command::reset::{ConsumerStatus, ConsumerStatusRequest};
use skylark_protocol::command::send::SendRequest;
use skylark_protocol::header::FieldError;
use skylark_protocol::message::OffsetMessageId;
use skylark_protocol::message::properties::{self, Properties};
use skylark_protocol::outgoing::{ReplyTo, Value};
use skylark_protocol::transport::{Mailbox, Outbox};
use skylark_storage::PhysicalOffset;

use crate::broker::Broker;
use crate::calls::{CallError, Callee, ClientAnswer};
use crate::context::{Answers, Done, Handled, Refusal, Request};
use crate::handlers::messages::message_at;
use crate::readers::{Outcome, Prepared};
use crate::session::Mail;
use crate::system;

/// How long a client may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long each of several clients may take to say where it is.
const STATUS_WITHIN: Duration = Duration::from_secs(5);
/// The first release of a client that answers 307 and 309, and of one that answers 221.
const ANSWERS_TOOLS_SINCE: i32 = 62;
const TELLS_OFFSETS_SINCE: i32 = 28;

/// Fields of a request, as they go on to a client.
type Fields = Vec<(String, String)>;

/// 307: what a consumer says of itself. The answer is the client's.
pub fn running_info(broker: &Broker, request: &Request<'_, '_>, _answers: &mut Answers<'_>) -> Handled {
    let asked = RunningInfoRequest::decode(request.header)?;
    let to = consumer(broker, asked.consumer_group, asked.client_id)?;
    let asker = Asker::of(request);
    asker.pass_on(broker, &to, RequestCode::GET_CONSUMER_RUNNING_INFO, fields(request), Bytes::new());
    Ok(Done::Answered)
}

/// 309: has a consumer process a message, which the broker puts behind the request. The answer is the client's.
pub fn consume_directly(broker: &Broker, request: &Request<'_, '_>, _answers: &mut Answers<'_>) -> Handled {
    let asked = ConsumeDirectly::decode(request.header)?;
    let client = asked.client_id.unwrap_or_default();
    let to = consumer(broker, asked.consumer_group, client)?;
    let id = asked.message_id.ok_or(FieldError::Missing { field: "msgId" })?;
    let id: OffsetMessageId =
        id.parse().map_err(|_| FieldError::invalid("msgId", "an offset message id", id))?;
    let mut fields = fields(request);
    let mut put = |name: &str, value: String| {
        fields.retain(|(known, _)| known != name);
        fields.push((name.to_owned(), value));
    };
    put("brokerName", broker.identity.broker.clone());
    {
        let catalog = broker.catalog.read();
        if let Some(topic) = asked.topic.and_then(|topic| catalog.topics.get(topic)) {
            put("topicSysFlag", topic.sys_flag.to_string());
        }
        if let Some(group) = catalog.groups.get(asked.consumer_group) {
            put("groupSysFlag", group.sys_flag.to_string());
        }
    }
    let asker = Asker::of(request);
    let at = PhysicalOffset::new(id.physical_offset);
    let bytes = u64::from(broker.policy.message_bytes_max);
    broker.readers.prepare(request.connection, request.reply, bytes, move |broker| {
        let message = message_at(broker, at)?;
        Ok(move |broker: &Broker, _answers: &mut Answers<'_>| {
            let (fields, message) = (fields.clone(), message.clone());
            asker.pass_on(broker, &to, RequestCode::CONSUME_MESSAGE_DIRECTLY, fields, message);
            Ok(Done::Answered)
        })
    })
}

/// 223: where the consumers of a group are, as they say themselves.
pub fn consumer_status(broker: &Broker, request: &Request<'_, '_>, _answers: &mut Answers<'_>) -> Handled {
    let asked = ConsumerStatusRequest::decode(request.header)?;
    let only = asked.client.filter(|client| !client.is_empty());
    let members = broker.membership.members(asked.group);
    if members.is_empty() {
        let remark = format!("No Any Consumer online in the consumer group: [{}]", asked.group);
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
    }
    if let Some((_, old)) = members.iter().find(|(_, member)| member.version < TELLS_OFFSETS_SINCE) {
        let remark = format!("the client does not support this feature. version={}", old.version);
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
    }
    let gathered = Arc::new(Gathered { asker: Asker::of(request), table: Mutex::default() });
    let fields =
        vec![("topic".to_owned(), asked.topic.to_owned()), ("group".to_owned(), asked.group.to_owned())];
    let deadline = broker.clock.monotonic() + STATUS_WITHIN;
    for (connection, member) in members {
        if only.is_some_and(|only| only != &*member.client_id) {
            continue;
        }
        let (gathered, client) = (Arc::clone(&gathered), Arc::clone(&member.client_id));
        let to = Callee { connection, mailbox: member.mailbox };
        let then = Box::new(move |answer: Result<ClientAnswer, CallError>| {
            // A client that does not answer is left out, as with RocketMQ.
            if let Ok(answer) = answer
                && let Ok(status) = ConsumerStatus::decode(&answer.body)
            {
                gathered.table.lock().insert(client.to_string(), status.message_queue_table);
            }
        });
        let code = RequestCode::GET_CONSUMER_STATUS_FROM_CLIENT;
        broker.calls.call(&to, code, fields.clone(), Bytes::new(), deadline, then);
    }
    Ok(Done::Answered)
}

/// 324 and 325: a reply, pushed to the client that waits for it. It is not stored: the one who waits has it, or has
/// given up.
pub fn reply(broker: &Broker, request: &Request<'_, '_>, _answers: &mut Answers<'_>) -> Handled {
    let send = SendRequest::decode(request.header, request.body)?;
    let refuse = |remark: String| Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
    let said = Properties::new(send.properties.as_bytes());
    let Some(client) = said.get(properties::REPLY_TO_CLIENT) else {
        return refuse(format!("reply message properties[{}] is null", properties::REPLY_TO_CLIENT));
    };
    let Some(to) = broker.membership.producer(client) else {
        return refuse(format!("push reply message fail, channel of <{client}> not found."));
    };
    let now_ms = broker.clock.wall_ms().to_string();
    let pushed = properties::rewrite(
        send.properties.as_bytes(),
        &[],
        &[(properties::PUSH_REPLY_TIME, now_ms.as_str())],
    );
    let pushed = String::from_utf8_lossy(&pushed).into_owned();
    let (born_host, store_host) =
        (request.connection.peer.address.to_string(), broker.identity.store_host.to_string());
    let push = PushReply {
        producer_group: send.producer_group,
        topic: send.topic,
        default_topic: send.default_topic,
        default_topic_queue_nums: send.default_topic_queue_nums,
        queue_id: send.queue_id,
        sys_flag: send.sys_flag,
        born_timestamp: send.born_timestamp,
        flag: send.flag,
        properties: Some(&pushed),
        reconsume_times: Some(send.reconsume_times),
        unit_mode: send.unit_mode,
        born_host: &born_host,
        store_host: &store_host,
        store_timestamp: i64::try_from(broker.clock.wall_ms()).unwrap_or(i64::MAX),
    };
    let fields = push.fields().iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    let asker = Asker::of(request);
    let (client, queue_id) = (client.to_owned(), send.queue_id.max(0));
    let then = Box::new(move |answer: Result<ClientAnswer, CallError>| {
        let failed = |why: &dyn std::fmt::Display| {
            Refusal::new(ResponseCode::SYSTEM_ERROR, format!("push reply message to {client} fail: {why}"))
        };
        asker.answer(|reply, out| match answer {
            Ok(answer) if answer.code == ResponseCode::SUCCESS => {
                let fields = [
                    ("msgId", Value::Text("0")),
                    ("queueId", queue_id.into()),
                    ("queueOffset", Value::Number(0)),
                    ("MSG_REGION", Value::Text(system::REGION)),
                    ("TRACE_ON", Value::Flag(true)),
                ];
                reply.success(out.buffer(), &fields);
                Ok(())
            }
            Ok(answer) => Err(failed(&answer.remark.unwrap_or_default())),
            Err(error) => Err(failed(&error)),
        });
    });
    let deadline = broker.clock.monotonic() + ANSWER_WITHIN;
    let body = Bytes::copy_from_slice(request.body);
    broker.calls.call(&to, RequestCode::PUSH_REPLY_MESSAGE_TO_CLIENT, fields, body, deadline, then);
    Ok(Done::Answered)
}

/// Whoever asked, and waits for what a client says.
#[derive(Clone)]
struct Asker {
    mailbox: Arc<Mailbox<Mail>>,
    reply: ReplyTo,
}

impl Asker {
    fn of(request: &Request<'_, '_>) -> Self {
        Self { mailbox: Arc::clone(&request.connection.mailbox), reply: request.reply }
    }

    /// Sends a client the request, and whoever asked what the client answers.
    fn pass_on(&self, broker: &Broker, to: &Callee, code: RequestCode, fields: Fields, body: Bytes) {
        let deadline = broker.clock.monotonic() + ANSWER_WITHIN;
        let asker = self.clone();
        let then = Box::new(move |answer: Result<ClientAnswer, CallError>| {
            asker.answer(|reply, out| {
                let answer = answer.map_err(|error| {
                    let code = match error {
                        CallError::Timeout => ResponseCode::CONSUME_MSG_TIMEOUT,
                        CallError::Closed | CallError::Crowded => ResponseCode::SYSTEM_ERROR,
                    };
                    Refusal::new(code, error.to_string())
                })?;
                reply.respond(out, answer.code, answer.remark.as_deref(), &[], answer.body);
                Ok(())
            });
        });
        broker.calls.call(to, code, fields, body, deadline, then);
    }

    /// Leaves an answer for whoever asked.
    fn answer(&self, write: impl FnOnce(ReplyTo, &mut Outbox) -> Result<(), Refusal>) {
        let mut out = Outbox::default();
        if let Err(refusal) = write(self.reply, &mut out) {
            self.reply.failure(out.buffer(), refusal.code, &refusal.remark);
        }
        // A closed mailbox belongs to a connection that is gone, and with it whoever asked.
        self.mailbox.post(Mail::Prepared(Prepared { bytes: 0, outcome: Outcome::Written(out) })).ok();
    }
}

/// What several clients say, until the last of them has: then it goes to whoever asked.
struct Gathered {
    asker: Asker,
    table: Mutex<BTreeMap<String, BTreeMap<MessageQueue, i64>>>,
}

impl Drop for Gathered {
    fn drop(&mut self) {
        let consumer_table = std::mem::take(&mut *self.table.lock());
        let body = ConsumerStatus { consumer_table, ..ConsumerStatus::default() }.encode();
        self.asker.answer(|reply, out| {
            reply.respond(out, ResponseCode::SUCCESS, None, &[], body.into());
            Ok(())
        });
    }
}

/// A consumer that the tools ask, if it is there and understands them.
fn consumer(broker: &Broker, group: &str, client: &str) -> Result<Callee, Refusal> {
    let refuse = |remark: String| Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
    let members = broker.membership.members(group);
    let Some((connection, member)) = members.into_iter().find(|(_, member)| *member.client_id == *client)
    else {
        return refuse(format!("The Consumer <{group}> <{client}> not online"));
    };
    if member.version < ANSWERS_TOOLS_SINCE {
        return refuse(format!(
            "The Consumer <{client}> Version <{}> too low to finish, please upgrade it to V3_1_8_SNAPSHOT",
            member.version
        ));
    }
    Ok(Callee { connection, mailbox: member.mailbox })
}

fn fields(request: &Request<'_, '_>) -> Fields {
    request.header.fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
