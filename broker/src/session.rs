//! A client's connection to the broker: requests in, answers out.
//!
//! One session belongs to one connection and is driven by that connection's task alone, so nothing in it is
//! locked. Requests that cannot be answered yet wait here, never in a task of their own:
//!
//! | waits for…                                   | kept as                        |
//! |----------------------------------------------|--------------------------------|
//! | its bytes to be as safe as `flush` says      | a written answer in `durable`  |
//! | the folds to apply what it wrote             | a written answer in `applied`  |
//! | the nameservers to hear of it                | a written answer in `registered` |
//! | the folds to apply what it asks about        | the frame, or the rest of its way, in `deferred` |
//! | room in the log                              | the same, in `stalled`; meanwhile the session is not ready |
//! | a message                                    | an entry in [`crate::parking`] or [`crate::pops::polling`] |
//! | the disk                                     | a job of [`crate::readers`]    |

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use skylark_protocol::code::{RequestCode, ResponseCode};
use skylark_protocol::frame::{self, Encoding, FRAME_BYTES_MAX, Frame};
use skylark_protocol::header::FLAG_ONEWAY;
use skylark_protocol::outgoing::{Outgoing, ReplyTo, Value};
use skylark_protocol::transport::{CloseReason, Mailbox, Outbox, Peer, Service, Session};
use skylark_storage::{Gatherer, PhysicalOffset, Registration};
use tracing::{debug, error};

use crate::broker::Broker;
use crate::calls::{Call, CallId, ClientAnswer};
use crate::context::{Answers, Connection, Done, Refusal, Request};
use crate::handlers;
use crate::handlers::pop::Pop;
use crate::handlers::pull::Pull;
use crate::held::Held;
use crate::readers::{Finish, Outcome, Prepared};
use crate::stamp::Tentative;

/// What others leave for a session.
pub enum Mail {
    /// A parked pull is to be evaluated once more and answered.
    Pull(Box<Pull>),
    /// The same for a pop that waited.
    Pop(Box<Pop>),
    /// An answer was prepared elsewhere: by a reader thread, or by another client.
    Prepared(Prepared),
    /// The client is asked something.
    Call(Box<Call>),
    /// Who belongs to this consumer group has changed.
    GroupChanged(Arc<str>),
    /// The connection is to be closed, for this reason.
    Close(&'static str),
}

/// A connection's mail beyond this is refused: whoever leaves some for somebody who does not keep up is told so.
const MAIL_MAX: usize = 65_536;
/// Bytes on their way from disk, beyond which the session takes no further frames: what waits in a mailbox counts
/// nowhere else.
const COLD_BYTES_MAX: u64 = 16 << 20;
/// Questions to a client beyond which those are forgotten that nobody waits for any more.
const ASKED_SWEEP: usize = 256;
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
    /// What frames that were read together append shares a group, and a wake-up of the writer.
    gatherer: Gatherer<Tentative>,
    durable: Held,
    sent: VecDeque<(PhysicalOffset, Duration)>,
    applied: Held,
    registered: Held,
    deferred: VecDeque<Deferred>,
    deferred_until: Registration,
    stalled: Option<Waiting>,
    room: Registration,
    next_opaque: i32,
    /// What the client was asked and has not answered, by the number it was asked under.
    asked: HashMap<i32, CallId>,
}

struct Deferred {
    until: PhysicalOffset,
    waiting: Waiting,
}

/// A request that is to be looked at again.
enum Waiting {
    /// From its beginning.
    Frame(Vec<u8>),
    /// With what was fetched for it.
    Finish(ReplyTo, Box<Finish>),
}

