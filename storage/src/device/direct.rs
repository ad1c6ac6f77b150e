//! `O_DIRECT`: past the page cache. Small writes are durable in one system call, `pwritev2(RWF_DSYNC)` (Linux 4.7 or newer),
//! which on disks that write through needs no flush; behind large ones `fdatasync` is a fifth faster, because
//! `RWF_DSYNC` hands a write that has landed to a thread of the kernel before it is flushed.
//!
//! Others read the segment through the page cache meanwhile. The kernel drops the cached pages of the range before
//! each direct write and again when it has landed, so whoever asks for bytes that were published after the write
//! finds them; and the bytes of a block that is written again are the same as before up to where the log ended,
//! so whoever still holds a page of it reads nothing wrong below that.

use std::collections::VecDeque;
use std::io;

use rustix::io::ReadWriteFlags;

use super::directory::Directory;
use super::open_file::OpenFile;
use super::rest::Rest;
use super::{Device, Operation, Ticket, WriteRefused};

/// Writes past the page cache. Does each operation when it is submitted, and hands over the outcome when asked.
pub(super) struct DirectDevice {
    directory: Directory,
    segment: Option<OpenFile>,
    /// Whether anything may have been written to the segment that no flush has covered: `RWF_DSYNC` covers its own
    /// range only. That includes what others wrote to it before it was attached.
    unflushed: bool,
    done: VecDeque<(Ticket, io::Result<()>)>,
    tickets: u64,
}

/// Longer writes are flushed by a call of its own.
const DSYNC_BYTES_MAX: usize = 64 << 10;

impl DirectDevice {
    pub(super) fn new(directory: Directory) -> Self {
        Self { directory, segment: None, unflushed: true, done: VecDeque::new(), tickets: 0 }
    }

    fn carry_out(&mut self, operation: Operation) -> io::Result<()> {
        let segment = self.segment.as_ref().expect("a device is attached before it writes");
        let flush = operation.flush;
        let rest = Rest::direct(operation);
        let writes = !rest.is_empty();
        let durably = flush && writes && !self.unflushed && rest.bytes() <= DSYNC_BYTES_MAX;
        let flags = if durably { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
        // Until it has succeeded: a write that failed may have changed something all the same.
        self.unflushed |= writes;
        rest.write_all(|slices, at| Ok(rustix::io::pwritev2(&segment.file, slices, at, flags)?))
            .map_err(segment.about("write"))
            // A write that is a flush too does not say which of both has failed.
            .map_err(|error| if durably { error } else { WriteRefused::mark(error) })?;
        if flush && !durably {
            segment.sync_data()?;
        }
        self.unflushed &= !flush;
        Ok(())
    }
}

impl Device for DirectDevice {
    fn attach(&mut self, segment: &str) -> io::Result<()> {
        assert!(self.done.is_empty(), "nothing is under way when a device changes segments");
        // The lock of the segment before goes first, so that one segment can be attached again.
        self.segment = None;
        let file = OpenFile::open_direct(self.directory.path(segment))?;
        file.lock_when_free()?;
        self.segment = Some(file);
        self.unflushed = true;
        Ok(())
    }

    fn submit(&mut self, operation: Operation) -> Ticket {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let outcome = self.carry_out(operation);
        self.done.push_back((ticket, outcome));
        ticket
    }

    fn complete(&mut self) -> Option<(Ticket, io::Result<()>)> {
        self.done.pop_front()
    }
}
