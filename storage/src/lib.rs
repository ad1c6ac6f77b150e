//! The commit log: one append-only sequence of records per store, cut into segments.
//!
//! ```text
//!  append ──► staging ──► writer ──► write, flush ──► frontier ──► acknowledge
//!               │            │           device          │
//!               └── chunk ───┴──► tail in memory         └──► handover ──► folds
//! ```
//!
//! | to change…                                       | open                                       |
//! |--------------------------------------------------|--------------------------------------------|
//! | what a user of the log meets                     | `log`; `log::open` puts the parts together |
//! | where a record goes, what the append lock covers | `staging`; [`Place`] is what it tells      |
//! | the memory that appenders and readers share      | `staging::chunk`; it, its parent, `device::uring::ring` and `device::map` are the modules with `unsafe` |
//! | how groups reach the disk, rolling               | `writer`                                   |
//! | threads for whoever drives nothing by hand       | `log::running`                             |
//! | segment files ahead of the writer, full disks    | `ground`; `pause` says when to try again, `lack` what is missing |
//! | checkpoints, idle work                           | `housekeeper`                              |
//! | how waiters learn that something is durable      | `frontier`                                 |
//! | what folds get                                   | `handover`                                 |
//! | which segments there are, giving up the oldest   | `catalogue`, `log::trim`                   |
//! | how long it is kept, and who holds some of it    | [`retention`]                              |
//! | reading: hot, cold, by offset, by group          | `reader`; `reader::cold` is the way to files, `reader::budget` slows it |
//! | what a restart keeps                             | [`recovery`], from [`checkpoint`] on       |
//! | which opening wrote what                         | [`epoch`]                                  |
//! | the bytes                                        | [`record`], [`mod@group`], [`segment`], [`checkpoint`]; `FORMAT.md` |
//! | how a failure stops everything                   | `poison`                                   |
//! | how we talk to the kernel                        | [`device`], and [`clock`]                  |
//! | looking at a log, and verifying it, offline      | [`inspect`]                                |
//!
//! Promise: a record acknowledged as durable survives power loss, and recovery yields a prefix of what was
//! appended, never a gap. Start reading at [`CommitLog::append`].
//!
//! The machines ([`Writer`], [`Housekeeper`], and whoever folds the [`GroupQueue`]) are stepped by hand, run on threads
//! of the user's own, or all three on threads that [`Opened::run`] starts; the log itself starts none.

#![deny(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]

mod catalogue;
pub mod checkpoint;
pub mod clock;
pub mod device;
pub mod epoch;
mod frontier;
mod ground;
pub mod group;
mod handover;
mod housekeeper;
pub mod inspect;
mod lack;
mod log;
mod log_id;
mod offset;
mod pause;
mod poison;
mod reader;
pub mod record;
pub mod recovery;
pub mod retention;
pub mod segment;
mod staging;
mod sync;
mod writer;

pub use catalogue::SegmentInfo;
pub use clock::{Clock, SystemClock};
pub use device::{Device, File, Files};
pub use epoch::EpochStart;
pub use frontier::{Frontier, OwnFrontier, Registration};
pub use group::Chain;
pub use handover::{Group, GroupQueue, Records};
pub use housekeeper::Housekeeper;
pub use log::{
    AppendError, Appended, CommitError, CommitLog, Frontiers, Gather, Gatherer, Opened, Options, Running,
    Step, TrimError, Visibility,
};
pub use log_id::{LogId, Seed};
pub use offset::{Epoch, PhysicalOffset};
pub use poison::{Cause, Stopped};
pub use reader::{ChainPoint, OwnedRecord, ReadError, Scan};
pub use record::{Kind, Record, RecordFields, RecordHeader};
pub use recovery::{OpenError, RecoveryReport};
pub use retention::{Pin, PinError, PinInfo, Retention};
pub use staging::{NewRecord, Place, Stretch, TailMemory, TailPolicy};
pub use writer::Writer;

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
