//! What each fault of a disk, a file or a clock does to the log, on the simulated disk and on real files. A disk without
//! space has its own suite, `full_disk.rs`.

mod support;

use std::fmt::{self, Write};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, thread};

use skylark_storage::checkpoint::{CHECKPOINT_NAME, SlotError};
use skylark_storage::device::Directory;
use skylark_storage::device::read_only::ReadOnlyDirectory;
use skylark_storage::device::simulated::Disk;
use skylark_storage::device::{Operation, Ticket};
use skylark_storage::inspect::Inspection;
use skylark_storage::recovery::Evidence;
use skylark_storage::segment::segment_name;
use skylark_storage::{
    AppendError, Cause, Clock, CommitLog, Device, File, Files, NewRecord, OpenError, Opened, Options,
    PhysicalOffset, ReadError, Step, Stopped, SystemClock, Visibility,
};

use tracing::field::Field;
use tracing::{Event, Metadata, span};

use support::layer::{FileLayer, Layer, Layered, LayeredFile};
use support::{KIND, SEGMENT_BYTES, World, options};

fn world() -> World {
    World::new(Disk::new(1), options())
}

/// A log of so many units of one record each, a group each.
fn with_units(units: usize, options: Options) -> World {
    let mut world = World::new(Disk::new(1), options);
    for _ in 0..units {
        world.append(&[3000]).expect("the log takes appends");
        world.settle().expect("no promise is broken");
    }
    world
}

fn base(index: u64) -> PhysicalOffset {
    PhysicalOffset::new(index * SEGMENT_BYTES)
}

// Writes and flushes.

#[test]
fn after_a_failed_write_or_flush_nothing_is_acknowledged_until_the_log_is_opened_again() {
    for what in ["a failed write", "a short write", "a failed flush"] {
        let mut world = with_units(3, options());
        let before = world.frontiers();
        world.append(&[200]).unwrap();
        let log = world.opened.log.clone();
        let ends = [world.units[3].end, world.units[3].end, PhysicalOffset::new(u64::MAX)];
        let waiters = ends.map(|end| {
            let log = log.clone();
            thread::spawn(move || log.durable().wait_blocking(end))
        });
        match what {
            "a failed write" => world.disk.fail_write(1),
            "a short write" => world.disk.shorten_write(1),
            _ => world.disk.fail_flush(1),
        }
        assert_eq!(world.step_writer(), Ok(Step::Stopped), "{what}");

        for waiter in waiters {
            let outcome = waiter.join().unwrap();
            assert!(
                matches!(outcome, Err(Stopped::Poisoned { cause: Cause::Write(_), .. })),
                "{what}: {outcome:?}"
            );
        }
        let refused = world.append(&[1]).unwrap_err();
        assert!(
            matches!(refused, AppendError::Poisoned { at, .. } if at == before.durable_end),
            "{what}: {refused}"
        );
        assert_eq!(world.step_writer(), Ok(Step::Stopped), "{what}: it is not tried again");
        assert_eq!(world.step_housekeeper(), Step::Stopped, "{what}");
        let after = world.frontiers();
        assert_eq!(
            (after.durable_end, after.written_end),
            (before.durable_end, before.written_end),
            "{what}"
        );
        assert!(world.opened.groups.try_next().is_none(), "{what}");
        // What had been durable is read, from memory and from the files.
        world.check_records().unwrap();
        assert_eq!(world.scan().unwrap().len(), 3, "{what}");

        drop(log);
        world.crash().unwrap();
        world.append(&[300]).expect("the log takes appends again");
        world.settle().unwrap();
        world.close().unwrap();
    }
}

#[test]
fn a_late_flush_that_fails_acknowledges_nothing_durable() {
    let mut world = with_units(3, Options { visibility: Visibility::Written, ..options() });
    let before = world.frontiers();
    assert!(before.durable_end < before.written_end);
    world.disk.fail_flush(1);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.step_writer(), Ok(Step::Stopped));
    assert_eq!(world.frontiers().durable_end, before.durable_end);
    // Of the process that goes on, what was written is still there to be read, and after its end too.
    world.check_records().unwrap();
    world.kill().unwrap();
    assert_eq!(world.units.len(), 3);
}

