//! Requests to clients, over the connections they have opened.
//!
//! ```text
//!  handler ──► Calls ──mail──► the client's session ──► client
//!     ▲                                                   │
//!     └─ mail ◄── then ◄── answer, time-out or closed ◄───┘
//! ```
//!
//! What happens with an answer is a closure, which runs wherever the answer comes from: it must not block, and leaves
//! mail for whoever asked.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use skylark_protocol::code::{RequestCode, ResponseCode};
use skylark_protocol::transport::Mailbox;

use crate::membership::ConnectionId;
use crate::session::Mail;

/// Calls that wait for an answer, at most.
const PENDING_MAX: usize = 65_536;

/// A client's connection, to be called over.
#[derive(Clone)]
pub struct Callee {
    /// Its name.
    pub connection: ConnectionId,
    /// How its session is reached.
    pub mailbox: Arc<Mailbox<Mail>>,
}

/// A request to a client, on its way to the session that writes it.
pub struct Call {
    /// The answer's way back; none for a request that has no answer.
    pub id: Option<CallId>,
    /// What is asked.
    pub code: RequestCode,
    /// The header's fields.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// Names a call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u64);

/// What a client answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAnswer {
    /// How it went.
    pub code: ResponseCode,
    /// What the client says about it.
    pub remark: Option<String>,
    /// The answer's body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The client has not answered in time.
    #[error("the client has not answered in time")]
    Timeout,
    /// The client's connection is gone, or takes nothing more.
    #[error("the client's connection is closed")]
    Closed,
    /// Too many clients owe answers already.
    #[error("too many requests to clients wait for answers")]
    Crowded,
}

/// What happens with an answer.
pub type Then = Box<dyn FnOnce(Result<ClientAnswer, CallError>) + Send>;

/// All calls that wait for an answer. Its lock is innermost: nothing is locked, called or woken under it.
///
/// Memory: about 200 bytes for each, at most 65,536.
#[derive(Default)]
pub struct Calls {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    pending: HashMap<CallId, Pending>,
    by_deadline: BTreeSet<(Duration, CallId)>,
}

struct Pending {
    connection: ConnectionId,
    deadline: Duration,
    then: Then,
}

impl Calls {
    /// Sends a client a request that has an answer. `then` gets it, or why there is none by the deadline.
    pub fn call(
        &self,
        to: &Callee,
        code: RequestCode,
        fields: Vec<(String, String)>,
        body: Bytes,
        deadline: Duration,
        then: Then,
    ) {
        let id = {
            let mut inner = self.inner.lock();
            if inner.pending.len() >= PENDING_MAX {
                drop(inner);
                return then(Err(CallError::Crowded));
            }
            let id = CallId(inner.next);
            inner.next += 1;
            inner.by_deadline.insert((deadline, id));
            inner.pending.insert(id, Pending { connection: to.connection, deadline, then });
            id
        };
        if to.mailbox.post(Mail::Call(Box::new(Call { id: Some(id), code, fields, body }))).is_err() {
            self.end(id, Err(CallError::Closed));
        }
    }

    /// A call has ended. One that has ended before, by time or by its connection, is passed over.
    pub fn end(&self, id: CallId, answer: Result<ClientAnswer, CallError>) {
        let ended = self.inner.lock().remove(id);
        if let Some(ended) = ended {
            (ended.then)(answer);
        }
    }

    /// Whether somebody still waits for this call's answer.
    pub fn is_pending(&self, id: CallId) -> bool {
        self.inner.lock().pending.contains_key(&id)
    }

    /// Ends the calls whose deadline is over.
    pub fn expire(&self, now: Duration) {
        let ended: Vec<Pending> = {
            let mut inner = self.inner.lock();
            let due = inner.by_deadline.range(..=(now, CallId(u64::MAX)));
            let due: Vec<CallId> = due.map(|(_, id)| *id).collect();
            due.into_iter().filter_map(|id| inner.remove(id)).collect()
        };
        ended.into_iter().for_each(|call| (call.then)(Err(CallError::Timeout)));
    }

    /// Ends the calls over a connection that is gone.
    pub fn disconnect(&self, connection: ConnectionId) {
        let ended: Vec<Pending> = {
            let mut inner = self.inner.lock();
            let concerned = inner.pending.iter().filter(|(_, call)| call.connection == connection);
            let concerned: Vec<CallId> = concerned.map(|(id, _)| *id).collect();
            concerned.into_iter().filter_map(|id| inner.remove(id)).collect()
        };
        ended.into_iter().for_each(|call| (call.then)(Err(CallError::Closed)));
    }
}

impl Inner {
    fn remove(&mut self, id: CallId) -> Option<Pending> {
        let call = self.pending.remove(&id)?;
        self.by_deadline.remove(&(call.deadline, id));
        Some(call)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use super::*;

    fn callee(connection: u64, room: usize) -> Callee {
        Callee { connection: ConnectionId(connection), mailbox: Arc::new(Mailbox::new(room)) }
    }

    fn taken(callee: &Callee) -> Option<CallId> {
        let mut mail = std::collections::VecDeque::new();
        callee.mailbox.take(&mut Context::from_waker(Waker::noop()), &mut mail);
        match mail.pop_front() {
            Some(Mail::Call(call)) => call.id,
            _ => None,
        }
    }

    #[test]
    fn every_call_ends_once() {
        let calls = Calls::default();
        let (ended, outcomes) = mpsc::channel();
        let seconds = Duration::from_secs;
        let call = |to: &Callee, deadline| {
            let ended = ended.clone();
            let then: Then = Box::new(move |answer| ended.send(answer.map(|answer| answer.code)).unwrap());
            calls.call(to, RequestCode::GET_CONSUMER_RUNNING_INFO, Vec::new(), Bytes::new(), deadline, then);
        };
        let (quick, slow, full) = (callee(1, 9), callee(2, 9), callee(3, 0));
        call(&quick, seconds(10));
        let id = taken(&quick).unwrap();
        let answer = || Ok(ClientAnswer { code: ResponseCode::SUCCESS, remark: None, body: Bytes::new() });
        calls.end(id, answer());
        calls.end(id, answer());
        calls.expire(seconds(11));
        call(&slow, seconds(20));
        call(&quick, seconds(30));
        assert!(calls.is_pending(taken(&slow).unwrap()));
        calls.expire(seconds(20));
        calls.disconnect(ConnectionId(1));
        call(&full, seconds(30));
        let outcomes: Vec<_> = outcomes.try_iter().collect();
        let (timeout, closed) = (Err(CallError::Timeout), Err(CallError::Closed));
        assert_eq!(outcomes, [Ok(ResponseCode::SUCCESS), timeout, closed, closed]);
        assert!(calls.inner.lock().pending.is_empty() && calls.inner.lock().by_deadline.is_empty());
    }
}
