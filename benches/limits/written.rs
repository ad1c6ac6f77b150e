//! Where the kernel's word is enough: records of 1 KiB, acknowledged once they are written, flushed in the background.
//!
//! Sustained means that the clock stops when everything is durable: who only fills the page cache is not measured. W,
//! which does so too, is taken right before and right after each log, and the ratio is to the mean of both.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::support::appenders::{self, AppendInTask, RunningLog};
use crate::support::bare::Stream;
use crate::support::cpu;
use crate::support::devices::Choice;
use crate::support::load;
use crate::support::records::{PAYLOAD_BYTES, Payload};
use crate::support::scratch;

use super::Plan;
use super::cell::Cell;
use super::report::Report;

/// The cell that is judged.
pub const SUSTAINED: &str = "written/sustained";
const PIPELINED: &str = "written/tasks 16×32";
/// How many threads append; more than one only to the log that stands for all.
pub const APPENDERS: [usize; 2] = [1, 2];
const STREAM_BYTES: u64 = 1 << 30;

/// Measures what the plan wants of it.
///
/// # Errors
/// When the disk refuses.
pub fn run(plan: &Plan<'_>, report: &mut Report) -> Result<(), Box<dyn Error>> {
    if plan.wants(SUSTAINED) {
        sustained(plan, report)?;
    }
    if plan.wants(PIPELINED) {
        pipelined(plan, report);
    }
    Ok(())
}

fn sustained(plan: &Plan<'_>, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mib = plan.written_bytes >> 20;
    let mut cell = Cell::new(
        SUSTAINED,
        format!("How fast do {mib} MiB of records get to the disk, from 1 and 2 threads?"),
    );
    let all = plan.devices.iter().map(|choice| (*choice, 1));
    let more = APPENDERS.into_iter().skip(1).map(|appenders| (plan.device(), appenders));
    let contestants: Vec<(Choice, usize)> = all.chain(more).collect();
    // Uncounted: the page cache of a virtual machine may have to be backed by its host first.
    stream(plan, Stream::Fresh)?;
    for round in 0..plan.rounds {
        let fresh = stream(plan, Stream::Fresh)?;
        cell.note(Stream::Fresh.name(), "MB/s", fresh);
        let mut before = stream(plan, Stream::Written)?;
        cell.note(Stream::Written.name(), "MB/s", before);
        for turn in 0..contestants.len() {
            let (choice, appenders) = contestants[(turn + round) % contestants.len()];
            let (mb_per_second, cpu_us) = sustain(plan, choice, appenders);
            let after = stream(plan, Stream::Written)?;
            cell.note(Stream::Written.name(), "MB/s", after);
            let subject = subject(choice, appenders);
            cell.note(&subject, "MB/s", mb_per_second);
            cell.note(&subject, "CPU µs/record", cpu_us);
            cell.note(&subject, "rate / W", mb_per_second / f64::midpoint(before, after));
            before = after;
        }
        eprintln!("{SUSTAINED}: round {} of {}", round + 1, plan.rounds);
    }
    report.add(cell);
    Ok(())
}

/// A log's row.
pub fn subject(choice: Choice, appenders: usize) -> String {
    format!("log, {}, {appenders} threads", choice.name)
}

fn stream(plan: &Plan<'_>, kind: Stream) -> std::io::Result<f64> {
    let directory = scratch::directory(&plan.directory);
    let spent = kind.run(&directory.path().join("stream"), STREAM_BYTES)?;
    scratch::clear(directory);
    Ok(STREAM_BYTES as f64 / 1e6 / spent.as_secs_f64())
}

/// MB of the log a second until all of it was durable, and processor time of a record in microseconds.
fn sustain(plan: &Plan<'_>, choice: Choice, appenders: usize) -> (f64, f64) {
    let directory = scratch::directory(&plan.directory);
    let running = RunningLog::open_at(directory.path(), choice, appenders::written());
    let (log, payload) = (&running.log, Payload::new(PAYLOAD_BYTES));
    appenders::fill(log, &payload, WARM_BYTES);
    let from = log.frontiers().appended_end;
    let until = from.advance(plan.written_bytes);
    let records = AtomicU64::new(0);
    let (started, cpu_before) = (Instant::now(), cpu::process());
    thread::scope(|scope| {
        for _ in 0..appenders {
            scope.spawn(|| {
                let appended = appenders::append_under_pressure(log, &payload, until);
                records.fetch_add(appended, Ordering::Relaxed);
            });
        }
    });
    let end = log.frontiers().appended_end;
    log.durable().wait_blocking(end).expect("the disk is sound");
    let (elapsed, cpu) = (started.elapsed(), cpu::process() - cpu_before);
    running.close();
    scratch::clear(directory);
    let mb_per_second = end.since(from) as f64 / 1e6 / elapsed.as_secs_f64();
    (mb_per_second, cpu.as_secs_f64() * 1e6 / records.into_inner() as f64)
}

/// Touches the memory of the log, which a machine may have to back first.
const WARM_BYTES: u64 = 128 << 20;

fn pipelined(plan: &Plan<'_>, report: &mut Report) {
    let mut cell = Cell::new(
        PIPELINED,
        "16 tasks on two workers, each of which appends 32 records and waits once until they are written.",
    );
    for round in 0..plan.rounds {
        for choice in &plan.devices {
            let directory = scratch::directory(&plan.directory);
            let running = RunningLog::open_at(directory.path(), *choice, appenders::written());
            let act =
                AppendInTask { log: running.log.clone(), payload: Payload::new(PAYLOAD_BYTES), records: 32 };
            let outcome =
                load::measure(plan.times, 32, |conduct| load::tasks(16, 1, act, |phase| conduct(phase)));
            cell.note_outcome(&format!("log, {}", choice.name), &outcome);
            running.close();
            scratch::clear(directory);
        }
        eprintln!("{PIPELINED}: round {} of {}", round + 1, plan.rounds);
    }
    report.add(cell);
}
