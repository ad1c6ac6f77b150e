//! What other tasks leave for a session.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use parking_lot::Mutex;

/// A bounded queue with one reader, the session, and any number of writers.
///
/// Writers wake the session's task once; mail that arrives while it is awake is taken along.
#[derive(Debug)]
pub struct Mailbox<T> {
    inner: Mutex<Inner<T>>,
    capacity: usize,
    unread: AtomicUsize,
}

#[derive(Debug)]
struct Inner<T> {
    mail: VecDeque<T>,
    reader: Option<Waker>,
    closed: bool,
}

/// The mail was not taken: the session is gone, or does not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session is gone or its mailbox is full")]
pub struct MailboxFull;

impl<T> Mailbox<T> {
    /// An empty mailbox for at most `capacity` pieces of mail.
    pub fn new(capacity: usize) -> Self {
        let inner = Inner { mail: VecDeque::new(), reader: None, closed: false };
        Self { inner: Mutex::new(inner), capacity, unread: AtomicUsize::new(0) }
    }

    /// Leaves a piece of mail and wakes the session.
    ///
    /// # Errors
    /// When the mailbox is full or closed; the mail is dropped.
    pub fn post(&self, mail: T) -> Result<(), MailboxFull> {
        let reader = {
            let mut inner = self.inner.lock();
            if inner.closed || inner.mail.len() >= self.capacity {
                return Err(MailboxFull);
            }
            inner.mail.push_back(mail);
            inner.reader.take()
        };
        // Outside the lock: a waker may run foreign code.
        if let Some(waker) = reader {
            waker.wake();
        }
        Ok(())
    }

    /// Wakes the session without leaving anything.
    pub fn wake(&self) {
        let reader = self.inner.lock().reader.take();
        if let Some(waker) = reader {
            waker.wake();
        }
    }

    /// Takes everything, and leaves the waker for what comes next. Called by the session alone.
    pub fn take(&self, cx: &mut Context<'_>, into: &mut VecDeque<T>) {
        let mut inner = self.inner.lock();
        into.append(&mut inner.mail);
        match &mut inner.reader {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// The session says how many bytes its peer has left unread.
    pub fn set_unread(&self, bytes: usize) {
        // Relaxed: a measure for those who write, which may be a moment old.
        self.unread.store(bytes, Ordering::Relaxed);
    }

    /// How many bytes the session's peer had left unread when the session was last polled.
    pub fn unread(&self) -> usize {
        self.unread.load(Ordering::Relaxed)
    }

    /// Whether the session is gone.
    pub fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    /// Takes no more mail and drops what is there.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.mail.clear();
        inner.reader = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_is_bounded_and_refused_after_close() {
        let mailbox = Mailbox::new(1);
        assert_eq!(mailbox.post(1), Ok(()));
        assert_eq!(mailbox.post(2), Err(MailboxFull));
        let mut taken = VecDeque::new();
        mailbox.take(&mut Context::from_waker(Waker::noop()), &mut taken);
        assert_eq!(taken, [1]);
        mailbox.close();
        assert_eq!(mailbox.post(3), Err(MailboxFull));
    }
}
