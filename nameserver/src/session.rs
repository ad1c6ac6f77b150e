//! Connections to a nameserver.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::Context;

use skylark_protocol::transport::{CloseReason, Mailbox, Outbox, Peer, Service, Session};
use skylark_protocol::{Frame, ReplyTo, Value};
use tracing::{debug, info};

use crate::brokers::Connection;
use crate::{Clock, NameServer};

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
        })
    }
}

struct NameServerSession {
    server: Arc<NameServer>,
    clock: Clock,
    peer: Peer,
    mailbox: Connection,
}

impl Session for NameServerSession {
    fn receive(&mut self, frame: Frame<'_>, out: &mut Outbox) -> Result<(), CloseReason> {
        let header = frame.parse().map_err(|error| CloseReason::Malformed(error.to_string()))?;
        if header.is_response() {
            // A nameserver asks nothing.
            return Ok(());
        }
        let reply = ReplyTo::from((&header, &frame));
        let answer = self.server.answer(&header, frame.body, &self.mailbox, (self.clock)());
        debug!(peer = %self.peer.address, request = %header.request_code(), response = %answer.code, "answered");
        let fields: Vec<_> = answer.fields.iter().map(|(name, value)| (*name, Value::from(value))).collect();
        reply.respond(out, answer.code, answer.remark.as_deref(), &fields, answer.body);
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>, _out: &mut Outbox) -> Result<(), CloseReason> {
        let mut mail = VecDeque::new();
        self.mailbox.take(cx, &mut mail);
        match mail.pop_front() {
            None => Ok(()),
            Some(expired) => {
                Err(CloseReason::Session(format!("broker {} gave no sign of life", expired.address)))
            }
        }
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
