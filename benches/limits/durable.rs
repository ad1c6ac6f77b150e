//! Durable records of 1 KiB: the log on every device, the bound, the mapped file, and the logs of others.
//!
//! Tasks run on two workers, as in a server; threads may block, as in an embedded log. Peers have no other way, so they
//! are met there. In each round whoever is measured has an empty directory, and short windows between bare loops, see
//! [`super::beside`]. The log's segments are filled with zeros before, as the files of the bound, of the mapping and of
//! raft-engine are; a log that has to prepare its ground while it is measured, for longer than bursts last, is a
//! contestant of its own, whose loops run before it is opened and after it is closed.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use skylark_storage::device::DeviceKind;
use skylark_storage::{CommitLog, Options, PhysicalOffset};

use crate::support::appenders::{self, AppendInTask, RunningLog};
use crate::support::devices::{self, Choice};
use crate::support::load::{self, Outcome, Times};
use crate::support::mapped::{MapInTask, Mapped};
use crate::support::peer::PeerLog;
use crate::support::records::{PAYLOAD_BYTES, Payload};
use crate::support::scratch;

use super::Plan;
use super::beside::{Bare, Turn, Windows, take_turns};
use super::cell::Cell;
use super::device::{self, Figures};
use super::report::Report;

/// Who appends, and how.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The cell.
    pub name: &'static str,
    appenders: usize,
    /// Appended by each before it waits.
    records: usize,
    /// Whether appenders are threads, and the logs of others take part.
    pub on_threads: bool,
    /// Group size of the bound it is held against.
    bound: usize,
}

const fn tasks(name: &'static str, appenders: usize, records: usize, bound: usize) -> Shape {
    Shape { name, appenders, records, on_threads: false, bound }
}

const fn threads(name: &'static str, appenders: usize, records: usize, bound: usize) -> Shape {
    Shape { name, appenders, records, on_threads: true, bound }
}

/// All of them.
pub const SHAPES: [Shape; 9] = [
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
    /// Where many records come at once, half the time tells as much, and only half of the ground has to be prepared.
    fn windows(self, plan: &Plan<'_>) -> Windows {
        Windows::of(if self.bound >= 128 { plan.times.measured / 2 } else { plan.times.measured })
    }

    /// A log whose segments are prepared for all that is going to be appended, and take about that much.
    fn prepared(self, plan: &Plan<'_>) -> Options {
        let mib_per_second = match self.bound {
            ..=16 => 256,
            128 => 1024,
            _ => 1536,
        };
        let mib = (self.windows(plan).of_contestant().as_secs_f64() * f64::from(mib_per_second))
            .clamp(16.0, 2048.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within these limits")]
        let segment_bytes = (mib as u64) << 20;
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
pub const SUSTAINED: &str = "durable/tasks 16×32";
/// The strategy that the log is measured against.
pub const MAPPED: &str = "mapped file + fdatasync";
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
        let contestants = standing.contestants(plan, shape);
        let mut course = Course { plan, figures, standing: &standing, shape, chosen: BTreeMap::new() };
        let mut cell = Cell::new(shape.name, shape.question());
        let mut rounds = Vec::new();
        for round in 0..plan.rounds {
            rounds.push(course.round(&contestants, round, &mut cell)?);
            eprintln!("{}: round {} of {}", shape.name, round + 1, plan.rounds);
        }
        course.compare(&rounds, &mut cell);
        report.add(cell);
    }
    Ok(())
}

/// Contestants that are opened once: their files are recycled, and take long to make.
struct Standing {
    mapped: Arc<Mapped>,
    peers: Vec<(&'static str, Box<dyn PeerLog>)>,
}

#[derive(Clone, Copy)]
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
            peers.push((peer.name(), peer.open(&directory)?));
        }
        Ok(Self { mapped, peers })
    }

    fn contestants(&self, plan: &Plan<'_>, shape: Shape) -> Vec<Contestant> {
        let logs = plan.devices.iter().map(|choice| Contestant::Log(*choice));
        let peers = if shape.on_threads { self.peers.len() } else { 0 };
        let unprepared = (shape.name == SUSTAINED).then(|| Contestant::Unprepared(plan.device()));
        logs.chain(unprepared).chain([Contestant::Mapped]).chain((0..peers).map(Contestant::Peer)).collect()
    }
}

/// What a contestant came to in a round.
#[derive(Clone, Copy)]
struct Standings {
    /// Records a second.
    rate: f64,
    /// Processor time of a record.
    cpu: f64,
}