#[test]
fn a_checkpoint_or_a_segment_that_cannot_be_prepared_poisons() {
    for nth in 1..12 {
        for fault in [Disk::fail_write, Disk::shorten_write, Disk::fail_flush, Disk::fail_names] {
            let mut world = with_units(12, options());
            // What follows needs another segment.
            world.append(&[50_000]).unwrap();
            world.is_faulty = true;
            fault(&world.disk, nth);
            world.settle().unwrap();
            let stopped = world.opened.log.stopped();
            if world.frontiers().durable_end < world.frontiers().appended_end {
                assert!(matches!(stopped, Some(Stopped::Poisoned { .. })), "{stopped:?}");
            }
            world.check_records().unwrap();
            world.crash().unwrap();
            world.append(&[50_000]).expect("the reopened log takes appends");
            world.close().unwrap();
        }
    }
}

/// Real files, and a device that fails its `nth` operation when half of it is done.
struct Failing {
    directory: Directory,
    left: Arc<AtomicU64>,
}

struct FailingDevice {
    device: Box<dyn Device>,
    left: Arc<AtomicU64>,
    fails: bool,
}

impl Device for FailingDevice {
    fn attach(&mut self, segment: &str) -> io::Result<()> {
        self.device.attach(segment)
    }

    fn submit(&mut self, mut operation: Operation) -> Ticket {
        self.fails = self.left.fetch_sub(1, Ordering::Relaxed) == 1;
        if self.fails {
            // Whole blocks, as a device is used to.
            operation.flush = false;
            operation.pieces.truncate(1);
            operation.pieces.iter_mut().for_each(|piece| piece.truncate(piece.len().min(4096)));
        }
        self.device.submit(operation)
    }

    fn complete(&mut self) -> Option<(Ticket, io::Result<()>)> {
        let (ticket, outcome) = self.device.complete()?;
        Some((ticket, if self.fails { Err(io::ErrorKind::WriteZero.into()) } else { outcome }))
    }
}

impl Layer for Failing {
    fn below(&self) -> &dyn Files {
        &self.directory
    }

    fn device(&self) -> Box<dyn Device> {
        Box::new(FailingDevice {
            device: self.directory.device(),
            left: Arc::clone(&self.left),
            fails: false,
        })
    }
}

fn open_real(files: Arc<dyn Files>) -> Result<Opened<()>, OpenError> {
    CommitLog::open(files, Arc::new(SystemClock::new()), options(), ())
}

/// Appends records of these lengths, a group each; the ends of those that became durable.
fn append_real(opened: &mut Opened<()>, lengths: impl Iterator<Item = usize>) -> Vec<PhysicalOffset> {
    let mut durable = Vec::new();
    for length in lengths {
        let record = NewRecord { kind: KIND, head: &[], rest: &[&vec![7; length]] };
        let Ok(appended) = opened.log.append(&[record], |(), _, _| ()) else { break };
        while opened.writer.step() == Step::Worked {}
        if opened.log.durable().get() >= appended.end {
            durable.push(appended.end);
        }
    }
    durable
}

#[test]
fn a_short_write_to_a_real_file_is_recovered_from() {
    for nth in 1..12 {
        let directory = tempfile::tempdir().unwrap();
        let files = Directory::open(directory.path()).unwrap();
        let failing = Failing { directory: files.clone(), left: Arc::new(AtomicU64::new(nth)) };
        let mut opened = open_real(Arc::new(Layered(failing))).unwrap();
        let durable = append_real(&mut opened, (0..20).map(|round| round * 500));
        assert!(matches!(opened.log.stopped(), Some(Stopped::Poisoned { .. })), "operation {nth}");
        assert!(durable.len() < 20);
        drop(opened);
        let mut opened = open_real(Arc::new(files)).unwrap();
        assert!(opened.recovery.end >= durable.last().copied().unwrap_or_default());
        assert!(opened.log.scan(PhysicalOffset::ZERO).all(|group| group.is_ok()));
        assert_eq!(append_real(&mut opened, 0..20).len(), 20, "the log goes on");
    }
}

// Reads.

