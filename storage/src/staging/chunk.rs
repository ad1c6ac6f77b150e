//! The memory under the log's tail.
//!
//! A [`Chunk`] is a stretch of memory whose byte `i` is the log's byte `base + i`. It is filled once, front to back,
//! by slots that never overlap, and read only below a mark that no slot lies under any more. When nobody holds
//! the chunk any longer its memory goes back to the [`Pool`], so that a busy log pays for page faults once.
#![expect(
    unsafe_code,
    reason = "appenders fill one stretch of memory side by side, while readers share what is below"
)]

#[cfg(not(any(test, miri)))]
use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
#[cfg(not(any(test, miri)))]
use memmap2::{Advice, MmapMut, MmapOptions};
use parking_lot::Mutex;

#[cfg(any(test, miri))]
use crate::device::aligned::Block;
use crate::offset::PhysicalOffset;
use crate::segment::BLOCK_BYTES;

/// Memory begins at a multiple of this, so that a device may transfer it directly.
#[expect(clippy::cast_possible_truncation, reason = "a block is small")]
const ALIGNMENT: usize = BLOCK_BYTES as usize;
/// What a kernel calls a huge page, on most machines.
#[cfg(not(any(test, miri)))]
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// Where chunks get their memory, and where it returns to.
#[derive(Debug)]
pub(crate) struct Pool {
    chunk_bytes: usize,
    kept_max: usize,
    kept: Mutex<Vec<Arc<Memory>>>,
    /// Stretches in their second use or a later one.
    reused: Mutex<Vec<Weak<Memory>>>,
}

impl Pool {
    /// A pool of stretches of `chunk_bytes`, of which it keeps at most `kept_max` that nobody uses.
    pub(crate) fn new(chunk_bytes: usize, kept_max: usize) -> Arc<Self> {
        let kept = Mutex::new(Vec::with_capacity(kept_max));
        Arc::new(Self { chunk_bytes, kept_max, kept, reused: Mutex::default() })
    }

    /// Memory of an earlier chunk, with its content, or fresh memory, which costs nothing until it is touched.
    fn take(&self) -> Arc<Memory> {
        let Some(memory) = self.kept.lock().pop() else { return Arc::new(Memory::new(self.chunk_bytes)) };
        let mut reused = self.reused.lock();
        if !reused.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(&memory))) {
            reused.retain(|known| known.strong_count() > 0);
            reused.push(Arc::downgrade(&memory));
        }
        memory
    }

    fn give_back(&self, memory: Arc<Memory>) {
        let mut kept = self.kept.lock();
        if kept.len() < self.kept_max {
            kept.push(memory);
        }
    }
}

/// Initialised bytes, aligned, owned.
#[derive(Debug)]
struct Memory {
    /// Keeps what `first` points to allocated.
    _owner: Owner,
    first: NonNull<u8>,
    bytes: usize,
}

#[cfg(not(any(test, miri)))]
type Owner = MmapMut;
/// From the allocator where unsafe code is tested: a sanitizer notices what goes beyond it, or comes too late.
#[cfg(any(test, miri))]
type Owner = Vec<Block>;

// SAFETY: the bytes are owned through the owner alone, and nothing about them is bound to a thread.
unsafe impl Send for Memory {}
// SAFETY: a shared reference gives out addresses only; who may access what lies there is the chunk's business.
unsafe impl Sync for Memory {}

impl Memory {
    /// Where the kernel has large pages the bytes lie in those: what a device transfers is then one long piece, and not
    /// one for each page of 4 KiB.
    #[cfg(not(any(test, miri)))]
    fn new(bytes: usize) -> Self {
        let alignment = if bytes < LARGE_PAGE_BYTES { ALIGNMENT } else { LARGE_PAGE_BYTES };
        let layout = Layout::from_size_align(bytes + alignment, ALIGNMENT).expect("chunks are small");
        // Not from the allocator, which clears by hand what it aligns or hands out again: nothing here is to be
        // touched before it is used.
        let Ok(mut map) = MmapOptions::new().len(layout.size()).map_anon() else {
            handle_alloc_error(layout)
        };
        let skipped = map.as_ptr().align_offset(alignment);
        assert!(skipped < alignment, "a byte pointer can always be aligned");
        if alignment == LARGE_PAGE_BYTES {
            // A kernel without large pages refuses, and small ones do.
            drop(map.advise_range(Advice::HugePage, skipped, bytes));
        }
        let first = NonNull::from(&mut map[skipped..][..bytes]).cast();
        Self { _owner: map, first, bytes }
    }

    #[cfg(any(test, miri))]
    fn new(bytes: usize) -> Self {
        let mut blocks = vec![Block([0; ALIGNMENT]); bytes.div_ceil(ALIGNMENT)];
        Self { first: NonNull::from(blocks.as_mut_slice()).cast(), _owner: blocks, bytes }
    }
}

/// Where the bytes of a log's groups lie in memory: the same few stretches again and again, so that a device may
/// prepare them for transfers, as by registering them with the kernel.
#[derive(Clone, Debug)]
pub struct TailMemory(Arc<Pool>);

