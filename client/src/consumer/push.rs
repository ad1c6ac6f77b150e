//! Being pushed to: the group's members share the queues, each message goes to a listener, offsets follow.
//!
//! ```text
//!  coordinator ── who is there? which queues are mine? ──► one task for each queue
//!      ▲  every 20 s, or when members change                 pull ──► listener ──► progress
//!      └───────────────────── every 5 s: commit ◄─────────────────────────────────────┘
//! ```

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use skylark_protocol::RequestCode;
use skylark_protocol::command::heartbeat::{
    ConsumeFrom, ConsumeType, ConsumerData, MessageModel, Subscription,
};
use skylark_protocol::command::membership::{ConsumerGroup, ConsumerList};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::StartFrom;
use super::allocate::averagely;
use super::pull::PullConsumer;
use crate::client::{Client, Member};
use crate::clock;
use crate::groups::Membership;
use crate::message::Received;
use crate::remote::{InvokeError, Request};
use crate::route::{Queue, Route};

mod queue;

use queue::Assigned;

/// How a group consumes.
#[derive(Clone, Debug)]
pub struct PushOptions {
    /// The group.
    pub group: String,
    /// Topics and, for each, an expression of tags: `*`, or tags separated by `||`.
    pub subscriptions: Vec<(String, String)>,
    /// Where a queue starts of which the group has no offset.
    pub start_from: StartFrom,
    /// Whether every member gets every message. Offsets are then kept for as long as the consumer lives, and
    /// failed messages are not delivered again.
    pub broadcasting: bool,
    /// How many messages are with the listener at a time. 1 keeps each queue's order. Default 20.
    pub concurrency: usize,
    /// How many messages of a queue are held here until the listener has dealt with them. Default 1000.
    pub queue_messages_max: usize,
    /// How many bytes of bodies. Default 100 MiB.
    pub queue_bytes_max: usize,
    /// How long a shutdown waits for the listener. Default 10 s.
    pub grace: Duration,
}

impl PushOptions {
    /// The defaults, for this group and without subscriptions.
    pub fn new(group: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            subscriptions: Vec::new(),
            start_from: StartFrom::default(),
            broadcasting: false,
            concurrency: 20,
            queue_messages_max: 1000,
            queue_bytes_max: 100 << 20,
            grace: Duration::from_secs(10),
        }
    }

    /// Subscribes to a topic.
    #[must_use]
    pub fn subscribe(mut self, topic: impl Into<String>, expression: impl Into<String>) -> Self {
        self.subscriptions.push((topic.into(), expression.into()));
        self
    }
}

/// What a listener says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// It is dealt with.
    Success,
    /// It is to be delivered again, later.
    Later,
    /// It is left alone: not dealt with, not sent back. No offset is committed beyond it, so that it comes
    /// again after the next start.
    Release,
}

type Listener = dyn Fn(Received) -> Pin<Box<dyn Future<Output = Consumed> + Send>> + Send + Sync;

/// A running member of a group. When this is dropped without [`PushConsumer::shutdown`], what was consumed since
/// the last commit is delivered again.
#[derive(Debug)]
pub struct PushConsumer {
    stop: watch::Sender<bool>,
    coordinator: Option<JoinHandle<()>>,
}

/// What the tasks of a consumer share.
struct Shared {
    client: Client,
    options: PushOptions,
    puller: PullConsumer,
    listener: Box<Listener>,
    /// A permit for each message that may be with the listener.
    listening: Arc<Semaphore>,
}

const REBALANCE_PERIOD: Duration = Duration::from_secs(20);
/// After a round that failed.
const REBALANCE_AGAIN: Duration = Duration::from_secs(1);
const COMMIT_PERIOD: Duration = Duration::from_secs(5);

