//! Memory that the kernel has looked up and pinned in advance, so that a long write need not have it done page by page.
#![expect(unsafe_code, reason = "the kernel reads memory behind the borrow checker's back")]

use std::{ptr, slice};

use io_uring::IoUring;

use super::Vector;
use crate::staging::TailMemory;
use crate::staging::chunk::Stretch;

/// What a ring has registered of the log's memory. An index is the kernel's name for the stretch at that place.
///
/// A stretch is registered when it is used again, which only happens in a busy log, and given up once nobody else has
/// it. Where the kernel refuses, mostly because of `RLIMIT_MEMLOCK`, writes are as good without.
pub(super) struct Buffers {
    memory: Option<TailMemory>,
    registered: [Option<Stretch>; COUNT_MAX],
    has_table: bool,
}

/// A busy log goes round about so many stretches: its tail in memory, and what is staged.
const COUNT_MAX: usize = 12;
/// In shorter writes the difference cannot be measured.
const BYTES_MIN: usize = 64 << 10;

impl Buffers {
    /// None yet; with `memory`, as many as pay.
    pub(super) fn new(memory: Option<TailMemory>) -> Self {
        Self { memory, registered: Default::default(), has_table: false }
    }

    /// The index of the registered memory that these bytes lie in, which may become such by that.
    pub(super) fn index_of(&mut self, ring: &IoUring, bytes: &[u8]) -> Option<u16> {
        let memory = self.memory.as_ref().filter(|_| bytes.len() >= BYTES_MIN)?;
        let holds =
            |registered: &Option<Stretch>| registered.as_ref().is_some_and(|known| known.holds(bytes));
        let index = match self.registered.iter().position(holds) {
            Some(index) => index,
            None => {
                let stretch = memory.find(bytes)?;
                let index = self.registered.iter().position(Option::is_none)?;
                self.register(ring, index, stretch)?;
                index
            }
        };
        u16::try_from(index).ok()
    }

    fn register(&mut self, ring: &IoUring, index: usize, stretch: Stretch) -> Option<()> {
        let table = if self.has_table {
            Ok(())
        } else {
            ring.submitter().register_buffers_sparse(u32::try_from(COUNT_MAX).expect("a handful"))
        };
        self.has_table |= table.is_ok();
        let vector = Vector { first: stretch.first(), bytes: stretch.bytes() };
        if let Err(error) = table.and_then(|()| update(ring, index, vector)) {
            tracing::debug!(%error, "writes do without registered memory");
            self.memory = None;
            return None;
        }
        self.registered[index] = Some(stretch);
        Some(())
    }

    /// How many stretches are registered; `None` where the kernel refused.
    #[cfg(test)]
    pub(super) fn count(&self) -> Option<usize> {
        self.memory.as_ref().map(|_| self.registered.iter().flatten().count())
    }

    /// Gives up what nobody else has any more.
    pub(super) fn let_go(&mut self, ring: &IoUring) {
        for (index, registered) in self.registered.iter_mut().enumerate() {
            let none = Vector { first: ptr::null(), bytes: 0 };
            if registered.as_ref().is_some_and(Stretch::is_left) && update(ring, index, none).is_ok() {
                *registered = None;
            }
        }
    }
}

/// Makes this memory what the kernel knows by that index.
fn update(ring: &IoUring, index: usize, vector: Vector) -> std::io::Result<()> {
    let index = u32::try_from(index).expect("a handful");
    // SAFETY: `Vector` is laid out as `struct iovec`, and lives until the end of this function.
    let vectors = unsafe { slice::from_raw_parts(ptr::from_ref(&vector).cast(), 1) };
    // SAFETY: the kernel pins the pages that lie there now. They are the ones that the program writes to as long as
    // the memory stays allocated, which the stretch sees to: whoever registers one keeps it until another takes its
    // index. The pages outlive the registration, pinned or not, so none that is left over does harm.
    unsafe { ring.submitter().register_buffers_update(index, vectors, None) }
}
