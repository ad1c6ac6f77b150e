//! Reads that leave memory: a few threads fetch from disk what no connection's task may wait for.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use skylark_protocol::code::ResponseCode;
use skylark_protocol::transport::{Mailbox, Outbox};
use skylark_storage::PhysicalOffset;
use skylark_storage::record::RECORD_HEADER_BYTES;

use crate::context::Refusal;
use crate::handlers::pull::Found;
use crate::session::Mail;

/// Jobs beyond this are refused: the disk is behind by seconds already.
const JOBS_MAX: usize = 16_384;
/// Records closer together than this are read at once: a seek costs more than the bytes between.
const JOIN_BYTES_MAX: u64 = 64 << 10;

/// Messages to be read, in the order of their queue, and the answer they belong to.
pub struct ColdJob {
    /// Where each record lies: its first byte, and its length with the header and without filling.
    pub records: Vec<(PhysicalOffset, u32)>,
    /// What they come to together.
    pub bytes: u64,
    /// What to answer besides the messages.
    pub found: Found,
    /// Whose it is.
    pub mailbox: Arc<Mailbox<Mail>>,
}

/// An answer whose bytes came from disk.
pub struct ColdAnswer {
    /// What the job said its messages come to.
    pub bytes: u64,
    /// What to answer besides the messages.
    pub found: Found,
    /// The messages, or why they could not be read.
    pub messages: Result<Vec<Bytes>, Refusal>,
}

impl ColdAnswer {
    /// Writes the answer.
    pub fn write(self, out: &mut Outbox) {
        match self.messages {
            Ok(messages) => self.found.write(messages, out),
            Err(refusal) => self.found.reply.failure(out.buffer(), refusal.code, &refusal.remark),
        }
    }
}

/// The queue of reads between connections and reader threads.
pub struct Readers {
    jobs: Mutex<Jobs>,
    arrived: Condvar,
    segment_bytes: u64,
}

#[derive(Default)]
struct Jobs {
    queue: VecDeque<ColdJob>,
    closed: bool,
}

impl Readers {
    /// An empty queue, for a log whose segments have this length: a read stays within one file.
    pub fn new(segment_bytes: u64) -> Self {
        Self { jobs: Mutex::default(), arrived: Condvar::new(), segment_bytes }
    }

    /// Queues a read.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn submit(&self, job: ColdJob) -> Result<(), Refusal> {
        let mut jobs = self.jobs.lock();
        if jobs.queue.len() >= JOBS_MAX || jobs.closed {
            return Err(Refusal::new(
                ResponseCode::SYSTEM_BUSY,
                "too many reads wait for the disk; try again",
            ));
        }
        jobs.queue.push_back(job);
        drop(jobs);
        self.arrived.notify_one();
        Ok(())
    }

    /// Does one queued read, if there is one; says whether there was.
    pub fn step(&self, read: impl Fn(PhysicalOffset, u32) -> Result<Bytes, Refusal>) -> bool {
        let job = self.jobs.lock().queue.pop_front();
        job.map(|job| self.perform(job, &read)).is_some()
    }

    /// Does reads until [`Readers::close`].
    pub fn run(&self, read: impl Fn(PhysicalOffset, u32) -> Result<Bytes, Refusal>) {
        loop {
            let job = {
                let mut jobs = self.jobs.lock();
                while jobs.queue.is_empty() && !jobs.closed {
                    self.arrived.wait(&mut jobs);
                }
                jobs.queue.pop_front()
            };
            match job {
                Some(job) => self.perform(job, &read),
                None => return,
            }
        }
    }

    /// Takes no more reads; [`Readers::run`] returns once the queue is empty.
    pub fn close(&self) {
        self.jobs.lock().closed = true;
        self.arrived.notify_all();
    }

    fn perform(&self, job: ColdJob, read: &impl Fn(PhysicalOffset, u32) -> Result<Bytes, Refusal>) {
        if job.mailbox.is_closed() {
            return;
        }
        let messages = catch_unwind(AssertUnwindSafe(|| fetch(&job.records, self.segment_bytes, read)));
        let messages = messages.unwrap_or_else(|_panic| {
            Err(Refusal::new(ResponseCode::SYSTEM_ERROR, "the broker failed on this read; its log says more"))
        });
        let answer = ColdAnswer { bytes: job.bytes, found: job.found, messages };
        // A closed mailbox belongs to a connection that is gone.
        job.mailbox.post(Mail::Cold(answer)).ok();
    }
}

/// Reads records, neighbours together, and cuts out their payloads.
fn fetch(
    records: &[(PhysicalOffset, u32)],
    segment_bytes: u64,
    read: impl Fn(PhysicalOffset, u32) -> Result<Bytes, Refusal>,
) -> Result<Vec<Bytes>, Refusal> {
    let mut messages = Vec::with_capacity(records.len());
    let mut rest = records;
    while let Some(((start, first_bytes), _)) = rest.split_first() {
        let mut end = start.advance(u64::from(*first_bytes));
        let mut joined = 1;
        for (at, bytes) in &rest[1..] {
            let next_end = at.advance(u64::from(*bytes));
            let near = *at >= end && at.since(end) <= JOIN_BYTES_MAX;
            let same_file = at.align_down(segment_bytes) == start.align_down(segment_bytes);
            if !near || !same_file || next_end.since(*start) > 16 * JOIN_BYTES_MAX {
                break;
            }
            end = next_end;
            joined += 1;
        }
        let (run, behind) = rest.split_at(joined);
        let span =
            u32::try_from(end.since(*start)).expect("a run is about a mebibyte, a record at most four");
        let bytes = read(*start, span)?;
        for (at, record_bytes) in run {
            let from = usize::try_from(at.since(*start)).expect("within the span");
            messages.push(bytes.slice(from + RECORD_HEADER_BYTES..from + *record_bytes as usize));
        }
        rest = behind;
    }
    Ok(messages)
}
