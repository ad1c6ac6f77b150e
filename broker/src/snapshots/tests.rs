use skylark_storage::clock::SimulatedClock;
use skylark_storage::device::Directory;
use skylark_storage::device::simulated::Disk;
use skylark_storage::{Kind, NewRecord, Opened, Options, Step};

use super::format::Part;
use super::*;

const SEGMENT: u64 = 64 << 10;

fn base(index: u64) -> PhysicalOffset {
    PhysicalOffset::new(index * SEGMENT)
}

/// A snapshot as of a segment's base, with two sections.
fn snapshot(index: u64) -> Snapshot {
    let start =
        |epoch: u32, start| EpochStart { epoch: Epoch::new(epoch), start: PhysicalOffset::new(start) };
    Snapshot {
        head: SnapshotHead {
            log_id: LogId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
            position: base(index),
            epoch: Epoch::new(3),
            chain: Chain::new(0x3355_77bb),
            oldest_segment: base(index / 2),
            epochs: vec![start(1, 4112), start(3, 69648)],
        },
        sections: BTreeMap::from([(1, b"topics".to_vec()), (7, vec![u8::try_from(index).unwrap(); 9])]),
    }
}

fn open(disk: &Disk) -> Snapshots {
    Snapshots::open(Arc::new(disk.clone())).unwrap()
}

/// A disk with these snapshots, written one after the other.
fn with(seed: u64, indexes: &[u64]) -> (Disk, Snapshots) {
    let disk = Disk::new(seed);
    let mut snapshots = open(&disk);
    for &index in indexes {
        snapshots.write(&snapshot(index)).unwrap();
    }
    (disk, snapshots)
}

/// What a later process finds: the newest snapshot, and how many generations there are.
fn found(disk: &Disk) -> (Option<Snapshot>, usize) {
    let mut snapshots = open(disk);
    let newest = snapshots.newest(|_| Ok(())).unwrap();
    (newest, snapshots.generations.len())
}

fn names(disk: &Disk) -> Vec<String> {
    disk.list(DIRECTORY).unwrap()
}

fn name(index: u64) -> String {
    snapshot_name(base(index)).rsplit_once('/').unwrap().1.to_owned()
}

