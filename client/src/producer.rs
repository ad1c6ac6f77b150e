//! Sending.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use skylark_protocol::command::send::{SendRequest, SendResponse};
use skylark_protocol::message::batch::InnerMessage;
use skylark_protocol::message::{MessageRefused, UniqueKeys};
use skylark_protocol::{RequestCode, ResponseCode};
use tokio::time::Instant;
use tracing::debug;

use crate::client::{Client, Member, TEMPLATE_QUEUES, TEMPLATE_TOPIC};
use crate::clock;
use crate::message::{Message, UnwritableProperty, compress};
use crate::remote::{InvokeError, Remote, Request, Response};
use crate::route::{Queue, Route};

/// How a producer sends.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// The group it belongs to.
    pub group: String,
    /// How long a send may take, all attempts together. Default 3 s.
    pub deadline: Duration,
    /// How often a message is sent at most, each time to another queue. Default 3.
    pub attempts: usize,
    /// Bodies of at least so many bytes are compressed. Default 4096.
    pub compress_from_bytes: usize,
}

impl ProducerOptions {
    /// The defaults, for this group.
    pub fn new(group: impl Into<String>) -> Self {
        Self { group: group.into(), deadline: Duration::from_secs(3), attempts: 3, compress_from_bytes: 4096 }
    }
}

/// Sends messages. Any number of sends may be under way at the same time: each waits for its own answer, and
/// all share the brokers' connections.
#[derive(Debug)]
pub struct Producer {
    client: Client,
    options: ProducerOptions,
    keys: UniqueKeys,
    turn: AtomicUsize,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// How well it is stored.
    pub status: SendStatus,
    /// The unique key, made by this producer unless the message had one.
    pub message_id: String,
    /// The id that tells the broker where to find it.
    pub offset_message_id: String,
    /// Where it is.
    pub queue: Queue,
    /// Its ordinal there.
    pub queue_offset: u64,
}

/// How well a message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendStatus {
    /// As the broker promises.
    Stored,
    /// The broker has it, its disk did not say so in time.
    FlushTimeout,
    /// The broker has it, its slave did not say so in time.
    SlaveTimeout,
    /// The broker has it and no slave.
    SlaveUnavailable,
}

/// Why a message was not sent, as far as is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The last attempt failed; earlier ones may have been stored without their answers getting here.
    #[error("after {attempts} attempts: {cause}")]
    Attempts {
        /// How many were made.
        attempts: usize,
        /// What became of the last.
        cause: InvokeError,
    },
    /// The topic has no route, and none can be made.
    #[error("no route to the topic: {0}")]
    Route(InvokeError),
    /// The route has no queue to write to.
    #[error("the topic has no queue that can be written to")]
    NoQueue,
    /// The message breaks a limit. Nothing was sent.
    #[error(transparent)]
    Message(#[from] MessageRefused),
    /// A property cannot be encoded. Nothing was sent.
    #[error(transparent)]
    Property(#[from] UnwritableProperty),
    /// A batch is of one topic and has at least one message. Nothing was sent.
    #[error("a batch has one topic and at least one message")]
    Batch,
}

/// A message ready to go to any queue.
struct Prepared<'a> {
    topic: &'a str,
    code: RequestCode,
    body: Bytes,
    properties: String,
    sys_flag: i32,
    flag: i32,
    message_id: String,
}

impl Producer {
    /// A producer of the group.
    pub fn new(client: &Client, options: ProducerOptions) -> Self {
        client.join_as_producer(&options.group);
        let instance = u32::try_from(clock::now_ms() & u64::from(u32::MAX)).expect("masked to 32 bits");
        let keys = UniqueKeys::new(client.options().address, std::process::id(), instance);
        Self { client: client.clone(), options, keys, turn: AtomicUsize::new(0) }
    }

    /// Sends a message to one of its topic's queues, and to another when the broker or the connection fails.
    ///
    /// # Errors
    /// When no attempt was answered well in time. A message whose answer was lost may be stored all the same.
    pub async fn send(&self, message: &Message) -> Result<Sent, SendError> {
        self.deliver(self.prepare(message)?, None).await
    }

    /// Sends a message to this queue and no other.
    ///
    /// # Errors
    /// As for [`Producer::send`].
    pub async fn send_to(&self, message: &Message, queue: &Queue) -> Result<Sent, SendError> {
        self.deliver(self.prepare(message)?, Some(queue)).await
    }

