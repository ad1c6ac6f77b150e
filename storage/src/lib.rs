//! The commit log: one append-only sequence of records, cut into segments.

pub mod checkpoint;
pub mod clock;
pub mod device;
pub mod epoch;
pub mod frontier;
mod ground;
pub mod group;
pub mod handover;
pub mod housekeeper;
pub mod log;
pub mod log_id;
pub mod offset;
pub mod poison;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod segment;
pub mod staging;
mod sync;
pub mod writer;

pub use clock::{Clock, SystemClock};
pub use device::{Device, File, Files};
pub use epoch::EpochStart;
pub use frontier::{Frontier, Registration};
pub use group::Chain;
pub use handover::{Group, GroupQueue, Records};
pub use housekeeper::Housekeeper;
pub use log::{AppendError, Appended, CommitLog, Frontiers, Opened, Options, Step, Visibility};
pub use log_id::LogId;
pub use offset::{Epoch, PhysicalOffset};
pub use poison::{Cause, Stopped};
pub use reader::{OwnedRecord, ReadError, Scan};
pub use record::{Kind, Record, RecordFields, RecordHeader};
pub use recovery::{OpenError, RecoveryReport};
pub use staging::{NewRecord, Place, TailPolicy};
pub use writer::Writer;