impl PushConsumer {
    /// Joins the group and begins to consume.
    ///
    /// `listener` gets each message, as many at a time as `options.concurrency` says; if it panics, the message
    /// is delivered again.
    ///
    /// # Errors
    /// When a subscribed topic has no route.
    pub async fn start<F, Fut>(
        client: &Client,
        options: PushOptions,
        listener: F,
    ) -> Result<Self, InvokeError>
    where
        F: Fn(Received) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Consumed> + Send + 'static,
    {
        for (topic, _) in &options.subscriptions {
            client.route(topic).await?;
        }
        let shared = Arc::new(Shared {
            client: client.clone(),
            puller: PullConsumer::new(client, &options.group),
            listener: Box::new(move |message| Box::pin(listener(message))),
            listening: Arc::new(Semaphore::new(options.concurrency)),
            options,
        });
        let members_changed = Arc::<Notify>::default();
        client.join_as_consumer(shared.membership(&members_changed));
        client.heartbeat().await;
        let (stop, stopped) = watch::channel(false);
        let coordinator = Coordinator { shared, members_changed, assigned: HashMap::new() };
        Ok(Self { stop, coordinator: Some(tokio::spawn(coordinator.run(stopped))) })
    }

    /// Stops pulling, waits for the listener, commits and leaves the group.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Some(coordinator) = self.coordinator.take()
            && let Err(error) = coordinator.await
        {
            warn!(%error, "the consumer did not shut down in order");
        }
    }
}

impl Drop for PushConsumer {
    fn drop(&mut self) {
        if let Some(coordinator) = &self.coordinator {
            coordinator.abort();
        }
    }
}

impl Shared {
    /// Where failed messages come back, which members of a clustering group consume too.
    fn retry_topic(&self) -> String {
        format!("%RETRY%{}", self.options.group)
    }

    /// Everything subscribed to.
    fn subscriptions(&self) -> Vec<(String, String)> {
        let mut subscriptions = self.options.subscriptions.clone();
        if !self.options.broadcasting {
            subscriptions.push((self.retry_topic(), "*".to_owned()));
        }
        subscriptions
    }

    fn membership(&self, members_changed: &Arc<Notify>) -> Membership {
        let version = i64::try_from(clock::now_ms()).unwrap_or(i64::MAX);
        let subscriptions = self.subscriptions().into_iter().map(|(topic, expression)| Subscription {
            topic,
            expression,
            version,
            ..Subscription::default()
        });
        let data = ConsumerData {
            consume_from_where: match self.options.start_from {
                StartFrom::First => ConsumeFrom::FirstOffset,
                StartFrom::Last => ConsumeFrom::LastOffset,
                StartFrom::Timestamp(_) => ConsumeFrom::Timestamp,
            },
            consume_type: ConsumeType::Passively,
            group_name: self.options.group.clone(),
            message_model: match self.options.broadcasting {
                true => MessageModel::Broadcasting,
                false => MessageModel::Clustering,
            },
            subscriptions: subscriptions.collect(),
            unit_mode: false,
        };
        Membership { data, members_changed: Arc::clone(members_changed) }
    }

    /// Where to begin with a queue, and what the group has committed of it.
    async fn start_of(&self, queue: &Queue) -> Result<(u64, Option<u64>), InvokeError> {
        if !self.options.broadcasting
            && let Some(committed) = self.puller.committed(queue).await?
        {
            return Ok((committed, Some(committed)));
        }
        let is_retry = *queue.topic == *self.retry_topic();
        let start = match self.options.start_from {
            // What has failed belongs to the group, however late it joins the queue.
            StartFrom::Last if is_retry => 0,
            StartFrom::First => 0,
            StartFrom::Last => self.puller.max(queue).await?,
            StartFrom::Timestamp(_) if is_retry => self.puller.max(queue).await?,
            StartFrom::Timestamp(timestamp) => self.puller.at_time(queue, timestamp).await?,
        };
        Ok((start, None))
    }

    async fn members(&self, route: &Route) -> Result<Vec<String>, InvokeError> {
        let broker = route.brokers().first().ok_or(InvokeError::NoAddress)?;
        let address = route.any(&broker.broker_name).ok_or(InvokeError::NoAddress)?;
        let remote = self.client.introduced(address).await?;
        let group = ConsumerGroup { consumer_group: &self.options.group };
        let fields = group.fields();
        let request = Request::new(RequestCode::GET_CONSUMER_LIST_BY_GROUP, &fields);
        let response = remote.invoke(request, self.client.options().deadline).await?.success()?;
        let mut members = ConsumerList::decode(&response.body)?.consumer_id_list;
        members.sort();
        members.dedup();
        Ok(members)
    }
}

