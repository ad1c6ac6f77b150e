//! A log on a simulated disk, driven by hand, beside the plainest model of it: the list of what was appended.
//!
//! Every promise of the log is checked here, once, for all tests; what breaks it comes back as text, so that a test
//! can also show that a broken disk or a broken promise is noticed.
#![allow(dead_code, unreachable_pub, reason = "each test of the crate uses a part of this")]

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use skylark_storage::clock::SimulatedClock;
use skylark_storage::device::simulated::Disk;
use skylark_storage::retention::Retained;
use skylark_storage::{
    AppendError, Appended, CommitLog, Epoch, Files, Frontiers, Gather, Group, Kind, NewRecord, OpenError,
    Opened, Options, PhysicalOffset, Place, ReadError, Retention, Step, Stopped, TrimError, segment,
};

use self::slow::Meanwhile;

pub mod broken;
pub mod damage;
pub mod layer;
pub mod life;
pub mod pins;
pub mod slow;
pub mod tally;
pub mod usable;

/// What tests append.
pub const KIND: Kind = Kind::new(16);
/// The smallest segments there are, so that few appends roll.
pub const SEGMENT_BYTES: u64 = 64 << 10;
/// Heads of this length start with the record's own offset and store time, filled in under the lock.
pub const HEAD_BYTES: usize = 16;
/// What the wall clock shows when a world begins.
pub const BEGINNING_MS: u64 = 1_700_000_000_000;

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

/// How a gathering ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatherEnd {
    WriteHere,
    Release,
    /// Somebody has forgotten it.
    Never,
}

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub at: PhysicalOffset,
    /// In milliseconds since 1970.
    pub stored_at: u64,
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
    pub clock: SimulatedClock,
    pub options: Options,
    pub acknowledge: Acknowledge,
    /// What stands between the log and its disk.
    pub wrap: Wrap,
    /// What happens while the disk works.
    meanwhile: Meanwhile,
    /// Something was made to fail since the last opening, so that the log may have stopped.
    pub is_faulty: bool,
    /// A write was to be refused for lack of space since the last opening.
    pub is_refused: bool,
    pub opened: Opened<u64>,
    pub units: Vec<ExpectedUnit>,
    /// Everything below was acknowledged, at any time since the first opening.
    pub acknowledged_end: PhysicalOffset,
    /// Everything below survives the end of the process.
    written_end: PhysicalOffset,
    /// Store time of the last record.
    stored_at: u64,
    /// Where the log begins, and where it may begin after a trim that nobody saw to its end.
    pub trimmed: PhysicalOffset,
    trimmed_max: PhysicalOffset,
    /// Records that were handed over to be folded since the last opening, and not trimmed.
    folded: usize,
    next_byte: u8,
}

/// What broke.
pub type Violation = String;
/// Puts something between a log and its disk, such as what breaks it.
pub type Wrap = fn(&Disk) -> Arc<dyn Files>;

/// The disk as it is.
pub fn sound(disk: &Disk) -> Arc<dyn Files> {
    Arc::new(disk.clone())
}

pub fn options() -> Options {
    Options { segment_bytes: SEGMENT_BYTES, ..Options::default() }
}

pub fn open(disk: &Disk, clock: &SimulatedClock, options: &Options) -> Result<Opened<u64>, OpenError> {
    CommitLog::open(sound(disk), Arc::new(clock.clone()), options.clone(), 0)
}

impl World {
    pub fn new(disk: Disk, options: Options) -> Self {
        Self::try_new(disk, options).expect("an empty disk can be opened")
    }

    pub fn try_new(disk: Disk, options: Options) -> Result<Self, OpenError> {
        Self::try_on(disk, options, sound)
    }

    pub fn try_on(disk: Disk, options: Options, wrap: Wrap) -> Result<Self, OpenError> {
        let clock = SimulatedClock::new(BEGINNING_MS);
        let meanwhile = Meanwhile::default();
        let files = meanwhile.on(wrap(&disk));
        let opened = CommitLog::open(files, Arc::new(clock.clone()), options.clone(), 0)?;
        Ok(Self {
            disk,
            clock,
            options,
            acknowledge: Acknowledge::Durable,
            wrap,
            meanwhile,
            is_faulty: false,
            is_refused: false,
            opened,
            units: Vec::new(),
            acknowledged_end: PhysicalOffset::ZERO,
            written_end: PhysicalOffset::ZERO,
            stored_at: 0,
            trimmed: PhysicalOffset::ZERO,
            trimmed_max: PhysicalOffset::ZERO,
            folded: 0,
            next_byte: 0,
        })
    }

