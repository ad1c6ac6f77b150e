//! Durable records of 1 KiB: the log on every device, the bound, the mapped file, and the logs of others.
//!
//! Tasks run on two workers, as in a server; threads may block, as in an embedded log. Peers have no other way, so they
//! are met there. Whoever is measured starts with an empty directory in each round. The log's segment is filled with zeros
//! before it is measured, as the files of the bound, of the mapping and of raft-engine are; a log that has to prepare its
//! ground while it is measured, for longer than bursts last, is a contestant of its own.

use std::error::Error;
use std::sync::Arc;

use skylark_storage::{CommitLog, Options, PhysicalOffset};

use crate::support::appenders::{self, AppendInTask, RunningLog};
use crate::support::devices::{self, Choice};
use crate::support::load::{self, Outcome};
use crate::support::mapped::{MapInTask, Mapped};
use crate::support::peer::PeerLog;
use crate::support::records::{PAYLOAD_BYTES, Payload};
use crate::support::scratch;

use super::Plan;
use super::device::Figures;
use super::report::{Cell, Report, Target};

/// Who appends, and how.
#[derive(Clone, Copy, Debug)]
struct Shape {
    name: &'static str,
    appenders: usize,
    /// Appended by each before it waits.
    records: usize,
    on_threads: bool,
    /// Group size of the bound it is held against.
    bound: usize,
}

const fn tasks(name: &'static str, appenders: usize, records: usize, bound: usize) -> Shape {
    Shape { name, appenders, records, on_threads: false, bound }
}

const fn threads(name: &'static str, appenders: usize, records: usize, bound: usize) -> Shape {
    Shape { name, appenders, records, on_threads: true, bound }
}

const SHAPES: [Shape; 9] = [
    tasks("durable/tasks 1", 1, 1, 1),
    tasks("durable/tasks 16", 16, 1, 16),
    tasks("durable/tasks 128", 128, 1, 128),
    tasks("durable/tasks 512", 512, 1, 512),
    tasks("durable/tasks 16×32", 16, 32, 512),
    threads("durable/threads 1", 1, 1, 1),
    threads("durable/threads 16", 16, 1, 16),
    threads("durable/threads 128", 128, 1, 128),
    threads("durable/threads 16×32", 16, 32, 512),
];

impl Shape {
    /// A log whose one segment is prepared for all that is going to be appended.
    fn prepared(self) -> Options {
        let segment_bytes = match self.bound {
            ..=16 => 256 << 20,
            128 => 1 << 30,
            _ => 2 << 30,
        };
        Options { segment_bytes, prepared_bytes: Some(segment_bytes), ..Options::default() }
    }

    fn question(self) -> String {
        let Self { appenders, records, on_threads, bound, .. } = self;
        let who = if on_threads { "threads" } else { "tasks on two workers" };
        let what =
            if records == 1 { "one record".to_owned() } else { format!("{records} records and waits once") };
        format!("{appenders} {who}, each of which appends {what} at a time; B has groups of {bound}.")
    }
}

/// As long as the log's files while it is measured.
const MAPPED_BYTES: u64 = 512 << 20;
/// Where a log with nothing prepared is measured too.
const SUSTAINED: &str = "durable/tasks 16×32";
const MAPPED: &str = "mapped file + fdatasync";
const SINGLE: &str = "S";
/// So much of what was measured is read again to count groups.
const COUNTED_BYTES: u64 = 64 << 20;

/// Measures every shape that the plan wants.
///
/// # Errors
/// When a contestant cannot be opened.
pub fn run(plan: &Plan<'_>, figures: &Figures, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let shapes: Vec<Shape> = SHAPES.into_iter().filter(|shape| plan.wants(shape.name)).collect();
    if shapes.is_empty() {
        return Ok(());
    }
    let standing = Standing::open(plan)?;
    for shape in shapes {
        let mut cell = Cell::new(shape.name, shape.question());
        let contestants = standing.contestants(plan, shape);
        for round in 0..plan.rounds {
            measure_round(plan, figures, &standing, shape, &contestants, round, &mut cell)?;
            eprintln!("{}: round {} of {}", shape.name, round + 1, plan.rounds);
        }
        report.add(cell);
    }
    judge(plan, report);
    Ok(())
}

/// Contestants that are opened once: their files are recycled, and take long to make.
struct Standing {
    mapped: Arc<Mapped>,
    peers: Vec<(String, Box<dyn PeerLog>)>,
}

enum Contestant {
    Log(Choice),
    /// One that has to prepare its ground meanwhile.
    Unprepared(Choice),
    Mapped,
    Peer(usize),
}

