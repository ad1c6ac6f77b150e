//! One connection: a task that feeds a session with frames and drains it of bytes.

use std::future::poll_fn;
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use skylark_protocol::frame;
use skylark_protocol::transport::{CloseReason, Outbox, Session};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::{debug, warn};

use crate::Shared;
use crate::budget::Share;
use crate::buffer::ReadBuffer;
use crate::listener::Stop;

/// A connection and the session that it drives.
///
/// ```text
///           ┌──────── a frame is malformed, the session ends it, the peer has closed, shutdown ────────┐
///  Open ────┤                                                                                          ▼
///           └─ a deadline ─► closed ◄── end of stream, or in time ── Lingering ◄── all written ── Flushing
/// ```
///
/// [`Session::closed`] is called exactly once however it ends, a panic and an aborted task included.
pub(crate) struct Connection {
    stream: TcpStream,
    session: Box<dyn Session>,
    out: Outbox,
    buffer: ReadBuffer,
    /// The buffer may hold whole frames that the session was not ready for.
    undecoded: bool,
    shared: Arc<Shared>,
    share: Share,
    state: State,
    clocks: Clocks,
}

enum State {
    Open,
    /// Nothing is read any more; what the outbox holds is still written.
    Flushing(CloseReason),
    /// The peer is given time to read before the socket is closed: closing it with unread input would throw
    /// away what the peer has not yet taken.
    Lingering {
        reason: CloseReason,
        until: Instant,
    },
    Closed,
}

/// Since when what lasts.
struct Clocks {
    active: Instant,
    /// A frame is begun, and this side reads, or would if there were memory.
    frame: Option<Instant>,
    /// Bytes wait for the peer to read.
    unread: Option<Instant>,
}

/// How a read went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// There may be frames in the buffer.
    Some,
    /// Nothing has arrived, or there is no memory for it; the task is woken when that changes.
    None,
    /// The session takes nothing, or does not get rid of what it said.
    Held,
}

/// Bytes a connection may hold without asking: a batch of small frames, or the answers to one.
const GRANTED_BYTES: usize = ReadBuffer::BATCH_BYTES;
/// After so many rounds the other connections of the thread have their turn.
const ROUNDS_PER_POLL: usize = 8;
const SLICES_PER_WRITE: usize = 64;
/// An inactive connection keeps its buffers for so long.
const BUFFERS_KEPT: Duration = Duration::from_secs(5);
const LINGER: Duration = Duration::from_secs(1);
const LINGER_READ_BYTES: usize = 4096;