fn bytes_of(disk: &Disk, index: u64) -> Vec<u8> {
    let file = disk.open(&snapshot_name(base(index))).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn golden_bytes() {
    let (disk, _) = with(1, &[4]);
    let golden = "
        53 4b 59 4c 4b 53 4e 50 01 00 00 00 03 00 00 00
        01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10
        00 00 04 00 00 00 00 00 00 00 02 00 00 00 00 00
        bb 77 55 33 02 00 00 00 02 00 00 00 7e 0e 6b bb
        02 bf 24 bd 00 00 00 00
        10 10 00 00 00 00 00 00 01 00 00 00 00 00 00 00
        10 10 01 00 00 00 00 00 03 00 00 00 00 00 00 00
        01 00 00 00 1a e7 d8 a9 06 00 00 00 00 00 00 00
        07 00 00 00 e3 ce a3 28 09 00 00 00 00 00 00 00
        74 6f 70 69 63 73
        04 04 04 04 04 04 04 04 04";
    let golden: Vec<u8> =
        golden.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    assert_eq!(bytes_of(&disk, 4), golden);
}

#[test]
fn what_was_written_is_found_by_the_next_process() {
    let disk = Disk::new(1);
    assert_eq!(found(&disk), (None, 0));
    assert_eq!(names(&disk), Vec::<String>::new(), "nothing is created before there is a snapshot");
    let empty = Snapshot {
        head: SnapshotHead { epoch: Epoch::ZERO, epochs: vec![], ..snapshot(0).head },
        sections: BTreeMap::new(),
    };
    let all_ids = (0..=u8::MAX).map(|id| (id, vec![id; usize::from(id) * 20])).collect();
    let many = Snapshot { sections: all_ids, ..snapshot(1) };
    for snapshot in [empty, many] {
        open(&disk).write(&snapshot).unwrap();
        assert_eq!(found(&disk.crash()).0.as_ref(), Some(&snapshot));
    }
    assert_eq!(found(&disk).1, 2);
}

#[test]
fn two_generations_are_kept_and_the_log_is_not_trimmed_beyond_the_older() {
    let (disk, mut snapshots) = with(1, &[]);
    let mut limits = Vec::new();
    for index in [2, 4, 6, 8] {
        snapshots.write(&snapshot(index)).unwrap();
        limits.push((snapshots.trim_limit(), snapshots.older_oldest_segment()));
    }
    let pair = |index| (Some(base(index)), Some(base(index / 2)));
    assert_eq!(limits, [(None, None), pair(2), pair(4), pair(6)]);
    assert_eq!(names(&disk), [name(6), name(8)]);

    let mut snapshots = open(&disk);
    assert_eq!(snapshots.trim_limit(), None, "nothing counts before it was verified");
    assert_eq!(snapshots.newest(|_| Ok(())).unwrap(), Some(snapshot(8)));
    assert_eq!((snapshots.trim_limit(), snapshots.older_oldest_segment()), pair(6));
}

#[test]
fn a_snapshot_of_the_same_position_takes_the_place_of_the_other() {
    let (disk, mut snapshots) = with(1, &[2, 4]);
    let mut again = snapshot(4);
    again.sections.insert(9, b"more".to_vec());
    snapshots.write(&again).unwrap();
    assert_eq!(snapshots.trim_limit(), Some(base(2)), "it counts once");
    assert_eq!(found(&disk.crash()), (Some(again), 2));
}

#[test]
fn every_flipped_bit_is_noticed_and_the_older_generation_used() {
    let (disk, _) = with(1, &[2, 4]);
    for at in 0..bytes_of(&disk, 4).len() as u64 {
        for bit in 0..8 {
            let damaged = disk.kill();
            damaged.flip_bit(&snapshot_name(base(4)), at, bit).unwrap();
            assert_eq!(found(&damaged), (Some(snapshot(2)), 1), "byte {at}, bit {bit}");
            assert_eq!(names(&damaged), [name(2)], "byte {at}, bit {bit}");
            assert_eq!(names(&damaged.crash()), [name(2)], "and durably so");
            // Of the older generation too: it would not count.
            let damaged = disk.kill();
            damaged.flip_bit(&snapshot_name(base(2)), at, bit).unwrap();
            assert_eq!(found(&damaged), (Some(snapshot(4)), 1), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn every_other_length_is_noticed_and_the_older_generation_used() {
    let (disk, _) = with(1, &[2, 4]);
    let length = bytes_of(&disk, 4).len() as u64;
    for bytes in (0..length).chain([length + 1, length + 4096]) {
        let damaged = disk.kill();
        damaged.open(&snapshot_name(base(4))).unwrap().set_len(bytes).unwrap();
        assert_eq!(found(&damaged), (Some(snapshot(2)), 1), "{bytes} bytes");
    }
}

#[test]
fn a_snapshot_under_another_name_is_none() {
    let (disk, _) = with(1, &[2, 4]);
    disk.rename(&snapshot_name(base(4)), &snapshot_name(base(5))).unwrap();
    assert_eq!(found(&disk), (Some(snapshot(2)), 1));
    disk.create("snapshots/notes").unwrap();
    disk.create("snapshots/123.snap").unwrap();
    assert_eq!(found(&disk), (Some(snapshot(2)), 1), "strangers are left alone");
    assert_eq!(names(&disk).len(), 3);
}

/// Reads a file with these bytes.
fn read(bytes: &[u8]) -> Result<SnapshotHead, Damage> {
    let disk = Disk::new(1);
    disk.create("snapshots/x").unwrap().write_at(0, bytes).unwrap();
    open(&disk).read("snapshots/x", |_, _| ()).map_err(|error| match error {
        Unreadable::Damaged(damage) => damage,
        Unreadable::Io(error) => panic!("{error}"),
    })
}

/// A sound file, changed, with checksums that are sound again.
fn forged(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = bytes_of(&with(1, &[4]).0, 4);
    change(&mut bytes);
    let seed = crc32c::crc32c(&snapshot(4).head.log_id.to_bytes());
    for (at, range) in [(60, 72..136), (64, 0..64)] {
        let crc = crc32c::crc32c_append(seed, &bytes[range]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

#[test]
fn sound_checksums_over_nonsense_are_refused_and_size_nothing() {
    assert_eq!(read(&forged(|_| ())), Ok(snapshot(4).head));
    let refused = |at: usize, byte: u8| read(&forged(|bytes| bytes[at] = byte)).unwrap_err();
    assert_eq!(refused(8, 2), Damage::FormatVersion { found: 2 });
    assert_eq!(refused(68, 1), Damage::NotZero);
    assert_eq!(refused(84, 1), Damage::NotZero, "of an epoch");
    assert_eq!(refused(105, 1), Damage::NotZero, "of a section");
    assert_eq!(refused(96, 1), Damage::Order(Part::Lists), "an epoch that is no higher");
    assert_eq!(refused(120, 1), Damage::Order(Part::Lists), "two sections of one id");
    assert_eq!(refused(58, 1), Damage::Order(Part::Lists), "more sections than ids");
    // Lengths that the file does not have.
    assert!(matches!(refused(55, 0xff), Damage::Length { .. }));
    assert!(matches!(refused(119, 0xff), Damage::Length { .. }));
    assert!(matches!(refused(112, 7), Damage::Length { .. }));
}

#[test]
fn another_release_s_snapshot_is_refused_by_name_and_kept() {
    let (disk, _) = with(1, &[2, 4]);
    let file = disk.open(&snapshot_name(base(4))).unwrap();
    file.write_at(0, &forged(|bytes| bytes[8] = 2)).unwrap();
    let refused = open(&disk).newest(|_| Ok(())).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    let message = refused.to_string();
    assert!(message.contains(&snapshot_name(base(4))) && message.contains("version 2"), "{message}");
    assert_eq!(names(&disk).len(), 2);
}

#[test]
fn what_the_log_refuses_is_removed_and_what_nobody_knows_is_kept() {
    let (disk, _) = with(1, &[2, 4]);
    let unknown = ReadError::Missing { at: base(4), bytes: 16 };
    let mut snapshots = open(&disk);
    let refused = snapshots.newest(|_| Err(Mismatch::Unknown(unknown.clone())));
    assert!(refused.unwrap_err().to_string().contains("cannot be compared"));
    assert_eq!(names(&disk).len(), 2);

    let ahead = |head: &SnapshotHead| match head.position > base(3) {
        true => Err(Mismatch::Ahead { position: head.position, durable_end: base(3) }),
        false => Ok(()),
    };
    assert_eq!(snapshots.newest(ahead).unwrap(), Some(snapshot(2)));
    assert_eq!((names(&disk), snapshots.trim_limit()), (vec![name(2)], None));
    assert_eq!(names(&disk.crash()), [name(2)]);
}

#[test]
fn snapshots_beyond_a_cut_are_removed_durably() {
    for (cut, kept) in [(base(4), 2), (base(4).advance(SEGMENT - 8), 2), (base(3), 1), (base(0), 0)] {
        let (disk, mut snapshots) = with(1, &[2, 4]);
        snapshots.remove_from(cut).unwrap();
        let limit = (kept == 2).then_some(base(2));
        assert_eq!((names(&disk).len(), snapshots.trim_limit()), (kept, limit));
        for _ in 0..10 {
            assert_eq!(names(&disk.crash()).len(), kept);
        }
    }
    // Those that were never verified by this process too.
    let (disk, _) = with(1, &[2, 4]);
    open(&disk).remove_from(base(0)).unwrap();
    assert_eq!(names(&disk), Vec::<String>::new());
    open(&Disk::new(1)).remove_from(base(0)).unwrap();
}

/// How many operations writing a third generation takes.
fn operations() -> u64 {
    let (disk, mut snapshots) = with(1, &[2, 4]);
    let before = disk.operations();
    snapshots.write(&snapshot(6)).unwrap();
    disk.operations() - before
}

#[test]
fn a_power_cut_at_any_step_of_writing_leaves_two_generations() {
    assert_eq!(
        operations(),
        8,
        "a file, three writes, a flush, a name and its directory, the oldest removed"
    );
    for nth in 1..=operations() {
        for seed in 0..100 {
            let (disk, mut snapshots) = with(seed, &[2, 4]);
            disk.power_off_at(nth);
            let written = snapshots.write(&snapshot(6));
            // Only the last step, which removes the oldest, is not needed.
            assert_eq!(written.is_ok(), nth == operations(), "operation {nth}: {written:?}");
            let limit = if written.is_ok() { base(4) } else { base(2) };
            assert_eq!(snapshots.trim_limit(), Some(limit));

            let after = if seed % 4 == 0 { disk.kill() } else { disk.crash() };
            let mut snapshots = open(&after);
            let newest = snapshots.newest(|_| Ok(())).unwrap().expect("there are generations left");
            assert!([snapshot(4), snapshot(6)].contains(&newest), "operation {nth}, seed {seed}");
            let limit_then = snapshots.trim_limit().expect("and two of them");
            assert!(limit_then >= limit, "what the log was trimmed to is still reached");
            snapshots.write(&snapshot(8)).unwrap();
            let names = names(&after);
            assert_eq!(names.len(), 2, "operation {nth}, seed {seed}: {names:?}");
            assert_eq!(found(&after.crash()), (Some(snapshot(8)), 2));
        }
    }
}

#[test]
fn a_disk_that_fails_once_costs_one_attempt() {
    for nth in 1..=3 {
        let (disk, mut snapshots) = with(nth, &[2, 4]);
        disk.fail_write(nth);
        snapshots.write(&snapshot(6)).unwrap_err();
        assert_eq!(names(&disk), [name(2), name(4)], "what was begun is gone");
        assert_eq!(found(&disk.crash()), (Some(snapshot(4)), 2));
        snapshots.write(&snapshot(6)).unwrap();
        assert_eq!(found(&disk.crash()), (Some(snapshot(6)), 2));
    }
    let (disk, mut snapshots) = with(1, &[2, 4]);
    disk.fail_flush(1);
    snapshots.write(&snapshot(6)).unwrap_err();
    snapshots.write(&snapshot(6)).unwrap();
    for _ in 0..20 {
        assert_eq!(found(&disk.crash()), (Some(snapshot(6)), 2), "in another file than the first time");
    }
}

#[test]
fn a_full_disk_refuses_a_snapshot_and_keeps_those_it_has() {
    let large = Snapshot { sections: BTreeMap::from([(1, vec![3; 100_000])]), ..snapshot(6) };
    for space_left in [0, 512, 4096, 60_000, 100_000] {
        let (disk, mut snapshots) = with(1, &[2, 4]);
        disk.set_space_left(Some(space_left));
        let refused = snapshots.write(&large).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!(snapshots.trim_limit(), Some(base(2)));
        assert_eq!(found(&disk.crash()), (Some(snapshot(4)), 2));
        disk.sync_directory(DIRECTORY).unwrap();
        assert_eq!(disk.space().unwrap().available_bytes, space_left, "nothing is left of the attempt");
        disk.set_space_left(None);
        snapshots.write(&large).unwrap();
        assert_eq!(found(&disk.crash()).0.as_ref(), Some(&large));
    }
}

#[test]
fn what_was_not_finished_is_removed_at_the_next_opening() {
    let (disk, _) = with(1, &[2]);
    disk.create("snapshots/00000000000000000777.tmp").unwrap();
    assert_eq!(found(&disk), (Some(snapshot(2)), 1));
    assert_eq!(names(&disk), [name(2)]);
}

#[test]
fn a_real_directory_does_too() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(Directory::open(directory.path()).unwrap());
    let mut snapshots = Snapshots::open(Arc::<Directory>::clone(&files)).unwrap();
    assert_eq!(snapshots.newest(|_| Ok(())).unwrap(), None);
    for index in [2, 4, 6] {
        snapshots.write(&snapshot(index)).unwrap();
    }
    let mut snapshots = Snapshots::open(Arc::<Directory>::clone(&files)).unwrap();
    assert_eq!(snapshots.newest(|_| Ok(())).unwrap(), Some(snapshot(6)));
    assert_eq!(snapshots.trim_limit(), Some(base(4)));
    assert_eq!(files.list(DIRECTORY).unwrap().len(), 2);
}

// Beside a log.

fn open_log(disk: &Disk) -> Opened<()> {
    let options = Options { segment_bytes: SEGMENT, ..Options::default() };
    let clock = Arc::new(SimulatedClock::new(1_700_000_000_000));
    CommitLog::open(Arc::new(disk.clone()), clock, options, ()).unwrap()
}

/// Appends until the durable end has got to `end`.
fn grow(opened: &mut Opened<()>, byte: u8, end: PhysicalOffset) {
    while opened.log.frontiers().durable_end < end {
        let record = NewRecord { kind: Kind::new(16), head: &[], rest: &[&[byte; 3000]] };
        opened.log.append(&[record], |(), _, _| ()).unwrap();
        while opened.writer.step() == Step::Worked {}
    }
}

fn head_of(log: &CommitLog<()>, position: PhysicalOffset) -> SnapshotHead {
    let point = log.chain_at(position).unwrap().unwrap();
    SnapshotHead {
        log_id: log.log_id(),
        position,
        epoch: point.epoch,
        chain: point.chain,
        oldest_segment: log.frontiers().trimmed,
        epochs: log.epochs(),
    }
}

#[test]
fn a_snapshot_belongs_to_the_log_that_has_its_history() {
    let disk = Disk::new(1);
    let mut opened = open_log(&disk);
    grow(&mut opened, 1, base(1).advance(5000));
    let before = disk.kill();
    grow(&mut opened, 1, base(3).advance(5000));
    let heads: Vec<_> = (0..=3).map(|index| head_of(&opened.log, base(index))).collect();
    let check = |log: &CommitLog<()>, index: usize| heads[index].check(log);
    for index in 0..=3 {
        check(&opened.log, index).unwrap();
    }
    // Another opening, in a higher epoch, changes nothing below.
    let reopened = open_log(&disk.crash());
    for index in 0..=3 {
        check(&reopened.log, index).unwrap();
    }
    reopened.log.trim(base(2)).unwrap();
    assert!(matches!(check(&reopened.log, 1), Err(Mismatch::Behind { trimmed, .. }) if trimmed == base(2)));
    check(&reopened.log, 2).unwrap();

    // The log as of earlier, and what it came to from there.
    let mut other = open_log(&before);
    check(&other.log, 1).unwrap();
    assert!(matches!(check(&other.log, 2), Err(Mismatch::Ahead { .. })));
    grow(&mut other, 2, base(3).advance(5000));
    check(&other.log, 1).unwrap();
    assert!(matches!(check(&other.log, 2), Err(Mismatch::AnotherHistory { .. })));
    let elsewhere = SnapshotHead { position: base(1).advance(8), ..heads[1].clone() };
    assert!(matches!(elsewhere.check(&opened.log), Err(Mismatch::AnotherHistory { .. })));

    let stranger = open_log(&Disk::new(2));
    assert!(matches!(check(&stranger.log, 0), Err(Mismatch::AnotherLog { .. })));
}