impl TailMemory {
    pub(crate) fn of(pool: &Arc<Pool>) -> Self {
        Self(Arc::clone(pool))
    }

    /// The stretch that these bytes of an operation lie in, if it is being used again: what is filled only once is not
    /// worth preparing, and may not even be filled.
    pub fn find(&self, bytes: &[u8]) -> Option<Stretch> {
        let reused = self.0.reused.lock();
        reused.iter().filter_map(Weak::upgrade).map(Stretch).find(|stretch| stretch.holds(bytes))
    }
}

/// A stretch of memory that stays allocated, and stays where it is, for as long as this lives. What lies in it is the
/// log's: only bytes of operations may be read, while they are under way.
#[derive(Debug)]
pub struct Stretch(Arc<Memory>);

impl Stretch {
    /// Where it begins.
    pub fn first(&self) -> *const u8 {
        self.0.first.as_ptr()
    }

    /// Its length.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// Whether these bytes lie in it.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        let from = bytes.as_ptr().addr().checked_sub(self.first().addr());
        from.is_some_and(|from| from <= self.bytes() && bytes.len() <= self.bytes() - from)
    }

    /// Whether nobody else has it any more: no operation will come from it, and what was prepared can be given up.
    pub fn is_left(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// Memory in use; shared by the filler, its slots and all who read.
struct Chunk {
    base: u64,
    /// `Some` until the drop returns it to the pool.
    memory: Option<Arc<Memory>>,
    pool: Arc<Pool>,
    /// Everything below has been frozen.
    frozen_end: AtomicUsize,
    #[cfg(loom)]
    tracker: super::tracker::Tracker,
}

// SAFETY: shared access reaches the bytes only through `bytes_mut` and `bytes`, whose callers keep writers apart
// from each other and from readers; everything else in a chunk never changes.
unsafe impl Sync for Chunk {}

impl Chunk {
    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("only the drop takes the memory")
    }

    /// The bytes `from .. from + bytes`, for writing.
    ///
    /// # Safety
    /// Until the reference is gone nobody else may access any of these bytes.
    #[expect(clippy::mut_from_ref, reason = "the chunk is shared, the range is not; see Safety")]
    unsafe fn bytes_mut(&self, from: usize, bytes: usize) -> &mut [u8] {
        let memory = self.memory();
        assert!(from <= memory.bytes && bytes <= memory.bytes - from, "slots lie within their chunk");
        #[cfg(loom)]
        self.tracker.write(from, bytes);
        // SAFETY: in bounds by the assertion, initialised because memory starts out zeroed, alive as long as
        // `self`; exclusive by this function's own contract.
        unsafe { slice::from_raw_parts_mut(memory.first.as_ptr().add(from), bytes) }
    }

    /// The bytes below `end`, for reading.
    ///
    /// # Safety
    /// While the chunk lives nobody may write any of these bytes.
    unsafe fn bytes(&self, end: usize) -> &[u8] {
        let memory = self.memory();
        assert!(end <= memory.bytes, "the mark lies within the chunk");
        #[cfg(loom)]
        self.tracker.read(end);
        // SAFETY: in bounds by the assertion, initialised because memory starts out zeroed, alive as long as
        // `self`; not written any more by this function's own contract.
        unsafe { slice::from_raw_parts(memory.first.as_ptr(), end) }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.pool.give_back(memory);
        }
    }
}

/// Hands a chunk out, front to back. There is one filler for each chunk, so no two slots overlap.
pub(crate) struct Filler {
    chunk: Arc<Chunk>,
    filled: usize,
}

impl Filler {
    /// A new chunk that begins at this multiple of the block. Its memory is *not* zero.
    pub(crate) fn new(pool: &Arc<Pool>, base: PhysicalOffset) -> Self {
        assert!(base.get().is_multiple_of(BLOCK_BYTES), "chunks begin where blocks do");
        let chunk = Chunk {
            base: base.get(),
            memory: Some(pool.take()),
            pool: Arc::clone(pool),
            frozen_end: AtomicUsize::new(0),
            #[cfg(loom)]
            tracker: super::tracker::Tracker::new(pool.chunk_bytes),
        };
        Self { chunk: Arc::new(chunk), filled: 0 }
    }

    /// The log's position that the chunk begins at.
    pub(crate) fn base(&self) -> PhysicalOffset {
        PhysicalOffset::new(self.chunk.base)
    }

    /// The log's position that the next slot begins at.
    pub(crate) fn position(&self) -> PhysicalOffset {
        PhysicalOffset::new(self.chunk.base + self.filled as u64)
    }

    /// Bytes not handed out yet.
    pub(crate) fn room(&self) -> usize {
        self.chunk.memory().bytes - self.filled
    }

