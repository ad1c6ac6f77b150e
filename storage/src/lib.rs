//! The commit log: one append-only sequence of records, cut into segments.

pub mod checkpoint;
pub mod clock;
pub mod device;
pub mod epoch;
pub mod group;
pub mod log_id;
pub mod offset;
pub mod record;
pub mod recovery;
pub mod segment;
