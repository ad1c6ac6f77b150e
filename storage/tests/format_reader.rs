//! A reader in another language, written from `FORMAT.md` alone, tells the same story of sound and of damaged logs.
//!
//! It needs `python3`. Without it the test says so and ends; with `SKYLARK_PYTHON=required`, or in CI, it fails.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use skylark_storage::checkpoint::CHECKPOINT_NAME;
use skylark_storage::device::Directory;
use skylark_storage::device::read_only::ReadOnlyDirectory;
use skylark_storage::device::simulated::Disk;
use skylark_storage::inspect::{Format, Inspection, Item};
use skylark_storage::recovery::{Evidence, RecoveryOptions, preview};
use skylark_storage::segment::segment_name;
use skylark_storage::{CommitLog, Files, OpenError, PhysicalOffset, SystemClock, TailPolicy};

use support::{SEGMENT_BYTES, World, options};

const SEED_COUNT: u64 = 4;
const FLIPS: u64 = 24;

/// Whether the other reader can be run here.
fn has_python() -> bool {
    let runs = Command::new("python3").arg("--version").stdout(Stdio::null()).status();
    if runs.is_ok_and(|status| status.success()) {
        return true;
    }
    let is_required = std::env::var("SKYLARK_PYTHON").is_ok_and(|value| value == "required");
    assert!(!is_required && std::env::var_os("CI").is_none(), "python3 cannot be run, and is required here");
    eprintln!("skipped: python3 cannot be run; SKYLARK_PYTHON=required makes this a failure");
    false
}

