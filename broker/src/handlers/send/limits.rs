//! What a topic, and a producer's group, may send: how large a message may be, and how much in a second.

use skylark_protocol::command::send::SendRequest;
use skylark_protocol::message::batch::inner_messages;

use super::illegal;
use crate::broker::Broker;
use crate::context::Refusal;
use crate::quotas::{Allowance, Limits, Owner, Use};

/// What a send takes of its quotas, once it is accepted: it may have to be looked at again before.
pub(super) struct Charge {
    allowance: Allowance,
    messages: u64,
    bytes: u64,
}

impl Charge {
    /// What these messages take, if topic or group have a quota.
    ///
    /// # Errors
    /// With code 13 if a message is too large, or all are more than a minute's worth; with 215 if too much was sent before.
    pub(super) fn of(
        broker: &Broker,
        send: &SendRequest<'_>,
        body: &[u8],
        [topic, group]: [Limits; 2],
    ) -> Result<Option<Self>, Refusal> {
        let owners = [(Owner::Topic(send.topic), topic), (Owner::Group(send.producer_group), group)];
        let check = |body: &[u8]| {
            owners.iter().try_for_each(|(owner, limits)| check_bytes(*owner, limits, body.len()))
        };
        let mut messages = 1;
        if send.batch {
            messages = 0;
            // What cannot be read as a batch is refused where it is taken apart.
            for inner in inner_messages(body).map_while(Result::ok) {
                check(inner.body)?;
                messages += 1;
            }
        } else {
            check(body)?;
        }
        let bytes = body.len() as u64;
        for (owner, limits) in &owners {
            if let Some((rate, unit)) = limits.send.too_small_for(messages, bytes) {
                return Err(illegal(format_args!(
                    "{messages} messages of {bytes} bytes are more than {owner} takes in a minute, at {rate} {unit} a \
                     second (skylark.send.{unit})"
                )));
            }
        }
        let rates = owners.map(|(owner, limits)| (owner, limits.send));
        let allowance = broker.quotas.ask(Use::Send, &rates, broker.clock.monotonic())?;
        Ok(allowance.map(|allowance| Self { allowance, messages, bytes }))
    }

    /// The send was accepted.
    pub(super) fn take(&self, broker: &Broker) {
        self.allowance.take(broker.clock.monotonic(), self.messages, self.bytes);
    }
}

fn check_bytes(owner: Owner<'_>, limits: &Limits, bytes: usize) -> Result<(), Refusal> {
    match limits.message_bytes {
        Some(most) if bytes as u64 > most.get() => Err(illegal(format_args!(
            "the body has {bytes} bytes, and {owner} takes messages of {most} bytes at most (skylark.message.bytes)"
        ))),
        _ => Ok(()),
    }
}
