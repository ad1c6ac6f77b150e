//! A client's connection to the broker: requests in, answers out.
//!
//! One session belongs to one connection and is driven by that connection's task alone, so nothing in it is
//! locked. Requests that cannot be answered yet wait here, never in a task of their own:
//!
//! | waits for…                                   | kept as                        |
//! |----------------------------------------------|--------------------------------|
//! | its bytes to be durable                      | a written answer in `durable`  |
//! | the folds to apply what it wrote             | a written answer in `applied`  |
//! | the nameservers to hear of it                | a written answer in `registered` |
//! | the folds to apply what it asks about        | the frame, or the message sent back, in `deferred` |
//! | room in the log                              | the frame, in `stalled`; meanwhile the session is not ready |
//! | a message                                    | an entry in [`crate::parking`] |
//! | the disk                                     | a job of [`crate::readers`]    |

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread;

use skylark_protocol::code::{RequestCode, ResponseCode};
use skylark_protocol::frame::{self, Encoding, FRAME_BYTES_MAX, Frame};
use skylark_protocol::header::FLAG_ONEWAY;
use skylark_protocol::outgoing::{Outgoing, ReplyTo, Value};
use skylark_protocol::transport::{CloseReason, Mailbox, Outbox, Peer, Service, Session};
use skylark_storage::{PhysicalOffset, Registration};
use tracing::{debug, error};

use crate::broker::Broker;
use crate::context::{Answers, Connection, Done, Handled, Refusal, Request};
use crate::handlers;
use crate::handlers::pull::Pull;
use crate::handlers::send_back::{self, SentBack};
use crate::held::Held;
use crate::readers::ColdAnswer;

/// What others leave for a session.
pub enum Mail {
    /// A parked pull is to be evaluated once more and answered.
    Pull(Box<Pull>),
    /// A reader thread has prepared an answer.
    Cold(ColdAnswer),
    /// A reader thread has read a message that was sent back.
    SentBack {
        /// What was counted against the connection for it.
        bytes: u64,
        /// The message, and what is to become of it.
        sent_back: Box<SentBack>,
    },
    /// Who belongs to this consumer group has changed.
    GroupChanged(Arc<str>),
    /// The connection is to be closed, for this reason.
    Close(&'static str),
}

/// A connection's mail beyond this is refused, and the connection closed for not keeping up.
const MAIL_MAX: usize = 65_536;
/// Bytes on their way from disk, beyond which the session takes no further frames: what waits in a mailbox counts
/// nowhere else.
const COLD_BYTES_MAX: u64 = 16 << 20;
/// Frames that wait for a fold, beyond which the session takes no further ones.
const DEFERRED_MAX: usize = 1024;

/// Makes a [`ClientSession`] for each connection to the broker.
pub struct ClientService {
    broker: Arc<Broker>,
}

impl ClientService {
    /// A service that hands requests to `broker`.
    pub fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }
}

impl Service for ClientService {
    fn accept(&self, peer: Peer) -> Box<dyn Session> {
        Box::new(ClientSession::new(Arc::clone(&self.broker), peer))
    }
}

/// The broker's end of a client's connection.
pub struct ClientSession {
    broker: Arc<Broker>,
    connection: Connection,
    mail: VecDeque<Mail>,
    durable: Held,
    applied: Held,
    registered: Held,
    deferred: VecDeque<Deferred>,
    deferred_until: Registration,
    stalled: Option<Vec<u8>>,
    room: Registration,
    next_opaque: i32,
}

struct Deferred {
    until: PhysicalOffset,
    request: Waiting,
}

/// What there is to be looked at again.
enum Waiting {
    Frame(Vec<u8>),
    SentBack(Box<SentBack>),
}

