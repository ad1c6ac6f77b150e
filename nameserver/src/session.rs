//! Connections to a nameserver.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use skylark_protocol::transport::{CloseReason, Mailbox, Outbox, Peer, Service, Session};
use skylark_protocol::{Frame, ReplyTo, Value};
use tracing::{debug, info};

use crate::brokers::Connection;
use crate::handlers::{Answer, Outcome};
use crate::{Clock, NameServer, Pending};

/// So many requests of a connection may wait for a journal; it sends no more until one is answered.
const HELD_MAX: usize = 64;

/// Makes the sessions of a nameserver.
pub struct NameServerService {
    server: Arc<NameServer>,
    clock: Clock,
}

impl NameServerService {
    /// Sessions answer from this state and take the time from this clock.
    pub fn new(server: Arc<NameServer>, clock: Clock) -> Self {
        Self { server, clock }
    }
}

impl fmt::Debug for NameServerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameServerService").finish_non_exhaustive()
    }
}

impl Service for NameServerService {
    fn accept(&self, peer: Peer) -> Box<dyn Session> {
        Box::new(NameServerSession {
            server: self.server.clone(),
            clock: self.clock.clone(),
            peer,
            // One word ends the connection; a second would say the same.
            mailbox: Arc::new(Mailbox::new(1)),
            held: Vec::new(),
        })
    }
}

struct NameServerSession {
    server: Arc<NameServer>,
    clock: Clock,
    peer: Peer,
    mailbox: Connection,
    /// Requests that wait for a journal.
    held: Vec<(ReplyTo, Pending)>,
}

fn respond(reply: &ReplyTo, answer: Answer, out: &mut Outbox) {
    let fields: Vec<_> = answer.fields.iter().map(|(name, value)| (*name, Value::from(value))).collect();
    reply.respond(out, answer.code, answer.remark.as_deref(), &fields, answer.body);
}

impl Session for NameServerSession {
    fn receive(&mut self, frame: Frame<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        let header = frame.parse().map_err(|error| CloseReason::Malformed(error.to_string()))?;
        if header.is_response() {
            // A nameserver asks nothing.
            return Ok(());
        }
        let reply = ReplyTo::from((&header, &frame));
        match self.server.answer(&header, frame.body, &self.mailbox, (self.clock)()) {
            Outcome::Answered(answer) => {
                let request = header.request_code();
                debug!(peer = %self.peer.address, %request, response = %answer.code, "answered");
                respond(&reply, answer, out);
            }
            Outcome::Later(pending) => self.held.push((reply, pending)),
        }
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        self.held.retain_mut(|(reply, pending)| match pending.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(recorded) => {
                respond(reply, Answer::after(recorded), out);
                false
            }
        });
        let mut mail = VecDeque::new();
        self.mailbox.take(cx, &mut mail);
        match mail.pop_front() {
            None => Ok(()),
            Some(expired) => {
                Err(CloseReason::Session(format!("broker {} gave no sign of life", expired.address)))
            }
        }
    }

    fn ready(&self) -> bool {
        self.held.len() < HELD_MAX
    }

    fn closed(&mut self, reason: &CloseReason) {
        self.mailbox.close();
        for (cluster, address) in self.server.forget(&self.mailbox) {
            info!(%cluster, %address, peer = %self.peer.address, %reason, "broker is gone with its connection");
        }
    }
}

#[cfg(test)]
mod tests;
