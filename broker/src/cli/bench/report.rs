//! What is measured, and how it is told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use skylark_protocol::ResponseCode;
use skylark_protocol::transport::CloseReason;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Requests are made and not counted.
    WarmUp,
    /// Requests are made and counted.
    Measure,
    /// No more requests are made.
    Drain,
}

/// What the connections of a run share.
pub(super) struct Load {
    kind: &'static str,
    in_flight: usize,
    phase: AtomicU8,
    running: AtomicUsize,
    ended: Notify,
    total: Mutex<Tally>,
}

/// What one connection has counted, or all together.
pub(super) struct Tally {
    /// Nanoseconds from a request to its answer.
    latency: Histogram<u64>,
    /// Messages, which a pull has many of.
    messages: u64,
    bytes: u64,
    errors: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let latency = Histogram::new(3).expect("3 is a number of digits it can keep");
        Self { latency, messages: 0, bytes: 0, errors: BTreeMap::new() }
    }

    /// A request was answered well.
    pub(super) fn count(&mut self, took: Duration, messages: u64, bytes: u64) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.latency.record(nanos).expect("the histogram resizes");
        self.messages += messages;
        self.bytes += bytes;
    }

    /// A request was refused.
    pub(super) fn refused(&mut self, code: ResponseCode) {
        *self.errors.entry(format!("{} {code}", code.0)).or_default() += 1;
    }

    fn add(&mut self, other: &Self) {
        // The histogram grows with what is recorded, and `add` fails only for one that may not.
        self.latency.add(&other.latency).expect("the histogram resizes");
        self.messages += other.messages;
        self.bytes += other.bytes;
        for (error, count) in &other.errors {
            *self.errors.entry(error.clone()).or_default() += count;
        }
    }
}

/// What the report says of the run itself.
pub(super) struct Run {
    pub(super) connections: usize,
    pub(super) measured: Duration,
}

impl Load {
    pub(super) fn new(kind: &'static str, in_flight: usize, connections: usize) -> Self {
        Self {
            kind,
            in_flight,
            phase: AtomicU8::new(Phase::WarmUp as u8),
            running: AtomicUsize::new(connections),
            ended: Notify::new(),
            total: Mutex::new(Tally::new()),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        // Relaxed, as in `enter`: a request more or less in a phase does not show.
        match self.phase.load(Ordering::Relaxed) {
            phase if phase == Phase::WarmUp as u8 => Phase::WarmUp,
            phase if phase == Phase::Measure as u8 => Phase::Measure,
            _ => Phase::Drain,
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// A connection has ended, and hands in what it has counted.
    pub(super) fn end(&self, tally: &Tally, reason: &CloseReason) {
        {
            let mut total = self.total.lock();
            total.add(tally);
            if *reason != finished() {
                *total.errors.entry(format!("connection: {reason}")).or_default() += 1;
            }
        }
        // AcqRel: whoever sees the last one gone sees what all have handed in.
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ended.notify_one();
        }
    }

    pub(super) async fn all_ended(&self) {
        while self.running.load(Ordering::Acquire) > 0 {
            self.ended.notified().await;
        }
    }

    /// Waits until then, or until there is nothing to wait for.
    pub(super) async fn until(&self, then: Instant) {
        tokio::select! {
            () = sleep_until(then) => {}
            () = self.all_ended() => {}
        }
    }

    pub(super) fn report(&self, run: Run) -> Report {
        let total = self.total.lock();
        let mut errors = total.errors.clone();
        let running = self.running.load(Ordering::Acquire) as u64;
        if running > 0 {
            errors.insert("connection: not answered before the end".to_owned(), running);
        }
        let seconds = run.measured.as_secs_f64();
        let quantile = |quantile| micros(total.latency.value_at_quantile(quantile));
        Report {
            kind: self.kind,
            connections: run.connections,
            in_flight: self.in_flight,
            seconds,
            messages: total.messages,
            messages_per_second: ratio(total.messages, seconds),
            megabytes_per_second: ratio(total.bytes, seconds) / 1e6,
            requests_per_second: ratio(total.latency.len(), seconds),
            latency_us: Latency {
                mean: total.latency.mean() / 1e3,
                p50: quantile(0.5),
                p90: quantile(0.9),
                p99: quantile(0.99),
                p99_9: quantile(0.999),
                max: micros(total.latency.max()),
            },
            errors,
        }
    }
}

/// How a connection ends that has done its work.
pub(super) fn finished() -> CloseReason {
    CloseReason::Session("finished".into())
}

#[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 loses digits that nobody reads")]
fn ratio(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

fn micros(nanos: u64) -> f64 {
    ratio(nanos, 1e3)
}

/// The outcome of a run, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    kind: &'static str,
    connections: usize,
    in_flight: usize,
    seconds: f64,
    messages: u64,
    messages_per_second: f64,
    megabytes_per_second: f64,
    requests_per_second: f64,
    latency_us: Latency,
    errors: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Latency {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

impl Report {
    pub(super) fn print(&self, json: bool) -> Result<(), super::Failure> {
        if json {
            println!("{}", serde_json::to_string(self)?);
        } else {
            print!("{self}");
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { mean, p50, p90, p99, p99_9, max } = &self.latency_us;
        writeln!(
            f,
            "{}: {} connections x {} in flight, {:.1} s",
            self.kind, self.connections, self.in_flight, self.seconds
        )?;
        writeln!(
            f,
            "  {:.0} messages/s  {:.1} MB/s  ({} messages, {:.0} requests/s)",
            self.messages_per_second, self.megabytes_per_second, self.messages, self.requests_per_second
        )?;
        writeln!(
            f,
            "  latency us: mean {mean:.0}  p50 {p50:.0}  p90 {p90:.0}  p99 {p99:.0}  p99.9 {p99_9:.0}  max {max:.0}"
        )?;
        for (error, count) in &self.errors {
            writeln!(f, "  {count} x {error}")?;
        }
        Ok(())
    }
}