impl ClientSession {
    /// A session for a peer that has just connected.
    pub fn new(broker: Arc<Broker>, peer: Peer) -> Self {
        let id = broker.next_connection();
        debug!(connection = id.0, peer = %peer.address, "connected");
        Self {
            broker,
            connection: Connection {
                id,
                peer,
                mailbox: Arc::new(Mailbox::new(MAIL_MAX)),
                cold_bytes: AtomicU64::new(0),
            },
            mail: VecDeque::new(),
            durable: Held::default(),
            applied: Held::default(),
            registered: Held::default(),
            deferred: VecDeque::new(),
            deferred_until: Registration::default(),
            stalled: None,
            room: Registration::default(),
            next_opaque: 0,
        }
    }

    /// Handles a request, and says whether it has to be looked at again.
    fn handle(&mut self, frame: Frame<'_>, out: &mut Outbox) -> Result<Done, CloseReason> {
        let header = match frame.parse() {
            Ok(header) => header,
            // Without an opaque there is nothing an answer could refer to.
            Err(error) => return Err(CloseReason::Malformed(error.to_string())),
        };
        if header.is_response() {
            // The broker waits for no answer of a client.
            return Ok(Done::Answered);
        }
        let reply = ReplyTo::from((&header, &frame));
        let request = Request { connection: &self.connection, header: &header, body: frame.body, reply };
        let mut answers = Answers {
            out,
            durable: &mut self.durable,
            applied: &mut self.applied,
            registered: &mut self.registered,
        };
        let broker = &*self.broker;
        let handled = catch_unwind(AssertUnwindSafe(|| handlers::handle(broker, &request, &mut answers)));
        Ok(self.finished(handled, header.request_code(), reply, out))
    }

    /// Goes on with a message that was sent back, and says whether it has to be looked at again.
    fn finish(&mut self, sent_back: &SentBack, out: &mut Outbox) -> Done {
        let mut answers = Answers {
            out,
            durable: &mut self.durable,
            applied: &mut self.applied,
            registered: &mut self.registered,
        };
        let broker = &*self.broker;
        let handled = catch_unwind(AssertUnwindSafe(|| send_back::finish(broker, sent_back, &mut answers)));
        self.finished(handled, RequestCode::CONSUMER_SEND_MSG_BACK, sent_back.reply(), out)
    }

    /// Writes the answer of a request that was refused, or whose handler panicked.
    fn finished(
        &self,
        handled: thread::Result<Handled>,
        code: RequestCode,
        reply: ReplyTo,
        out: &mut Outbox,
    ) -> Done {
        let handled = handled.unwrap_or_else(|_panic| {
            error!(%code, peer = %self.connection.peer.address, "a handler panicked");
            Err(Refusal::new(
                ResponseCode::SYSTEM_ERROR,
                "the broker failed on this request; its log says more",
            ))
        });
        handled.unwrap_or_else(|refusal| {
            reply.failure(out.buffer(), refusal.code, &refusal.remark);
            Done::Answered
        })
    }

    fn handle_again(&mut self, wire: &[u8], out: &mut Outbox) -> Result<Done, CloseReason> {
        match frame::decode(wire, FRAME_BYTES_MAX) {
            Ok(Some((frame, _))) => self.handle(frame, out),
            _ => Ok(Done::Answered),
        }
    }

    fn take_mail(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        self.connection.mailbox.take(cx, &mut self.mail);
        while let Some(mail) = self.mail.pop_front() {
            match mail {
                Mail::Pull(pull) => handlers::pull::answer(&self.broker, *pull, &self.connection, out),
                Mail::Cold(answer) => {
                    // Relaxed: this task alone reads and writes it.
                    self.connection.cold_bytes.fetch_sub(answer.bytes, Ordering::Relaxed);
                    out.append(answer.out);
                }
                Mail::SentBack { bytes, sent_back } => {
                    // Relaxed: as above.
                    self.connection.cold_bytes.fetch_sub(bytes, Ordering::Relaxed);
                    // Taken before the attempt, so that room made meanwhile is not missed.
                    let next = self.broker.applied.get().advance(1);
                    let until = match self.finish(&sent_back, out) {
                        Done::Answered => continue,
                        Done::After(until) => until,
                        Done::NoRoom => next,
                    };
                    self.deferred.push_back(Deferred { until, request: Waiting::SentBack(sent_back) });
                }
                Mail::GroupChanged(group) => self.notify(&group, out),
                Mail::Close(why) => return Err(CloseReason::Session(why.to_owned())),
            }
        }
        Ok(())
    }

