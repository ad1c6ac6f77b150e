//! Pulling: the application asks for messages, queue by queue.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use skylark_protocol::command::offsets::{
    Boundary, OffsetResponse, QueryConsumerOffset, QueueRequest, SearchOffset, UpdateConsumerOffset,
};
use skylark_protocol::command::pull::{PullRequest, PullResponse, pull_flag};
use skylark_protocol::message::{StoredMessage, TagFilter};
use skylark_protocol::{RequestCode, ResponseCode};

use crate::client::Client;
use crate::message::{Received, UnreadableMessage};
use crate::remote::{InvokeError, Remote, Request, Response};
use crate::route::Queue;

/// Pulls messages of any queue, and keeps a position in each for as long as it lives. Only what is committed
/// outlives it.
#[derive(Debug)]
pub struct PullConsumer {
    client: Client,
    group: String,
    positions: Mutex<HashMap<Queue, u64>>,
}

/// What a pull brings.
#[derive(Debug)]
pub struct Pulled {
    /// How it went.
    pub status: PullStatus,
    /// The messages that were selected, in the queue's order.
    pub messages: Vec<Received>,
    /// Messages that are there and cannot be read.
    pub unreadable: Vec<UnreadableMessage>,
    /// Where to go on.
    pub next: u64,
    /// The queue's first offset.
    pub min: u64,
    /// The offset of the queue's next message.
    pub max: u64,
}

/// How a pull went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullStatus {
    /// There are messages.
    Found,
    /// Nothing is there yet.
    NothingNew,
    /// What is there was not selected.
    NothingSelected,
    /// The offset is outside the queue; go on at `next`.
    OffsetMoved,
}

/// The most messages a broker gives at a time.
const PULL_MESSAGES: i32 = 32;
/// How much longer than the broker may hold a pull its answer may take.
const PULL_MARGIN: Duration = Duration::from_secs(15);

impl PullConsumer {
    /// A consumer of the group. It does not take part in sharing the group's queues.
    pub fn new(client: &Client, group: impl Into<String>) -> Self {
        Self { client: client.clone(), group: group.into(), positions: Mutex::default() }
    }

    /// The topic's queues.
    ///
    /// # Errors
    /// When the topic has no route.
    pub async fn queues(&self, topic: &str) -> Result<Vec<Queue>, InvokeError> {
        Ok(self.client.route(topic).await?.read_queues(topic))
    }

    /// Pulls from the queue's position, which moves on to behind what was pulled. Without a position it begins
    /// where the group has committed, or else with the queue's first message.
    ///
    /// `expression` selects by tags: `*`, or tags separated by `||`. The broker holds the pull for up to `hold`
    /// while there is nothing.
    ///
    /// # Errors
    /// When the broker refuses or does not answer. The position stays.
    pub async fn pull(&self, queue: &Queue, expression: &str, hold: Duration) -> Result<Pulled, InvokeError> {
        let known = self.position(queue);
        let position = match known {
            Some(position) => position,
            None => match self.committed(queue).await? {
                Some(committed) => committed,
                None => self.min(queue).await?,
            },
        };
        let pulled = self.pull_at(queue, position, expression, hold).await?;
        self.seek(queue, pulled.next);
        Ok(pulled)
    }

    /// Pulls from an offset; no position is looked at or moved.
    ///
    /// # Errors
    /// As for [`PullConsumer::pull`].
    pub async fn pull_at(
        &self,
        queue: &Queue,
        offset: u64,
        expression: &str,
        hold: Duration,
    ) -> Result<Pulled, InvokeError> {
        let suspend = if hold.is_zero() { 0 } else { pull_flag::SUSPEND };
        let request = PullRequest {
            consumer_group: &self.group,
            topic: &queue.topic,
            queue_id: queue.id,
            queue_offset: to_wire(offset),
            max_messages: PULL_MESSAGES,
            sys_flag: pull_flag::SUBSCRIPTION | suspend,
            commit_offset: 0,
            suspend_timeout_ms: hold.as_millis().try_into().unwrap_or(i64::MAX),
            subscription: Some(expression),
            subscription_version: 0,
            expression_type: Some("TAG"),
            max_bytes: None,
            broker_name: Some(&queue.broker),
        };
        let fields = request.fields();
        let request = Request::new(RequestCode::PULL_MESSAGE, &fields);
        let response = self.broker(queue).await?.invoke(request, hold + PULL_MARGIN).await?;
        read(&response, queue, expression)
    }

    /// Where the next pull of the queue begins, if that is decided.
    pub fn position(&self, queue: &Queue) -> Option<u64> {
        self.positions.lock().get(queue).copied()
    }

    /// Lets the next pull of the queue begin at `offset`.
    pub fn seek(&self, queue: &Queue, offset: u64) {
        self.positions.lock().insert(queue.clone(), offset);
    }

    /// Commits the queue's position, if it has one: all before it counts as consumed.
    ///
    /// # Errors
    /// When the broker refuses or does not answer.
    pub async fn commit(&self, queue: &Queue) -> Result<(), InvokeError> {
        match self.position(queue) {
            Some(position) => self.commit_at(queue, position).await,
            None => Ok(()),
        }
    }