#[test]
fn a_range_that_cannot_be_read_is_reported_and_the_rest_served() {
    let mut world = with_units(10, Options { tail_bytes: 0, ..options() });
    world.close().unwrap();
    let log = world.opened.log.clone();
    let worn = world.units[5].records[0].at;
    world.disk.fail_reads(&segment_name(base(0)), worn.get() + 1000..worn.get() + 1100).unwrap();
    let is_io = |error: &ReadError| matches!(error, ReadError::Io { .. });
    assert!(log.record_at(worn).is_err_and(|error| is_io(&error)));
    assert!(log.read_cold(worn, 3000).is_err_and(|error| is_io(&error)));
    assert!(log.read_cold(worn, 500).is_ok(), "the beginning can be read");
    world.check_records_beside(|at, _| at == worn).unwrap();
    let groups: Vec<_> = log.scan(PhysicalOffset::ZERO).collect();
    let (last, sound) = groups.split_last().unwrap();
    assert!(last.as_ref().is_err_and(is_io) && sound.iter().all(Result::is_ok));
    assert!(log.stopped().is_none(), "a read harms nobody");
    world.append(&[100]).unwrap();
    world.settle().unwrap();

    world.disk.heal_reads();
    world.check_records().unwrap();
    drop(log);
    world.close().unwrap();
}

#[test]
fn a_group_that_nobody_can_read_is_not_cut_away() {
    let world = with_units(10, options());
    let crashed = world.disk.crash();
    crashed.fail_reads(&segment_name(base(0)), 20_000..20_001).unwrap();
    let before = crashed.operations();
    let refused = world.open(&crashed).err().expect("it may have been acknowledged");
    let OpenError::Corrupt(damage) = &refused else { panic!("{refused}") };
    assert_eq!(
        (damage.file.as_str(), damage.position),
        (segment_name(base(0)).as_str(), 20_000 / 4096 * 4096)
    );
    assert_eq!(damage.evidence, Evidence::Unreadable);
    assert_eq!(crashed.operations(), before);
    crashed.heal_reads();
    let opened = world.open(&crashed).unwrap();
    assert_eq!(opened.recovery.end, world.frontiers().durable_end);
}

#[test]
fn a_sealed_segment_whose_header_cannot_be_read_is_told_of_and_served() {
    let world = with_units(30, Options { tail_bytes: 0, ..options() });
    let crashed = world.disk.crash();
    crashed.fail_reads(&segment_name(base(0)), 72..73).unwrap();
    let mut opened = world.open(&crashed).unwrap();
    let [told] = &opened.recovery.unreadable[..] else { panic!("{}", opened.recovery) };
    assert_eq!((told.file.as_str(), told.position), (segment_name(base(0)).as_str(), 0));
    let log = opened.log.clone();
    assert_eq!(log.segments().len(), 2);
    // A record can be read without; the store times of groups count from when the next segment was created.
    for record in world.units.iter().flat_map(|unit| &unit.records) {
        assert_eq!(log.record_at(record.at).unwrap().payload()[support::HEAD_BYTES..], record.rest);
    }
    let groups: Vec<_> = log.scan(PhysicalOffset::ZERO).collect::<Result<_, _>>().unwrap();
    let starts: Vec<_> = groups.iter().map(|group| group.start).collect();
    let known: Vec<_> =
        world.opened.log.scan(PhysicalOffset::ZERO).map(|group| group.unwrap().start).collect();
    assert_eq!(starts, known);
    let created_at = log.segments()[1].created_at;
    assert!(groups.iter().all(|group| group.created_at == created_at));
    while opened.writer.step() == Step::Worked {}
    assert!(log.durable().get() > opened.recovery.end, "the log goes on");
}

/// The kernel refuses the first bytes of this file as it refuses those of a bad sector, with `EIO`.
const WORN: &str = "/proc/self/mem";

#[test]
fn what_the_kernel_cannot_read_of_a_real_file_is_known_for_that() {
    let directory = tempfile::tempdir().unwrap();
    let files = Directory::open(directory.path()).unwrap();
    let mut opened = open_real(Arc::new(files.clone())).unwrap();
    append_real(&mut opened, 0..3);
    drop(opened);
    let checkpoint = directory.path().join(CHECKPOINT_NAME);
    fs::remove_file(&checkpoint).unwrap();
    symlink(WORN, &checkpoint).unwrap();
    let refused = open_real(Arc::new(files)).err().expect("no slot can be read");
    let OpenError::Corrupt(damage) = &refused else { panic!("{refused}") };
    assert_eq!((damage.file.as_str(), &damage.evidence), (CHECKPOINT_NAME, &Evidence::CheckpointDamaged));
    let looked_at = ReadOnlyDirectory::open(directory.path()).unwrap();
    let inspection = Inspection::open(&looked_at, false).unwrap();
    assert_eq!(inspection.slots(), Some([Err(SlotError::Unreadable); 2]));
}