impl Connection {
    pub(crate) fn new(stream: TcpStream, session: Box<dyn Session>, shared: &Arc<Shared>) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "connection without TCP_NODELAY");
        }
        Self {
            stream,
            session,
            out: Outbox::default(),
            buffer: ReadBuffer::default(),
            undecoded: false,
            share: Share::new(Arc::clone(&shared.budget)),
            shared: Arc::clone(shared),
            state: State::Open,
            clocks: Clocks { active: Instant::now(), frame: None, unread: None },
        }
    }

    /// Runs the connection to its end.
    pub(crate) async fn drive(mut self, stop: &Stop) {
        let mut alarm = pin!(sleep_until(self.clocks.active + self.shared.limits.idle));
        let mut stopping = pin!(stop.notified());
        let mut registered = false;
        let reason = poll_fn(|cx| {
            // A task's waker stays the same: left once, it is woken whenever the shutdown comes.
            if !registered {
                registered = stopping.as_mut().poll(cx).is_pending();
            }
            self.poll(cx, alarm.as_mut(), stop.deadline())
        });
        let reason = reason.await;
        self.close(&reason);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut alarm: Pin<&mut Sleep>,
        stop: Option<Instant>,
    ) -> Poll<CloseReason> {
        if matches!(self.state, State::Open) {
            let work = if stop.is_some() { self.hand_over(cx) } else { self.work(cx) };
            if let Err(reason) = work {
                self.state = State::Flushing(reason);
                self.buffer = ReadBuffer::default();
                self.share.frame_done(self.held_bytes(0));
            }
        }
        if let Poll::Ready(reason) = self.finish(cx) {
            return Poll::Ready(reason);
        }
        self.spare();
        self.share.set(self.held_bytes(self.buffer.capacity()));
        loop {
            let next = match self.next_deadline(Instant::now(), stop) {
                Ok(next) => next,
                Err(reason) => return Poll::Ready(reason),
            };
            // The alarm may ring too early, which costs a look at the clocks; setting it anew with every
            // message would cost more.
            if next < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(next);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Does what can be done at once.
    fn work(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let now = Instant::now();
        let (mut received, mut written) = (0, 0);
        let (mut read, mut read_any) = (Read::None, false);
        for round in 0.. {
            if round == ROUNDS_PER_POLL {
                cx.waker().wake_by_ref();
                break;
            }
            read = self.read(cx)?;
            read_any |= read == Read::Some;
            let frames = if read == Read::Some { self.receive()? } else { 0 };
            received += frames;
            if frames > 0 && self.share.is_growing() {
                self.spare();
                self.share.frame_done(self.held_bytes(self.buffer.capacity()));
            }
            if frames > 0 || round == 0 {
                self.session.poll(cx, &mut self.out)?;
            }
            written += self.write(cx)?;
            if read == Read::None || (read == Read::Held && !self.takes_frames()) {
                break;
            }
        }
        if read_any || written > 0 {
            self.clocks.active = now;
        }
        // Waiting for memory counts, so that nobody does for ever; and who overdraws is in the way of others
        // even while its own session takes nothing.
        let timed = (read != Read::Held && !self.undecoded) || self.share.overdraws();
        let frame_begun = timed && !self.buffer.pending().is_empty();
        restart(&mut self.clocks.frame, frame_begun, received > 0, now);
        restart(&mut self.clocks.unread, !self.out.is_empty(), written > 0, now);
        Ok(())
    }

    /// Shutdown has begun: takes what the session has ready, and nothing after that.
    fn hand_over(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        self.session.poll(cx, &mut self.out)?;
        Err(CloseReason::Shutdown)
    }

    /// Writes what is left and lets the peer read it. Pending while the connection is open.
    fn finish(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if let State::Flushing(reason) = &self.state {
            let reason = reason.clone();
            let Ok(written) = self.write(cx) else { return Poll::Ready(reason) };
            let now = Instant::now();
            restart(&mut self.clocks.unread, !self.out.is_empty(), written > 0, now);
            if !self.out.is_empty() {
                return Poll::Pending;
            }
            if !self.peer_may_read(cx, &reason) {
                return Poll::Ready(reason);
            }
            self.state = State::Lingering { reason, until: now + LINGER };
        }
        if let State::Lingering { reason, .. } = &self.state {
            let mut discarded = [0; LINGER_READ_BYTES];
            loop {
                let mut into = ReadBuf::new(&mut discarded);
                let read = Pin::new(&mut self.stream).poll_read(cx, &mut into);
                match read {
                    Poll::Pending => break,
                    Poll::Ready(Ok(())) if !into.filled().is_empty() => {}
                    Poll::Ready(_end_or_error) => return Poll::Ready(reason.clone()),
                }
            }
        }
        Poll::Pending
    }

    /// Tells the peer that nothing follows. False when the peer is gone or does not deserve to be waited for.
    fn peer_may_read(&mut self, cx: &mut Context<'_>, reason: &CloseReason) -> bool {
        let ended_here =
            matches!(reason, CloseReason::Malformed(_) | CloseReason::Session(_) | CloseReason::Shutdown);
        ended_here && matches!(Pin::new(&mut self.stream).poll_shutdown(cx), Poll::Ready(Ok(())))
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<Read, CloseReason> {
        if !self.takes_frames() {
            // Who does not read must not stand in front of others.
            self.share.stop_waiting();
            return Ok(Read::Held);
        }
        if self.undecoded {
            return Ok(Read::Some);
        }
        let need = frame::need(self.buffer.pending()).unwrap_or(0);
        let capacity = self.buffer.wanted(need);
        let beyond_grant = capacity > self.buffer.capacity().max(GRANTED_BYTES);
        if beyond_grant && !self.share.grow(self.held_bytes(capacity), cx) {
            return Ok(Read::None);
        }
        self.buffer.make_room(capacity, need);
        let mut into = ReadBuf::new(self.buffer.room());
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut into);
        let bytes = into.filled().len();
        match read {
            Poll::Pending => Ok(Read::None),
            Poll::Ready(Err(error)) => Err(CloseReason::Transport(error.to_string())),
            Poll::Ready(Ok(())) if bytes == 0 => Err(CloseReason::ByPeer),
            Poll::Ready(Ok(())) => {
                self.buffer.filled(bytes);
                Ok(Read::Some)
            }
        }
    }

    /// Hands the session the whole frames in the buffer, and returns how many.
    fn receive(&mut self) -> Result<usize, CloseReason> {
        let outcome = self.receive_frames();
        self.session.received();
        outcome
    }

    fn receive_frames(&mut self) -> Result<usize, CloseReason> {
        let mut received = 0;
        loop {
            self.undecoded = !self.takes_frames();
            if self.undecoded {
                return Ok(received);
            }
            match frame::decode(self.buffer.pending(), self.shared.limits.frame_bytes_max) {
                Ok(Some((frame, bytes))) => {
                    self.session.receive(frame, &mut self.out)?;
                    self.buffer.consume(bytes);
                    received += 1;
                }
                Ok(None) => return Ok(received),
                Err(error) => return Err(CloseReason::Malformed(error.to_string())),
            }
        }
    }

    /// Writes until the outbox is empty or the socket takes no more, and returns how much.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<usize, CloseReason> {
        let mut written = 0;
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
            let filled = self.out.slices(&mut slices);
            match Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..filled]) {
                Poll::Pending => break,
                Poll::Ready(Ok(bytes)) => {
                    self.out.advance(bytes);
                    written += bytes;
                }
                Poll::Ready(Err(error)) => return Err(CloseReason::Transport(error.to_string())),
            }
        }
        Ok(written)
    }

    fn takes_frames(&self) -> bool {
        let unread = self.out.len();
        let unread_max = match self.share.budget() {
            _ if unread <= GRANTED_BYTES => GRANTED_BYTES,
            budget if budget.is_exceeded() => GRANTED_BYTES,
            _ => self.shared.limits.connection_bytes_max,
        };
        unread <= unread_max && self.session.ready()
    }

    /// Keeps no room for later while memory is short.
    fn spare(&mut self) {
        let budget = self.share.budget();
        if budget.is_awaited() || budget.is_exceeded() {
            self.buffer.shrink();
        }
    }

    /// What the connection holds beyond its grant, with a buffer of `capacity`.
    fn held_bytes(&self, capacity: usize) -> usize {
        (capacity + self.out.len()).saturating_sub(GRANTED_BYTES)
    }

    /// Acts on the deadlines that have passed, and says when the next one does.
    fn next_deadline(&mut self, now: Instant, stop: Option<Instant>) -> Result<Instant, CloseReason> {
        let limits = &self.shared.limits;
        let mut next = self.clocks.active + limits.idle;
        let mut check = |since: Option<Instant>, lasts: Duration, reason: CloseReason| match since {
            Some(since) if since + lasts <= now => Err(reason),
            Some(since) => {
                next = next.min(since + lasts);
                Ok(())
            }
            None => Ok(()),
        };
        check(self.clocks.unread, limits.slow_reader, CloseReason::SlowReader)?;
        match &self.state {
            State::Open => {
                check(Some(self.clocks.active), limits.idle, CloseReason::Idle)?;
                check(self.clocks.frame, limits.slow_frame, CloseReason::SlowFrame)?;
            }
            State::Flushing(reason) => check(stop, Duration::ZERO, reason.clone())?,
            State::Lingering { reason, until } => {
                check(Some(*until), Duration::ZERO, reason.clone())?;
                check(stop, Duration::ZERO, reason.clone())?;
            }
            State::Closed => {}
        }
        if self.buffer.capacity() > 0 && self.buffer.pending().is_empty() && self.out.is_empty() {
            let kept_until = self.clocks.active + BUFFERS_KEPT;
            if kept_until > now {
                return Ok(next.min(kept_until));
            }
            self.buffer.release();
            self.out = Outbox::default();
        }
        Ok(next)
    }

    fn close(&mut self, reason: &CloseReason) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            self.session.closed(reason);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let reason = match std::thread::panicking() {
            true => CloseReason::Session("the session panicked".into()),
            false => CloseReason::Shutdown,
        };
        // A session that has panicked may do so again, and a second panic while unwinding ends the process.
        if catch_unwind(AssertUnwindSafe(|| self.close(&reason))).is_err() {
            warn!(%reason, "a session panicked while it was closed");
        }
    }
}

/// Keeps the time since when `lasts` has been true, starting over at each step forward.
fn restart(since: &mut Option<Instant>, lasts: bool, forward: bool, now: Instant) {
    match since {
        _ if !lasts => *since = None,
        Some(_) if !forward => {}
        since => *since = Some(now),
    }
}