impl ClientSession {
    /// A session for a peer that has just connected.
    pub fn new(broker: Arc<Broker>, peer: Peer) -> Self {
        let id = broker.next_connection();
        debug!(connection = id.0, peer = %peer.address, "connected");
        Self {
            gatherer: broker.log.gatherer(),
            broker,
            connection: Connection {
                id,
                peer,
                mailbox: Arc::new(Mailbox::new(MAIL_MAX)),
                cold_bytes: AtomicU64::new(0),
            },
            mail: VecDeque::new(),
            durable: Held::default(),
            sent: VecDeque::new(),
            applied: Held::default(),
            registered: Held::default(),
            deferred: VecDeque::new(),
            deferred_until: Registration::default(),
            stalled: None,
            room: Registration::default(),
            next_opaque: 0,
            asked: HashMap::new(),
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
            // An answer to what was never asked, or too late, concerns nobody.
            if let Some(id) = self.asked.remove(&header.opaque) {
                let (code, remark) = (header.response_code(), header.remark.as_deref().map(str::to_owned));
                let body = Bytes::copy_from_slice(frame.body);
                self.broker.calls.end(id, Ok(ClientAnswer { code, remark, body }));
            }
            return Ok(Done::Answered);
        }
        let reply = ReplyTo::from((&header, &frame));
        let request = Request { connection: &self.connection, header: &header, body: frame.body, reply };
        let mut answers = Answers {
            out,
            durable: &mut self.durable,
            sent: &mut self.sent,
            applied: &mut self.applied,
            registered: &mut self.registered,
        };
        let broker = &*self.broker;
        let handled = catch_unwind(AssertUnwindSafe(|| handlers::handle(broker, &request, &mut answers)));
        let handled = handled.unwrap_or_else(|_panic| {
            error!(code = %header.request_code(), peer = %self.connection.peer.address, "a handler panicked");
            Err(failed())
        });
        Ok(handled.unwrap_or_else(|refusal| {
            reply.failure(out.buffer(), refusal.code, &refusal.remark);
            Done::Answered
        }))
    }

    fn handle_again(&mut self, waiting: &mut Waiting, out: &mut Outbox) -> Result<Done, CloseReason> {
        match waiting {
            Waiting::Frame(wire) => match frame::decode(wire, FRAME_BYTES_MAX) {
                Ok(Some((frame, _))) => self.handle(frame, out),
                _ => Ok(Done::Answered),
            },
            Waiting::Finish(reply, finish) => Ok(self.finish(*reply, &mut **finish, out)),
        }
    }

    fn take_mail(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        self.connection.mailbox.take(cx, &mut self.mail);
        while let Some(mail) = self.mail.pop_front() {
            match mail {
                Mail::Pull(pull) => handlers::pull::answer(&self.broker, *pull, &self.connection, out),
                Mail::Pop(pop) => handlers::pop::go_on(&self.broker, pop, &self.connection, out),
                Mail::Prepared(answer) => {
                    // Relaxed: this task alone reads and writes it.
                    self.connection.cold_bytes.fetch_sub(answer.bytes, Ordering::Relaxed);
                    match answer.outcome {
                        Outcome::Written(written) => out.append(written),
                        Outcome::Finish(reply, mut finish) => {
                            let done = self.finish(reply, &mut *finish, out);
                            self.settle(done, || Waiting::Finish(reply, finish));
                        }
                        Outcome::Parked(pull) => {
                            handlers::pull::park_again(&self.broker, pull, &self.connection, out);
                        }
                    }
                }
                Mail::Call(call) => self.call(*call, out),
                Mail::GroupChanged(group) => self.notify(&group, out),
                Mail::Close(why) => return Err(CloseReason::Session(why.to_owned())),
            }
        }
        Ok(())
    }

    /// Goes on with a request for which a reader thread has fetched what it needs.
    fn finish(&mut self, reply: ReplyTo, finish: &mut Finish, out: &mut Outbox) -> Done {
        let mut answers = Answers {
            out,
            durable: &mut self.durable,
            applied: &mut self.applied,
            registered: &mut self.registered,
            sent: &mut self.sent,
        };
        let broker = &*self.broker;
        let handled = catch_unwind(AssertUnwindSafe(|| finish(broker, &mut answers)));
        let handled = handled.unwrap_or_else(|_panic| {
            error!(peer = %self.connection.peer.address, "a handler panicked");
            Err(failed())
        });
        handled.unwrap_or_else(|refusal| {
            reply.failure(out.buffer(), refusal.code, &refusal.remark);
            Done::Answered
        })
    }

    /// A request is answered, or waits.
    fn settle(&mut self, done: Done, waiting: impl FnOnce() -> Waiting) {
        match done {
            Done::Answered => {}
            Done::After(until) => self.deferred.push_back(Deferred { until, waiting: waiting() }),
            // What has stalled before is the first to get room; this one follows.
            Done::NoRoom if self.stalled.is_some() => {
                let until = self.broker.applied.get().advance(1);
                self.deferred.push_back(Deferred { until, waiting: waiting() });
            }
            Done::NoRoom => self.stalled = Some(waiting()),
        }
    }

