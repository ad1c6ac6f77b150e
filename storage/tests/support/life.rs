//! A small life of a log, all of it drawn from one seed: appends, some of them gathered and written by who made them,
//! steps, some of them on a disk that takes so long that the clock and other appends overtake it, trims, pins and
//! retention, jumps of the clock, faults of the disk, power cuts, kills and restarts, some of them cut short, held
//! against the list of what was appended.

use std::fmt;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use skylark_storage::device::simulated::Disk;
use skylark_storage::segment::segment_name;
use skylark_storage::{
    AppendError, Clock, Epoch, Files, OpenError, Options, PhysicalOffset, Retention, Step, TailPolicy,
    TrimError, Visibility,
};

use super::pins::Pins;
use super::tally::Tally;
use super::{
    Acknowledge, BEGINNING_MS, GatherEnd, SEGMENT_BYTES, Violation, World, Wrap, damage, options, sound,
};

/// How a log is treated, and what is wrong with it.
#[derive(Clone, Copy)]
pub struct Conduct {
    pub wrap: Wrap,
    pub acknowledge: Acknowledge,
    /// Say what happens.
    pub tells: bool,
}

impl Conduct {
    /// As it should be.
    pub const SOUND: Self = Self { wrap: sound, acknowledge: Acknowledge::Durable, tells: false };
}

/// Lives the life of this seed.
pub fn live(seed: u64, conduct: &Conduct) -> Result<Tally, Violation> {
    let mut life = Life::begin(seed, conduct)?;
    let acts = life.choose(8..=56);
    for _ in 0..acts {
        life.act()?;
        if life.world.opened.log.stopped().is_some() && life.one_in(2) {
            life.restart()?;
        }
    }
    life.end()?;
    Ok(life.tally)
}

/// What stood behind the durable end when an epoch ended: later it is of an earlier life.
struct Fossil {
    at: PhysicalOffset,
    bytes: Vec<u8>,
    epoch: Epoch,
}

struct Life {
    world: World,
    rng: Pcg64Mcg,
    fossils: Vec<Fossil>,
    /// Of this opening.
    pins: Pins,
    tally: Tally,
    /// Sectors under way may be neither old nor new after a power cut.
    destroys: bool,
    tells: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Crash,
    Kill,
}

impl Life {
    fn begin(seed: u64, conduct: &Conduct) -> Result<Self, Violation> {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let pads = rng.random_bool(0.3);
        let options = Options {
            tail: if pads { TailPolicy::Pad } else { TailPolicy::PackOrPad },
            visibility: if rng.random_bool(0.4) { Visibility::Written } else { Visibility::Durable },
            undurable_bytes_max: [20_000, 100_000, 32 << 20][rng.random_range(0..3_usize)],
            tail_bytes: [0, SEGMENT_BYTES, 32 << 20][rng.random_range(0..3_usize)],
            ..options()
        };
        if conduct.tells {
            println!("{options:?}");
        }
        let disk = Disk::new(rng.random());
        // Padding is for disks that do this.
        let destroys = pads && rng.random_bool(0.5);
        let is_cut = rng.random_bool(0.1);
        if is_cut {
            disk.power_off_at(rng.random_range(1..10));
        }
        let world = match World::try_on(disk.clone(), options.clone(), conduct.wrap) {
            // Cut while the log was created: nothing was promised, and the next opening must do.
            Err(OpenError::Io(_)) if is_cut => World::try_on(disk.crash(), options, conduct.wrap),
            opened => opened,
        };
        let mut world = world.map_err(|error| format!("cannot create: {error}"))?;
        world.acknowledge = conduct.acknowledge;
        world.is_faulty = is_cut;
        world.disk.set_tears_destroy(destroys);
        world.disk.set_flushes_narrow(rng.random_bool(0.5));
        Ok(Self {
            world,
            rng,
            fossils: Vec::new(),
            pins: Pins::default(),
            tally: Tally::default(),
            destroys,
            tells: conduct.tells,
        })
    }

    fn choose(&mut self, range: impl rand::distr::uniform::SampleRange<u64>) -> u64 {
        self.rng.random_range(range)
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.choose(0..many) == 0
    }

    fn tell(&self, what: fmt::Arguments<'_>) {
        if self.tells {
            println!("{what}; {:?}", self.world.frontiers());
        }
    }

