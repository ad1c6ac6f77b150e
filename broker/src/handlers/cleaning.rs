//! Cleaning up on request: 306, 316, 329.

use crate::broker::Broker;
use crate::context::{Answers, Handled, Request};

/// 306 and 316: there is nothing to clean. Entries of the index go with the messages they point at, and a topic's
/// queues with the topic.
pub fn nothing_left(request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    answers.success(request.reply, &[])
}

/// 329: what is kept no longer goes at once, in the background.
pub fn expired(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    broker.archive.clean();
    answers.success(request.reply, &[])
}
