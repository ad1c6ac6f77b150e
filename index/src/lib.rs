#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! ```text
//!  Index ──► Queues            names → slab ids; per queue: minimum, next offset, newest run
//!    │
//!    └─────► ActiveSegment …   one per segment: a directory of runs, a column of entries, anchors
//! ```
//!
//! | to change…                                          | open        |
//! |-----------------------------------------------------|-------------|
//! | what a caller can ask, and what a push must satisfy | `index`     |
//! | how a queue is named, its minimum and head          | `queue`     |
//! | how one segment keeps its entries                   | `active`    |
//! | how a run finds the runs of older segments          | `directory` |
//! | how a reader walks along a queue                    | `cursor`    |
//! | how a time becomes a queue offset                   | `times`     |
//! | how columns grow without copying                    | `column`    |
//!
//! Start reading at [`Index::push`] and [`Index::entry`].

mod active;
mod column;
mod directory;
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