    fn notify(&mut self, group: &str, out: &mut Outbox) {
        let fields = [("consumerGroup", Value::Text(group))];
        self.ask(RequestCode::NOTIFY_CONSUMER_IDS_CHANGED, FLAG_ONEWAY, &fields, Bytes::new(), out);
    }

    fn call(&mut self, call: Call, out: &mut Outbox) {
        let Call { id, code, fields, body } = call;
        let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, Value::Text(value))).collect();
        let opaque = self.ask(code, if id.is_some() { 0 } else { FLAG_ONEWAY }, &fields, body, out);
        if let Some(id) = id {
            if self.asked.len() >= ASKED_SWEEP {
                let calls = &self.broker.calls;
                self.asked.retain(|_, id| calls.is_pending(*id));
            }
            self.asked.insert(opaque, id);
        }
    }

    /// Writes a request to the client, and says by which number the answer will name it.
    fn ask(
        &mut self,
        code: RequestCode,
        flag: i32,
        fields: &[(&str, Value<'_>)],
        body: Bytes,
        out: &mut Outbox,
    ) -> i32 {
        let opaque = self.next_opaque;
        self.next_opaque = opaque.wrapping_add(1);
        // Every client reads JSON; some read nothing else.
        let request = Outgoing { encoding: Encoding::Json, code: code.0, opaque, flag, remark: None, fields };
        request.write(body.len(), out.buffer());
        out.push(body);
        opaque
    }

    /// Counts how long messages took that are acknowledged.
    fn measure(&mut self) {
        let reached = self.broker.log.visible().get();
        if self.sent.front().is_none_or(|(end, _)| *end > reached) {
            return;
        }
        let now = self.broker.clock.monotonic();
        while let Some((_, taken)) = self.sent.pop_front_if(|(end, _)| *end <= reached) {
            self.broker.statistics.put_latencies.add(now.saturating_sub(taken));
        }
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
            let front = self.deferred.pop_front().expect("the front was looked at above");
            let mut waiting = front.waiting;
            match self.handle_again(&mut waiting, out)? {
                Done::Answered => {}
                // A stopped log applies no more, so there is nothing left to wait for.
                Done::After(_) if matches!(waited, Poll::Ready(Err(_))) => {
                    return Err(CloseReason::Session("the log has stopped".to_owned()));
                }
                Done::After(until) => self.deferred.push_front(Deferred { until, waiting }),
                Done::NoRoom => self.stalled = Some(waiting),
            }
        }
        Ok(())
    }

    /// Tries once more to append what found no room.
    fn resume_stalled(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        while let Some(mut waiting) = self.stalled.take() {
            // Registered before the attempt, so that room made meanwhile is not missed. Room is made by
            // dispatch, which applies groups.
            let next = self.broker.applied.get().advance(1);
            let room = self.broker.applied.wait(&mut self.room, next, cx.waker());
            match self.handle_again(&mut waiting, out)? {
                Done::Answered => {}
                Done::After(until) => self.deferred.push_front(Deferred { until, waiting }),
                Done::NoRoom => {
                    self.stalled = Some(waiting);
                    if room.is_pending() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

fn failed() -> Refusal {
    Refusal::new(ResponseCode::SYSTEM_ERROR, "the broker failed on this request; its log says more")
}

impl Session for ClientSession {
    fn receive(&mut self, frame: Frame<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        self.gatherer.begin();
        // Behind a request that waits, others wait too: a producer's messages keep their order.
        let done = match self.deferred.back() {
            Some(last) => Done::After(last.until),
            None => self.handle(frame, out)?,
        };
        self.settle(done, || Waiting::Frame(frame.to_vec()));
        Ok(())
    }

    fn received(&mut self) {
        // A lone producer's message is written where it is. That blocks a worker for as long as a flush takes, but
        // never more than one, and there are two at least.
        self.gatherer.write_here();
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        self.take_mail(cx, out)?;
        self.resume_stalled(cx, out)?;
        self.resume_deferred(cx, out)?;
        self.durable.release(self.broker.log.visible(), cx, out);
        self.measure();
        self.applied.release(&self.broker.applied, cx, out);
        self.registered.release(&self.broker.registered, cx, out);
        self.connection.mailbox.set_unread(out.len());
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