    /// Opens a state of the disk, as the next process does.
    pub fn open(&self, disk: &Disk) -> Result<Opened<u64>, OpenError> {
        let files = self.meanwhile.on((self.wrap)(disk));
        CommitLog::open(files, Arc::new(self.clock.clone()), self.options.clone(), 0)
    }

    pub fn frontiers(&self) -> Frontiers {
        self.opened.log.frontiers()
    }

    /// Appends a unit of records with so many bytes behind their heads.
    pub fn append(&mut self, rest_bytes: &[usize]) -> Result<(), AppendError> {
        let rests = self.rests(rest_bytes);
        let (appended, places) = append_to(&self.opened.log, &rests)?;
        self.note_appended(appended, &places, rests);
        Ok(())
    }

    /// What no other record holds, in these lengths.
    fn rests(&mut self, rest_bytes: &[usize]) -> Vec<Vec<u8>> {
        let next = |&bytes: &usize| {
            self.next_byte = self.next_byte.wrapping_add(1);
            vec![self.next_byte; bytes]
        };
        rest_bytes.iter().map(next).collect()
    }

    fn note_appended(&mut self, appended: Appended, places: &[Place], rests: Vec<Vec<u8>>) {
        assert_eq!(places.first().map(|place| place.physical_offset), Some(appended.start));
        let last = places.last().map_or(0, |place| place.stored_at);
        let in_order = places.is_sorted_by_key(|place| place.stored_at) && self.stored_at <= last;
        assert!(in_order, "store times never decrease: {} before {places:?}", self.stored_at);
        self.stored_at = last;
        let records = places.iter().zip(rests).map(|(place, rest)| Expected {
            at: place.physical_offset,
            stored_at: place.stored_at,
            rest,
        });
        let records = records.collect();
        self.units.push(ExpectedUnit { records, end: appended.end });
    }

    /// Steps the writer once, folds what it hands over, and notes what is acknowledged.
    pub fn step_writer(&mut self) -> Result<Step, Violation> {
        let step = self.opened.writer.step();
        self.note_progress()?;
        Ok(step)
    }

    /// As [`Self::step_writer`], of a disk that takes so long for what the step asks of it first, while somebody appends
    /// a unit. `None` where the step asks nothing of the disk's device.
    pub fn step_slow_writer(
        &mut self,
        takes: Duration,
        rest_bytes: &[usize],
    ) -> Result<Option<Result<(), AppendError>>, Violation> {
        let rests = self.rests(rest_bytes);
        let (say, hear) = mpsc::channel();
        let (clock, log, appends) = (self.clock.clone(), self.opened.log.clone(), rests.clone());
        self.meanwhile.set(move || {
            clock.advance(takes);
            say.send(append_to(&log, &appends)).expect("who has asked listens");
        });
        self.opened.writer.step();
        let outcome = if self.meanwhile.is_done() { hear.try_recv().ok() } else { None };
        let outcome = outcome
            .map(|outcome| outcome.map(|(appended, places)| self.note_appended(appended, &places, rests)));
        self.note_progress()?;
        Ok(outcome)
    }

    /// Ends a gathering in a way; whether all that was staged was written here and now.
    pub fn end_gathering(&mut self, gather: Gather<'_, u64>, end: GatherEnd) -> Result<bool, Violation> {
        let before = self.frontiers();
        match end {
            GatherEnd::WriteHere => gather.write_here(),
            GatherEnd::Release => gather.release(),
            GatherEnd::Never => std::mem::forget(gather),
        }
        self.note_progress()?;
        let Frontiers { durable_end, appended_end, .. } = self.frontiers();
        if end != GatherEnd::WriteHere && durable_end > before.durable_end {
            return Err(format!("something was written up to {durable_end}, though nobody was to"));
        }
        Ok(before.durable_end < durable_end && durable_end == appended_end)
    }