impl Standing {
    fn open(plan: &Plan<'_>) -> Result<Self, Box<dyn Error>> {
        let mapped = Arc::new(Mapped::create(&plan.directory.join("mapped"), MAPPED_BYTES)?);
        let mut peers = Vec::new();
        for (index, peer) in plan.peers.iter().enumerate() {
            let directory = plan.directory.join(format!("peer-{index}"));
            std::fs::create_dir(&directory)?;
            println!("{}: {}.\n", peer.name(), peer.settings());
            peers.push((peer.name().to_owned(), peer.open(&directory)?));
        }
        Ok(Self { mapped, peers })
    }

    fn contestants(&self, plan: &Plan<'_>, shape: Shape) -> Vec<Contestant> {
        let logs = plan.devices.iter().map(|choice| Contestant::Log(*choice));
        let peers = if shape.on_threads { self.peers.len() } else { 0 };
        let unprepared = (shape.name == SUSTAINED).then(|| Contestant::Unprepared(devices::by_itself()));
        logs.chain(unprepared).chain([Contestant::Mapped]).chain((0..peers).map(Contestant::Peer)).collect()
    }
}

/// One round of a cell: the references, then the contestants, who take turns in going first.
fn measure_round(
    plan: &Plan<'_>,
    figures: &Figures,
    standing: &Standing,
    shape: Shape,
    contestants: &[Contestant],
    round: usize,
    cell: &mut Cell,
) -> Result<(), Box<dyn Error>> {
    let single = if shape.bound == 1 { Some(figures.single(plan)?) } else { None };
    if let Some(single) = &single {
        cell.note(SINGLE, "p50 µs", single.latencies.at_us(0.5));
        cell.note(SINGLE, "p99 µs", single.latencies.at_us(0.99));
    }
    let (primitive, bound) = figures.bound(plan, shape.bound)?;
    cell.note_outcome(&format!("B: {}", primitive.name()), &bound);
    let turns = contestants.len();
    for turn in 0..turns {
        let (subject, outcome, group) = match &contestants[(turn + round) % turns] {
            Contestant::Log(choice) => {
                let (outcome, group) = measure_log(plan, shape, *choice, shape.prepared());
                (log_name(*choice), outcome, group)
            }
            Contestant::Unprepared(choice) => {
                let (outcome, group) = measure_log(plan, shape, *choice, Options::default());
                (format!("{}, nothing prepared", log_name(*choice)), outcome, group)
            }
            Contestant::Mapped => (MAPPED.to_owned(), measure_mapped(plan, shape, &standing.mapped), None),
            Contestant::Peer(index) => {
                let (name, log) = &standing.peers[*index];
                log.tidy();
                (name.clone(), measure_peer(plan, shape, &**log), None)
            }
        };
        cell.note_outcome(&subject, &outcome);
        cell.note(&subject, "rate / B", outcome.per_second() / bound.per_second());
        cell.note(&subject, "CPU / B", outcome.cpu_us() / bound.cpu_us());
        if let Some(single) = &single {
            cell.note(&subject, "p50 / S", outcome.latencies.at_us(0.5) / single.latencies.at_us(0.5));
        }
        if let Some(group) = group {
            cell.note(&subject, "records/group", group);
            cell.note(&subject, "groups/s", outcome.per_second() / group);
        }
    }
    Ok(())
}

fn log_name(choice: Choice) -> String {
    format!("log, {}", choice.name)
}

/// What a new log does, and how many records its groups had in the mean.
fn measure_log(plan: &Plan<'_>, shape: Shape, choice: Choice, options: Options) -> (Outcome, Option<f64>) {
    let directory = scratch::directory(&plan.directory);
    let prepared_bytes = options.prepared_bytes;
    let running = RunningLog::open_at(directory.path(), choice, options);
    if let Some(bytes) = prepared_bytes {
        running.wait_filled(bytes);
    }
    let payload = Payload::new(PAYLOAD_BYTES);
    let Shape { appenders, records, .. } = shape;
    let log = &running.log;
    let outcome = load::measure(plan.times, records as u64, |conduct| {
        if shape.on_threads {
            return load::threads(
                appenders,
                1,
                |_| appenders::append_on_thread(log, &payload, records),
                |phase| conduct(phase),
            );
        }
        let act = AppendInTask { log: log.clone(), payload: payload.clone(), records };
        load::tasks(appenders, 1, act, |phase| conduct(phase))
    });
    let group = records_in_groups(log);
    running.close();
    scratch::clear(directory);
    (outcome, group)
}

