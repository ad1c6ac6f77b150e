//! The full disk for real: on file systems of a fixed size, through every device that can be used there, with threads, on
//! the machine's clock, with kill -9.
//!
//! `tests/full_disk.rs` goes through every order of events on a simulated disk; this shows that real file systems say
//! what the simulated one does, and what a person gets to read.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support {
    pub mod small_disk;
    pub mod usable;
}

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use skylark_storage::device::{DeviceKind, Directory};
use skylark_storage::{
    AppendError, Appended, CommitLog, Files, Kind, NewRecord, Opened, Options, PhysicalOffset, Retention,
    Stopped, SystemClock,
};

use support::small_disk::{Filler, SmallDisk};
use support::usable::{directory, usable_in};

const KIND: Kind = Kind::new(16);
const SEGMENT_BYTES: u64 = 4 << 20;
const REST_BYTES: usize = 4000;
const EXT4: SmallDisk = SmallDisk::Ext4 { megabytes: 96 };
const TMPFS: SmallDisk = SmallDisk::Tmpfs { megabytes: 48 };
/// The log tries again every second. More than that is what a busy machine needs.
const GOES_ON_WITHIN: Duration = Duration::from_secs(3);
/// A hang, not a slow machine, is what this bounds.
const FULL_WITHIN: Duration = Duration::from_secs(60);
/// Tells a run of this program to append to the log in that directory until it is killed.
const APPENDER: &str = "SKYLARK_FULL_DISK_APPENDER";
/// Tells it through which device.
const APPENDER_DEVICE: &str = "SKYLARK_FULL_DISK_DEVICE";

/// An open log with its threads.
struct Log {
    log: CommitLog<()>,
    threads: Vec<JoinHandle<()>>,
}

/// What was appended, and what was told about it.
#[derive(Default)]
struct Book {
    next: u64,
    /// Everything before this number was acknowledged.
    acknowledged: u64,
}

impl Log {
    fn open(root: &Path, kind: DeviceKind) -> Self {
        let options =
            Options { segment_bytes: SEGMENT_BYTES, undurable_bytes_max: 2 << 20, ..Options::default() };
        let files = Arc::new(directory(root, kind));
        let clock = Arc::new(SystemClock::new());
        let Opened { log, writer, housekeeper, groups, .. } =
            CommitLog::open(files, clock, options, ()).unwrap();
        // Nobody folds.
        drop(groups);
        let threads = vec![thread::spawn(|| writer.run()), thread::spawn(|| housekeeper.run())];
        Self { log, threads }
    }

    fn append(&self, number: u64) -> Result<Appended, AppendError> {
        let rest = payload(number);
        self.log.append(&[NewRecord { kind: KIND, head: &[], rest: &[&rest] }], |(), _, _| ())
    }

    /// Appends until the disk is full; what the log says then.
    fn fill(&self, book: &mut Book) -> AppendError {
        let deadline = Instant::now() + FULL_WITHIN;
        let mut ends = Vec::new();
        let refused = loop {
            assert!(Instant::now() < deadline, "the disk is not full yet");
            match self.append(book.next) {
                Ok(appended) => {
                    ends.push((book.next, appended.end));
                    book.next += 1;
                }
                Err(AppendError::Backpressure { .. }) => thread::sleep(Duration::from_millis(1)),
                Err(refused) => break refused,
            }
        };
        let durable_end = self.log.durable().get();
        for (number, _) in ends.iter().filter(|(_, end)| *end <= durable_end) {
            book.acknowledged = number + 1;
        }
        assert!(self.log.stopped().is_none(), "{refused}");
        refused
    }