    fn act(&mut self) -> Result<(), Violation> {
        match self.choose(0..120) {
            0..33 => self.append()?,
            33..43 => self.gather()?,
            43..61 => {
                self.tell(format_args!("the writer steps"));
                self.world.step_writer()?;
            }
            61..66 => self.step_slow_writer()?,
            66..71 => {
                self.tell(format_args!("the writer does all there is"));
                self.world.settle()?;
            }
            71..79 => {
                let steps = self.choose(1..8);
                self.tell(format_args!("the housekeeper steps {steps} times"));
                for _ in 0..steps {
                    self.world.step_housekeeper();
                }
            }
            79..84 => self.pass_time(),
            84..87 => self.trim()?,
            87..92 => self.pin()?,
            92..98 => self.retain()?,
            98..100 => self.wear_out()?,
            100..107 => self.break_something(),
            107..116 => self.restart()?,
            _ => self.close()?,
        }
        Ok(())
    }

    fn append(&mut self) -> Result<(), Violation> {
        for _ in 0..self.choose(1..=3) {
            let records = self.choose(1..=3);
            let lengths: Vec<usize> = (0..records).map(|_| self.length()).collect();
            let before = self.world.frontiers().appended_end;
            let outcome = self.world.append(&lengths);
            self.tell(format_args!("a unit of {lengths:?} is appended: {:?}", outcome.as_ref().err()));
            self.note_appended(&lengths, before, outcome)?;
        }
        Ok(())
    }

    /// The writer steps, and the disk takes its time; somebody appends meanwhile.
    fn step_slow_writer(&mut self) -> Result<(), Violation> {
        let takes = Duration::from_millis(self.choose(0..3000));
        let lengths = [self.length()];
        let before = self.world.frontiers().appended_end;
        let outcome = self.world.step_slow_writer(takes, &lengths)?;
        self.tell(format_args!("the writer steps, for {takes:?}; {lengths:?} meanwhile: {outcome:?}"));
        let Some(outcome) = outcome else { return Ok(()) };
        self.tally.overtaken += 1;
        self.note_appended(&lengths, before, outcome)
    }

    fn note_appended(
        &mut self,
        lengths: &[usize],
        before: PhysicalOffset,
        outcome: Result<(), AppendError>,
    ) -> Result<(), Violation> {
        let unit_bytes: u64 = lengths.iter().map(|length| (length + 48).next_multiple_of(8) as u64).sum();
        match outcome {
            Ok(()) => {
                self.tally.units += 1;
                let end = self.world.frontiers().appended_end;
                self.tally.rolls += end.get() / SEGMENT_BYTES - before.get() / SEGMENT_BYTES;
            }
            Err(AppendError::TooLarge { .. }) if unit_bytes > self.world.opened.log.unit_bytes_max() => {}
            Err(AppendError::Backpressure { .. } | AppendError::NoSpace { .. }) => self.tally.refused += 1,
            Err(AppendError::Poisoned { .. }) if self.world.is_faulty => {}
            Err(error) => return Err(format!("an append of {lengths:?} is refused: {error}")),
        }
        Ok(())
    }

    /// Appends without waking anybody, and perhaps writes it here; or forgets to end that.
    fn gather(&mut self) -> Result<(), Violation> {
        let end = match self.choose(0..12) {
            0..8 => GatherEnd::WriteHere,
            8..11 => GatherEnd::Release,
            _ => GatherEnd::Never,
        };
        // Often alone.
        if end == GatherEnd::WriteHere && self.one_in(2) {
            self.world.settle()?;
        }
        let log = self.world.opened.log.clone();
        let gather = log.gather();
        self.append()?;
        let is_written = self.world.end_gathering(gather, end)?;
        self.tell(format_args!("what was gathered ends: {end:?}, written: {is_written}"));
        self.tally.written_here += u64::from(is_written);
        Ok(())
    }