/// Mean number of records in the groups of the newest part of a log.
fn records_in_groups(log: &CommitLog<u64>) -> Option<f64> {
    // A group starts where a segment's first one does.
    let end = log.durable().get();
    let from = log.segment_base(PhysicalOffset::new(end.get().saturating_sub(1)));
    let (mut groups, mut records) = (0_u64, 0_u64);
    for group in log.scan(from) {
        let group = group.ok()?;
        groups += 1;
        records += group.records().count() as u64;
        if group.end.since(from) > COUNTED_BYTES {
            break;
        }
    }
    (groups > 0).then(|| records as f64 / groups as f64)
}

fn measure_mapped(plan: &Plan<'_>, shape: Shape, mapped: &Arc<Mapped>) -> Outcome {
    let payload = Payload::new(PAYLOAD_BYTES);
    let Shape { appenders, records, .. } = shape;
    load::measure(plan.times, records as u64, |conduct| {
        if shape.on_threads {
            let act = |_| mapped.append_on_thread(&payload, records);
            return load::threads(appenders, 1, act, |phase| conduct(phase));
        }
        let act = MapInTask { mapped: Arc::clone(mapped), payload: payload.clone(), records };
        load::tasks(appenders, 1, act, |phase| conduct(phase))
    })
}

fn measure_peer(plan: &Plan<'_>, shape: Shape, log: &dyn PeerLog) -> Outcome {
    let payload = vec![7; PAYLOAD_BYTES];
    let Shape { appenders, records, .. } = shape;
    load::measure(plan.times, records as u64, |conduct| {
        load::threads(appenders, 1, |index| log.append(index, &payload, records), |phase| conduct(phase))
    })
}

fn judge(plan: &Plan<'_>, report: &mut Report) {
    let log = log_name(plan.device());
    let found = |report: &Report, cell: &str, subject: &str, figure: &str| {
        report.cell(cell).and_then(|cell| cell.median(subject, figure))
    };
    let line = |what: &str| format!("durable, 1 KiB ({log}): {what}");
    let single = found(report, "durable/tasks 1", &log, "p50 / S");
    report.judge(line("one appender, p50 / S"), Target::AtMost(1.3), single);
    let single = found(report, "durable/threads 1", &log, "p50 / S");
    report.judge(line("one appender on a thread, p50 / S"), Target::AtMost(1.3), single);
    for (cell, least) in [("durable/tasks 16", 0.5), ("durable/tasks 128", 0.5), ("durable/tasks 16×32", 0.9)]
    {
        let ratio = found(report, cell, &log, "rate / B");
        report.judge(line(&format!("{cell}, rate / B")), Target::AtLeast(least), ratio);
    }
    let cpu = found(report, "durable/tasks 16×32", &log, "CPU / B");
    report.judge(line("16×32, CPU of a record / B"), Target::AtMost(2.0), cpu);
    for (cell, least) in [("durable/tasks 128", 2.5), ("durable/tasks 512", 4.0)] {
        let versus_mapped =
            |figure: &str| Some(found(report, cell, &log, figure)? / found(report, cell, MAPPED, figure)?);
        let (rate, cpu) = (versus_mapped("records/s"), versus_mapped("CPU µs/record"));
        report.judge(format!("{cell}: rate / {MAPPED}"), Target::AtLeast(least), rate);
        report.judge(format!("{cell}: CPU / {MAPPED}"), Target::AtMost(0.5), cpu);
    }
    let shapes = SHAPES.iter().filter(|shape| shape.on_threads);
    for (shape, peer) in shapes.flat_map(|shape| plan.peers.iter().map(move |peer| (shape, peer.name()))) {
        let rate = |subject: &str| found(report, shape.name, subject, "records/s");
        let ratio = rate(&log).zip(rate(peer)).map(|(log, peer)| log / peer);
        report.judge(format!("{}: rate / {peer}", shape.name), Target::AtLeast(1.0), ratio);
    }
    judge_choice(plan, report);
}

/// The device that the log takes by itself against the best of those it could take.
fn judge_choice(plan: &Plan<'_>, report: &mut Report) {
    let Some((by_itself, others)) = plan.devices.split_last().filter(|(_, others)| !others.is_empty()) else {
        return;
    };
    for shape in SHAPES {
        let rate = |choice: &Choice| report.cell(shape.name)?.median(&log_name(*choice), "records/s");
        let best = others.iter().filter_map(rate).reduce(f64::max);
        let ratio = rate(by_itself).zip(best).map(|(rate, best)| rate / best);
        let line = format!("{}: {} / best device", shape.name, by_itself.name);
        report.judge(line, Target::AtLeast(0.9), ratio);
    }
}