/// Decides which queues this member consumes.
struct Coordinator {
    shared: Arc<Shared>,
    members_changed: Arc<Notify>,
    assigned: HashMap<Queue, Assigned>,
}

impl Coordinator {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut commits = interval(COMMIT_PERIOD);
        commits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_rebalance = Instant::now();
        let members_changed = Arc::clone(&self.members_changed);
        loop {
            tokio::select! {
                // Stopped, or the handle is gone.
                _ = stopped.changed() => break,
                () = sleep_until(next_rebalance) => {}
                () = members_changed.notified() => {}
                _ = commits.tick() => {
                    self.commit().await;
                    continue;
                }
            }
            let balanced = self.rebalance().await;
            next_rebalance = Instant::now() + if balanced { REBALANCE_PERIOD } else { REBALANCE_AGAIN };
        }
        self.finish().await;
    }

    /// Gives up the queues that are others' and takes up those that are this member's. Returns whether
    /// everything could be decided.
    async fn rebalance(&mut self) -> bool {
        let mut balanced = true;
        for (topic, expression) in self.shared.subscriptions() {
            match self.share_of(&topic).await {
                Ok(share) => balanced &= self.reassign(&topic, &expression, share).await,
                Err(error) => {
                    debug!(topic, %error, "queues cannot be shared out, they stay as they are");
                    // The retry topic comes into being with the first heartbeat, or not at all.
                    balanced &= topic == self.shared.retry_topic();
                }
            }
        }
        balanced
    }

    async fn share_of(&self, topic: &str) -> Result<BTreeSet<Queue>, InvokeError> {
        let route = self.shared.client.route(topic).await?;
        let queues = route.read_queues(topic);
        if self.shared.options.broadcasting {
            return Ok(queues.into_iter().collect());
        }
        let members = self.shared.members(&route).await?;
        Ok(averagely(&queues, &members, self.shared.client.id()).iter().cloned().collect())
    }

    async fn reassign(&mut self, topic: &str, expression: &str, mut share: BTreeSet<Queue>) -> bool {
        let is_lost = |queue: &&Queue| *queue.topic == *topic && !share.contains(*queue);
        let lost: Vec<_> = self.assigned.keys().filter(is_lost).cloned().collect();
        for queue in lost {
            if let Some(assigned) = self.assigned.remove(&queue) {
                info!(%queue, "queue given up");
                assigned.stop();
                assigned.commit().await;
            }
        }
        share.retain(|queue| !self.assigned.contains_key(queue));
        let mut complete = true;
        for queue in share {
            match self.shared.start_of(&queue).await {
                Ok((start, committed)) => {
                    info!(%queue, start, "queue taken up");
                    let assigned = Assigned::start(&self.shared, &queue, expression, start, committed);
                    self.assigned.insert(queue, assigned);
                }
                Err(error) => {
                    warn!(%queue, %error, "where to begin with the queue is not known");
                    complete = false;
                }
            }
        }
        complete
    }

    async fn commit(&self) {
        for assigned in self.assigned.values() {
            assigned.commit().await;
        }
    }

    async fn finish(&mut self) {
        for assigned in self.assigned.values() {
            assigned.stop();
        }
        let all = u32::try_from(self.shared.options.concurrency).unwrap_or(u32::MAX);
        // All permits are back when the listener has returned from every message.
        let listened = timeout(self.shared.options.grace, self.shared.listening.acquire_many(all)).await;
        if listened.is_err() {
            warn!("the listener takes longer than the shutdown waits; its messages will come again");
        }
        self.commit().await;
        self.shared.client.leave(Member::Consumer(&self.shared.options.group)).await;
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        for assigned in self.assigned.values() {
            assigned.stop();
        }
    }
}
