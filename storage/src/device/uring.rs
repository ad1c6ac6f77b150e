//! io_uring, with `O_DIRECT` and `RWF_DSYNC`: as `direct`, through a ring with a registered file.
//!
//! What `direct` says about others who read through the page cache holds here as well.

use std::collections::VecDeque;
use std::io;

use self::ring::{Completion, Ring};
use super::directory::Directory;
use super::open_file::OpenFile;
use super::rest::Rest;
use super::{Device, Operation, Ticket, WriteRefused};
use crate::staging::TailMemory;

mod buffers;
mod ring;

/// `struct iovec`.
#[repr(C)]
struct Vector {
    first: *const u8,
    bytes: usize,
}

/// Writes past the page cache through a ring, several operations at a time if asked to, and completes them in the
/// order in which they were submitted. What was submitted goes to the kernel together with the wait, in one system
/// call.
///
/// A ring belongs to a thread, so one is made by the thread that attaches; another that submits gets another.
pub(super) struct UringDevice {
    directory: Directory,
    /// Declared before the segment: it waits for what is under way, and lets go of the file first.
    ring: Option<Ring>,
    segment: Option<OpenFile>,
    memory: Option<TailMemory>,
    /// What was submitted and not handed over, in order.
    under_way: VecDeque<(Ticket, State)>,
    tickets: u64,
    /// Operations below this ticket may have left something to be flushed: `RWF_DSYNC` covers its own range only.
    written_end: u64,
    /// Operations below this ticket have left nothing, because a flush came behind them.
    flushed_end: u64,
}

/// How far an operation has got.
enum State {
    /// The ring writes.
    Writing { slot: usize, durably: bool, then_flush: bool },
    /// A flush is to follow once everything before has been written.
    Written,
    /// The ring flushes.
    Flushing { slot: usize },
    /// All is done, or nothing more can be.
    Done(io::Result<()>),
}

impl UringDevice {
    pub(super) fn new(directory: Directory) -> Self {
        Self {
            directory,
            ring: None,
            segment: None,
            memory: None,
            under_way: VecDeque::new(),
            tickets: 0,
            written_end: 0,
            flushed_end: 0,
        }
    }

    /// Sees to it that there is a ring for the calling thread, directed at the segment.
    fn prepare(&mut self) -> io::Result<()> {
        if self.ring.as_ref().is_some_and(Ring::is_here) {
            return Ok(());
        }
        if self.under_way.iter().any(|(_, state)| !matches!(state, State::Done(_))) {
            return Err(io::Error::other("another thread took the device over while it was at work"));
        }
        self.ring = None;
        let mut ring = Ring::new(self.memory.clone())?;
        if let Some(segment) = &self.segment {
            ring.register(segment)?;
        }
        self.ring = Some(ring);
        Ok(())
    }

    fn begin(&mut self, operation: Operation) -> io::Result<State> {
        self.prepare()?;
        let flush = operation.flush;
        let rest = Rest::direct(operation);
        if rest.is_empty() {
            return Ok(if flush { State::Written } else { State::Done(Ok(())) });
        }
        let durably = flush && self.written_end <= self.flushed_end;
        if !durably {
            self.written_end = self.tickets;
        }
        let slot = self.free_slot()?;
        self.ring().write(slot, rest, durably);
        Ok(State::Writing { slot, durably, then_flush: flush && !durably })
    }

    fn ring(&mut self) -> &mut Ring {
        self.ring.as_mut().expect("a device has a ring while it is at work")
    }

    /// Waits for a slot, if all are in use.
    fn free_slot(&mut self) -> io::Result<usize> {
        loop {
            if let Some(slot) = self.ring().free_slot() {
                return Ok(slot);
            }
            self.reap()?;
        }
    }

    /// Waits for something to happen, and notes what that means.
    fn reap(&mut self) -> io::Result<()> {
        let Completion { slot: completed, outcome, rest } = self.ring().wait()?;
        let segment = self.segment.as_ref().expect("a device is attached while it is at work");
        let owner = self.under_way.iter_mut().find(|(_, state)| match state {
            State::Writing { slot, .. } | State::Flushing { slot } => *slot == completed,
            State::Written | State::Done(_) => false,
        });
        let (ticket, state) = owner.expect("every request is an operation's");
        *state = match *state {
            State::Writing { slot, durably, then_flush } => {
                let mut rest = rest.expect("a write has something to write");
                match rest.note(outcome).map_err(segment.about("write")) {
                    Ok(()) if !rest.is_empty() => {
                        let ring = self.ring.as_mut().expect("a device has a ring while it is at work");
                        ring.write(slot, rest, durably);
                        State::Writing { slot, durably, then_flush }
                    }
                    Ok(()) if then_flush => State::Written,
                    Err(error) => {
                        // It may have changed something all the same.
                        self.written_end = self.tickets;
                        // A write that is a flush too does not say which of both has failed.
                        State::Done(Err(if durably { error } else { WriteRefused::mark(error) }))
                    }
                    Ok(()) => State::Done(Ok(())),
                }
            }
            _ => {
                let flushed = outcome.map(drop).map_err(segment.about("flush"));
                if flushed.is_ok() {
                    self.flushed_end = self.flushed_end.max(ticket.0 + 1);
                }
                State::Done(flushed)
            }
        };
        Ok(())
    }

    /// Brings the operation in front one step further.
    fn proceed(&mut self) -> io::Result<()> {
        if let Some((_, State::Written)) = self.under_way.front() {
            let slot = self.free_slot()?;
            self.ring().flush(slot);
            if let Some((_, state)) = self.under_way.front_mut() {
                *state = State::Flushing { slot };
            }
            return Ok(());
        }
        self.reap()
    }

    /// After the ring has failed nobody knows what becomes of anything that is under way.
    fn give_up(&mut self, error: &io::Error) {
        for (_, state) in &mut self.under_way {
            if !matches!(state, State::Done(_)) {
                *state = State::Done(Err(io::Error::new(error.kind(), format!("the io_uring: {error}"))));
            }
        }
        self.written_end = self.tickets;
        // Waits for what can be waited for; the next operation, if there is one, gets another ring.
        self.ring = None;
    }
}

impl Device for UringDevice {
    fn attach(&mut self, segment: &str) -> io::Result<()> {
        assert!(self.under_way.is_empty(), "nothing is under way when a device changes segments");
        // The lock of the segment before goes first, so that one segment can be attached again.
        self.segment = None;
        self.prepare()?;
        self.ring().unregister()?;
        self.ring().let_go();
        let file = OpenFile::open_direct(self.directory.path(segment))?;
        file.lock_when_free()?;
        self.ring().register(&file)?;
        self.segment = Some(file);
        // What others wrote to it before may not have been flushed.
        self.tickets += 1;
        self.written_end = self.tickets;
        Ok(())
    }

    fn lend(&mut self, memory: TailMemory) {
        self.memory = Some(memory);
    }

    fn submit(&mut self, operation: Operation) -> Ticket {
        assert!(self.segment.is_some(), "a device is attached before it writes");
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let state = self.begin(operation).unwrap_or_else(|error| State::Done(Err(error)));
        self.under_way.push_back((ticket, state));
        ticket
    }

    fn complete(&mut self) -> Option<(Ticket, io::Result<()>)> {
        loop {
            match self.under_way.pop_front()? {
                (ticket, State::Done(outcome)) => return Some((ticket, outcome)),
                unfinished => self.under_way.push_front(unfinished),
            }
            if let Err(error) = self.proceed() {
                self.give_up(&error);
            }
        }
    }

    fn any_thread(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
