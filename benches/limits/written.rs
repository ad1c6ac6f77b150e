//! Where the kernel's word is enough: records of 1 KiB, acknowledged once they are written, flushed in the background.
//!
//! Sustained means that the clock stops when everything is durable: who only fills the page cache is not measured. W is
//! taken again in each round, and does so too.

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
use super::report::{Cell, Report, Target};

const SUSTAINED: &str = "written/sustained";
const PIPELINED: &str = "written/tasks 16×32";
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
    let logs =
        [1, 2].iter().flat_map(|n| plan.devices.iter().map(move |choice| Contestant::Log(*choice, *n)));
    let contestants: Vec<Contestant> =
        [Stream::Written, Stream::Fresh].map(Contestant::Bare).into_iter().chain(logs).collect();
    // Uncounted: the page cache of a virtual machine may have to be backed by its host first.
    stream(plan, Stream::Fresh)?;
    for round in 0..plan.rounds {
        let mut w = f64::NAN;
        let mut rates = Vec::new();
        for turn in 0..contestants.len() {
            match contestants[(turn + round) % contestants.len()] {
                Contestant::Bare(kind) => {
                    let mb_per_second = stream(plan, kind)?;
                    cell.note(kind.name(), "MB/s", mb_per_second);
                    if kind == Stream::Written {
                        w = mb_per_second;
                    }
                }
                Contestant::Log(choice, appenders) => {
                    let (mb_per_second, cpu_us) = sustain(plan, choice, appenders);
                    let subject = subject(choice, appenders);
                    cell.note(&subject, "MB/s", mb_per_second);
                    cell.note(&subject, "CPU µs/record", cpu_us);
                    rates.push((subject, mb_per_second));
                }
            }
        }
        rates.iter().for_each(|(subject, rate)| cell.note(subject, "rate / W", rate / w));
        eprintln!("{SUSTAINED}: round {} of {}", round + 1, plan.rounds);
    }
    for appenders in [1, 2] {
        let subject = subject(plan.device(), appenders);
        let (cpu, rate) = (cell.median(&subject, "CPU µs/record"), cell.median(&subject, "rate / W"));
        report.judge(format!("asynchronous, 1 KiB, {subject}: CPU µs/record"), Target::AtMost(0.5), cpu);
        report.judge(format!("asynchronous, 1 KiB, {subject}: rate / W"), Target::AtLeast(0.9), rate);
    }
    report.add(cell);
    Ok(())
}

#[derive(Clone, Copy)]
enum Contestant {
    Bare(Stream),
    Log(Choice, usize),
}

fn subject(choice: Choice, appenders: usize) -> String {
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