/// Segments of a disk that cannot be read from `from` on, for another reason than the medium.
struct Denied {
    disk: Disk,
    from: u64,
}

struct DeniedFile {
    file: Arc<dyn File>,
    from: u64,
}

impl Layer for Denied {
    fn below(&self) -> &dyn Files {
        &self.disk
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(name)?;
        let from = if name.ends_with(".seg") { self.from } else { u64::MAX };
        Ok(Arc::new(LayeredFile(DeniedFile { file, from })))
    }
}

impl FileLayer for DeniedFile {
    fn below(&self) -> &dyn File {
        &*self.file
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let is_denied = at.saturating_add(buffer.len() as u64) > self.from;
        if is_denied { Err(io::ErrorKind::OutOfMemory.into()) } else { self.file.read_at(at, buffer) }
    }
}

#[test]
fn what_cannot_be_read_for_another_reason_than_the_medium_is_not_cut_away() {
    let world = with_units(10, options());
    for from in [0, 20_000, SEGMENT_BYTES - 1] {
        let disk = world.disk.crash();
        let before = disk.operations();
        for repair in [false, true] {
            let files = Arc::new(Layered(Denied { disk: disk.clone(), from }));
            let options = Options { repair, ..options() };
            let refused = CommitLog::open(files, Arc::new(SystemClock::new()), options, ()).err();
            assert!(matches!(&refused, Some(OpenError::Io(_))), "from {from}: {refused:?}");
        }
        assert_eq!(disk.operations(), before);
    }
}

// Damage.

#[test]
fn rot_is_detected_and_located() {
    let mut world = with_units(10, Options { tail_bytes: 0, ..options() });
    // Below the checkpoint: nobody looks before a reader does, who is told which record it is.
    let crashed = world.disk.crash();
    world.close().unwrap();
    let hit = &world.units[4].records[0];
    for (distance, what) in [(0, "length"), (6, "zero"), (25, "sum"), (40, "head"), (1000, "rest")] {
        let disk = world.disk.kill();
        disk.flip_bit(&segment_name(base(0)), hit.at.get() + distance, 5).unwrap();
        let opened = world.open(&disk).unwrap();
        let error = opened.log.record_at(hit.at).unwrap_err();
        assert!(
            matches!(error, ReadError::Damaged { at, .. } | ReadError::NotARecord { at, .. } if at == hit.at),
            "{what}: {error}"
        );
        let found: Vec<_> = opened.log.scan(PhysicalOffset::ZERO).collect();
        let (last, sound) = found.split_last().unwrap();
        assert!(matches!(last, Err(ReadError::Damaged { at, .. }) if *at == hit.at), "{what}: {last:?}");
        assert_eq!(sound.len(), 4, "{what}: the groups in front of it");
        for other in world.units.iter().flat_map(|unit| &unit.records).filter(|other| other.at != hit.at) {
            assert_eq!(opened.log.record_at(other.at).unwrap().payload()[support::HEAD_BYTES..], other.rest);
        }
    }
    // Above it: the opening looks, and later groups vouch for what is gone.
    crashed.flip_bit(&segment_name(base(0)), hit.at.get() + 1000, 5).unwrap();
    let Some(OpenError::Corrupt(damage)) = world.open(&crashed).err() else { panic!("it is damaged") };
    assert_eq!((damage.file.as_str(), damage.at), (segment_name(base(0)).as_str(), world.units[3].end));
    assert!(matches!(damage.evidence, Evidence::Witness { .. }));
}

/// A directory with a log of four segments, closed.
fn long_directory() -> (tempfile::TempDir, Directory) {
    let directory = tempfile::tempdir().expect("there is a place for temporary files");
    let files = Directory::open(directory.path()).expect("a temporary directory can be used");
    let mut opened = open_real(Arc::new(files.clone())).expect("the log opens");
    while opened.log.durable().get() < base(3).advance(5000) {
        append_real(&mut opened, std::iter::once(3000));
    }
    opened.log.close();
    while opened.writer.step() == Step::Worked {}
    (directory, files)
}

