//! What a handler knows about a request, and how it answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use skylark_protocol::code::ResponseCode;
use skylark_protocol::header::{FieldError, Header};
use skylark_protocol::outgoing::{ReplyTo, Value};
use skylark_protocol::transport::{Mailbox, Outbox, Peer};
use skylark_storage::{AppendError, PhysicalOffset};

use crate::changes::ChangeError;
use crate::held::Held;
use crate::membership::ConnectionId;
use crate::session::Mail;

/// A request and where it comes from.
pub struct Request<'a, 'f> {
    /// Which connection it came over: listener, address, identity.
    pub connection: &'a Connection,
    /// Its header, with the client's language and version.
    pub header: &'a Header<'f>,
    /// Its body.
    pub body: &'a [u8],
    /// How it is answered.
    pub reply: ReplyTo,
}

/// A connection, as handlers see it.
pub struct Connection {
    /// Its name.
    pub id: ConnectionId,
    /// Who is at the other end.
    pub peer: Peer,
    /// How others reach its session.
    pub mailbox: Arc<Mailbox<Mail>>,
    /// Bytes that reader threads fetch for it. Beyond a bound it takes no further requests.
    pub cold_bytes: AtomicU64,
}

/// Where answers go: at once, or when something has become true.
pub struct Answers<'a> {
    /// What goes out at once.
    pub out: &'a mut Outbox,
    /// What goes out once it is durable; where `flush` says so, once it is written.
    pub durable: &'a mut Held,
    /// Where messages end that were taken, and when that was: to measure how long they take to be durable.
    pub sent: &'a mut VecDeque<(PhysicalOffset, Duration)>,
    /// What goes out once the folds have applied it.
    pub applied: &'a mut Held,
    /// What goes out once the nameservers have heard of it.
    pub registered: &'a mut Held,
}

impl Answers<'_> {
    /// Answers at once that it went well.
    pub fn success(&mut self, reply: ReplyTo, fields: &[(&str, Value<'_>)]) -> Handled {
        reply.success(self.out.buffer(), fields);
        Ok(Done::Answered)
    }

    /// Answers at once that it went well, with a body.
    pub fn body(&mut self, reply: ReplyTo, body: impl Into<Bytes>) -> Handled {
        reply.respond(self.out, ResponseCode::SUCCESS, None, &[], body.into());
        Ok(Done::Answered)
    }

    /// Answers that it went well once everything before `end` is durable.
    pub fn when_durable(
        &mut self,
        end: PhysicalOffset,
        reply: ReplyTo,
        write: impl FnOnce(&mut BytesMut),
    ) -> Handled {
        self.durable.hold(end, reply, write);
        Ok(Done::Answered)
    }

    /// Answers that it went well, with a body, once everything before `end` is durable.
    pub fn body_when_durable(&mut self, end: PhysicalOffset, reply: ReplyTo, body: &[u8]) -> Handled {
        self.durable.hold(end, reply, |out| write_body(reply, out, body));
        Ok(Done::Answered)
    }

    /// Answers that it went well, with a body, once the folds have applied everything before `end`.
    pub fn body_when_applied(&mut self, end: PhysicalOffset, reply: ReplyTo, body: &[u8]) -> Handled {
        self.applied.hold(end, reply, |out| write_body(reply, out, body));
        Ok(Done::Answered)
    }

    /// Answers that it went well once the folds have applied everything before `end`.
    pub fn when_applied(
        &mut self,
        end: PhysicalOffset,
        reply: ReplyTo,
        write: impl FnOnce(&mut BytesMut),
    ) -> Handled {
        self.applied.hold(end, reply, write);
        Ok(Done::Answered)
    }
}

fn write_body(reply: ReplyTo, out: &mut BytesMut, body: &[u8]) {
    reply.write(out, ResponseCode::SUCCESS, None, &[], body.len());
    if !reply.oneway {
        out.extend_from_slice(body);
    }
}

/// How handling a request went.
pub type Handled = Result<Done, Refusal>;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was answered, or will be.
    Answered,
    /// It needs to be looked at again once the folds have applied everything before this position.
    After(PhysicalOffset),
    /// There is no room in the log; it needs to be looked at again once there is.
    NoRoom,
}

/// A request that is answered with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What a stock client understands.
    pub code: ResponseCode,
    /// What a person understands, and may do about it.
    pub remark: String,
}

impl Refusal {
    /// A refusal with this code and remark.
    pub fn new(code: ResponseCode, remark: impl Into<String>) -> Self {
        Self { code, remark: remark.into() }
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::new(ResponseCode::INVALID_PARAMETER, error.to_string())
    }
}

/// Sorts out a refused append: waiting for room is no error.
pub fn refused(error: &AppendError) -> Handled {
    let code = match error {
        AppendError::Backpressure { .. } => return Ok(Done::NoRoom),
        AppendError::TooLarge { .. } => ResponseCode::MESSAGE_ILLEGAL,
        _ => ResponseCode::SERVICE_NOT_AVAILABLE,
    };
    Err(Refusal::new(code, error.to_string()))
}

/// Sorts out a change that was not begun: waiting for an earlier one is no error.
pub fn unchanged(error: &ChangeError) -> Handled {
    match error {
        ChangeError::Unsettled { until } => Ok(Done::After(*until)),
        ChangeError::Refused(error) => refused(error),
    }
}
