//! One connection to a server: requests out, answers back, requests of the server's in between.
//!
//! ```text
//!  Remote::invoke ──mail──► RemoteSession ──frames──► server
//!        ▲                    │  pending: opaque → who waits
//!        └───── answer ───────┘
//! ```
//!
//! A [`Remote`] is a handle that any task may clone and use; its [`RemoteSession`] is given to a transport. Neither
//! knows a socket, so that the same code speaks over TCP and in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Context;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use skylark_protocol::frame::{Encoding, Frame};
use skylark_protocol::header::FLAG_ONEWAY;
use skylark_protocol::transport::{CloseReason, Mailbox, Outbox, Session};
use skylark_protocol::{FieldError, Fields, Header, Outgoing, ReplyTo, RequestCode, ResponseCode, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tracing::{debug, warn};

/// A request to a server.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What is asked.
    pub code: RequestCode,
    /// The named fields.
    pub fields: &'a [(&'a str, Value<'a>)],
    /// The body, empty for most.
    pub body: Bytes,
}

impl<'a> Request<'a> {
    /// A request without a body.
    pub fn new(code: RequestCode, fields: &'a [(&'a str, Value<'a>)]) -> Self {
        Self { code, fields, body: Bytes::new() }
    }
}

/// A server's answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its header, for the protocol's typed answers to be read from.
    pub header: Header<'static>,
    /// The body, empty for most.
    pub body: Bytes,
}

impl Response {
    fn new(header: Header<'_>, body: &[u8]) -> Self {
        let mut fields = Fields::new();
        for (name, value) in header.fields.iter() {
            fields.push(name.to_owned(), value.to_owned());
        }
        let remark = header.remark.map(|remark| remark.into_owned().into());
        Self { header: Header { remark, fields, ..header }, body: Bytes::copy_from_slice(body) }
    }

    /// How it went.
    pub fn code(&self) -> ResponseCode {
        self.header.response_code()
    }

    /// The answer, if it says success.
    ///
    /// # Errors
    /// With the code and the remark of any other answer.
    pub fn success(self) -> Result<Self, InvokeError> {
        if self.code() == ResponseCode::SUCCESS { Ok(self) } else { Err(self.refusal()) }
    }

    /// The answer as a refusal.
    pub fn refusal(self) -> InvokeError {
        let remark = self.header.remark.as_deref().unwrap_or_default().to_owned();
        InvokeError::Refused { code: self.code(), remark }
    }
}

/// Why a request has no answer that could be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvokeError {
    /// The connection is gone. Whether the server has taken the request is unknown.
    #[error("connection lost: {0}")]
    Closed(CloseReason),
    /// No answer in time. Whether the server has taken the request, or will, is unknown.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The server said no.
    #[error("refused with {code}: {remark}")]
    Refused {
        /// The server's code.
        code: ResponseCode,
        /// The server's words.
        remark: String,
    },
    /// The answer came and is not what its request promises.
    #[error("the answer cannot be used: {0}")]
    Unusable(#[from] FieldError),
    /// There is nobody to ask.
    #[error("no address is known that could answer")]
    NoAddress,
}

impl InvokeError {
    /// The code the server refused with.
    pub fn code(&self) -> Option<ResponseCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Takes what the server asks. What it writes goes to the server; a request that is not answered there must be
/// one-way.
pub type ServerRequests = Box<dyn FnMut(&Header<'_>, &Frame<'_>, &mut Outbox) + Send>;

/// A handle to a connection. Requests made before it is open wait until it is.
#[derive(Clone, Debug)]
pub struct Remote {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mailbox: Mailbox<Mail>,
    in_flight: Arc<Semaphore>,
    next_opaque: AtomicI32,
    closed: OnceLock<CloseReason>,
}

#[derive(Debug)]
struct Mail {
    header: BytesMut,
    body: Bytes,
    /// Who waits for the answer.
    waiting: Option<(i32, oneshot::Sender<Response>)>,
    permit: OwnedSemaphorePermit,
}

/// A request on its way, or a one-way request not yet there, counts against the limit until it is neither.
#[derive(Debug)]
struct Pending {
    answer: oneshot::Sender<Response>,
    _permit: OwnedSemaphorePermit,
}

impl Remote {
    /// Requests that may be waiting or unanswered at a time; more wait for their turn.
    pub const IN_FLIGHT_MAX: usize = 4096;

    /// A handle and the session to give to [`Connector::connect`]. `requests` takes what the server asks.
    ///
    /// [`Connector::connect`]: skylark_protocol::transport::Connector::connect
    pub fn new(requests: ServerRequests) -> (Self, RemoteSession) {
        let shared = Arc::new(Shared {
            mailbox: Mailbox::new(Self::IN_FLIGHT_MAX),
            in_flight: Arc::new(Semaphore::new(Self::IN_FLIGHT_MAX)),
            next_opaque: AtomicI32::new(1),
            closed: OnceLock::new(),
        });
        let session = RemoteSession {
            shared: Arc::clone(&shared),
            pending: HashMap::new(),
            sweep_at: SWEEP_MIN,
            mail: VecDeque::new(),
            requests,
        };
        (Self { shared }, session)
    }

    /// Asks, and waits for the answer. Any number of requests may wait at the same time; answers come in any
    /// order.
    ///
    /// # Errors
    /// When the connection is lost or `deadline` passes before the answer is there. An answer that refuses is
    /// an answer; see [`Response::success`].
    pub async fn invoke(&self, request: Request<'_>, deadline: Duration) -> Result<Response, InvokeError> {
        let asking = async {
            let permit = self.permit().await?;
            // Relaxed: numbers only have to differ.
            let opaque = self.shared.next_opaque.fetch_add(1, Ordering::Relaxed);
            let (answer, answered) = oneshot::channel();
            let header = encode(&request, opaque, 0);
            self.post(Mail { header, body: request.body, waiting: Some((opaque, answer)), permit })?;
            answered.await.map_err(|_dropped| self.closed_error())
        };
        timeout(deadline, asking).await.unwrap_or(Err(InvokeError::Timeout(deadline)))
    }

