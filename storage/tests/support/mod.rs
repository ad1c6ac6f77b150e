//! A log on a simulated disk, driven by hand, beside the plainest model of it: the list of what was appended.
//!
//! Every promise of the log is checked here, once, for all tests; what breaks it comes back as text, so that a test
//! can also show that a broken disk or a broken promise is noticed.
#![allow(dead_code, unreachable_pub, reason = "each test of the crate uses a part of this")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skylark_storage::device::simulated::Disk;
use skylark_storage::{
    AppendError, Clock, CommitLog, Files, Frontiers, Group, Kind, NewRecord, OpenError, Opened, Options,
    PhysicalOffset, Step, TrimError, segment,
};

/// What tests append.
pub const KIND: Kind = Kind::new(16);
/// The smallest segments there are, so that few appends roll.
pub const SEGMENT_BYTES: u64 = 64 << 10;
/// Heads of this length start with the record's own offset and store time, filled in under the lock.
pub const HEAD_BYTES: usize = 16;

/// Time stands still unless a test moves it.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).expect("a short time"), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000 + self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// When the test takes a unit for acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// As the log promises.
    Durable,
    /// As a power cut must not be survived, but the end of the process: for [`skylark_storage::Visibility::Written`].
    Written,
    /// Wrongly: before anything is on the disk.
    Appended,
}

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub at: PhysicalOffset,
    /// What follows the head.
    pub rest: Vec<u8>,
}

/// What was appended together.
#[derive(Clone, Debug)]
pub struct ExpectedUnit {
    pub records: Vec<Expected>,
    pub end: PhysicalOffset,
}

pub struct World {
    pub disk: Disk,
    pub clock: Arc<ManualClock>,
    pub options: Options,
    pub acknowledge: Acknowledge,
    pub opened: Opened<u64>,
    pub units: Vec<ExpectedUnit>,
    /// Everything below was acknowledged, at any time since the first opening.
    pub acknowledged_end: PhysicalOffset,
    /// Where the log begins, and where it may begin after a trim that nobody saw to its end.
    pub trimmed: PhysicalOffset,
    trimmed_max: PhysicalOffset,
    /// Records that were handed over to be folded since the last opening, and not trimmed.
    folded: usize,
    next_byte: u8,
}

/// What broke.
pub type Violation = String;

pub fn options() -> Options {
    Options { segment_bytes: SEGMENT_BYTES, ..Options::default() }
}

pub fn open(disk: &Disk, clock: &Arc<ManualClock>, options: &Options) -> Result<Opened<u64>, OpenError> {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    CommitLog::open(Arc::new(disk.clone()), clock, options.clone(), 0)
}

impl World {
    pub fn new(disk: Disk, options: Options) -> Self {
        Self::try_new(disk, options).expect("an empty disk can be opened")
    }

    pub fn try_new(disk: Disk, options: Options) -> Result<Self, OpenError> {
        let clock = Arc::new(ManualClock::default());
        let opened = open(&disk, &clock, &options)?;
        Ok(Self {
            disk,
            clock,
            options,
            acknowledge: Acknowledge::Durable,
            opened,
            units: Vec::new(),
            acknowledged_end: PhysicalOffset::ZERO,
            trimmed: PhysicalOffset::ZERO,
            trimmed_max: PhysicalOffset::ZERO,
            folded: 0,
            next_byte: 0,
        })
    }

    pub fn frontiers(&self) -> Frontiers {
        self.opened.log.frontiers()
    }

    /// Appends a unit of records with so many bytes behind their heads.
    pub fn append(&mut self, rest_bytes: &[usize]) -> Result<(), AppendError> {
        let rests: Vec<Vec<u8>> = rest_bytes
            .iter()
            .map(|&bytes| {
                self.next_byte = self.next_byte.wrapping_add(1);
                vec![self.next_byte; bytes]
            })
            .collect();
        let parts: Vec<[&[u8]; 2]> = rests.iter().map(|rest| rest.split_at(rest.len() / 2).into()).collect();
        let unit: Vec<NewRecord<'_>> =
            parts.iter().map(|rest| NewRecord { kind: KIND, head: &[0; HEAD_BYTES], rest }).collect();
        let mut places = Vec::new();
        let appended = self.opened.log.append(&unit, |count, place, head| {
            *count += 1;
            head[..8].copy_from_slice(&place.physical_offset.get().to_le_bytes());
            head[8..].copy_from_slice(&place.stored_at.to_le_bytes());
            places.push(place);
        })?;
        assert_eq!(places.first().map(|place| place.physical_offset), Some(appended.start));
        let records = places.iter().zip(rests);
        let records = records.map(|(place, rest)| Expected { at: place.physical_offset, rest }).collect();
        self.units.push(ExpectedUnit { records, end: appended.end });
        Ok(())
    }

