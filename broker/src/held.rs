//! Answers that wait until the log has reached a position.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::BytesMut;
use skylark_protocol::code::ResponseCode;
use skylark_protocol::outgoing::ReplyTo;
use skylark_protocol::transport::Outbox;
use skylark_storage::{Frontier, PhysicalOffset, Registration};

/// A connection's answers in the order of the positions they wait for, already written.
///
/// One waiter is registered for the front; when it wakes, everything that has become true goes out together.
/// So a group of appends costs a connection one wake-up and no allocation per answer.
#[derive(Default)]
pub struct Held {
    answers: VecDeque<Answer>,
    bytes: BytesMut,
    registration: Registration,
}

struct Answer {
    end: PhysicalOffset,
    reply: ReplyTo,
    bytes: usize,
}

impl Held {
    /// Holds back what `write` writes until the position reaches `end`.
    pub fn hold(&mut self, end: PhysicalOffset, reply: ReplyTo, write: impl FnOnce(&mut BytesMut)) {
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.answers.push_back(Answer { end, reply, bytes: self.bytes.len() - before });
    }

    /// Moves what has become true to `out` and waits for the rest. Once the position will never move again,
    /// what is left is answered with an error: nobody knows whether it will be found after a restart.
    pub fn release(&mut self, frontier: &Frontier, cx: &mut Context<'_>, out: &mut Outbox) {
        while let Some(front) = self.answers.front() {
            match frontier.wait(&mut self.registration, front.end, cx.waker()) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {
                    let reached = frontier.get();
                    let mut ready = 0;
                    while let Some(answer) = self.answers.pop_front_if(|answer| answer.end <= reached) {
                        ready += answer.bytes;
                    }
                    let bytes = self.bytes.split_to(ready);
                    out.buffer().extend_from_slice(&bytes);
                }
                Poll::Ready(Err(stopped)) => {
                    self.bytes.clear();
                    let remark = format!("not known to be stored: {stopped}");
                    for answer in self.answers.drain(..) {
                        answer.reply.failure(out.buffer(), ResponseCode::SERVICE_NOT_AVAILABLE, &remark);
                    }
                }
            }
        }
    }
}