    fn note_progress(&mut self) -> Result<(), Violation> {
        self.note_acknowledged();
        self.fold()?;
        self.check_frontiers()
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

    /// Applies a policy, and forgets what it has given up.
    pub fn retain(&mut self, retention: &Retention) -> Result<Retained, TrimError> {
        let log = &self.opened.log;
        let cut = log.cut(retention);
        let outcome = log.apply_retention(retention);
        self.trimmed_max = self.trimmed_max.max(cut.to.unwrap_or(PhysicalOffset::ZERO));
        if let Ok(retained) = &outcome {
            self.forget_below(retained.trimmed);
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

    pub fn note_acknowledged(&mut self) {
        let Frontiers { durable_end, written_end, appended_end, .. } = self.frontiers();
        let end = match self.acknowledge {
            Acknowledge::Durable => durable_end,
            Acknowledge::Written => written_end,
            Acknowledge::Appended => appended_end,
        };
        self.acknowledged_end = self.acknowledged_end.max(end);
        self.written_end = written_end;
    }

    fn fold(&mut self) -> Result<(), Violation> {
        while let Some(group) = self.opened.groups.try_next() {
            if group.end > self.frontiers().visible_end {
                return Err(format!("{group:?} was handed over before it was visible"));
            }
            let found = user_records(&group)?;
            let expected = self.units.iter().flat_map(|unit| &unit.records).skip(self.folded);
            if !found.iter().eq(expected.take(found.len())) {
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
        self.keep_written();
        self.reopen(self.disk.kill())
    }

    /// What comes is no power cut, and loses nothing that was written.
    pub fn keep_written(&mut self) {
        self.acknowledged_end = self.acknowledged_end.max(self.written_end);
    }

    /// Closes the log in good order, and opens it again after a power cut.
    pub fn close(&mut self) -> Result<(), Violation> {
        self.opened.log.close();
        self.settle()?;
        let end = self.frontiers().appended_end;
        match self.opened.log.stopped() {
            Some(Stopped::Closed) => {}
            // A disk without space, or with a fault, lets no log be closed.
            Some(_) if self.is_faulty || self.is_refused || self.frontiers().durable_end < end => {
                return self.crash();
            }
            other => return Err(format!("the log does not close: {other:?}")),
        }
        self.acknowledged_end = self.acknowledged_end.max(end);
        // Where it begins is what the last checkpoint says, whatever became of a trim.
        self.trimmed_max = self.frontiers().trimmed;
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
        let before = self.opened.log.epoch();
        self.opened = self.open(&disk).map_err(|error| format!("cannot open: {error}"))?;
        self.disk = disk;
        (self.is_faulty, self.is_refused) = (false, false);
        if self.opened.log.epoch() <= before {
            return Err(format!("epoch {before} was not raised: {}", self.opened.log.epoch()));
        }
        self.check_beginning()?;
        let groups = self.scan()?;
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
                    let is_part = front.iter().zip(&unit.records).take_while(|(a, b)| a == b).count() > 0;
                    let what = if is_part { "only a part is there" } else { "another is there" };
                    return Err(format!("of unit {kept} at {}, {what}", unit.records[0].at));
                }
                None if unit.records.starts_with(left) => {
                    return Err(format!("of unit {kept} at {}, only a part is there", unit.records[0].at));
                }
                None => return Err(format!("{} records were never appended", left.len())),
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
        self.written_end = self.frontiers().written_end;
        self.check_records()?;
        self.check_frontiers()
    }

    /// Every visible group: a continuous chain, epochs and store times that never decrease, as [`CommitLog::scan`]
    /// and [`CommitLog::chain_at`] agree. Notes the last store time.
    pub fn scan(&mut self) -> Result<Vec<Group>, Violation> {
        let log = &self.opened.log;
        let groups: Vec<Group> = log
            .scan(self.frontiers().trimmed)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("cannot scan: {error}"))?;
        let (mut epoch, mut stored_at) = (Epoch::ZERO, 0);
        let mut chain = None;
        for group in &groups {
            let base = log.segment_base(group.start);
            if group.start == base.advance(segment::BLOCK_BYTES) && group.end <= self.frontiers().durable_end
            {
                let point = log.chain_at(base).map_err(|error| format!("no chain at {base}: {error}"))?;
                let point = point.ok_or_else(|| format!("no chain at {base}"))?;
                if chain.is_some_and(|chain| point.chain != chain) || point.epoch < epoch {
                    return Err(format!("{point:?} at {base}, the groups before give {chain:?}, {epoch}"));
                }
            }
            for (at, record) in group.records() {
                let fields = record.header.fields();
                let now = group.created_at + u64::from(fields.stored_at_delta);
                if fields.epoch < epoch || now < stored_at {
                    return Err(format!(
                        "epoch or time decreases at {at}: {fields:?} behind {epoch}, {stored_at}"
                    ));
                }
                (epoch, stored_at) = (fields.epoch, now);
            }
            chain = Some(group.chain);
        }
        self.stored_at = stored_at;
        Ok(groups)
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

    /// Reads every record by its offset, in all ways there are, and shows that nothing is seen that is not visible.
    pub fn check_records(&self) -> Result<(), Violation> {
        self.check_records_beside(|_, _| false)
    }

    /// As [`Self::check_records`], of a log some bytes of which are damaged: they are reported, the rest is served.
    pub fn check_records_beside(
        &self,
        is_damaged: impl Fn(PhysicalOffset, u64) -> bool,
    ) -> Result<(), Violation> {
        let log = &self.opened.log;
        let Frontiers { trimmed, visible_end, .. } = self.frontiers();
        for unit in &self.units {
            for expected in &unit.records {
                let at = expected.at;
                let read = log.record_at(at);
                // By a trim that failed when it was all but done.
                if at < trimmed && matches!(read, Err(ReadError::Trimmed { .. })) {
                    continue;
                }
                if unit.end > visible_end {
                    if read.is_ok() {
                        return Err(format!("the record at {at} is seen beyond {visible_end}"));
                    }
                    continue;
                }
                let stored_bytes = (32 + HEAD_BYTES + expected.rest.len()).next_multiple_of(8) as u64;
                let record = match read {
                    Ok(record) => record,
                    Err(_) if is_damaged(at, stored_bytes) => continue,
                    Err(error) => return Err(format!("cannot read the record at {at}: {error}")),
                };
                if record.payload()[HEAD_BYTES..] != expected.rest {
                    return Err(format!("the record at {at} has changed"));
                }
                let bytes = u32::try_from(record.bytes.len()).expect("records are short");
                let hot = log.read_hot(at, bytes);
                if hot.is_some_and(|hot| hot != record.bytes) {
                    return Err(format!("memory does not hold the record at {at}"));
                }
                let cold = log.read_cold(at, bytes);
                if cold.as_ref().ok() != Some(&record.bytes) && !is_damaged(at, stored_bytes) {
                    return Err(format!("the files do not hold the record at {at}: {cold:?}"));
                }
            }
        }
        // A look past the end, of a record's header or of one byte.
        for (at, bytes) in [(visible_end, 1), (PhysicalOffset::new(visible_end.get().saturating_sub(8)), 32)]
        {
            let beyond = log.read_hot(at, bytes).is_some()
                || !matches!(
                    log.read_cold(at, bytes),
                    Err(ReadError::NotVisible { .. } | ReadError::Trimmed { .. })
                )
                || log.record_at(at).is_ok();
            if beyond {
                return Err(format!("{bytes} bytes are read at {at}, beyond {visible_end}"));
            }
        }
        Ok(())
    }
}

/// Appends a unit with these behind its heads, which are filled in under the lock.
fn append_to(log: &CommitLog<u64>, rests: &[Vec<u8>]) -> Result<(Appended, Vec<Place>), AppendError> {
    let parts: Vec<[&[u8]; 2]> = rests.iter().map(|rest| rest.split_at(rest.len() / 2).into()).collect();
    let unit: Vec<NewRecord<'_>> =
        parts.iter().map(|rest| NewRecord { kind: KIND, head: &[0; HEAD_BYTES], rest }).collect();
    let mut places = Vec::new();
    let appended = log.append(&unit, |count, place, head| {
        *count += 1;
        head[..8].copy_from_slice(&place.physical_offset.get().to_le_bytes());
        head[8..].copy_from_slice(&place.stored_at.to_le_bytes());
        places.push(place);
    })?;
    Ok((appended, places))
}

/// The records of a group that tests appended, with their heads checked.
pub fn user_records(group: &Group) -> Result<Vec<Expected>, Violation> {
    let mut records = Vec::new();
    for (at, record) in group.records().filter(|(_, record)| record.header.fields().kind == KIND) {
        let stored_at = group.created_at + u64::from(record.header.fields().stored_at_delta);
        let head: [[u8; 8]; 2] = [at.get().to_le_bytes(), stored_at.to_le_bytes()];
        if record.payload[..HEAD_BYTES] != head.concat() {
            return Err(format!("the record at {at} was filled for another place or time"));
        }
        records.push(Expected { at, stored_at, rest: record.payload[HEAD_BYTES..].to_vec() });
    }
    Ok(records)
}
