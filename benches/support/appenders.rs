//! The log as a contestant: opened and driven by threads, and how appends to it are made and waited for.
//!
//! Everything that a user of the log can choose about an append (who writes it, who is woken) is chosen here.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use skylark_storage::{
    AppendError, Appended, CommitLog, Files, Frontier, Kind, NewRecord, Opened, Options, PhysicalOffset,
    RecoveryReport, SystemClock, Visibility,
};

use super::devices::{self, Choice};
use super::load::{self, Act};
use super::records::{HEAD_BYTES, Payload};
use super::scratch;

/// A log with its machines on threads. Nobody folds its groups.
pub struct RunningLog {
    /// For appends and reads.
    pub log: CommitLog<u64>,
    /// What opening it found.
    pub recovery: RecoveryReport,
    machines: [JoinHandle<()>; 2],
}

impl RunningLog {
    /// Opens a log.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn open(files: Arc<dyn Files>, options: Options) -> Self {
        let opened = CommitLog::open(files, Arc::new(SystemClock::new()), options, 0);
        let Opened { log, writer, housekeeper, groups, recovery } =
            opened.expect("the directory holds a sound log");
        drop(groups);
        let machines = [thread::spawn(|| writer.run()), thread::spawn(|| housekeeper.run())];
        Self { log, recovery, machines }
    }

    /// Opens a log in a directory.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn open_at(directory: &Path, choice: Choice, options: Options) -> Self {
        let files = devices::open(directory, choice).expect("the directory can be used");
        Self::open(Arc::new(files), options)
    }

    /// Closes the log, and waits for its threads.
    ///
    /// # Panics
    /// When one of them panicked.
    pub fn close(self) {
        self.log.close();
        self.log.wait_stopped();
        self.machines.into_iter().for_each(|machine| machine.join().expect("no thread of the log panics"));
    }

    /// Appends to a new log until its next segment is due to be prepared, and sleeps until nothing is left to prepare:
    /// about as much as a segment takes can then be appended before the log does anything but write.
    pub fn prepare(&self, directory: &Path, payload: &Payload) {
        let segment_bytes = self.log.segment_bytes();
        let deadline = Instant::now() + PREPARED_WITHIN;
        while self.log.prepared_end() < PhysicalOffset::new(segment_bytes) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        fill(&self.log, payload, segment_bytes / 4);
        // The next one gets its name when it is complete.
        while scratch::segments(directory).is_ok_and(|segments| segments.len() < 2)
            && Instant::now() < deadline
        {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sleeps until the next segment is prepared, or nothing comes of it.
    pub fn wait_prepared(&self, directory: &Path) {
        let spare = directory.join("log/spare");
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut length = None;
        while Instant::now() < deadline {
            let next = spare.metadata().map(|metadata| metadata.len()).ok();
            if length == Some(next) {
                return;
            }
            length = Some(next);
            thread::sleep(Duration::from_millis(150));
        }
    }
}

const PREPARED_WITHIN: Duration = Duration::from_secs(30);

fn stage(log: &CommitLog<u64>, payload: &Payload) -> Result<Appended, AppendError> {
    let record = NewRecord { kind: Kind::new(16), head: &[0; HEAD_BYTES], rest: &[payload.rest()] };
    log.append(&[record], |count, place, head| {
        head[..8].copy_from_slice(&count.to_be_bytes());
        head[8..16].copy_from_slice(&place.physical_offset.get().to_be_bytes());
        head[16..24].copy_from_slice(&place.stored_at.to_be_bytes());
        *count += 1;
    })
}

/// Appends one record; where it ends.
///
/// # Panics
/// When the log refuses: what is measured so stays within the budget.
pub fn append(log: &CommitLog<u64>, payload: &Payload) -> PhysicalOffset {
    stage(log, payload).expect("the log takes what fits its budget").end
}

/// The end that this log acknowledges.
fn acknowledged(log: &CommitLog<u64>) -> &Frontier {
    log.visible()
}

/// A task's appends of so many records to a log, each time waited for until they are acknowledged.
#[derive(Clone)]
pub struct AppendInTask {
    /// Where to.
    pub log: CommitLog<u64>,
    /// What.
    pub payload: Payload,
    /// How many before it waits.
    pub records: usize,
}

impl Act for AppendInTask {
    async fn act(&self) {
        let Self { log, payload, records } = self;
        let end = {
            let gather = log.gather();
            let end = append_many(log, payload, *records);
            gather.write_here();
            end
        };
        load::reached(acknowledged(log), end).await;
    }
}

/// Appends `records`, and returns on a thread that may block once they are acknowledged.
///
/// # Panics
/// When the log stops first.
pub fn append_on_thread(log: &CommitLog<u64>, payload: &Payload, records: usize) {
    let gather = log.gather();
    let end = append_many(log, payload, records);
    gather.write_here();
    acknowledged(log).wait_blocking(end).expect("the disk is sound");
}

fn append_many(log: &CommitLog<u64>, payload: &Payload, records: usize) -> PhysicalOffset {
    let mut end = PhysicalOffset::ZERO;
    for _ in 0..records {
        end = append(log, payload);
    }
    end
}

/// Appends as fast as the log takes it, until it ends at `until` or beyond; how many records that were. Told to slow
/// down, it waits until half of what is staged has been written.
///
/// # Panics
/// When the log stops.
pub fn append_under_pressure(log: &CommitLog<u64>, payload: &Payload, until: PhysicalOffset) -> u64 {
    let (mut end, mut records) = (PhysicalOffset::ZERO, 0);
    while end < until {
        match stage(log, payload) {
            Ok(appended) => {
                end = appended.end;
                records += 1;
            }
            Err(AppendError::Backpressure { staged_bytes, .. }) => {
                let frontiers = log.frontiers();
                let middle = frontiers.appended_end.get().saturating_sub(staged_bytes / 2);
                let middle = middle.max(frontiers.written_end.get() + 1);
                log.written().wait_blocking(PhysicalOffset::new(middle)).expect("the disk is sound");
            }
            Err(error) => panic!("the log refuses: {error}"),
        }
    }
    records
}

/// Fills a log with so many bytes of records, by pipelines on this thread, and returns when they are durable.
///
/// # Panics
/// When the log stops.
pub fn fill(log: &CommitLog<u64>, payload: &Payload, bytes: u64) {
    let end = log.frontiers().appended_end.advance(bytes);
    append_under_pressure(log, payload, end);
    let end = log.frontiers().appended_end;
    log.durable().wait_blocking(end).expect("the disk is sound");
}

/// Options of a log that acknowledges what the kernel has.
pub fn written() -> Options {
    Options { visibility: Visibility::Written, ..Options::default() }
}
