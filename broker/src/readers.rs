//! Work that leaves memory: a few threads do for connections what may wait for the disk.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use skylark_protocol::code::ResponseCode;
use skylark_protocol::outgoing::ReplyTo;
use skylark_protocol::transport::{Mailbox, Outbox};
use skylark_storage::PhysicalOffset;
use skylark_storage::record::{RECORD_ALIGNMENT, RECORD_HEADER_BYTES, Record};

use crate::broker::Broker;
use crate::context::{Answers, Connection, Done, Handled, Refusal};
use crate::handlers::pull::Pull;
use crate::session::Mail;

/// Jobs beyond this are refused: the disk is behind by seconds already.
const JOBS_MAX: usize = 16_384;
/// Records closer together than this are read at once: a seek costs more than the bytes between.
const JOIN_BYTES_MAX: u64 = 64 << 10;

/// Work that may wait for the disk, and whose answer it prepares.
struct Job {
    reply: ReplyTo,
    /// What its answer may come to; counted against its connection until the answer is there.
    bytes: u64,
    mailbox: Arc<Mailbox<Mail>>,
    work: Box<Work>,
}

/// Gives nothing if it is to be done again, behind what others wait for.
type Work = dyn FnMut(&Broker, ReplyTo) -> Option<Outcome> + Send;

/// How far work came that takes turns with other work.
pub enum Turn {
    /// The answer is written.
    Written,
    /// It goes on when it is its turn again.
    Again,
    /// There is no answer yet: the pull is to be parked once more.
    Parked(Box<Pull>),
}

/// What a reader thread prepared for a session.
pub struct Prepared {
    /// What was counted against the connection for it.
    pub bytes: u64,
    /// The answer, or the rest of the way to it.
    pub outcome: Outcome,
}

/// How far a reader thread came with an answer.
pub enum Outcome {
    /// It goes out as it is.
    Written(Outbox),
    /// The session finishes it: it alone can hold an answer back until something is durable.
    Finish(ReplyTo, Box<Finish>),
    /// There is none yet: the session parks the pull once more.
    Parked(Box<Pull>),
}