/// The other reader's lines.
fn python(directory: &Path) -> String {
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/format_reader.py");
    let output =
        Command::new("python3").arg("-B").arg(reader).arg(directory).output().expect("the files can be used");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// This crate's lines.
fn listing(directory: &Path) -> String {
    let files = ReadOnlyDirectory::open(directory).expect("the files can be used");
    let inspection = match Inspection::open(&files, false) {
        Ok(inspection) => inspection,
        Err(error) if error.to_string().contains("format version") => {
            return "CHECKPOINT has another format version\n".to_owned();
        }
        Err(_) => return "there is no log\n".to_owned(),
    };
    let mut lines = Vec::new();
    let mut damages = Vec::new();
    inspection
        .list(.., |item| {
            if let Item::Damage(damage) = item {
                damages.push(*damage);
            }
            Format::default().write(item, &mut lines)
        })
        .expect("the files can be used");
    // What several threads find is the same.
    let report = inspection.verify(3, &|_| ()).expect("there is a log");
    let key = |damage: &skylark_storage::inspect::Damage| (damage.at, damage.what, damage.byte);
    let mut found = report.tally.first_damages;
    found.sort_by_key(key);
    damages.sort_by_key(key);
    assert_eq!(found, damages, "{}", directory.display());
    String::from_utf8(lines).expect("the files can be used")
}

#[track_caller]
fn same(directory: &Path, what: &str) -> String {
    let (ours, theirs) = (listing(directory), python(directory));
    if ours != theirs {
        let differs = ours.lines().zip(theirs.lines()).position(|(ours, theirs)| ours != theirs);
        let line = differs.unwrap_or(ours.lines().count().min(theirs.lines().count()));
        let around =
            |text: &str| text.lines().skip(line.saturating_sub(3)).take(8).collect::<Vec<_>>().join("\n");
        panic!("{what}: line {line} differs\nours:\n{}\ntheirs:\n{}", around(&ours), around(&theirs));
    }
    ours
}

/// Puts what a simulated disk holds into a real directory.
fn export(disk: &Disk, to: &Path) {
    fs::create_dir_all(to.join("log")).expect("the files can be used");
    for directory in ["", "log"] {
        for name in disk.list(directory).expect("the files can be used") {
            let name = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let Ok(file) = disk.open(&name) else { continue };
            let mut bytes =
                vec![0; usize::try_from(file.len().expect("it is small")).expect("the files can be used")];
            file.read_at(0, &mut bytes).expect("the files can be used");
            fs::write(to.join(&name), bytes).expect("the files can be used");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("log")).expect("the files can be used");
    for directory in ["", "log"] {
        for entry in fs::read_dir(from.join(directory)).expect("the files can be used") {
            let entry = entry.expect("the files can be used");
            if entry.file_type().expect("the files can be used").is_file() {
                fs::copy(entry.path(), to.join(directory).join(entry.file_name()))
                    .expect("the files can be used");
            }
        }
    }
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A log of several epochs and segments, with packed and padded groups, and with its beginning trimmed if asked.
fn world(seed: u64, tail: TailPolicy, trims: bool) -> World {
    let mut numbers = Numbers(seed);
    let mut world = World::new(Disk::new(seed), skylark_storage::Options { tail, ..options() });
    while world.frontiers().appended_end.get() < 4 * SEGMENT_BYTES + 20_000 {
        let records = 1 + numbers.below(4);
        let lengths: Vec<usize> = (0..records)
            .map(|_| {
                usize::try_from(
                    [0, 5, 100, 900, 5000][usize::try_from(numbers.below(5)).expect("it is small")],
                )
                .expect("the files can be used")
            })
            .collect();
        world.append(&lengths).expect("no promise is broken");
        if numbers.below(3) == 0 {
            world.settle().expect("no promise is broken");
        }
        world.clock.advance(Duration::from_millis(numbers.below(50)));
        match numbers.below(40) {
            0 => world.kill().expect("no promise is broken"),
            1 => world.close().expect("no promise is broken"),
            2..6 => {
                world.step_housekeeper();
            }
            _ => {}
        }
    }
    world.settle().expect("no promise is broken");
    if trims {
        world.trim(PhysicalOffset::new(SEGMENT_BYTES)).expect("no promise is broken");
    }
    world
}

#[test]
fn it_tells_the_same_of_logs_that_were_closed_killed_and_torn() {
    if !has_python() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut behind = Vec::new();
    for seed in 0..SEED_COUNT {
        let tail = if seed % 2 == 0 { TailPolicy::default() } else { TailPolicy::Pad };
        let mut world = world(seed, tail, seed % 4 > 1);
        for bytes in [100, 9000, 30_000] {
            world.append(&[bytes]).unwrap();
            world.step_writer().unwrap();
            for (disk, how) in [(world.disk.kill(), "killed"), (world.disk.crash(), "power cut")] {
                let directory = scratch.path().join(format!("{seed}-{bytes}-{how}"));
                export(&disk, &directory);
                let told = same(&directory, how);
                behind.extend(told.lines().find(|line| line.starts_with("end ")).map(str::to_owned));
                agrees_with_recovery(&directory, &told);
            }
        }
        // Groups whose write was cut short by a power cut in the middle of it.
        for cut in 0..6 {
            world.append(&[700, 20_000]).unwrap();
            world.disk.power_off_at(world.disk.operations() + 1 + cut % 2);
            // The power goes while it works; that it notices is for other tests.
            world.step_writer().ok();
            let torn = world.disk.crash();
            let directory = scratch.path().join(format!("{seed}-torn-{cut}"));
            export(&torn, &directory);
            let told = same(&directory, "torn");
            behind.extend(told.lines().find(|line| line.starts_with("end ")).map(str::to_owned));
            agrees_with_recovery(&directory, &told);
            world.reopen(torn).unwrap();
        }
        world.close().unwrap();
        world.opened.log.close();
        world.settle().unwrap();
        let directory = scratch.path().join(format!("{seed}-closed"));
        export(&world.disk.kill(), &directory);
        let told = same(&directory, "closed");
        assert!(told.lines().any(|line| line.ends_with(" behind=closed")), "{told}");
        assert!(!told.lines().any(|line| line.starts_with("damage ")), "{told}");
    }
    for verdict in ["nothing", "tear"] {
        assert!(behind.iter().any(|line| line.ends_with(verdict)), "no log ended in {verdict}: {behind:?}");
    }
}

/// What an opening would come to is what the listing says.
#[track_caller]
fn agrees_with_recovery(directory: &Path, told: &str) {
    let files = ReadOnlyDirectory::open(directory).expect("the files can be used");
    let options = RecoveryOptions { segment_bytes: SEGMENT_BYTES, ..RecoveryOptions::default() };
    let Some(end) = told.lines().find(|line| line.starts_with("end at=")) else { return };
    match preview(&files, &options) {
        Ok(report) => {
            assert!(end.starts_with(&format!("end at={} ", report.end)), "{end} {report:?}");
            assert!(!end.ends_with("behind=corrupt"), "{end} {report:?}");
        }
        Err(OpenError::Corrupt(damage)) => {
            let damaged = told.lines().any(|line| line.starts_with("damage "));
            assert!(damaged, "{damage}\n{told}");
        }
        Err(_) => {}
    }
}

/// Damages a copy of a log, and compares what is told of it.
fn damaged(base: &Path, scratch: &Path, name: &str, harm: impl FnOnce(&Path)) -> String {
    let directory = scratch.join(name);
    copy(base, &directory);
    harm(&directory);
    let told = same(&directory, name);
    agrees_with_recovery(&directory, &told);
    fs::remove_dir_all(&directory).expect("the files can be used");
    told
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory.join("log"))
        .expect("the files can be used")
        .map(|entry| entry.expect("the files can be used").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    found.sort();
    found
}

fn flip(path: &Path, byte: u64, bit: u64) {
    let mut bytes = fs::read(path).expect("the files can be used");
    bytes[usize::try_from(byte).expect("it is small")] ^= 1 << bit;
    fs::write(path, bytes).expect("the files can be used");
}

#[test]
fn it_tells_the_same_of_damage() {
    if !has_python() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    for (seed, tail) in [(7, TailPolicy::default()), (8, TailPolicy::Pad)] {
        let base = scratch.path().join("base");
        let mut world = world(seed, tail, false);
        // Behind the last checkpoint: groups that attest, and some that do not.
        for bytes in [300, 2000, 50, 6000] {
            world.append(&[bytes, 10]).unwrap();
            world.settle().unwrap();
        }
        export(&world.disk.kill(), &base);
        let whole = same(&base, "whole");
        let sound_items = whole.lines().filter(|line| line.starts_with("record ")).count();
        assert!(sound_items > 100 && !whole.contains("damage "), "{whole}");

        // One of every kind of line, and any bit anywhere.
        let mut numbers = Numbers(seed);
        let files = segments(&base);
        for flips in 0..FLIPS {
            let file = &files[usize::try_from(numbers.below(files.len() as u64)).unwrap()];
            let length = fs::metadata(file).unwrap().len();
            let byte = match flips % 4 {
                0 => numbers.below(80),
                _ => numbers.below(length),
            };
            let bit = numbers.below(8);
            let name = format!("flip-{flips}");
            damaged(&base, scratch.path(), &name, |directory| {
                flip(&directory.join("log").join(file.file_name().unwrap()), byte, bit);
            });
        }
        let words: &[&str] = if seed == 7 { &["segment", "group", "record", "gap"] } else { &["gap"] };
        for word in words {
            let lines: Vec<&str> =
                whole.lines().filter(|line| line.starts_with(&format!("{word} "))).collect();
            for nth in [0, lines.len() / 2] {
                let Some(line) = lines.get(nth) else { continue };
                let at: u64 = line.split("at=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
                let file = segment_name(PhysicalOffset::new(at).align_down(SEGMENT_BYTES));
                for byte in [0, 9, 26, 60] {
                    let name = format!("{word}-{nth}-{byte}");
                    let within = at % SEGMENT_BYTES + byte;
                    let lies_there = within < fs::metadata(base.join(&file)).unwrap().len();
                    let told = damaged(&base, scratch.path(), &name, |directory| {
                        if lies_there {
                            flip(&directory.join(&file), within, 3);
                        }
                    });
                    assert!(!lies_there || told != whole, "{name} went by unnoticed");
                }
            }
        }

        let name = |index: u64| segment_name(PhysicalOffset::new(index * SEGMENT_BYTES));
        let scratch = scratch.path();
        for index in 0..files.len() as u64 {
            let told =
                damaged(&base, scratch, "missing", |at| fs::remove_file(at.join(name(index))).unwrap());
            assert!(told.contains("what=segment-missing"), "{told}");
            for cut in [100, 30_001] {
                damaged(&base, scratch, "cut", |at| {
                    let file = fs::OpenOptions::new().write(true).open(at.join(name(index))).unwrap();
                    file.set_len(cut).unwrap();
                });
            }
            damaged(&base, scratch, "zeros", |at| {
                let mut bytes = fs::read(at.join(name(index))).unwrap();
                bytes[20_000..30_000].fill(0);
                fs::write(at.join(name(index)), bytes).unwrap();
            });
        }
        let told = damaged(&base, scratch, "swapped", |at| {
            let (one, other) = (fs::read(at.join(name(1))).unwrap(), fs::read(at.join(name(2))).unwrap());
            fs::write(at.join(name(1)), other).unwrap();
            fs::write(at.join(name(2)), one).unwrap();
        });
        assert_eq!(told.matches("what=segment-place").count(), 2, "{told}");
        for (named, bytes) in [(12, 0), (12, 10), (12, 9000)] {
            damaged(&base, scratch, "unnamed", |at| fs::write(at.join(name(named)), vec![7; bytes]).unwrap());
        }
        damaged(&base, scratch, "other log", |at| flip(&at.join(name(1)), 20, 1));
        if seed == 7 {
            checkpoints(&base, scratch);
        }
        fs::remove_dir_all(&base).unwrap();
    }
}

/// Without a checkpoint, zeros in front of a segment do not make a log a new one: what it holds behind them would be
/// overwritten.
#[test]
fn a_log_that_lost_its_checkpoint_and_its_first_block_is_not_new() {
    let scratch = tempfile::tempdir().unwrap();
    let mut world = World::new(Disk::new(1), options());
    for bytes in [100, 9000] {
        world.append(&[bytes]).unwrap();
        world.settle().unwrap();
    }
    export(&world.disk.kill(), scratch.path());
    fs::remove_file(scratch.path().join(CHECKPOINT_NAME)).unwrap();
    let segment = scratch.path().join(segment_name(PhysicalOffset::ZERO));
    let mut bytes = fs::read(&segment).unwrap();
    bytes[..4096].fill(0);
    assert!(bytes.iter().any(|&byte| byte != 0));
    fs::write(&segment, &bytes).unwrap();

    let preview_of = |directory: &Path| {
        let files = ReadOnlyDirectory::open(directory).unwrap();
        preview(&files, &RecoveryOptions { segment_bytes: SEGMENT_BYTES, ..RecoveryOptions::default() })
    };
    let refused = preview_of(scratch.path()).expect_err("what was durable is there");
    let OpenError::Corrupt(damage) = refused else { panic!("refused for another reason: {refused}") };
    assert_eq!(damage.evidence, Evidence::CheckpointMissing);
    let open = || {
        let files = Arc::new(Directory::open(scratch.path()).unwrap());
        CommitLog::open(files, Arc::new(SystemClock::new()), options(), ())
    };
    assert!(matches!(open(), Err(OpenError::Corrupt(again)) if again == damage));
    assert_eq!(fs::read(&segment).unwrap(), bytes, "nothing was changed");
    if has_python() {
        same(scratch.path(), "neither checkpoint nor header");
    }

    // Of a log that was killed while it was created all bytes are zero.
    bytes.fill(0);
    fs::write(&segment, &bytes).unwrap();
    assert!(preview_of(scratch.path()).unwrap().created);
    assert!(open().unwrap().recovery.created);
}

/// Damage to the checkpoint.
fn checkpoints(base: &Path, scratch: &Path) {
    let told = damaged(base, scratch, "no checkpoint", |at| {
        fs::remove_file(at.join(CHECKPOINT_NAME)).expect("the files can be used")
    });
    assert!(told.contains("what=checkpoint-missing"), "{told}");
    let told = damaged(base, scratch, "both slots", |at| {
        flip(&at.join(CHECKPOINT_NAME), 50, 1);
        flip(&at.join(CHECKPOINT_NAME), 4096 + 50, 1);
    });
    assert!(told.contains("what=checkpoint-damaged"), "{told}");
    for slot in [0, 4096] {
        for byte in [0, 8, 12, 32, 48, 64, 96, 104, 110, 112, 4095] {
            damaged(base, scratch, "slot", |at| flip(&at.join(CHECKPOINT_NAME), slot + byte, 0));
        }
    }
    for length in [0, 100, 4096, 5000] {
        damaged(base, scratch, "short checkpoint", |at| {
            let bytes = fs::read(at.join(CHECKPOINT_NAME)).expect("the files can be used");
            fs::write(at.join(CHECKPOINT_NAME), &bytes[..length]).expect("the files can be used");
        });
    }
}
