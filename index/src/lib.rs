#![forbid(unsafe_code)]
#![deny(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]
#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! ```text
//!  Index ──► Queues            names → slab ids; per queue: minimum, next offset, spine
//!    │
//!    ├─────► ActiveSegment …   in memory: a directory of runs, a column of entries, keys, timers
//!    │             │ write
//!    └─────► SealedSegments    files: the same, grouped by run, in verified pages
//! ```
//!
//! | to change…                                          | open        |
//! |-----------------------------------------------------|-------------|
//! | what a caller can ask, and what a push must satisfy | `index`     |
//! | how a queue is named, its minimum and head          | `queue`     |
//! | how a segment in memory keeps its entries           | `active`    |
//! | how a run finds the runs of older segments          | `directory`, `spine`, `way` |
//! | how a reader walks along a queue in memory          | `entries`   |
//! | how a time becomes a queue offset                   | `times`     |
//! | messages by key, messages by due time               | `keys`; `timers`, `due` |
//! | index files: bytes, writing, reading, cache         | `sealed`    |
//! | what a restart finds                                | `snapshot`  |
//! | how a lost file is built anew                       | `rebuild`   |
//! | how the oldest segment goes                         | `trim`      |
//! | which files are of no use any more                  | `leftover`  |
//! | how columns grow without copying                    | `column`    |
//!
//! Start reading at [`Index::push`], [`Index::entry`] and [`SealedQueue::entries`].
//!
//! # The life of a segment's index
//!
//! 1. [`Index::begin_segment`], then [`Index::push`] for each message: it is in memory.
//! 2. The next segment is begun: it is finished. [`Index::unsealed`] shares it, [`Unsealed::write`] makes its file
//!    without the lock, [`Index::attach`] replaces memory by the file.
//! 3. [`Index::snapshot`], taken behind `begin_segment` and published once everything before is sealed, is what
//!    [`Index::restore`] begins with; the log's segments from its position on are begun and pushed again.
//!    [`remove_beyond`] comes before that.
//! 4. A file that is missing or [discarded](Index::discard) is built anew: [`Index::missing`], [`Index::rebuild`],
//!    [`Index::attach`], oldest first.
//! 5. [`Index::trim_plan`] and [`Index::trim`] drop it; [`remove_below`] removes the file when no snapshot that is
//!    kept knows the segment.

mod active;
mod column;
mod directory;
mod due;
mod entries;
mod index;
mod keys;
mod leftover;
mod queue;
mod rebuild;
mod sealed;
mod snapshot;
mod spine;
mod timers;
mod times;
mod trim;
mod way;

pub use entries::Entries;
pub use index::{Answer, Entry, Extras, HeadError, Index, PushError, SegmentError};
pub use keys::{Found, key_hash};
pub use leftover::{remove_below, remove_beyond};
pub use queue::QueueId;
pub use rebuild::{Rebuild, RebuildError, RebuildPlan};
pub use sealed::segments::SegmentSpan;
pub use sealed::{SealedError, SealedQueue, SealedSegment, SealedSegments, Unsealed};
pub use snapshot::{RestoreError, needed_from};
pub use timers::{Timer, TimerKey};
pub use trim::{Trim, TrimPlan};
