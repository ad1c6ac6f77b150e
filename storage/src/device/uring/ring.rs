//! The one place that talks to an io_uring: memory that the kernel reads stays where it is until it is done.
#![expect(unsafe_code, reason = "the kernel reads memory behind the borrow checker's back")]

use std::io;
use std::os::fd::AsRawFd;
use std::thread::{self, ThreadId};

use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};
use parking_lot::Mutex;
use rustix::io::{Errno, ReadWriteFlags};
use smallvec::SmallVec;

use super::Vector;
use super::buffers::Buffers;
use crate::device::open_file::OpenFile;
use crate::device::rest::Rest;
use crate::staging::TailMemory;

/// Requests that may be under way at a time.
pub(super) const SLOTS: usize = 8;

/// An io_uring with one file, and the requests that it works on.
///
/// It belongs to the thread that made it: the kernel is told that nobody else submits, and that completions are
/// worked off when that thread waits for them, not in the middle of something else.
pub(super) struct Ring {
    thread: ThreadId,
    /// Declared before the requests: when it is gone nothing is submitted any more.
    ring: IoUring,
    slots: Slots,
    has_file: bool,
    buffers: Buffers,
}

/// A request keeps its place in memory when the ring moves.
type Slots = [Option<Box<Request>>; SLOTS];

/// What a request consists of.
struct Request {
    /// `None` for a flush.
    rest: Option<Rest>,
    /// Of the pieces of `rest`, as the kernel reads them.
    vectors: SmallVec<[Vector; 3]>,
    /// Where in the file.
    at: u64,
}

// SAFETY: the pointers lead into the bytes that `rest` owns, wherever the request goes; nothing about them is bound
// to a thread.
unsafe impl Send for Request {}

/// What has become of a request.
pub(super) struct Completion {
    pub(super) slot: usize,
    /// Bytes written, if it was a write.
    pub(super) outcome: io::Result<usize>,
    /// What was to be written.
    pub(super) rest: Option<Rest>,
}