    /// Steps the writer once, folds what it hands over, and notes what is acknowledged.
    pub fn step_writer(&mut self) -> Result<Step, Violation> {
        let step = self.opened.writer.step();
        self.note_acknowledged();
        self.fold()?;
        self.check_frontiers()?;
        Ok(step)
    }

    /// Steps the writer until there is nothing left to do.
    pub fn settle(&mut self) -> Result<(), Violation> {
        while self.step_writer()? == Step::Worked {}
        Ok(())
    }

    /// Trims the log, and forgets what lay below.
    pub fn trim(&mut self, to: PhysicalOffset) -> Result<PhysicalOffset, TrimError> {
        let outcome = self.opened.log.trim(to);
        if !matches!(outcome, Err(TrimError::Beyond { .. })) {
            self.trimmed_max = self.trimmed_max.max(to.align_down(SEGMENT_BYTES));
        }
        if let Ok(trimmed) = outcome {
            self.forget_below(trimmed);
        }
        outcome
    }

    fn forget_below(&mut self, trimmed: PhysicalOffset) {
        let forgotten = self.units.iter().take_while(|unit| unit.records[0].at < trimmed);
        let forgotten = forgotten.map(|unit| unit.records.len()).sum::<usize>();
        self.units.retain(|unit| unit.records[0].at >= trimmed);
        self.folded = self.folded.saturating_sub(forgotten);
        self.trimmed = trimmed;
    }

    pub fn step_housekeeper(&mut self) -> Step {
        self.opened.housekeeper.step()
    }

    fn note_acknowledged(&mut self) {
        let Frontiers { durable_end, written_end, appended_end, .. } = self.frontiers();
        let end = match self.acknowledge {
            Acknowledge::Durable => durable_end,
            Acknowledge::Written => written_end,
            Acknowledge::Appended => appended_end,
        };
        self.acknowledged_end = self.acknowledged_end.max(end);
    }

    fn fold(&mut self) -> Result<(), Violation> {
        while let Some(group) = self.opened.groups.try_next() {
            if group.end > self.frontiers().visible_end {
                return Err(format!("{group:?} was handed over before it was visible"));
            }
            let expected: Vec<_> =
                self.units.iter().flat_map(|unit| &unit.records).skip(self.folded).collect();
            let found = user_records(&group)?;
            if found.len() > expected.len()
                || found.iter().zip(expected).any(|(found, expected)| found != expected)
            {
                return Err(format!("{group:?} holds other records than were appended"));
            }
            self.folded += found.len();
            self.opened.groups.done(&group);
        }
        Ok(())
    }

    fn check_frontiers(&self) -> Result<(), Violation> {
        let f = self.frontiers();
        let in_order =
            f.trimmed <= f.durable_end && f.durable_end <= f.written_end && f.written_end <= f.appended_end;
        let visible = f.visible_end == f.durable_end || f.visible_end == f.written_end;
        if in_order && visible { Ok(()) } else { Err(format!("frontiers are out of order: {f:?}")) }
    }

    /// Cuts the power, and opens what is left.
    pub fn crash(&mut self) -> Result<(), Violation> {
        self.note_acknowledged();
        self.reopen(self.disk.crash())
    }

    /// Ends the process, and opens what it wrote.
    pub fn kill(&mut self) -> Result<(), Violation> {
        self.note_acknowledged();
        self.reopen(self.disk.kill())
    }

    /// Closes the log in good order, and opens it again.
    pub fn close(&mut self) -> Result<(), Violation> {
        self.opened.log.close();
        self.settle()?;
        let end = self.frontiers().appended_end;
        self.acknowledged_end = self.acknowledged_end.max(end);
        self.reopen(self.disk.crash())?;
        let report = &self.opened.recovery;
        if report.clean && report.end == end {
            Ok(())
        } else {
            Err(format!("closed at {end}, then {report:?}"))
        }
    }

