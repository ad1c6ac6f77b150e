//! okaywal: entries of chunks, one file at a time, one `fsync` for all who wait.

use std::error::Error;
use std::path::Path;

use okaywal::{Configuration, LogVoid, WriteAheadLog};

use super::peer::{Peer, PeerLog};

/// The crate `okaywal`.
pub struct Okay;

/// Files are made this large ahead of use, and recycled once nearly full, so that no flush has to extend one.
const PREALLOCATED_BYTES: u32 = 64 << 20;
const CHECKPOINT_AFTER_BYTES: u64 = 48 << 20;

impl Peer for Okay {
    fn name(&self) -> &'static str {
        "okaywal 0.3"
    }

    fn settings(&self) -> &'static str {
        "an entry's commit returns after `fsync`; files of 64 MiB, recycled; a checkpoint keeps nothing; CRC32C"
    }

    fn open(&self, directory: &Path) -> Result<Box<dyn PeerLog>, Box<dyn Error>> {
        let configuration = Configuration::default_for(directory)
            .preallocate_bytes(PREALLOCATED_BYTES)
            .checkpoint_after_bytes(CHECKPOINT_AFTER_BYTES);
        Ok(Box::new(configuration.open(LogVoid)?))
    }
}

impl PeerLog for WriteAheadLog {
    fn append(&self, _appender: usize, payload: &[u8], records: usize) {
        let mut entry = self.begin_entry().expect("the log takes entries");
        for _ in 0..records {
            entry.write_chunk(payload).expect("the disk can write");
        }
        entry.commit().expect("the disk is sound");
    }
}