    fn notify(&mut self, group: &str, out: &mut Outbox) {
        let request = Outgoing {
            // Every client reads JSON; some read nothing else.
            encoding: Encoding::Json,
            code: RequestCode::NOTIFY_CONSUMER_IDS_CHANGED.0,
            opaque: self.next_opaque,
            flag: FLAG_ONEWAY,
            remark: None,
            fields: &[("consumerGroup", Value::Text(group))],
        };
        self.next_opaque = self.next_opaque.wrapping_add(1);
        request.write(0, out.buffer());
    }

    /// Looks again at the frames that waited for a fold, in their order.
    fn resume_deferred(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        while self.stalled.is_none()
            && let Some(front) = self.deferred.front()
        {
            let waited = self.broker.applied.wait(&mut self.deferred_until, front.until, cx.waker());
            if waited.is_pending() {
                break;
            }
            let next = self.broker.applied.get().advance(1);
            let Deferred { request, .. } = self.deferred.pop_front().expect("the front was looked at above");
            let done = match &request {
                Waiting::Frame(frame) => self.handle_again(frame, out)?,
                Waiting::SentBack(sent_back) => self.finish(sent_back, out),
            };
            match (done, request) {
                (Done::Answered, _) => {}
                // A stopped log applies no more, so there is nothing left to wait for.
                (Done::After(_), _) if matches!(waited, Poll::Ready(Err(_))) => {
                    return Err(CloseReason::Session("the log has stopped".to_owned()));
                }
                (Done::After(until), request) => self.deferred.push_front(Deferred { until, request }),
                (Done::NoRoom, Waiting::Frame(frame)) => self.stalled = Some(frame),
                (Done::NoRoom, request) => self.deferred.push_front(Deferred { until: next, request }),
            }
        }
        Ok(())
    }

    /// Tries once more to append what found no room.
    fn resume_stalled(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        while let Some(frame) = self.stalled.take() {
            // Registered before the attempt, so that room made meanwhile is not missed. Room is made by
            // dispatch, which applies groups.
            let next = self.broker.applied.get().advance(1);
            let waiting = self.broker.applied.wait(&mut self.room, next, cx.waker());
            match self.handle_again(&frame, out)? {
                Done::Answered => {}
                Done::After(until) => {
                    self.deferred.push_front(Deferred { until, request: Waiting::Frame(frame) });
                }
                Done::NoRoom => {
                    self.stalled = Some(frame);
                    if waiting.is_pending() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Session for ClientSession {
    fn receive(&mut self, frame: Frame<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        // Behind a request that waits, others wait too: a producer's messages keep their order.
        let done = match self.deferred.back() {
            Some(last) => Done::After(last.until),
            None => self.handle(frame, out)?,
        };
        match done {
            Done::Answered => {}
            Done::After(until) => {
                let request = Waiting::Frame(frame.to_vec());
                self.deferred.push_back(Deferred { until, request });
            }
            Done::NoRoom => self.stalled = Some(frame.to_vec()),
        }
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        self.take_mail(cx, out)?;
        self.resume_stalled(cx, out)?;
        self.resume_deferred(cx, out)?;
        self.durable.release(self.broker.log.durable(), cx, out);
        self.applied.release(&self.broker.applied, cx, out);
        self.registered.release(&self.broker.registered, cx, out);
        Ok(())
    }

    fn ready(&self) -> bool {
        let cold_bytes = self.connection.cold_bytes.load(Ordering::Relaxed);
        self.stalled.is_none() && self.deferred.len() < DEFERRED_MAX && cold_bytes < COLD_BYTES_MAX
    }

    fn closed(&mut self, reason: &CloseReason) {
        debug!(connection = self.connection.id.0, peer = %self.connection.peer.address, %reason, "disconnected");
        self.connection.mailbox.close();
        self.broker.disconnected(self.connection.id);
    }
}