    /// Sends messages of one topic together: all are stored in one queue, next to each other, or none is.
    ///
    /// # Errors
    /// As for [`Producer::send`].
    pub async fn send_batch(&self, messages: &[Message]) -> Result<Sent, SendError> {
        self.deliver(self.prepare_batch(messages)?, None).await
    }

    /// Sends a message without asking for an answer. Returns once it is in line for the connection.
    ///
    /// # Errors
    /// When it could not even be put in line.
    pub async fn send_oneway(&self, message: &Message) -> Result<(), SendError> {
        let prepared = self.prepare(message)?;
        let (route, queues) = self.queues(prepared.topic).await?;
        let queue = self.pick(&queues, None).ok_or(SendError::NoQueue)?;
        let remote = self.leader(&route, queue).ok_or(SendError::NoQueue)?;
        let wanted = self.request(&prepared, queue);
        let fields = wanted.fields(prepared.code);
        let request = Request { code: prepared.code, fields: &fields, body: prepared.body.clone() };
        remote.oneway(request).await.map_err(|cause| SendError::Attempts { attempts: 1, cause })
    }

    /// The queues of a topic that messages may be sent to.
    ///
    /// # Errors
    /// When the topic has no route.
    pub async fn write_queues(&self, topic: &str) -> Result<Vec<Queue>, SendError> {
        Ok(self.queues(topic).await?.1)
    }

    /// Leaves the group.
    pub async fn shutdown(self) {
        self.client.leave(Member::Producer(&self.options.group)).await;
    }