    /// Pins something, or moves or drops a pin.
    fn pin(&mut self) -> Result<(), Violation> {
        let (trimmed, end) =
            (self.world.frontiers().trimmed.get(), self.world.frontiers().appended_end.get());
        // What is about to go is what others would hold.
        let far = if self.one_in(2) { trimmed + SEGMENT_BYTES } else { end + SEGMENT_BYTES };
        let place = PhysicalOffset::new(self.choose(trimmed.saturating_sub(SEGMENT_BYTES)..=far));
        let index = usize::try_from(self.choose(0..8)).expect("it is small");
        if index >= self.pins.len() {
            let lease = Duration::from_millis(self.choose(0..20_000));
            let granted = self.pins.pin(&self.world, place, lease)?;
            self.tell(format_args!("{place} is pinned for {lease:?}: {granted}"));
            self.tally.pins += u64::from(granted);
        } else if self.one_in(3) {
            self.tell(format_args!("pin {index} is dropped"));
            self.pins.drop(index);
        } else {
            self.tell(format_args!("pin {index} is moved to {place}"));
            self.pins.advance(&self.world, index, place)?;
        }
        self.pins.check(&self.world)
    }

    /// Applies a policy.
    fn retain(&mut self) -> Result<(), Violation> {
        if self.one_in(2) {
            self.pin()?;
        }
        let mut retention = Retention::default();
        retention.age_ms = self.one_in(3).then(|| self.choose(0..4000));
        retention.bytes_max = (!self.one_in(3)).then(|| self.choose(0..2 * SEGMENT_BYTES));
        retention.clean_percent = self.one_in(2).then_some(85);
        let retained = self.pins.retain(&mut self.world, &retention)?;
        self.tell(format_args!("{retention:?} is applied: {retained:?}"));
        if let Some(retained) = retained {
            self.tally.retentions += u64::from(retained.segments > 0);
            self.tally.held_back += u64::from(retained.held_back.is_some());
        }
        Ok(())
    }

    fn length(&mut self) -> usize {
        let length = match self.choose(0..16) {
            0..10 => self.choose(0..300),
            10..14 => self.choose(300..5000),
            14 => self.choose(5000..20_000),
            _ => self.choose(20_000..50_000),
        };
        usize::try_from(length).expect("lengths are short")
    }

    fn pass_time(&mut self) {
        let clock = &self.world.clock;
        let day = 24 * 60 * 60 * 1000;
        match self.rng.random_range(0..8) {
            0 => clock.set_wall_ms(BEGINNING_MS.saturating_sub(self.rng.random_range(0..3 * day))),
            1 => clock.set_wall_ms(clock.wall_ms() + self.rng.random_range(0..2 * day)),
            _ => clock.advance(Duration::from_millis(self.rng.random_range(0..1500))),
        }
        self.tell(format_args!("it is {}", self.world.clock.wall_ms()));
    }

    fn trim(&mut self) -> Result<(), Violation> {
        let end = self.world.frontiers().durable_end.get().saturating_sub(1);
        let to = PhysicalOffset::new(end.saturating_sub(self.choose(0..3) * SEGMENT_BYTES));
        let before = self.world.trimmed;
        let outcome = self.world.trim(to);
        self.tell(format_args!("it is trimmed to {to}: {outcome:?}"));
        match outcome {
            Ok(trimmed) => self.tally.trims += u64::from(trimmed > before),
            Err(TrimError::Remains { .. } | TrimError::Stopped(_)) if self.world.is_faulty => {}
            Err(TrimError::NoSpace(_)) if self.world.is_refused => {}
            Err(error) => return Err(format!("it is not trimmed to {to}: {error}")),
        }
        Ok(())
    }

    /// A range of a segment cannot be read for a while: that is reported, the rest is served.
    fn wear_out(&mut self) -> Result<(), Violation> {
        if !self.world.disk.has_power() {
            return Ok(());
        }
        let trimmed = self.world.frontiers().trimmed.get();
        let end = self.world.frontiers().durable_end.get();
        if end <= trimmed {
            return Ok(());
        }
        let at = self.choose(trimmed..end);
        let bytes = self.choose(1..5000);
        self.tell(format_args!("{bytes} bytes at {at} cannot be read"));
        let base = PhysicalOffset::new(at - at % SEGMENT_BYTES);
        let position = at % SEGMENT_BYTES;
        let disk = &self.world.disk;
        if disk.fail_reads(&segment_name(base), position..position + bytes).is_err() {
            return Ok(());
        }
        let segment_end = base.get() + SEGMENT_BYTES;
        let worn = at..(at + bytes).min(segment_end);
        let checked = self.world.check_records_beside(|at, bytes| {
            // To find out how long a record is, as much is read as its header may cover.
            let end = at.get() + bytes.max(32 + 255);
            at.get() < worn.end && worn.start < end
        });
        self.world.disk.heal_reads();
        checked
    }