#[test]
fn a_missing_segment_file_is_named() {
    for index in 0..4 {
        let (_directory, files) = long_directory();
        files.remove(&segment_name(base(index))).unwrap();
        let Some(OpenError::Corrupt(damage)) = open_real(Arc::new(files)).err() else {
            panic!("one is missing")
        };
        assert_eq!((damage.file, damage.evidence), (segment_name(base(index)), Evidence::SegmentMissing));
    }
}

#[test]
fn swapped_segment_files_are_told_by_what_they_claim() {
    let (_directory, files) = long_directory();
    files.rename(&segment_name(base(1)), "log/x").unwrap();
    files.rename(&segment_name(base(2)), &segment_name(base(1))).unwrap();
    files.rename("log/x", &segment_name(base(2))).unwrap();
    let Some(OpenError::Corrupt(damage)) = open_real(Arc::new(files)).err() else {
        panic!("they are swapped")
    };
    assert_eq!(damage.file, segment_name(base(1)));
    let claims = base(2);
    assert_eq!(damage.evidence, Evidence::SegmentMisplaced { claims, segment_bytes: SEGMENT_BYTES });
}

#[test]
fn a_segment_of_another_log_is_refused_by_name() {
    let ((_directory, files), (_other, others)) = (long_directory(), long_directory());
    let mut bytes = vec![0; usize::try_from(SEGMENT_BYTES).unwrap()];
    let file = others.open(&segment_name(base(1))).unwrap();
    let read = file.read_at(0, &mut bytes).unwrap();
    let swapped = files.open(&segment_name(base(1))).unwrap();
    swapped.set_len(0).unwrap();
    swapped.write_at(0, &bytes[..read]).unwrap();
    let refused = open_real(Arc::new(files)).err().unwrap();
    assert!(
        matches!(&refused, OpenError::ForeignLog { file, .. } if *file == segment_name(base(1))),
        "{refused}"
    );
}

// Two processes.

/// Names the directory that the other process opens.
const OTHER: &str = "SKYLARK_TEST_OTHER_PROCESS";

/// The other process: opens the log, says so, and stays until it is killed. Nothing when nobody asks for it.
#[test]
fn the_other_process() {
    let Ok(directory) = env::var(OTHER) else { return };
    let mut opened = open_real(Arc::new(Directory::open(directory).unwrap())).unwrap();
    append_real(&mut opened, std::iter::once(3000));
    println!("the log is open");
    loop {
        thread::park();
    }
}

#[test]
fn two_processes_do_not_open_one_directory() {
    let directory = tempfile::tempdir().unwrap();
    let mut other = Command::new(env::current_exe().unwrap())
        .args(["--exact", "the_other_process", "--nocapture"])
        .env(OTHER, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("the log is open")));
    let files: Arc<dyn Files> = Arc::new(Directory::open(directory.path()).unwrap());
    let refused = open_real(Arc::clone(&files)).err().unwrap();
    let OpenError::Locked { directory: named } = &refused else { panic!("{refused}") };
    assert!(named.contains(&*directory.path().to_string_lossy()), "{refused}");

    other.kill().unwrap();
    other.wait().unwrap();
    let opened = open_real(files).expect("a killed process holds nothing");
    assert_eq!(opened.log.scan(PhysicalOffset::ZERO).count(), 1);
}

// The clock.