    /// Waits until the log takes appends, and has made durable what there is; how long that took.
    fn goes_on(&self, book: &mut Book) -> Duration {
        let begun = Instant::now();
        let end = loop {
            match self.append(book.next) {
                Ok(appended) => break appended.end,
                Err(AppendError::NoSpace { .. } | AppendError::Backpressure { .. }) => {}
                Err(refused) => panic!("{refused}"),
            }
            assert!(begun.elapsed() < GOES_ON_WITHIN, "the log does not go on");
            thread::sleep(Duration::from_millis(5));
        };
        book.next += 1;
        self.log.durable().wait_blocking(end).unwrap();
        book.acknowledged = book.next;
        begun.elapsed()
    }

    /// Every record that is there is what it was, none is missing in between, and none that was acknowledged at all.
    fn check(&self, book: &mut Book) {
        let mut expected = None;
        for group in self.log.scan(self.log.trimmed().get()) {
            for (at, record) in group.unwrap().records() {
                if record.header.fields().kind != KIND {
                    continue;
                }
                let number = u64::from_le_bytes(record.payload[..8].try_into().unwrap());
                assert_eq!(number, expected.unwrap_or(number), "at {at}");
                assert!(record.payload == payload(number), "at {at}");
                expected = Some(number + 1);
            }
        }
        let found = expected.unwrap_or_default();
        assert!(found >= book.acknowledged, "{} were acknowledged, {found} are there", book.acknowledged);
        // What nobody was told of may be there or not.
        assert!(found <= book.next);
    }

    /// After a restart, what was not acknowledged and is not there is appended anew.
    fn resume(&self, book: &mut Book) {
        self.check(book);
        let records = self.log.scan(self.log.trimmed().get()).map(|group| {
            group.unwrap().records().filter(|(_, record)| record.header.fields().kind == KIND).count() as u64
        });
        assert_eq!(self.log.trimmed().get(), PhysicalOffset::ZERO);
        book.next = records.sum();
        book.acknowledged = book.next;
    }

    fn close(self) -> Stopped {
        self.log.close();
        let stopped = self.log.wait_stopped();
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        stopped
    }
}

fn payload(number: u64) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(REST_BYTES, (number % 251) as u8);
    payload
}

fn check_refusal(refused: &AppendError, directory: &Path) {
    println!("append: {refused}");
    let AppendError::NoSpace { directory: named, needed_bytes, available_bytes, staged_bytes } = refused
    else {
        panic!("refused for another reason: {refused}");
    };
    assert_eq!(Path::new(&**named), fs::canonicalize(directory).unwrap());
    assert!(*needed_bytes > 0 && *staged_bytes > 0, "{refused}");
    // A few blocks may be left that nobody gets: they are the file system's own.
    assert!(*available_bytes < 1 << 20, "{refused}");
    for number in [needed_bytes, available_bytes] {
        assert!(refused.to_string().contains(&number.to_string()), "{refused}");
    }
}

