//! When messages were stored, for whoever tells how far a queue or a group has got.

use skylark_index::{Answer, Entry, Index, QueueId, SealedQueue};
use skylark_protocol::code::ResponseCode;
use tracing::warn;

use crate::broker::Broker;
use crate::context::{Answers, Handled, Request};

/// What an answer may come to for each question, roughly: counted against the connection while it is prepared.
const BYTES_EACH: u64 = 256;

/// Questions for store times: asked while the index is at hand, answered once nobody waits for its lock.
#[derive(Default)]
pub struct StoreTimes {
    asked: Vec<Asked>,
}

enum Asked {
    Known(Option<u64>),
    /// The message with this offset lies in a segment whose index is in a file.
    Sealed(SealedQueue, u64),
}

impl StoreTimes {
    /// Asks when the message at an offset was stored, if there is such an offset.
    pub fn ask(&mut self, index: &Index, queue: QueueId, offset: Option<u64>) {
        let time = |entry: Option<Entry>| entry.map(|entry| entry.stored_at);
        self.asked.push(match offset.map(|offset| (offset, index.entry(queue, offset))) {
            None => Asked::Known(None),
            Some((_, Answer::Known(entry))) => Asked::Known(time(entry)),
            Some((offset, Answer::Sealed(view))) => Asked::Sealed(view, offset),
        });
    }

    /// The answers, in the order of the questions: milliseconds since 1970, none for a message that is not there.
    /// May wait for the disk.
    ///
    /// A time that cannot be read is taken for none: how far everybody is can be told without it.
    pub fn wait(self, broker: &Broker) -> Vec<Option<u64>> {
        self.asked.into_iter().map(|asked| asked.wait(broker)).collect()
    }

    /// Answers a request with the body that `body` makes of them: at once, or by a reader thread.
    pub fn answer(
        self,
        broker: &Broker,
        request: &Request<'_, '_>,
        answers: &mut Answers<'_>,
        body: impl FnOnce(&[Option<u64>]) -> Vec<u8> + Send + 'static,
    ) -> Handled {
        let reply = request.reply;
        if self.asked.iter().all(|asked| matches!(asked, Asked::Known(_))) {
            return answers.body(reply, body(&self.wait(broker)));
        }
        let bytes = self.asked.len() as u64 * BYTES_EACH;
        broker.readers.submit(request.connection, reply, bytes, move |broker, out| {
            reply.respond(out, ResponseCode::SUCCESS, None, &[], body(&self.wait(broker)).into());
            Ok(())
        })
    }
}

impl Asked {
    fn wait(self, broker: &Broker) -> Option<u64> {
        match self {
            Self::Known(time) => time,
            Self::Sealed(view, offset) => match view.entry(offset) {
                Ok(entry) => entry.map(|entry| entry.stored_at),
                Err(error) => {
                    let refusal = broker.unreadable(&error);
                    warn!(offset, error = refusal.remark, "a message's store time is not known");
                    None
                }
            },
        }
    }
}