    /// Commits an offset.
    ///
    /// # Errors
    /// As for [`PullConsumer::commit`].
    pub async fn commit_at(&self, queue: &Queue, offset: u64) -> Result<(), InvokeError> {
        let update = UpdateConsumerOffset {
            consumer_group: &self.group,
            topic: &queue.topic,
            queue_id: queue.id,
            commit_offset: to_wire(offset),
        };
        let fields = update.fields();
        let request = Request::new(RequestCode::UPDATE_CONSUMER_OFFSET, &fields);
        let remote = self.broker(queue).await?;
        remote.invoke(request, self.client.options().deadline).await?.success().map(drop)
    }

    /// The offset that the group has committed.
    ///
    /// # Errors
    /// When the broker refuses or does not answer.
    pub async fn committed(&self, queue: &Queue) -> Result<Option<u64>, InvokeError> {
        let query = QueryConsumerOffset {
            consumer_group: &self.group,
            topic: &queue.topic,
            queue_id: queue.id,
            zero_if_not_found: None,
        };
        match self.ask_offset(queue, RequestCode::QUERY_CONSUMER_OFFSET, &query.fields()).await {
            Ok(offset) => Ok(Some(offset)),
            Err(error) if error.code() == Some(ResponseCode::QUERY_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The offset of the queue's first message.
    ///
    /// # Errors
    /// When the broker refuses or does not answer.
    pub async fn min(&self, queue: &Queue) -> Result<u64, InvokeError> {
        let request = QueueRequest { topic: &queue.topic, queue_id: queue.id };
        self.ask_offset(queue, RequestCode::GET_MIN_OFFSET, &request.fields()).await
    }

    /// The offset that the queue's next message will have.
    ///
    /// # Errors
    /// When the broker refuses or does not answer.
    pub async fn max(&self, queue: &Queue) -> Result<u64, InvokeError> {
        let request = QueueRequest { topic: &queue.topic, queue_id: queue.id };
        self.ask_offset(queue, RequestCode::GET_MAX_OFFSET, &request.fields()).await
    }

    /// The offset of the first message stored at `timestamp`, in milliseconds since 1970, or later.
    ///
    /// # Errors
    /// When the broker refuses or does not answer.
    pub async fn at_time(&self, queue: &Queue, timestamp: i64) -> Result<u64, InvokeError> {
        let boundary = Boundary::Lower;
        let search = SearchOffset { topic: &queue.topic, queue_id: queue.id, timestamp, boundary };
        self.ask_offset(queue, RequestCode::SEARCH_OFFSET_BY_TIMESTAMP, &search.fields()).await
    }

    async fn ask_offset(
        &self,
        queue: &Queue,
        code: RequestCode,
        fields: &[(&str, skylark_protocol::Value<'_>)],
    ) -> Result<u64, InvokeError> {
        let remote = self.broker(queue).await?;
        let request = Request::new(code, fields);
        let response = remote.invoke(request, self.client.options().deadline).await?.success()?;
        Ok(OffsetResponse::decode(&response.header)?.offset)
    }

    pub(crate) async fn broker(&self, queue: &Queue) -> Result<Remote, InvokeError> {
        let route = self.client.route(&queue.topic).await?;
        let address = route.any(&queue.broker).ok_or(InvokeError::NoAddress)?;
        Ok(self.client.remote(address))
    }
}

/// Offsets are 63 bits wide on the wire.
fn to_wire(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

fn read(response: &Response, queue: &Queue, expression: &str) -> Result<Pulled, InvokeError> {
    let status = match response.code() {
        ResponseCode::SUCCESS => PullStatus::Found,
        ResponseCode::PULL_NOT_FOUND => PullStatus::NothingNew,
        ResponseCode::PULL_RETRY_IMMEDIATELY => PullStatus::NothingSelected,
        ResponseCode::PULL_OFFSET_MOVED => PullStatus::OffsetMoved,
        _ => return Err(response.clone().refusal()),
    };
    let answer = PullResponse::decode(&response.header)?;
    let mut pulled = Pulled {
        status,
        messages: Vec::new(),
        unreadable: Vec::new(),
        next: answer.next_begin_offset,
        min: answer.min_offset,
        max: answer.max_offset,
    };
    if status == PullStatus::Found {
        // The broker selects by hash, and different tags can share one.
        let filter = TagFilter::parse(Some(expression)).unwrap_or(TagFilter::All);
        for stored in StoredMessage::parse_all(&response.body) {
            match stored.map_err(UnreadableMessage::from) {
                Ok(stored) if !filter.matches(stored.tags()) => {}
                Ok(stored) => match Received::new(&stored, &response.body, queue) {
                    Ok(message) => pulled.messages.push(message),
                    Err(unreadable) => pulled.unreadable.push(unreadable),
                },
                Err(unreadable) => pulled.unreadable.push(unreadable),
            }
        }
    }
    Ok(pulled)
}