    fn break_something(&mut self) {
        let disk = self.world.disk.clone();
        let nth = self.choose(1..8);
        let what = self.choose(0..19);
        match what {
            0..5 => disk.power_off_at(self.choose(1..16)),
            5 => disk.fail_write(nth),
            6 => disk.shorten_write(nth),
            7..10 => disk.fail_flush(nth),
            10 => disk.fail_names(nth),
            11..14 => {
                self.tally.full += 1;
                disk.set_space_left(Some(self.rng.random_range(0..60_000)));
                // After a power cut a file may be long and have no room: writing there fails, and stops the log.
                self.world.is_faulty = true;
                return self.tell(format_args!("the disk is filled up"));
            }
            // Nothing stops for that, and nothing is in doubt.
            14..17 => {
                self.tally.writes_refused += 1;
                disk.refuse_write(nth);
                self.world.is_refused = true;
                return self.tell(format_args!("write {nth} from here is refused"));
            }
            _ => {
                disk.set_space_left(None);
                return self.tell(format_args!("the disk has space"));
            }
        }
        self.world.is_faulty = true;
        self.tell(format_args!("the disk is broken: {what}, {nth}"));
    }

    fn close(&mut self) -> Result<(), Violation> {
        self.tell(format_args!("it is closed"));
        self.tally.closes += 1;
        self.bury();
        self.world.close()?;
        self.after_opening()
    }

    /// Ends the process, with the power or without, and opens what is left; some openings are cut short themselves.
    fn restart(&mut self) -> Result<(), Violation> {
        let way = if self.one_in(3) { Way::Kill } else { Way::Crash };
        self.restart_by(way)
    }

    fn restart_by(&mut self, way: Way) -> Result<(), Violation> {
        self.tell(format_args!("{way:?}"));
        self.bury();
        self.tally.poisoned += u64::from(self.world.opened.log.stopped().is_some());
        let mut after = match way {
            Way::Crash => self.world.disk.crash(),
            Way::Kill => self.world.disk.kill(),
        };
        self.world.note_acknowledged();
        let mut loses_written = way == Way::Crash;
        match way {
            Way::Crash => self.tally.crashes += 1,
            Way::Kill => self.tally.kills += 1,
        }
        if way == Way::Crash && !self.one_in(4) {
            self.plant(&after)?;
        }
        for _ in 0..[0, 0, 0, 1, 1, 2][self.rng.random_range(0..6_usize)] {
            self.cut_an_opening_short(&after)?;
            if self.one_in(3) {
                after = after.kill();
            } else {
                after = after.crash();
                loses_written = true;
            }
        }
        // Opening needs no space.
        let is_full = self.one_in(8);
        if is_full {
            after.set_space_left(Some(0));
        }
        if !loses_written {
            self.world.keep_written();
        }
        self.world.reopen(after)?;
        // As in `break_something`.
        self.world.is_faulty = is_full;
        self.after_opening()
    }

    fn cut_an_opening_short(&mut self, disk: &Disk) -> Result<(), Violation> {
        let nth = self.choose(1..12);
        // Recovery writes again in place, which a disk that destroys what it tears does not always survive, however
        // the log is laid out.
        let what = if self.destroys { self.choose(6..8) } else { self.choose(0..8) };
        match what {
            0..4 => disk.power_off_at(nth),
            4 => disk.fail_write(1 + nth / 3),
            5 => disk.fail_flush(1 + nth / 2),
            6 => disk.fail_names(nth),
            _ => {}
        }
        self.tally.cut_short += 1;
        let outcome = self.world.open(disk).map(drop);
        self.tell(format_args!("an opening is cut short, {what}, {nth}: {:?}", outcome.as_ref().err()));
        match outcome {
            Ok(()) => Ok(()),
            Err(OpenError::Io(_)) if what < 7 => Ok(()),
            Err(error) => Err(format!("cannot open: {error}")),
        }
    }

    fn after_opening(&mut self) -> Result<(), Violation> {
        self.pins = Pins::default();
        let report = &self.world.opened.recovery;
        self.tally.cut += u64::from(report.cut_bytes > 0);
        self.tally.rewritten += u64::from(report.rewritten_bytes > 0);
        self.tell(format_args!("opened: {report:?}"));
        // What was cut is gone for good.
        if self.world.opened.recovery.cut_bytes > 0 && self.one_in(2) {
            self.restart_by(Way::Crash)?;
        }
        Ok(())
    }

