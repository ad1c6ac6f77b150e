//! One queue that this member consumes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skylark_protocol::RequestCode;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{debug, error, warn};

use super::{Consumed, Shared};
use crate::consumer::progress::Progress;
use crate::consumer::pull::{PullStatus, Pulled};
use crate::message::Received;
use crate::remote::{InvokeError, Request};
use crate::route::Queue;

/// The queue while it is assigned to this member.
pub(super) struct Assigned {
    state: Arc<State>,
    task: AbortHandle,
}

struct State {
    shared: Arc<Shared>,
    queue: Queue,
    expression: String,
    progress: Mutex<Progress>,
    /// Told when a message is done, which may make room for more.
    room: Notify,
}

/// How long the broker may hold a pull; Java's figure.
const HOLD: Duration = Duration::from_secs(15);
/// After a pull that was refused or got lost.
const PULL_AGAIN: Duration = Duration::from_secs(1);
/// Until the listener sees a message again that the broker did not take back.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// Batches pulled ahead of the listener.
const BATCHES_AHEAD: usize = 1;
/// Java's limit of deliveries, sent along because a broker may not know the group's.
const RECONSUME_TIMES_MAX: i32 = 16;

impl Assigned {
    pub(super) fn start(
        shared: &Arc<Shared>,
        queue: &Queue,
        expression: &str,
        start: u64,
        committed: Option<u64>,
    ) -> Self {
        let state = Arc::new(State {
            shared: Arc::clone(shared),
            queue: queue.clone(),
            expression: expression.to_owned(),
            progress: Mutex::new(Progress::new(start, committed)),
            room: Notify::new(),
        });
        let task = tokio::spawn(consume(Arc::clone(&state))).abort_handle();
        Self { state, task }
    }

    /// Pulls no more. What is with the listener goes on, what is waiting for it is dropped.
    pub(super) fn stop(&self) {
        self.task.abort();
    }

    /// Tells the broker how far the queue was consumed, if that is news. Members of a broadcasting group keep
    /// that to themselves.
    pub(super) async fn commit(&self) {
        if self.state.shared.options.broadcasting {
            return;
        }
        let Some(offset) = self.state.progress.lock().uncommitted() else { return };
        match self.state.shared.puller.commit_at(&self.state.queue, offset).await {
            Ok(()) => self.state.progress.lock().committed(offset),
            Err(error) => warn!(queue = %self.state.queue, offset, %error, "offset not committed"),
        }
    }
}

async fn consume(state: Arc<State>) {
    let (pulled, listened) = mpsc::channel(BATCHES_AHEAD);
    tokio::join!(pull(&state, pulled), listen(&state, listened));
}

async fn pull(state: &Arc<State>, batches: mpsc::Sender<Vec<Received>>) {
    let options = &state.shared.options;
    loop {
        while state.progress.lock().is_full(options.queue_messages_max, options.queue_bytes_max) {
            state.room.notified().await;
        }
        let next = state.progress.lock().next();
        match state.shared.puller.pull_at(&state.queue, next, &state.expression, HOLD).await {
            Ok(pulled) => {
                let messages = state.take(pulled);
                if !messages.is_empty() && batches.send(messages).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                debug!(queue = %state.queue, %error, "pull failed");
                if !matches!(error, InvokeError::Refused { .. }) {
                    state.shared.client.doubt_route(&state.queue.topic);
                }
                sleep(PULL_AGAIN).await;
            }
        }
    }
}

async fn listen(state: &Arc<State>, mut batches: mpsc::Receiver<Vec<Received>>) {
    while let Some(messages) = batches.recv().await {
        for message in messages {
            let listening = Arc::clone(&state.shared.listening).acquire_owned().await;
            let Ok(permit) = listening else { return };
            tokio::spawn(Arc::clone(state).deliver(message, permit));
        }
    }
}

impl State {
    /// Notes what was pulled, and returns what the listener is to see.
    fn take(&self, pulled: Pulled) -> Vec<Received> {
        for unreadable in &pulled.unreadable {
            error!(queue = %self.queue, %unreadable, "a message cannot be read and is skipped");
        }
        if pulled.status == PullStatus::OffsetMoved {
            warn!(queue = %self.queue, next = pulled.next, "the offset is outside the queue");
        }
        let mut progress = self.progress.lock();
        for message in &pulled.messages {
            progress.begin(message.queue_offset, message.body.len());
        }
        progress.advance(pulled.next);
        pulled.messages
    }

    async fn deliver(self: Arc<Self>, message: Received, mut permit: OwnedSemaphorePermit) {
        let queue_offset = message.queue_offset;
        loop {
            // A task of its own, so that a panic in the listener ends there.
            let (shared, given) = (Arc::clone(&self.shared), message.clone());
            let listening = tokio::spawn(async move { (shared.listener)(given).await });
            match listening.await.unwrap_or(Consumed::Later) {
                Consumed::Success => break,
                Consumed::Release => return,
                Consumed::Later if self.shared.options.broadcasting => {
                    warn!(queue = %self.queue, queue_offset, "a broadcast message failed and is dropped");
                    break;
                }
                Consumed::Later => {}
            }
            match self.send_back(&message).await {
                Ok(()) => break,
                Err(error) => {
                    warn!(queue = %self.queue, queue_offset, %error,
                        "the broker did not take the message back, the listener gets it again");
                }
            }
            drop(permit);
            sleep(LISTEN_AGAIN).await;
            let listening = Arc::clone(&self.shared.listening).acquire_owned().await;
            let Ok(again) = listening else { return };
            permit = again;
        }
        self.progress.lock().finish(queue_offset);
        self.room.notify_one();
    }

    /// Asks the broker to deliver a message again, later.
    async fn send_back(&self, message: &Received) -> Result<(), InvokeError> {
        let origin = message.offset_message_id.to_string();
        let fields = [
            ("group", self.shared.options.group.as_str().into()),
            ("offset", message.physical_offset.into()),
            ("delayLevel", 0.into()),
            ("originMsgId", origin.as_str().into()),
            ("originTopic", message.topic.as_str().into()),
            ("unitMode", false.into()),
            ("maxReconsumeTimes", RECONSUME_TIMES_MAX.into()),
        ];
        let request = Request::new(RequestCode::CONSUMER_SEND_MSG_BACK, &fields);
        let remote = self.shared.puller.broker(&self.queue).await?;
        remote.invoke(request, self.shared.client.options().deadline).await?.success().map(drop)
    }
}