    /// The next `bytes`, to be filled before the filler does anything else.
    ///
    /// # Panics
    /// When the room is less.
    pub(crate) fn fill(&mut self, bytes: usize) -> &mut [u8] {
        let from = self.filled;
        assert!(bytes <= self.room(), "a unit is placed where there is room for it");
        self.filled += bytes;
        // SAFETY: `filled` only grows and passes every byte once, here or in `detach`, so no other slot holds one
        // of these; readers stay below a mark that lies behind no byte in use (`freeze`). The reference borrows
        // the filler, so `freeze` cannot be reached while it lives.
        unsafe { self.chunk.bytes_mut(from, bytes) }
    }

    /// The next `bytes`, to be filled whenever their owner likes, on any thread.
    ///
    /// # Panics
    /// When the room is less.
    pub(crate) fn detach(&mut self, bytes: usize) -> Slot {
        let from = self.filled;
        assert!(bytes <= self.room(), "a unit is placed where there is room for it");
        self.filled += bytes;
        Slot { chunk: Arc::clone(&self.chunk), from, bytes }
    }

    /// A reader's end of the chunk.
    pub(crate) fn source(&self) -> Source {
        Source { chunk: Arc::clone(&self.chunk) }
    }
}

/// Bytes that their owner alone may fill.
pub(crate) struct Slot {
    chunk: Arc<Chunk>,
    from: usize,
    bytes: usize,
}

impl Deref for Slot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as in `deref_mut`; the exclusive reference is weakened at once.
        unsafe { self.chunk.bytes_mut(self.from, self.bytes) }
    }
}

impl DerefMut for Slot {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the filler gave this range to this slot alone, and slots cannot be cloned; the reference borrows
        // the slot exclusively. Readers stay away from it until the slot is gone (`freeze`).
        unsafe { self.chunk.bytes_mut(self.from, self.bytes) }
    }
}

/// Turns the finished front of a chunk into bytes to share.
#[derive(Clone)]
pub(crate) struct Source {
    chunk: Arc<Chunk>,
}

impl Source {
    /// Where the chunk begins.
    pub(crate) fn base(&self) -> PhysicalOffset {
        PhysicalOffset::new(self.chunk.base)
    }

    /// A look at the chunk from outside.
    pub(crate) fn watch(&self) -> ChunkWatch {
        ChunkWatch(Arc::downgrade(&self.chunk))
    }

    /// Everything below `end`, for as long as anybody wants it. What lies below `from` was frozen before.
    ///
    /// # Safety
    /// The bytes `from .. end` have been handed out by the chunk's filler, and no reference from `fill` and no slot
    /// that touches them exists any more. That their last writes happened before this call is the caller's to
    /// see to, by a lock or an acquire.
    ///
    /// # Panics
    /// When what was frozen before does not end at `from`.
    pub(crate) unsafe fn freeze(&self, from: PhysicalOffset, end: PhysicalOffset) -> Bytes {
        let index =
            |at: PhysicalOffset| usize::try_from(at.since(self.base())).expect("a chunk fits into memory");
        let (from, end) = (index(from), index(end));
        // Relaxed: the caller has ordered this call behind all that concerns these bytes, earlier calls included.
        let frozen_end = self.chunk.frozen_end.swap(end, Ordering::Relaxed);
        assert!(frozen_end == from && from <= end, "a chunk is frozen from its front on");
        Bytes::from_owner(Frozen { chunk: Arc::clone(&self.chunk), end })
    }
}

/// Tells whether anybody still uses a chunk, without using it.
pub(crate) struct ChunkWatch(Weak<Chunk>);

impl ChunkWatch {
    pub(crate) fn is_in_use(&self) -> bool {
        self.0.strong_count() > 0
    }
}

struct Frozen {
    chunk: Arc<Chunk>,
    end: usize,
}

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: whoever called `freeze` vouches that the bytes below `end` are written by nobody any more, and
        // the filler never hands out a byte twice.
        unsafe { self.chunk.bytes(self.end) }
    }
}

/// A block of its own with `content` in front and zeros behind.
pub(crate) fn block(pool: &Arc<Pool>, content: &[u8]) -> Bytes {
    let mut filler = Filler::new(pool, PhysicalOffset::ZERO);
    let bytes = filler.fill(ALIGNMENT);
    bytes[..content.len()].copy_from_slice(content);
    bytes[content.len()..].fill(0);
    // SAFETY: the only slot of the chunk is the reference above, which is not used any more.
    unsafe { filler.source().freeze(PhysicalOffset::ZERO, PhysicalOffset::new(BLOCK_BYTES)) }
}

/// A whole chunk that is full of one number.
#[cfg(all(test, feature = "uring"))]
pub(crate) fn whole(pool: &Arc<Pool>, number: u8) -> Bytes {
    let mut filler = Filler::new(pool, PhysicalOffset::ZERO);
    let room = filler.room();
    filler.fill(room).fill(number);
    // SAFETY: the only slot of the chunk is the reference above, which is not used any more.
    unsafe { filler.source().freeze(PhysicalOffset::ZERO, PhysicalOffset::new(room as u64)) }
}

impl fmt::Debug for Filler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filler").field("base", &self.chunk.base).field("filled", &self.filled).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
