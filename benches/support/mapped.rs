//! The strategy that the log is measured against: appenders copy into a mapped file under a lock, a thread flushes it.
//!
//! Everything but the strategy is the log's: the same records with the same checksums, the payload's computed outside
//! the lock; the file was written before, and its pages are there; one published end, waited for in the same way.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle, Thread};

use memmap2::{MmapMut, MmapOptions};
use parking_lot::Mutex;
use skylark_storage::{OwnFrontier, PhysicalOffset};

use super::load::{self, Act};
use super::records::{Encoder, Payload};
use super::scratch;

/// A mapped file, written round and round.
pub struct Mapped {
    shared: Arc<Shared>,
    flusher: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    durable: OwnFrontier,
}

struct State {
    map: MmapMut,
    /// Where the next record goes.
    at: usize,
    encoder: Encoder,
    /// Bytes appended since the beginning.
    appended: u64,
    /// Sleeps, and is to be woken by the next append.
    sleeper: Option<Thread>,
    is_closing: bool,
}

impl Mapped {
    /// Maps a new file of so many bytes.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn create(path: &Path, bytes: u64) -> io::Result<Self> {
        let file = scratch::written_file(path, bytes)?;
        #[expect(unsafe_code, reason = "a mapping of a file is what is measured")]
        // SAFETY: the file was made in a directory of this run, which nobody else writes to or cuts; the mapping is
        // reached only under the lock that owns it.
        let map = unsafe { MmapOptions::new().populate().map_mut(&file) }?;
        let state =
            State { map, at: 0, encoder: Encoder::default(), appended: 0, sleeper: None, is_closing: false };
        let durable = OwnFrontier::new(PhysicalOffset::ZERO);
        let shared = Arc::new(Shared { state: Mutex::new(state), durable });
        let flusher = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.flush(&file)
        });
        Ok(Self { shared, flusher: Some(flusher) })
    }

    /// Appends `records`, and returns on a thread that may block once they are durable.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn append_on_thread(&self, payload: &Payload, records: usize) {
        let end = self.shared.append(payload, records);
        self.shared.durable.wait_blocking(end).expect("the disk is sound");
    }
}

/// A task's appends of so many records to a mapped file, each waited for.
#[derive(Clone)]
pub struct MapInTask {
    /// Where to.
    pub mapped: Arc<Mapped>,
    /// What.
    pub payload: Payload,
    /// How many before it waits.
    pub records: usize,
}

impl Act for MapInTask {
    async fn act(&self) {
        let shared = &*self.mapped.shared;
        let end = shared.append(&self.payload, self.records);
        load::reached(&shared.durable, end).await;
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let sleeper = {
            let mut state = self.shared.state.lock();
            state.is_closing = true;
            state.sleeper.take()
        };
        sleeper.inspect(Thread::unpark);
        if let Some(flusher) = self.flusher.take() {
            flusher.join().expect("the flusher does not panic");
        }
    }
}

impl Shared {
    /// Where the last of `records` ends.
    fn append(&self, payload: &Payload, records: usize) -> PhysicalOffset {
        let mut end = 0;
        for _ in 0..records {
            end = self.append_one(payload);
        }
        PhysicalOffset::new(end)
    }

    fn append_one(&self, payload: &Payload) -> u64 {
        let crc = payload.crc();
        let (end, sleeper) = {
            let mut state = self.state.lock();
            let State { map, at, encoder, appended, sleeper, .. } = &mut *state;
            let bytes = payload.stored_bytes();
            if *at + bytes > map.len() {
                *at = 0;
            }
            encoder.record(&mut map[*at..*at + bytes], *appended, payload, crc);
            *at += bytes;
            *appended += bytes as u64;
            (*appended, sleeper.take())
        };
        sleeper.inspect(Thread::unpark);
        end
    }

    /// Flushes what has been appended, again and again: what arrives meanwhile shares the next flush.
    fn flush(&self, file: &File) {
        let mut flushed = 0;
        loop {
            let end = {
                let mut state = self.state.lock();
                if state.appended > flushed {
                    Some(state.appended)
                } else if state.is_closing {
                    return;
                } else {
                    state.sleeper = Some(thread::current());
                    None
                }
            };
            let Some(end) = end else {
                thread::park();
                continue;
            };
            file.sync_data().expect("the disk is sound");
            flushed = end;
            self.durable.publish(PhysicalOffset::new(end));
        }
    }
}