type Round = BTreeMap<String, Standings>;

/// The rounds of one shape.
struct Course<'a> {
    plan: &'a Plan<'a>,
    figures: &'a Figures,
    standing: &'a Standing,
    shape: Shape,
    /// How often a log that chose its device by itself chose which.
    chosen: BTreeMap<DeviceKind, usize>,
}

impl Course<'_> {
    /// One round: the contestants take turns in going first.
    fn round(&mut self, contestants: &[Contestant], round: usize, cell: &mut Cell) -> io::Result<Round> {
        let mut standings = Round::new();
        let turns = contestants.len();
        for turn in 0..turns {
            let contestant = contestants[(turn + round) % turns];
            let subject = self.subject(contestant);
            let (turn, group) = match contestant {
                Contestant::Log(choice) => self.log(choice)?,
                Contestant::Unprepared(choice) => self.unprepared(choice)?,
                Contestant::Mapped => (self.mapped()?, None),
                Contestant::Peer(index) => (self.peer(index)?, None),
            };
            self.note(cell, &subject, &turn);
            if let Some(group) = group {
                cell.note(&subject, "records/group", group);
                cell.note(&subject, "groups/s", turn.outcome.per_second() / group);
            }
            standings
                .insert(subject, Standings { rate: turn.outcome.per_second(), cpu: turn.outcome.cpu_us() });
        }
        Ok(standings)
    }

    fn subject(&self, contestant: Contestant) -> String {
        match contestant {
            Contestant::Log(choice) => log_name(choice),
            Contestant::Unprepared(choice) => unprepared_name(choice),
            Contestant::Mapped => MAPPED.to_owned(),
            Contestant::Peer(index) => self.standing.peers[index].0.to_owned(),
        }
    }

    fn note(&self, cell: &mut Cell, subject: &str, turn: &Turn) {
        let bound_name = self.figures.bound_name(self.shape.bound);
        for Bare { single, bound } in &turn.bare {
            if let Some(single) = single {
                device::note_single(cell, SINGLE, single);
            }
            cell.note_outcome(&bound_name, bound);
        }
        cell.note_outcome(subject, &turn.outcome);
        for ratios in &turn.ratios {
            cell.note(subject, "rate / B", ratios.rate);
            cell.note(subject, "CPU / B", ratios.cpu);
            if let Some(latency) = ratios.latency {
                cell.note(subject, "p50 / S", latency);
            }
        }
    }

    /// Holds contestants against each other, round by round, and not by what each came to of the bare loops beside it:
    /// on a shared machine a single thread varies more than contestants that keep all processors busy.
    fn compare(&self, rounds: &[Round], cell: &mut Cell) {
        let Self { plan, shape, standing, .. } = self;
        for choice in &plan.devices {
            let log = log_name(*choice);
            for of in rounds {
                let Some(own) = of.get(&log) else { continue };
                if let Some(mapped) = of.get(MAPPED) {
                    cell.note(&log, "rate / mapped", own.rate / mapped.rate);
                    cell.note(&log, "CPU / mapped", own.cpu / mapped.cpu);
                }
                for (name, _) in standing.peers.iter().filter(|_| shape.on_threads) {
                    if let Some(peer) = of.get(*name) {
                        cell.note(&log, &versus(name), own.rate / peer.rate);
                    }
                }
            }
        }
        let by_itself = log_name(devices::by_itself());
        let fixed = plan.devices.iter().filter(|choice| **choice != devices::by_itself());
        let median = |log: &str| cell.median(log, "records/s").unwrap_or(0.0);
        let best = fixed.map(|choice| log_name(*choice)).max_by(|a, b| median(a).total_cmp(&median(b)));
        let Some(best) = best else { return };
        for of in rounds {
            if let (Some(own), Some(best)) = (of.get(&by_itself), of.get(&best)) {
                cell.note(&by_itself, VERSUS_BEST, own.rate / best.rate);
            }
        }
        let chosen: Vec<_> =
            self.chosen.iter().map(|(kind, times)| format!("{kind} {times} times")).collect();
        if !chosen.is_empty() {
            cell.remark(format!("The best device is that of “{best}”; auto chose {}.", chosen.join(", ")));
        }
    }

    /// A new log in windows, and how many records its groups had in the mean.
    fn log(&mut self, choice: Choice) -> io::Result<(Turn, Option<f64>)> {
        let (plan, shape) = (self.plan, self.shape);
        let directory = scratch::directory(&plan.directory);
        let running = self.open(choice, directory.path(), shape.prepared(plan))?;
        running.prepare(directory.path(), &Payload::new(PAYLOAD_BYTES));
        let from = running.log.durable().get();
        let drive = |times| drive_log(shape, &running.log, times);
        let turn = take_turns(shape.windows(plan), |times| self.bare(times), drive);
        let group = records_in_groups(&running.log, from);
        running.close();
        scratch::clear(directory);
        Ok((turn?, group))
    }

    /// A new log that has next to nothing prepared, in one window.
    fn unprepared(&mut self, choice: Choice) -> io::Result<(Turn, Option<f64>)> {
        let (plan, shape) = (self.plan, self.shape);
        let before = self.bare(shape.windows(plan).bare)?;
        let directory = scratch::directory(&plan.directory);
        let running = self.open(choice, directory.path(), Options::default())?;
        let outcome = drive_log(shape, &running.log, plan.times);
        let group = records_in_groups(&running.log, PhysicalOffset::ZERO);
        running.close();
        scratch::clear(directory);
        Ok((Turn::between(before, outcome, self.bare(shape.windows(plan).bare)?), group))
    }

    fn open(&mut self, choice: Choice, directory: &Path, options: Options) -> io::Result<RunningLog> {
        let files = devices::open(directory, choice)?;
        if choice == devices::by_itself() {
            *self.chosen.entry(files.chosen_device()).or_default() += 1;
        }
        Ok(RunningLog::open(Arc::new(files), options))
    }

    fn mapped(&self) -> io::Result<Turn> {
        let (Self { plan, shape, .. }, mapped) = (self, &self.standing.mapped);
        let payload = Payload::new(PAYLOAD_BYTES);
        let Shape { appenders, records, .. } = *shape;
        take_turns(
            shape.windows(plan),
            |times| self.bare(times),
            |times| {
                load::measure(times, records as u64, |conduct| {
                    if shape.on_threads {
                        let act = |_| mapped.append_on_thread(&payload, records);
                        return load::threads(appenders, 1, act, |phase| conduct(phase));
                    }
                    let act = MapInTask { mapped: Arc::clone(mapped), payload: payload.clone(), records };
                    load::tasks(appenders, 1, act, |phase| conduct(phase))
                })
            },
        )
    }

    fn peer(&self, index: usize) -> io::Result<Turn> {
        let Self { plan, shape, standing, .. } = self;
        let (_, log) = &standing.peers[index];
        log.tidy();
        let payload = vec![7; PAYLOAD_BYTES];
        let Shape { appenders, records, .. } = *shape;
        let act = |index| log.append(index, &payload, records);
        take_turns(
            shape.windows(plan),
            |times| self.bare(times),
            |times| {
                load::measure(times, records as u64, |conduct| {
                    load::threads(appenders, 1, act, |phase| conduct(phase))
                })
            },
        )
    }

    fn bare(&self, times: Times) -> io::Result<Bare> {
        let single = if self.shape.bound == 1 { Some(self.figures.single(times)?) } else { None };
        Ok(Bare { single, bound: self.figures.bound(times, self.shape.bound)? })
    }
}

/// A log's row.
pub fn log_name(choice: Choice) -> String {
    format!("log, {}", choice.name)
}

/// The row of a log that has nothing prepared.
pub fn unprepared_name(choice: Choice) -> String {
    format!("{}, nothing prepared", log_name(choice))
}

/// The column that holds a log against a peer.
pub fn versus(peer: &str) -> String {
    format!("rate / {peer}")
}

/// The column that holds a log that chooses its device by itself against the best one.
pub const VERSUS_BEST: &str = "rate / best device";

fn drive_log(shape: Shape, log: &CommitLog<u64>, times: Times) -> Outcome {
    let payload = Payload::new(PAYLOAD_BYTES);
    let Shape { appenders, records, on_threads, .. } = shape;
    load::measure(times, records as u64, |conduct| {
        if on_threads {
            let act = |_| appenders::append_on_thread(log, &payload, records);
            return load::threads(appenders, 1, act, |phase| conduct(phase));
        }
        let act = AppendInTask { log: log.clone(), payload: payload.clone(), records };
        load::tasks(appenders, 1, act, |phase| conduct(phase))
    })
}

/// Mean number of records in the groups behind `from`.
fn records_in_groups(log: &CommitLog<u64>, from: PhysicalOffset) -> Option<f64> {
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
