//! Closed loops: everybody does one thing after the other, and the next only when the last is done.
//!
//! A run has phases, which one conductor changes; what an appender completes counts for the phase it completes in, and
//! for none in phase zero. A latency reaches from one completion to the next: the clock is read once for each.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use skylark_storage::{Frontier, PhysicalOffset, Registration};
use tokio::runtime::Builder;

use super::cpu;
use super::samples::{Percentiles, Samples};

/// Threads of the runtime, as a server on two cores has.
pub const WORKERS: usize = 2;

/// How long a load warms up, and how long it is then measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Before anything counts.
    pub warm: Duration,
    /// What counts.
    pub measured: Duration,
}

/// What a load came to.
#[derive(Debug)]
pub struct Outcome {
    /// Records acknowledged while it was measured.
    pub records: u64,
    /// How long that was.
    pub elapsed: Duration,
    /// Processor time of the whole process meanwhile.
    pub cpu: Duration,
    /// Of each acknowledgement.
    pub latencies: Percentiles,
}

impl Outcome {
    /// What several measurements come to as one.
    pub fn join(parts: impl IntoIterator<Item = Self>) -> Self {
        let (mut records, mut elapsed, mut cpu) = (0, Duration::ZERO, Duration::ZERO);
        let parts = parts.into_iter().map(|part| {
            records += part.records;
            elapsed += part.elapsed;
            cpu += part.cpu;
            part.latencies
        });
        let latencies = Percentiles::join(parts);
        Self { records, elapsed, cpu, latencies }
    }

    /// Records a second.
    pub fn per_second(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }

    /// Processor time for a record, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.records as f64
    }
}

/// In which phase a run is.
#[derive(Clone, Debug, Default)]
pub struct Phase(Arc<AtomicUsize>);

/// Nothing counts.
pub const UNCOUNTED: usize = 0;
const OVER: usize = usize::MAX;

impl Phase {
    /// From now on, this phase.
    pub fn set(&self, phase: usize) {
        // Relaxed, here and below: a completion more or less in a phase changes nothing.
        self.0.store(phase, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one appender notes down.
struct Notes {
    phase: Phase,
    last: Instant,
    /// For each phase but the uncounted one.
    samples: Vec<Samples>,
}

impl Notes {
    fn new(phase: &Phase, phases: usize) -> Self {
        let samples = (0..phases).map(|_| Samples::with_capacity(SAMPLES_EXPECTED)).collect();
        Self { phase: phase.clone(), last: Instant::now(), samples }
    }

    /// Takes down a completion; whether to go on.
    fn complete(&mut self) -> bool {
        let now = Instant::now();
        let latency = now - std::mem::replace(&mut self.last, now);
        match self.phase.get() {
            OVER => return false,
            UNCOUNTED => {}
            phase => {
                if let Some(samples) = self.samples.get_mut(phase - 1) {
                    samples.push(latency);
                }
            }
        }
        true
    }
}

/// What a task does again and again.
pub trait Act: Clone + Send + 'static {
    /// Does it once.
    fn act(&self) -> impl Future<Output = ()> + Send;
}

/// Runs `count` tasks on a runtime of [`WORKERS`], each of which acts again and again, while `conduct` goes
/// through the phases from 1 to `phases`; the latencies of each phase.
///
/// # Panics
/// When a task does.
pub fn tasks(count: usize, phases: usize, act: impl Act, conduct: impl FnOnce(&Phase)) -> Vec<Samples> {
    let runtime =
        Builder::new_multi_thread().worker_threads(WORKERS).build().expect("a runtime can be built");
    let phase = Phase::default();
    let appenders: Vec<_> = (0..count)
        .map(|_| {
            let (act, mut notes) = (act.clone(), Notes::new(&phase, phases));
            runtime.spawn(async move {
                notes.last = Instant::now();
                loop {
                    let mut acted = pin!(act.act());
                    let mut has_waited = false;
                    std::future::poll_fn(|context: &mut Context<'_>| {
                        let polled = acted.as_mut().poll(context);
                        has_waited |= polled.is_pending();
                        polled
                    })
                    .await;
                    if !notes.complete() {
                        return notes.samples;
                    }
                    // The next request of a client comes from its socket, for which a server's task waits.
                    if !has_waited {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    conduct(&phase);
    phase.set(OVER);
    let each = appenders.into_iter().map(|task| runtime.block_on(task).expect("no task panics"));
    sum(phases, each)
}

/// As [`tasks`], on threads. `act` is told which thread does it.
///
/// # Panics
/// When a thread does.
pub fn threads(
    count: usize,
    phases: usize,
    act: impl Fn(usize) + Sync,
    conduct: impl FnOnce(&Phase),
) -> Vec<Samples> {
    let phase = Phase::default();
    thread::scope(|scope| {
        let appenders: Vec<_> = (0..count)
            .map(|index| {
                let (act, mut notes) = (&act, Notes::new(&phase, phases));
                scope.spawn(move || {
                    notes.last = Instant::now();
                    loop {
                        act(index);
                        if !notes.complete() {
                            return notes.samples;
                        }
                    }
                })
            })
            .collect();
        conduct(&phase);
        phase.set(OVER);
        sum(phases, appenders.into_iter().map(|thread| thread.join().expect("no appender panics")))
    })
}

fn sum(phases: usize, each: impl Iterator<Item = Vec<Samples>>) -> Vec<Samples> {
    let mut all: Vec<_> = (0..phases).map(|_| Samples::default()).collect();
    for samples in each {
        all.iter_mut().zip(&samples).for_each(|(all, samples)| all.extend(samples));
    }
    all
}

/// Warms up, then measures one phase; `run` is [`tasks`] or [`threads`], which get the conductor. Each completion
/// stands for `records`.
pub fn measure(
    times: Times,
    records: u64,
    run: impl FnOnce(&mut dyn FnMut(&Phase)) -> Vec<Samples>,
) -> Outcome {
    let mut spent = (Duration::ZERO, Duration::ZERO);
    let samples = run(&mut |phase| {
        thread::sleep(times.warm);
        let (started, cpu_before) = (Instant::now(), cpu::process());
        phase.set(1);
        thread::sleep(times.measured);
        phase.set(UNCOUNTED);
        spent = (started.elapsed(), cpu::process() - cpu_before);
    });
    let samples = samples.into_iter().next().unwrap_or_default();
    let (elapsed, cpu) = spent;
    Outcome { records: samples.count() * records, elapsed, cpu, latencies: samples.percentiles() }
}

/// Waits in a task until a frontier has reached `end`.
///
/// # Panics
/// When the log stops first.
pub async fn reached(frontier: &Frontier, end: PhysicalOffset) {
    let mut registration = Registration::default();
    let wait = std::future::poll_fn(|context| match frontier.wait(&mut registration, end, context.waker()) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending => Poll::Pending,
    });
    wait.await.expect("the disk is sound");
}

/// So many fit before a vector grows.
const SAMPLES_EXPECTED: usize = 1 << 12;