    fn prepare<'a>(&self, message: &'a Message) -> Result<Prepared<'a>, SendError> {
        if message.body.is_empty() {
            return Err(MessageRefused::EmptyBody.into());
        }
        let (properties, message_id) = self.encode_properties(message)?;
        let compressed = match message.body.len() {
            bytes if bytes >= self.options.compress_from_bytes => compress(&message.body),
            _ => None,
        };
        let (body, sys_flag) = compressed.unwrap_or_else(|| (message.body.clone(), 0));
        Ok(Prepared {
            topic: &message.topic,
            code: RequestCode::SEND_MESSAGE_V2,
            body,
            properties: to_text(properties),
            sys_flag,
            flag: message.flag,
            message_id,
        })
    }

    fn prepare_batch<'a>(&self, messages: &'a [Message]) -> Result<Prepared<'a>, SendError> {
        let first = messages.first().ok_or(SendError::Batch)?;
        let mut body = Vec::new();
        let mut ids = Vec::new();
        for message in messages {
            if message.topic != first.topic {
                return Err(SendError::Batch);
            }
            if message.body.is_empty() {
                return Err(MessageRefused::EmptyBody.into());
            }
            let (properties, id) = self.encode_properties(message)?;
            let inner = InnerMessage { flag: message.flag, body: &message.body, properties: &properties };
            inner.write(&mut body)?;
            ids.push(id);
        }
        Ok(Prepared {
            topic: &first.topic,
            code: RequestCode::SEND_BATCH_MESSAGE,
            body: Bytes::from(body),
            properties: String::new(),
            sys_flag: 0,
            flag: 0,
            message_id: ids.join(","),
        })
    }

    fn encode_properties(&self, message: &Message) -> Result<(Vec<u8>, String), SendError> {
        let key = self.keys.next(clock::now_ms());
        Ok(message.encode_properties(key.as_str())?)
    }

    async fn deliver(&self, prepared: Prepared<'_>, fixed: Option<&Queue>) -> Result<Sent, SendError> {
        let until = Instant::now() + self.options.deadline;
        let mut failure = None;
        let mut last_broker = None;
        for attempt in 1..=self.options.attempts.max(1) {
            let (route, queues) = self.queues(prepared.topic).await?;
            let picked = fixed.or_else(|| self.pick(&queues, last_broker.as_deref()));
            let queue = picked.ok_or(SendError::NoQueue)?;
            let remote = self.leader(&route, queue).ok_or(SendError::NoQueue)?;
            let cause = match self.attempt(&remote, &prepared, queue, until).await {
                Ok(sent) => return Ok(sent),
                Err(cause) => cause,
            };
            debug!(%queue, attempt, %cause, "send failed");
            let again = is_worth_another(&cause);
            failure = Some(SendError::Attempts { attempts: attempt, cause });
            if !again || Instant::now() >= until {
                break;
            }
            self.client.doubt_route(prepared.topic);
            last_broker = Some(queue.broker.to_string());
        }
        Err(failure.expect("there is at least one attempt"))
    }

    async fn attempt(
        &self,
        remote: &Remote,
        prepared: &Prepared<'_>,
        queue: &Queue,
        until: Instant,
    ) -> Result<Sent, InvokeError> {
        let wanted = self.request(prepared, queue);
        let fields = wanted.fields(prepared.code);
        let request = Request { code: prepared.code, fields: &fields, body: prepared.body.clone() };
        let response = remote.invoke(request, until.saturating_duration_since(Instant::now())).await?;
        let status = match response.code() {
            ResponseCode::SUCCESS => SendStatus::Stored,
            ResponseCode::FLUSH_DISK_TIMEOUT => SendStatus::FlushTimeout,
            ResponseCode::FLUSH_SLAVE_TIMEOUT => SendStatus::SlaveTimeout,
            ResponseCode::SLAVE_NOT_AVAILABLE => SendStatus::SlaveUnavailable,
            _ => return Err(response.refusal()),
        };
        to_sent(&response, status, prepared, queue)
    }

    fn request<'a>(&'a self, prepared: &'a Prepared<'_>, queue: &'a Queue) -> SendRequest<'a> {
        SendRequest {
            producer_group: &self.options.group,
            topic: prepared.topic,
            default_topic: TEMPLATE_TOPIC,
            default_topic_queue_nums: TEMPLATE_QUEUES,
            queue_id: queue.id,
            sys_flag: prepared.sys_flag,
            born_timestamp: i64::try_from(clock::now_ms()).unwrap_or(i64::MAX),
            flag: prepared.flag,
            properties: &prepared.properties,
            reconsume_times: 0,
            unit_mode: false,
            max_reconsume_times: None,
            batch: prepared.code == RequestCode::SEND_BATCH_MESSAGE,
            broker_name: Some(&queue.broker),
            body: &prepared.body,
        }
    }

    async fn queues(&self, topic: &str) -> Result<(Arc<Route>, Vec<Queue>), SendError> {
        let route = self.client.route_to_send(topic).await.map_err(SendError::Route)?;
        let queues = route.write_queues(topic);
        Ok((route, queues))
    }

    /// The next queue in turn, on another broker than the one that has just failed if there is one.
    fn pick<'a>(&self, queues: &'a [Queue], failed_broker: Option<&str>) -> Option<&'a Queue> {
        // Relaxed: spreads messages, orders nothing.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..queues.len()).map(|step| &queues[(turn + step) % queues.len()]);
        in_turn().find(|queue| failed_broker != Some(&*queue.broker)).or_else(|| in_turn().next())
    }

    fn leader(&self, route: &Route, queue: &Queue) -> Option<Remote> {
        route.leader(&queue.broker).map(|address| self.client.remote(address))
    }
}

/// Properties are made of text, so the bytes are text again.
fn to_text(properties: Vec<u8>) -> String {
    String::from_utf8(properties).expect("properties are written from text")
}

fn to_sent(
    response: &Response,
    status: SendStatus,
    prepared: &Prepared<'_>,
    queue: &Queue,
) -> Result<Sent, InvokeError> {
    let answer = SendResponse::decode(&response.header)?;
    Ok(Sent {
        status,
        message_id: prepared.message_id.clone(),
        offset_message_id: answer.message_id.to_owned(),
        queue: Queue { id: answer.queue_id, ..queue.clone() },
        queue_offset: answer.queue_offset,
    })
}

/// Whether another queue, or the same one later, may do better.
fn is_worth_another(cause: &InvokeError) -> bool {
    match cause {
        InvokeError::Closed(_) | InvokeError::Timeout(_) => true,
        InvokeError::Refused { code, .. } => matches!(
            *code,
            ResponseCode::SYSTEM_ERROR
                | ResponseCode::SYSTEM_BUSY
                | ResponseCode::SERVICE_NOT_AVAILABLE
                | ResponseCode::NO_PERMISSION
                | ResponseCode::TOPIC_NOT_EXIST
                | ResponseCode::NO_BUYER_ID
                | ResponseCode::NOT_IN_CURRENT_UNIT
                | ResponseCode::GO_AWAY
        ),
        InvokeError::Unusable(_) | InvokeError::NoAddress => false,
    }
}