    /// Sends a request that is not answered. Returns once it has its place in line.
    ///
    /// # Errors
    /// When the connection is lost already.
    pub async fn oneway(&self, request: Request<'_>) -> Result<(), InvokeError> {
        let permit = self.permit().await?;
        // Relaxed: as in `invoke`.
        let opaque = self.shared.next_opaque.fetch_add(1, Ordering::Relaxed);
        let header = encode(&request, opaque, FLAG_ONEWAY);
        self.post(Mail { header, body: request.body, waiting: None, permit })
    }

    /// Ends the connection; what is unanswered fails.
    pub fn close(&self) {
        self.shut(CloseReason::Shutdown);
        self.shared.mailbox.wake();
    }

    /// Why the connection is gone, if it is.
    pub fn closed(&self) -> Option<&CloseReason> {
        self.shared.closed.get()
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, InvokeError> {
        let permit = Arc::clone(&self.shared.in_flight).acquire_owned().await;
        permit.map_err(|_closed| self.closed_error())
    }

    fn post(&self, mail: Mail) -> Result<(), InvokeError> {
        self.shared.mailbox.post(mail).map_err(|_full_or_closed| self.closed_error())
    }

    fn closed_error(&self) -> InvokeError {
        // Mail has permits, of which there are no more than places in the mailbox: it is refused only when
        // that is closed.
        let reason = self.closed().cloned();
        InvokeError::Closed(reason.unwrap_or(CloseReason::Shutdown))
    }

    fn shut(&self, reason: CloseReason) {
        self.shared.shut(reason);
    }
}

impl Shared {
    fn shut(&self, reason: CloseReason) {
        self.closed.get_or_init(|| reason);
        self.in_flight.close();
    }
}

fn encode(request: &Request<'_>, opaque: i32, flag: i32) -> BytesMut {
    let mut header = BytesMut::with_capacity(HEADER_BYTES_TYPICAL);
    let outgoing = Outgoing {
        encoding: Encoding::Json,
        code: request.code.0,
        opaque,
        flag,
        remark: None,
        fields: request.fields,
    };
    outgoing.write(request.body.len(), &mut header);
    header
}

const HEADER_BYTES_TYPICAL: usize = 512;
/// While so much is unsent, further requests stay in the mailbox.
const UNSENT_BYTES_MAX: usize = 8 << 20;
const SWEEP_MIN: usize = 1024;

/// The connection's end that a transport drives.
pub struct RemoteSession {
    shared: Arc<Shared>,
    pending: HashMap<i32, Pending>,
    /// How many may be pending before those nobody waits for are looked for.
    sweep_at: usize,
    mail: VecDeque<Mail>,
    requests: ServerRequests,
}

impl RemoteSession {
    fn send(&mut self, mail: Mail, out: &mut Outbox) {
        if let Some((opaque, answer)) = mail.waiting {
            if answer.is_closed() {
                return;
            }
            self.pending.insert(opaque, Pending { answer, _permit: mail.permit });
        }
        out.buffer().extend_from_slice(&mail.header);
        if !mail.body.is_empty() {
            out.push(mail.body);
        }
    }

    /// Forgets requests that timed out. Their number doubles before the next look, so that each look is paid
    /// for by as many requests, unless the limit is reached.
    fn sweep(&mut self) {
        if self.pending.len() >= self.sweep_at {
            self.pending.retain(|_, pending| !pending.answer.is_closed());
            self.sweep_at = (self.pending.len() * 2).clamp(SWEEP_MIN, Remote::IN_FLIGHT_MAX);
        }
    }
}

impl Session for RemoteSession {
    fn receive(&mut self, frame: Frame<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        let header = frame.parse().map_err(|error| CloseReason::Malformed(error.to_string()))?;
        if !header.is_response() {
            (self.requests)(&header, &frame, out);
            return Ok(());
        }
        match self.pending.remove(&header.opaque) {
            Some(pending) => {
                let opaque = header.opaque;
                if pending.answer.send(Response::new(header, frame.body)).is_err() {
                    debug!(opaque, "an answer came too late");
                }
            }
            None => debug!(opaque = header.opaque, "an answer to nothing"),
        }
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        self.shared.mailbox.take(cx, &mut self.mail);
        if let Some(reason) = self.shared.closed.get() {
            return Err(reason.clone());
        }
        while out.len() < UNSENT_BYTES_MAX {
            let Some(mail) = self.mail.pop_front() else { break };
            self.send(mail, out);
        }
        self.sweep();
        Ok(())
    }

    fn closed(&mut self, reason: &CloseReason) {
        self.shared.shut(reason.clone());
        self.shared.mailbox.close();
        // Whoever waits hears of it by the loss of its sender.
        self.pending.clear();
        self.mail.clear();
    }
}

/// Answers every request of the server's that it does not understand.
pub fn refuse(header: &Header<'_>, frame: &Frame<'_>, out: &mut Outbox) {
    warn!(code = %header.request_code(), "the server asks what this client does not answer");
    let remark = format!(" request type {} not supported", header.code);
    let code = ResponseCode::REQUEST_CODE_NOT_SUPPORTED;
    ReplyTo::from((header, frame)).failure(out.buffer(), code, &remark);
}

#[cfg(test)]
mod tests;