/// Finishes an answer in its session; called again if it has to wait for a fold, or for room in the log.
pub type Finish = dyn FnMut(&Broker, &mut Answers<'_>) -> Handled + Send;

/// The queue of work between connections and reader threads.
#[derive(Default)]
pub struct Readers {
    jobs: Mutex<Jobs>,
    arrived: Condvar,
}

#[derive(Default)]
struct Jobs {
    queue: VecDeque<Job>,
    closed: bool,
}

impl Readers {
    /// Lets a reader thread answer a request. `work` writes the answer, or says why there is none; `bytes` is what
    /// the answer may come to, so that a connection cannot order without bound.
    ///
    /// # Errors
    /// When too much waits already.
    pub fn submit(
        &self,
        connection: &Connection,
        reply: ReplyTo,
        bytes: u64,
        work: impl FnOnce(&Broker, &mut Outbox) -> Result<(), Refusal> + Send + 'static,
    ) -> Handled {
        let work = move |broker: &Broker, reply: ReplyTo| {
            let mut out = Outbox::default();
            match work(broker, &mut out) {
                Ok(()) => Outcome::Written(out),
                Err(refusal) => refused(reply, &refusal),
            }
        };
        self.queue(connection, Job::new(connection, reply, bytes, once(work)))
    }

    /// Lets reader threads answer a request in turn with others: `work` is called, again and again, behind what has
    /// arrived meanwhile, until it says that it is done. `bytes` as for [`submit`](Self::submit).
    ///
    /// # Errors
    /// When too much waits already.
    pub fn take_turns(
        &self,
        connection: &Connection,
        reply: ReplyTo,
        bytes: u64,
        mut work: impl FnMut(&Broker, &mut Outbox) -> Result<Turn, Refusal> + Send + 'static,
    ) -> Handled {
        let work = move |broker: &Broker, reply: ReplyTo| {
            let mut out = Outbox::default();
            match work(broker, &mut out) {
                Ok(Turn::Written) => Some(Outcome::Written(out)),
                Ok(Turn::Parked(pull)) => Some(Outcome::Parked(pull)),
                Ok(Turn::Again) => None,
                Err(refusal) => Some(refused(reply, &refusal)),
            }
        };
        self.queue(connection, Job::new(connection, reply, bytes, work))
    }

    /// Lets a reader thread fetch what a request needs, and the session go on from there: `work` gives what finishes
    /// the request, or says why it cannot be. `bytes` as for [`submit`](Self::submit).
    ///
    /// # Errors
    /// When too much waits already.
    pub fn prepare<F>(
        &self,
        connection: &Connection,
        reply: ReplyTo,
        bytes: u64,
        work: impl FnOnce(&Broker) -> Result<F, Refusal> + Send + 'static,
    ) -> Handled
    where
        F: FnMut(&Broker, &mut Answers<'_>) -> Handled + Send + 'static,
    {
        let work = move |broker: &Broker, reply: ReplyTo| match work(broker) {
            Ok(finish) => Outcome::Finish(reply, Box::new(finish)),
            Err(refusal) => refused(reply, &refusal),
        };
        self.queue(connection, Job::new(connection, reply, bytes, once(work)))
    }

    fn queue(&self, connection: &Connection, job: Job) -> Handled {
        let mut jobs = self.jobs.lock();
        if jobs.queue.len() >= JOBS_MAX || jobs.closed {
            return Err(Refusal::new(
                ResponseCode::SYSTEM_BUSY,
                "too many reads wait for the disk; try again",
            ));
        }
        let bytes = job.bytes;
        jobs.queue.push_back(job);
        drop(jobs);
        // Relaxed: written and read by the connection's own task alone.
        connection.cold_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.arrived.notify_one();
        Ok(Done::Answered)
    }

    /// Does one job, if there is one; says whether there was.
    pub fn step(&self, broker: &Broker) -> bool {
        let job = self.jobs.lock().queue.pop_front();
        job.map(|job| self.perform(job, broker)).is_some()
    }

    /// Does jobs until [`Readers::close`].
    pub fn run(&self, broker: &Broker) {
        loop {
            let job = {
                let mut jobs = self.jobs.lock();
                while jobs.queue.is_empty() && !jobs.closed {
                    self.arrived.wait(&mut jobs);
                }
                jobs.queue.pop_front()
            };
            match job {
                Some(job) => self.perform(job, broker),
                None => return,
            }
        }
    }

    /// Does a job, and puts it behind the others if there is more to do. What is not done at the end is never answered: the
    /// connections are closing.
    fn perform(&self, job: Job, broker: &Broker) {
        if let Some(job) = job.perform(broker) {
            let mut jobs = self.jobs.lock();
            if !jobs.closed {
                jobs.queue.push_back(job);
            }
        }
    }

    /// Takes no more jobs; [`Readers::run`] returns once the queue is empty.
    pub fn close(&self) {
        self.jobs.lock().closed = true;
        self.arrived.notify_all();
    }
}

impl Job {
    fn new(
        connection: &Connection,
        reply: ReplyTo,
        bytes: u64,
        work: impl FnMut(&Broker, ReplyTo) -> Option<Outcome> + Send + 'static,
    ) -> Self {
        Self { reply, bytes, mailbox: Arc::clone(&connection.mailbox), work: Box::new(work) }
    }

    /// Gives itself back if there is more to do.
    fn perform(mut self, broker: &Broker) -> Option<Self> {
        if self.mailbox.is_closed() {
            return None;
        }
        let (reply, bytes) = (self.reply, self.bytes);
        let done = catch_unwind(AssertUnwindSafe(|| (self.work)(broker, reply)));
        let outcome = done.unwrap_or_else(|_panic| {
            let remark = "the broker failed on this read; its log says more";
            Some(refused(reply, &Refusal::new(ResponseCode::SYSTEM_ERROR, remark)))
        });
        let Some(outcome) = outcome else { return Some(self) };
        // A closed mailbox belongs to a connection that is gone.
        self.mailbox.post(Mail::Prepared(Prepared { bytes, outcome })).ok();
        None
    }
}

/// Work that is done in one go.
fn once<T>(work: impl FnOnce(&Broker, ReplyTo) -> T) -> impl FnMut(&Broker, ReplyTo) -> Option<T> {
    let mut work = Some(work);
    move |broker, reply| {
        let work = work.take().expect("what has given its outcome is not done again");
        Some(work(broker, reply))
    }
}

fn refused(reply: ReplyTo, refusal: &Refusal) -> Outcome {
    let mut out = Outbox::default();
    reply.failure(out.buffer(), refusal.code, &refusal.remark);
    Outcome::Written(out)
}

/// Reads messages as they are stored, without the records' headers: from the log's tail in memory where that holds
/// them, else from disk, neighbours together, and checked against their sums. Blocks.
///
/// # Errors
/// When one of them cannot be read, is damaged, or is not acknowledged.
pub fn fetch(broker: &Broker, records: &[(PhysicalOffset, u32)]) -> Result<Vec<Bytes>, Refusal> {
    let seed = broker.log.log_id().seed();
    let read = |at, bytes| match broker.log.read_hot(at, bytes) {
        Some(hot) => Ok(Run { bytes: hot, is_checked: true }),
        None => broker.read_cold(at, bytes).map(|bytes| Run { bytes, is_checked: false }),
    };
    let check = |at, record: &Bytes| match Record::parse(seed, at, record) {
        Ok(_) => Ok(None),
        // Looked at once more, past everything that is held in memory.
        Err(_) => broker.record_at(at).map(Some),
    };
    read_joined(records, broker.log.segment_bytes(), read, check)
}

/// Bytes with several records.
struct Run {
    bytes: Bytes,
    /// They have not been on the disk since they were appended.
    is_checked: bool,
}

/// Reads records, neighbours together, and cuts out their payloads. `check` gives the payload of a record that was read
/// wrongly, or says why there is none.
fn read_joined(
    records: &[(PhysicalOffset, u32)],
    segment_bytes: u64,
    read: impl Fn(PhysicalOffset, u32) -> Result<Run, Refusal>,
    check: impl Fn(PhysicalOffset, &Bytes) -> Result<Option<Bytes>, Refusal>,
) -> Result<Vec<Bytes>, Refusal> {
    // With its filling, which its sums do not cover but its soundness does.
    let stored = |bytes: u32| u64::from(bytes).next_multiple_of(RECORD_ALIGNMENT as u64);
    let mut messages = Vec::with_capacity(records.len());
    let mut rest = records;
    while let Some(((start, first_bytes), _)) = rest.split_first() {
        let mut end = start.advance(stored(*first_bytes));
        let mut joined = 1;
        for (at, bytes) in &rest[1..] {
            let next_end = at.advance(stored(*bytes));
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
        let Run { bytes, is_checked } = read(*start, span)?;
        for (at, record_bytes) in run {
            let from = usize::try_from(at.since(*start)).expect("within the span");
            let record_end = from + *record_bytes as usize;
            let filled_end = record_end.next_multiple_of(RECORD_ALIGNMENT).min(bytes.len());
            let checked = if is_checked { None } else { check(*at, &bytes.slice(from..filled_end))? };
            messages.push(checked.unwrap_or_else(|| bytes.slice(from + RECORD_HEADER_BYTES..record_end)));
        }
        rest = behind;
    }
    Ok(messages)
}
