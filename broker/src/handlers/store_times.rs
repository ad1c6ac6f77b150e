//! When messages were stored, for whoever tells how far a queue or a group has got.

use skylark_index::{Index, QueueId};

use crate::broker::Broker;
use crate::context::{Answers, Handled, Request};

/// Questions for store times: asked while the index is at hand, answered once nobody waits for its lock.
#[derive(Default)]
pub struct StoreTimes {
    asked: Vec<Option<u64>>,
}

impl StoreTimes {
    /// Asks when the message at an offset was stored, if there is such an offset.
    pub fn ask(&mut self, index: &Index, queue: QueueId, offset: Option<u64>) {
        let entry = offset.and_then(|offset| index.entry(queue, offset));
        self.asked.push(entry.map(|entry| entry.stored_at));
    }

    /// The answers, in the order of the questions: milliseconds since 1970, none for a message that is not there.
    pub fn wait(self) -> Vec<Option<u64>> {
        self.asked
    }

    /// Answers a request with the body that `body` makes of them.
    pub fn answer(
        self,
        _broker: &Broker,
        request: &Request<'_, '_>,
        answers: &mut Answers<'_>,
        body: impl FnOnce(&[Option<u64>]) -> Vec<u8> + Send + 'static,
    ) -> Handled {
        answers.body(request.reply, body(&self.wait()))
    }
}
