//! The table of [`skylark_benches::limits`], with raft-engine beside okaywal.
//!
//! raft-engine is the log of TiKV: many logs, one for each Raft group, in one sequence of files. Each appender is a
//! group here, as raft-engine wants it. Concurrent writes are led by one of the threads and share its `fdatasync`.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
use skylark_benches::limits;
use skylark_benches::support::okay::Okay;
use skylark_benches::support::peer::{Peer, PeerLog};

fn main() -> ExitCode {
    limits::main(&[&Okay, &RaftEngine])
}

struct RaftEngine;

impl Peer for RaftEngine {
    fn name(&self) -> &'static str {
        "raft-engine 0.4"
    }

    fn settings(&self) -> &'static str {
        "`write(batch, sync = true)`; files of 128 MiB, filled before the run and recycled; no compression; a Raft \
         group for each appender"
    }

    fn open(&self, directory: &Path) -> Result<Box<dyn PeerLog>, Box<dyn Error>> {
        let config = Config {
            dir: directory.to_str().ok_or("the directory has no name in UTF-8")?.to_owned(),
            batch_compression_threshold: ReadableSize::kb(0),
            purge_threshold: ReadableSize::mb(512),
            enable_log_recycle: true,
            prefill_for_recycle: true,
            prefill_limit: Some(ReadableSize::gb(1)),
            ..Config::default()
        };
        let next = (0..APPENDERS_MAX).map(|_| AtomicU64::new(1)).collect();
        Ok(Box::new(Log { engine: Engine::open(config)?, next }))
    }
}

/// More than any cell has.
const APPENDERS_MAX: usize = 1024;
/// Entries of a group that are kept before the oldest are given up, as followers that keep up allow.
const KEPT: u64 = 1024;

struct Log {
    engine: Engine,
    /// Of each appender's group, the index of the next entry.
    next: Vec<AtomicU64>,
}

/// An entry is a payload behind its index.
#[derive(Clone)]
struct Indexed;

impl MessageExt for Indexed {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        let index = entry.get_value().first_chunk().copied().unwrap_or_default();
        u64::from_le_bytes(index)
    }
}

impl PeerLog for Log {
    fn append(&self, appender: usize, payload: &[u8], records: usize) {
        let group = appender as u64 + 1;
        // Relaxed: an appender's calls do not overlap.
        let first = self.next[appender].fetch_add(records as u64, Ordering::Relaxed);
        let entries: Vec<BytesValue> = (first..first + records as u64)
            .map(|index| {
                let mut value = payload.to_vec();
                value[..8].copy_from_slice(&index.to_le_bytes());
                let mut entry = BytesValue::new();
                entry.set_value(value);
                entry
            })
            .collect();
        let mut batch = LogBatch::with_capacity(1);
        batch.add_entries::<Indexed>(group, &entries).expect("the entries are in order");
        self.engine.write(&mut batch, true).expect("the disk is sound");
        if first / KEPT != (first + records as u64) / KEPT {
            self.engine.compact_to(group, first);
        }
    }

    fn tidy(&self) {
        for (appender, next) in self.next.iter().enumerate() {
            let next = next.load(Ordering::Relaxed);
            if next > 1 {
                self.engine.compact_to(appender as u64 + 1, next - 1);
            }
        }
        self.engine.purge_expired_files().expect("the disk is sound");
    }
}