impl Ring {
    /// A ring of the calling thread.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where the kernel has none or forbids it; whatever else is in the way.
    pub(super) fn new(memory: Option<TailMemory>) -> io::Result<Self> {
        let entries = u32::try_from(SLOTS).expect("a handful");
        let ring = match IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries) {
            // Linux before 6.1 knows a part of these, or none.
            Err(error) if is(&error, Errno::INVAL) => IoUring::new(entries),
            built => built,
        };
        let ring = ring.map_err(|error| {
            let kind = match Errno::from_io_error(&error) {
                Some(Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::INVAL) => io::ErrorKind::Unsupported,
                _ => error.kind(),
            };
            let hint = "kernel.io_uring_disabled, a container's seccomp profile or the kernel may forbid it";
            io::Error::new(kind, format!("cannot set up an io_uring: {error} ({hint})"))
        })?;
        let buffers = Buffers::new(memory);
        Ok(Self { thread: thread::current().id(), ring, slots: Default::default(), has_file: false, buffers })
    }

    /// Whether the calling thread is the one that the ring belongs to.
    pub(super) fn is_here(&self) -> bool {
        self.thread == thread::current().id()
    }

    /// Directs requests at a file, of which the ring keeps a reference of its own.
    pub(super) fn register(&mut self, file: &OpenFile) -> io::Result<()> {
        let descriptor = file.file.as_raw_fd();
        let submitter = self.ring.submitter();
        let outcome = if self.has_file {
            submitter.register_files_update(0, &[descriptor]).map(drop)
        } else {
            submitter.register_files(&[descriptor])
        };
        outcome.map_err(file.about("register"))?;
        self.has_file = true;
        Ok(())
    }

    /// Lets go of the file, and with it of the lock that it holds.
    pub(super) fn unregister(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.has_file) { self.ring.submitter().unregister_files() } else { Ok(()) }
    }

    /// Gives registered memory up that nobody else has any more. Nothing may be under way.
    pub(super) fn let_go(&mut self) {
        assert!(self.is_idle(), "the kernel may be reading it");
        self.buffers.let_go(&self.ring);
    }

    /// How much memory is registered; `None` where the kernel refused.
    #[cfg(test)]
    pub(super) fn registered(&self) -> Option<usize> {
        self.buffers.count()
    }

    /// A slot that no request is in.
    pub(super) fn free_slot(&self) -> Option<usize> {
        self.slots.iter().position(Option::is_none)
    }

    /// Begins to write; with `durably`, exactly these bytes are durable on completion.
    ///
    /// # Panics
    /// When the slot is not free.
    pub(super) fn write(&mut self, slot: usize, rest: Rest, durably: bool) {
        let flags = if durably { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
        let flags = i32::try_from(flags.bits()).expect("a small flag");
        let vectors =
            rest.slices().into_iter().map(|piece| Vector { first: piece.as_ptr(), bytes: piece.len() });
        let request = Box::new(Request { vectors: vectors.collect(), at: rest.at(), rest: Some(rest) });
        let Request { vectors, at, rest } = &*request;
        let registered =
            rest.as_ref().and_then(Rest::single).and_then(|piece| self.buffers.index_of(&self.ring, piece));
        let entry = match (registered, &vectors[..]) {
            (Some(index), [Vector { first, bytes }]) => {
                let bytes = u32::try_from(*bytes).expect("a group is short");
                opcode::WriteFixed::new(Fixed(0), *first, bytes, index).offset(*at).rw_flags(flags).build()
            }
            _ => {
                let count = u32::try_from(vectors.len()).expect("a few pieces");
                let first = vectors.as_ptr().cast();
                opcode::Writev::new(Fixed(0), first, count).offset(*at).rw_flags(flags).build()
            }
        };
        self.push(slot, request, entry);
    }

    /// Begins a flush of what has been written.
    ///
    /// # Panics
    /// When the slot is not free.
    pub(super) fn flush(&mut self, slot: usize) {
        let flush = opcode::Fsync::new(Fixed(0)).flags(FsyncFlags::DATASYNC).build();
        self.push(slot, Box::new(Request { rest: None, vectors: SmallVec::new(), at: 0 }), flush);
    }

    fn push(&mut self, slot: usize, request: Box<Request>, entry: squeue::Entry) {
        assert!(self.slots[slot].is_none(), "a slot takes one request at a time");
        self.slots[slot] = Some(request);
        let entry = entry.user_data(slot as u64);
        // SAFETY: until this request completes, the kernel reads the vectors and the bytes that they lead to.
        // - alive: `slots` owns both, and only `wait`, given the completion, takes them out; `Drop` waits for all
        //   completions before the slots go, and keeps for ever what it cannot wait for;
        // - still: the request is boxed, and with it the vectors; the bytes are on the heap of their `Bytes`;
        // - unwritten: `Bytes` never change while somebody holds them, and `rest` is not touched in the slot;
        // - registered: memory that is named by its index is the same that the bytes lie in (`Buffers`);
        // - open: the ring has a reference to the file of its own.
        let queued = unsafe { self.ring.submission().push(&entry) };
        queued.expect("the queue holds as many entries as there are slots");
    }

    /// Submits what was begun, and waits for a completion.
    ///
    /// # Errors
    /// When the kernel takes no requests or does not tell what became of them. What was begun is in doubt, and its
    /// memory stays out of use.
    ///
    /// # Panics
    /// When nothing is under way.
    pub(super) fn wait(&mut self) -> io::Result<Completion> {
        assert!(!self.is_idle(), "somebody waits for a completion that never comes");
        loop {
            if let Some(completed) = self.ring.completion().next() {
                let slot = usize::try_from(completed.user_data()).expect("the number of a slot");
                let request = self.slots[slot].take().expect("a request completes once");
                let outcome = usize::try_from(completed.result())
                    .map_err(|_| io::Error::from_raw_os_error(-completed.result()));
                return Ok(Completion { slot, outcome, rest: request.rest });
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if !is(&error, Errno::INTR) => return Err(error),
                _ => {}
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while !self.is_idle() {
            if let Err(error) = self.wait() {
                tracing::error!(%error, "memory is given up, because the kernel may still read it");
                GIVEN_UP.lock().push(std::mem::take(&mut self.slots));
                return;
            }
        }
        // Otherwise the file, and its lock, would go some time after the ring. A ring of another thread does that.
        self.unregister().ok();
    }
}

/// Requests that the kernel may still be working on, though nobody can ask any more: kept for ever.
static GIVEN_UP: Mutex<Vec<Slots>> = Mutex::new(Vec::new());

fn is(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}