    /// Opens another state of the disk, and holds what is found against what was appended.
    pub fn reopen(&mut self, disk: Disk) -> Result<(), Violation> {
        // A disk whose power is cut during recovery must be recoverable all the same.
        let opened =
            open(&disk, &self.clock, &self.options).map_err(|error| format!("cannot open: {error}"))?;
        self.opened = opened;
        self.disk = disk;
        self.check_beginning()?;
        let groups: Vec<Group> = self
            .opened
            .log
            .scan(self.frontiers().trimmed)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("cannot scan: {error}"))?;
        let mut found = Vec::new();
        for group in &groups {
            found.extend(user_records(group)?);
        }
        let mut kept = 0;
        let mut left = found.as_slice();
        for unit in &self.units {
            if left.is_empty() {
                break;
            }
            match left.split_at_checked(unit.records.len()) {
                Some((front, rest)) if front == unit.records => left = rest,
                Some((front, _)) => {
                    return Err(format!("unit {kept} is {:?}, found {:?}", unit.records[0].at, front[0].at));
                }
                None => return Err(format!("of unit {kept} only a part is there")),
            }
            kept += 1;
        }
        if !left.is_empty() {
            return Err(format!("{} records were never appended", left.len()));
        }
        if let Some(lost) = self.units[kept..].iter().find(|unit| unit.end <= self.acknowledged_end) {
            return Err(format!("acknowledged up to {}, lost {}", self.acknowledged_end, lost.end));
        }
        self.units.truncate(kept);
        self.folded = found.len();
        // What was acknowledged and has no record, such as the epoch's own, may be gone without anybody's loss.
        self.acknowledged_end = self.acknowledged_end.min(self.frontiers().durable_end);
        self.check_records()?;
        self.check_frontiers()
    }

    /// After an opening: the log begins where a trim that was asked for left it, and no file is left below.
    fn check_beginning(&mut self) -> Result<(), Violation> {
        let trimmed = self.frontiers().trimmed;
        if trimmed < self.trimmed || trimmed > self.trimmed_max {
            return Err(format!(
                "the log begins at {trimmed}, not from {} to {}",
                self.trimmed, self.trimmed_max
            ));
        }
        self.trimmed_max = trimmed;
        self.forget_below(trimmed);
        let names = self.disk.list("log").map_err(|error| error.to_string())?;
        let mut bases = names.iter().filter_map(|name| segment::segment_base(name));
        match bases.find(|base| *base < trimmed) {
            Some(left_over) => Err(format!("the segment at {left_over} is left over below {trimmed}")),
            None => Ok(()),
        }
    }

    /// Reads every record by its offset, and shows that none is seen that is not visible.
    pub fn check_records(&self) -> Result<(), Violation> {
        let visible_end = self.frontiers().visible_end;
        for unit in &self.units {
            for expected in &unit.records {
                let read = self.opened.log.record_at(expected.at);
                match read {
                    Ok(record) if unit.end <= visible_end => {
                        if record.payload()[HEAD_BYTES..] != expected.rest {
                            return Err(format!("the record at {} has changed", expected.at));
                        }
                        let bytes = u32::try_from(record.bytes.len()).expect("records are short");
                        let cold = self.opened.log.read_cold(expected.at, bytes);
                        if cold.as_ref().ok() != Some(&record.bytes) {
                            return Err(format!(
                                "the files do not hold the record at {}: {cold:?}",
                                expected.at
                            ));
                        }
                        let hot = self.opened.log.read_hot(expected.at, bytes);
                        if hot.is_some_and(|hot| hot != record.bytes) {
                            return Err(format!("memory does not hold the record at {}", expected.at));
                        }
                    }
                    Err(error) if unit.end <= visible_end => {
                        return Err(format!("cannot read the record at {}: {error}", expected.at));
                    }
                    Ok(_) => {
                        return Err(format!("the record at {} is seen beyond {visible_end}", expected.at));
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }
}

/// The records of a group that tests appended, with their heads checked.
fn user_records(group: &Group) -> Result<Vec<Expected>, Violation> {
    let mut records = Vec::new();
    for (at, record) in group.records().filter(|(_, record)| record.header.fields().kind == KIND) {
        if record.payload[..8] != at.get().to_le_bytes() {
            return Err(format!("the record at {at} was filled for another place"));
        }
        records.push(Expected { at, rest: record.payload[HEAD_BYTES..].to_vec() });
    }
    Ok(records)
}