    /// Keeps what stands behind the durable end.
    fn bury(&mut self) {
        let durable_end = self.world.frontiers().durable_end;
        let stopped = self.world.opened.log.stopped().is_some();
        if self.fossils.len() > 8 || (!stopped && self.world.frontiers().written_end == durable_end) {
            return;
        }
        let epoch = self.world.opened.log.epoch();
        let disk = self.world.disk.kill();
        let at = durable_end.align_up(512);
        if let Some(bytes) = read_from(&disk, at).filter(|bytes| bytes.iter().any(|&byte| byte != 0)) {
            self.fossils.push(Fossil { at, bytes, epoch });
        }
    }

    /// Puts bytes of an earlier epoch where, by now, nothing is known to be: as a file system does that hands blocks
    /// out again without clearing them. A group in front of them, and durable, is of this epoch.
    fn plant(&mut self, disk: &Disk) -> Result<(), Violation> {
        let log = &self.world.opened.log;
        let begun = *log.epochs().last().expect("an open log has an epoch");
        let free = self.world.acknowledged_end.align_up(512);
        if self.world.acknowledged_end <= begun.start {
            return Ok(());
        }
        for fossil in self.fossils.iter().filter(|fossil| fossil.epoch < begun.epoch) {
            let skipped = free.get().saturating_sub(fossil.at.get());
            let Some(bytes) = usize::try_from(skipped).ok().and_then(|skipped| fossil.bytes.get(skipped..))
            else {
                continue;
            };
            let planted = overwrite(disk, fossil.at.advance(skipped), bytes);
            self.tally.planted += u64::from(planted.map_err(|error| format!("cannot plant: {error}"))?);
        }
        Ok(())
    }

    /// The end: all is well with what is left, and with what comes then; or a bit flips, which does not go unnoticed.
    fn end(&mut self) -> Result<(), Violation> {
        let way = if self.one_in(4) { Way::Kill } else { Way::Crash };
        self.restart_by(way)?;
        self.world.disk.set_space_left(None);
        self.world.clock.advance(Duration::from_secs(2));
        for _ in 0..self.choose(1..4) {
            self.append()?;
        }
        self.world.settle()?;
        while self.world.step_housekeeper() == Step::Worked {}
        self.world.check_records()?;
        self.world.scan()?;
        let flips = self.one_in(3);
        if flips && self.one_in(2) {
            return self.flip(way);
        }
        self.world.close()?;
        if flips { self.flip(Way::Crash) } else { Ok(()) }
    }

    fn flip(&mut self, way: Way) -> Result<(), Violation> {
        let (disk, kept_end) = match way {
            Way::Crash => (self.world.disk.crash(), self.world.frontiers().durable_end),
            Way::Kill => (self.world.disk.kill(), self.world.frontiers().written_end),
        };
        self.tally.flipped += 1;
        let reported = damage::flip_somewhere(&self.world, &disk, kept_end, &mut self.rng, self.tells)?;
        self.tally.reported += u64::from(reported);
        Ok(())
    }
}

/// What a segment's file holds from `at` on.
fn read_from(disk: &Disk, at: PhysicalOffset) -> Option<Vec<u8>> {
    let base = at.align_down(SEGMENT_BYTES);
    let file = disk.open(&segment_name(base)).ok()?;
    let bytes = file.len().ok()?.checked_sub(at.since(base))?;
    let mut held = vec![0; usize::try_from(bytes).ok()?];
    file.read_at(at.since(base), &mut held).ok()?;
    Some(held)
}

/// Writes what a segment's file, or the spare that may become it, has room for; whether there was any.
fn overwrite(disk: &Disk, at: PhysicalOffset, bytes: &[u8]) -> std::io::Result<bool> {
    let base = at.align_down(SEGMENT_BYTES);
    let Ok(file) = disk.open(&segment_name(base)).or_else(|_| disk.open("log/spare")) else {
        return Ok(false);
    };
    let room = file.len()?.saturating_sub(at.since(base));
    let bytes = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
    if bytes.is_empty() {
        return Ok(false);
    }
    file.write_at(at.since(base), bytes)?;
    file.sync()?;
    Ok(true)
}