/// Appends until it is killed; prints what is durable, and the refusal.
fn append_until_killed(directory: &Path) {
    let kind = std::env::var(APPENDER_DEVICE).unwrap().parse().unwrap();
    let log = Log::open(directory, kind);
    let mut book = Book { next: u64::MAX, acknowledged: 0 };
    log.resume(&mut book);
    println!("begins {}", book.next);
    let watched = log.log.clone();
    let mut last = PhysicalOffset::ZERO;
    let mut ends = std::collections::VecDeque::new();
    let mut is_full = false;
    loop {
        match log.append(book.next) {
            Ok(appended) => {
                book.next += 1;
                ends.push_back((book.next, appended.end));
            }
            Err(refused) => {
                if !is_full && matches!(refused, AppendError::NoSpace { .. }) {
                    is_full = true;
                    println!("full {refused}");
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
        let durable_end = watched.durable().get();
        if durable_end > last {
            last = durable_end;
            let mut acknowledged = None;
            while let Some((next, _)) = ends.pop_front_if(|(_, end)| *end <= durable_end) {
                acknowledged = Some(next);
            }
            if let Some(next) = acknowledged {
                println!("acknowledged {next}");
            }
        }
    }
}

/// Another process that appends. Dropped, it is killed.
struct Appender {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Appender {
    fn start(test: &str, directory: &Path, kind: DeviceKind) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
        command.env(APPENDER, directory).env(APPENDER_DEVICE, kind.name()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads on up to a line that begins so; notes what is acknowledged on the way.
    fn until(&mut self, wanted: &str, book: &mut Book) -> String {
        loop {
            let line = self.lines.next().expect("it ended by itself").unwrap();
            if let Some(next) = line.strip_prefix("acknowledged ") {
                book.acknowledged = next.parse().unwrap();
            }
            // libtest writes the test's name in front of the first line.
            if let Some((_, rest)) = line.split_once(wanted) {
                return rest.to_owned();
            }
        }
    }

    /// kill -9; what it said before counts.
    fn kill(mut self, book: &mut Book) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        for line in self.lines.by_ref().map_while(Result::ok) {
            if let Some(next) = line.strip_prefix("acknowledged ") {
                book.acknowledged = next.parse().unwrap();
            }
        }
        // It may have appended more than it said.
        book.next = u64::MAX;
    }
}

/// Runs the scenario on a small disk of its own, through one device after the other, unless this process is the one that
/// is to be killed.
fn on(disk: SmallDisk, test: &str, scenario: impl Fn(&Path, DeviceKind)) {
    if let Some(directory) = std::env::var_os(APPENDER) {
        return append_until_killed(Path::new(&directory));
    }
    disk.run(test, None, |disk| {
        let kinds = usable_in(disk);
        assert!(kinds.contains(&DeviceKind::Buffered));
        for kind in kinds {
            println!("{kind}:");
            scenario(disk, kind);
            fs::remove_dir_all(disk.join("data")).unwrap();
        }
    });
}

/// Fills the disk, makes space by a filler's end and by retention, and closes.
fn fills_and_goes_on(disk: &Path, kind: DeviceKind) {
    let directory = disk.join("data");
    let filler = Filler::of(disk.join("filler"), 12 << 20);
    let log = Log::open(&directory, kind);
    let mut book = Book::default();
    check_refusal(&log.fill(&mut book), &directory);
    log.check(&mut book);
    drop(filler);
    println!("space returned: durable again after {:?}", log.goes_on(&mut book));

    // Again, and now the log itself gives space back.
    check_refusal(&log.fill(&mut book), &directory);
    let pin = log.log.pin(PhysicalOffset::ZERO, Duration::from_secs(600), "a slow reader").unwrap();
    let by_size = Retention::default().by_size(8 << 20);
    let held = log.log.apply_retention(&by_size).unwrap();
    println!("by size, with a pin: {held:?}");
    assert_eq!((held.segments, held.held_back.is_some()), (0, true));
    let by_disk = Retention::default().by_disk(85);
    let retained = log.log.apply_retention(&by_disk).unwrap();
    println!("by the watermark: {retained:?}");
    assert!(retained.segments > 0 && retained.overtaken.len() == 1 && pin.is_lost());
    println!("trimmed: durable again after {:?}", log.goes_on(&mut book));
    log.check(&mut book);

    // Closing a full one says why it could not end in good order; what was acknowledged is there.
    check_refusal(&log.fill(&mut book), &directory);
    let stopped = log.close();
    println!("closed: {stopped}");
    assert!(stopped.to_string().contains(directory.to_str().unwrap()), "{stopped}");
    let log = Log::open(&directory, kind);
    log.check(&mut book);
    log.close();
}

/// Kills an appender on the full disk, again and again.
fn survives_kills(test: &str, disk: &Path, kind: DeviceKind) {
    let directory = disk.join("data");
    let mut book = Book::default();
    for round in 0..4 {
        // Whose end gives space to the second round; those behind begin on a disk that is full.
        let filler = (round == 0).then(|| Filler::of(disk.join("filler"), 24 << 20));
        let mut appender = Appender::start(test, &directory, kind);
        let refused = appender.until("full ", &mut book);
        println!("round {round}: {refused}");
        appender.kill(&mut book);
        // On the disk that is still full.
        let log = Log::open(&directory, kind);
        log.resume(&mut book);
        println!("round {round}: {} acknowledged and there", book.acknowledged);
        if let Some(filler) = filler {
            let refused = log.fill(&mut book);
            check_refusal(&refused, &directory);
            drop(filler);
            log.goes_on(&mut book);
            log.check(&mut book);
        }
        log.close();
    }
}

/// Somebody else takes every byte while the log is idle.
fn is_full_by_another_hand(disk: &Path, kind: DeviceKind) {
    let directory = disk.join("data");
    let mut book = Book::default();
    let log = Log::open(&directory, kind);
    // Past a quarter of the second segment, so that the third is prepared.
    while log.log.durable().get().get() < SEGMENT_BYTES * 3 / 2 {
        log.goes_on(&mut book);
    }
    thread::sleep(Duration::from_millis(500));
    let (filler, taken) = Filler::all(disk.join("filler"));
    println!("the filler took {taken} bytes; {:?} is left", Directory::open(&directory).unwrap().space());
    // What is prepared serves on.
    for _ in 0..100 {
        log.goes_on(&mut book);
    }
    log.check(&mut book);
    assert!(matches!(log.close(), Stopped::Closed), "closing needs no space");

    let log = Log::open(&directory, kind);
    log.resume(&mut book);
    for _ in 0..100 {
        log.goes_on(&mut book);
    }
    let before = book.next;
    check_refusal(&log.fill(&mut book), &directory);
    println!("{} records went into what was prepared", book.next - before);
    assert!(book.acknowledged > before + 500, "most of a segment was");
    drop(filler);
    println!("space returned: durable again after {:?}", log.goes_on(&mut book));
    log.check(&mut book);
    assert!(matches!(log.close(), Stopped::Closed));

    // Nothing can begin there without space, and it says where.
    let (filler, _) = Filler::all(disk.join("filler"));
    let elsewhere = disk.join("elsewhere");
    let refused = match Directory::open(&elsewhere) {
        Err(error) => error.to_string(),
        Ok(files) => {
            let opened =
                CommitLog::open(Arc::new(files), Arc::new(SystemClock::new()), Options::default(), ());
            opened.map(|_| ()).expect_err("there is no space for a log").to_string()
        }
    };
    println!("a new log: {refused}");
    assert!(refused.contains(elsewhere.to_str().unwrap()), "{refused}");
    drop(filler);
    if elsewhere.exists() {
        fs::remove_dir_all(elsewhere).unwrap();
    }
}

#[test]
fn a_full_ext4_refuses_by_name_and_goes_on_when_space_returns() {
    on(EXT4, "a_full_ext4_refuses_by_name_and_goes_on_when_space_returns", fills_and_goes_on);
}

#[test]
fn a_full_tmpfs_refuses_by_name_and_goes_on_when_space_returns() {
    on(TMPFS, "a_full_tmpfs_refuses_by_name_and_goes_on_when_space_returns", fills_and_goes_on);
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_on_a_full_ext4() {
    let test = "nothing_acknowledged_is_lost_by_kills_on_a_full_ext4";
    on(EXT4, test, |disk, kind| survives_kills(test, disk, kind));
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_on_a_full_tmpfs() {
    let test = "nothing_acknowledged_is_lost_by_kills_on_a_full_tmpfs";
    on(TMPFS, test, |disk, kind| survives_kills(test, disk, kind));
}

#[test]
fn an_ext4_that_another_fills_to_the_last_byte_harms_nobody() {
    on(EXT4, "an_ext4_that_another_fills_to_the_last_byte_harms_nobody", is_full_by_another_hand);
}

#[test]
fn a_tmpfs_that_another_fills_to_the_last_byte_harms_nobody() {
    on(TMPFS, "a_tmpfs_that_another_fills_to_the_last_byte_harms_nobody", is_full_by_another_hand);
}