#[test]
fn a_clock_that_goes_back_moves_no_store_time_back() {
    let mut world = world();
    let begun = world.clock.wall_ms();
    let hour = 60 * 60 * 1000;
    let mut expected = Vec::new();
    for (wall_ms, stored_at) in [
        (begun, begun),
        (begun - 1, begun),
        (begun - 1000 * hour, begun),
        (0, begun),
        (begun + 5, begun + 5),
        (begun + 23 * hour, begun + 23 * hour),
        (begun - hour, begun + 23 * hour),
    ] {
        world.clock.set_wall_ms(wall_ms);
        world.append(&[10, 10]).unwrap();
        world.settle().unwrap();
        let unit = &world.units[expected.len()];
        assert!(unit.records.iter().all(|record| record.stored_at == stored_at), "{unit:?}, not {stored_at}");
        expected.push(stored_at);
    }
    assert_eq!(world.frontiers().durable_end.get() / SEGMENT_BYTES, 0, "no segment is a day old");
    world.check_records().unwrap();
    // The next opening finds the clock behind, and so does the first segment that it creates.
    world.crash().unwrap();
    world.append(&[40_000]).unwrap();
    world.append(&[40_000]).unwrap();
    world.settle().unwrap();
    assert!(world.units[7..].iter().all(|unit| unit.records[0].stored_at == begun + 23 * hour));
    world.clock.set_wall_ms(begun + 48 * hour);
    world.append(&[10]).unwrap();
    world.settle().unwrap();
    let last = &world.units[9].records[0];
    assert_eq!(
        (last.stored_at, last.at.get() / SEGMENT_BYTES),
        (begun + 48 * hour, 2),
        "a day old it is sealed"
    );
    world.scan().unwrap();
    world.close().unwrap();
}

#[test]
fn a_clock_at_either_end_of_time_is_lived_with() {
    for wall_ms in [0, u64::MAX / 2] {
        let mut world = world();
        for now in [wall_ms, 0, wall_ms, wall_ms + 1] {
            world.clock.set_wall_ms(now);
            world.append(&[10]).unwrap();
            world.settle().unwrap();
        }
        world.scan().unwrap();
        world.crash().unwrap();
        world.close().unwrap();
    }
}

/// Hears what is said about the clock.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut said = event.metadata().level().to_string();
        event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
            write!(said, " {field}={value:?}").expect("memory takes it");
        });
        if said.contains("clock") {
            self.0.lock().expect("nobody panics with it").push(said);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_clock_that_jumped_ahead_and_back_is_told_of_once() {
    let heard = Heard::default();
    let said = || heard.0.lock().unwrap().clone();
    tracing::subscriber::with_default(heard.clone(), || {
        let mut world = world();
        let begun = world.clock.wall_ms();
        let hour = 60 * 60 * 1000;
        for (episode, ahead) in [(0, hour), (1, 2 * hour)] {
            for wall_ms in [begun + ahead, begun + ahead - 5_000] {
                world.clock.set_wall_ms(wall_ms);
                world.append(&[10]).unwrap();
                world.settle().unwrap();
                world.step_housekeeper();
                assert_eq!(said().len(), 2 * episode, "time servers do no less: {:?}", said());
            }
            for wall_ms in [begun, begun + 1, begun - hour] {
                world.clock.set_wall_ms(wall_ms);
                world.append(&[10]).unwrap();
                world.settle().unwrap();
                world.step_housekeeper();
            }
            assert_eq!(said().len(), 2 * episode + 1, "once: {:?}", said());
            let warning = said().pop().unwrap();
            let (clock, stored) = (format!("clock_ms={begun}"), format!("stored_at_ms={}", begun + ahead));
            assert!(
                warning.starts_with("WARN") && warning.contains(&clock) && warning.contains(&stored),
                "{warning}"
            );
            assert!(warning.contains(&format!("behind_ms={ahead}")), "{warning}");
            world.clock.set_wall_ms(begun + ahead);
            world.settle().unwrap();
            world.step_housekeeper();
            assert!(
                said().len() == 2 * episode + 2 && said().pop().unwrap().starts_with("INFO"),
                "{:?}",
                said()
            );
        }
    });
}

// Delays.

#[test]
fn what_arrives_while_a_disk_is_slow_shares_the_next_flush() {
    let disk = Disk::new(1);
    disk.set_delay_max(Duration::from_millis(4));
    let files: Arc<dyn Files> = Arc::new(disk);
    let Opened { log, writer, groups, .. } = open_real(files).unwrap();
    drop(groups);
    let writer = thread::spawn(|| writer.run());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let record = NewRecord { kind: KIND, head: &[], rest: &[&[7; 100]] };
                    let appended = log.append(&[record], |(), _, _| ()).unwrap();
                    log.durable().wait_blocking(appended.end).unwrap();
                }
            });
        }
    });
    let flushes = log.scan(PhysicalOffset::ZERO).count();
    assert!(flushes < 60, "80 appends took {flushes} flushes");
    log.close();
    writer.join().unwrap();
}
