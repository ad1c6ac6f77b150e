//! Looking at a log: what is found, where, and that nothing is changed by it.

mod support;

use std::fs;

use skylark_storage::checkpoint::CHECKPOINT_NAME;
use skylark_storage::device::Files;
use skylark_storage::device::read_only::ReadOnlyDirectory;
use skylark_storage::device::simulated::Disk;
use skylark_storage::inspect::{Format, InspectError, Inspection, Item, Report, Verdict, What};
use skylark_storage::recovery::{RecoveryOptions, preview, recover};
use skylark_storage::segment::segment_name;
use skylark_storage::{Kind, PhysicalOffset};

use support::{SEGMENT_BYTES, World, options};

/// A log of some segments, closed.
fn closed() -> Disk {
    let mut world = World::new(Disk::new(3), options());
    while world.frontiers().appended_end.get() < 3 * SEGMENT_BYTES {
        world.append(&[3000, 500]).expect("no promise is broken");
        world.settle().expect("no promise is broken");
        world.step_housekeeper();
    }
    world.opened.log.close();
    world.settle().expect("no promise is broken");
    world.disk.kill()
}

fn verify(files: &dyn Files) -> Report {
    let report = Inspection::open(files, false)
        .expect("there is a log")
        .verify(2, &|_| ())
        .expect("the files can be used");
    assert_eq!(report.damages, report.tally.first_damages.len() as u64);
    report
}

fn lines(files: &dyn Files, format: Format, range: std::ops::Range<u64>) -> Vec<String> {
    let inspection = Inspection::open(files, false).expect("there is a log");
    let mut bytes = Vec::new();
    let range = PhysicalOffset::new(range.start)..PhysicalOffset::new(range.end);
    inspection.list(range, |item| format.write(item, &mut bytes)).expect("there is a log");
    String::from_utf8(bytes).expect("the files can be used").lines().map(str::to_owned).collect()
}

#[test]
fn a_sound_log_is_counted_and_not_touched() {
    let disk = closed();
    let operations = disk.operations();
    let report = verify(&disk);
    assert_eq!((report.damages, report.behind), (0, Verdict::Closed));
    let inspection = Inspection::open(&disk, false).unwrap();
    let (mut records, mut payload_bytes, mut groups) = (0, 0, 0);
    inspection
        .list(.., |item| {
            match item {
                Item::Record(record) => {
                    records += 1;
                    payload_bytes += u64::from(record.header.fields().payload_bytes);
                }
                Item::Group { .. } => groups += 1,
                _ => {}
            }
            Ok(())
        })
        .unwrap();
    let tally = &report.tally;
    assert_eq!((tally.records(), tally.payload_bytes(), tally.groups), (records, payload_bytes, groups));
    assert_eq!(tally.group_sizes.iter().sum::<u64>(), groups);
    assert_eq!(
        tally.kinds().map(|(kind, _)| kind).collect::<Vec<_>>(),
        [Kind::PADDING, Kind::EPOCH, support::KIND]
    );
    assert_eq!(tally.epochs.len(), 1);
    drop(inspection);
    assert_eq!(disk.operations(), operations, "looking changes nothing");
}

#[test]
fn an_open_log_is_looked_at_only_when_that_is_said() {
    let mut world = World::new(Disk::new(3), options());
    world.append(&[100]).unwrap();
    world.settle().unwrap();
    let refused = Inspection::open(&world.disk, false).err().unwrap();
    assert!(matches!(refused, InspectError::InUse { .. }), "{refused}");
    let inspection = Inspection::open(&world.disk, true).unwrap();
    assert!(inspection.is_moving());
    let report = inspection.verify(1, &|_| ()).unwrap();
    assert_eq!((report.behind, report.end), (Verdict::Moving, world.frontiers().durable_end));
}

#[test]
fn an_empty_directory_holds_no_log() {
    assert!(matches!(Inspection::open(&Disk::new(1), false), Err(InspectError::NoLog { .. })));
}

#[test]
fn each_damage_is_located_and_what_is_behind_it_is_listed() {
    let sound = verify(&closed()).tally.records();
    // A group's header, its first record's, the head and the rest of the payload.
    for (byte, what, lost) in [
        (0, What::GroupHeader, 0),
        (16, What::RecordHeader, 1),
        (48, What::RecordHeader, 1),
        (80, What::Payload, 0),
    ] {
        let disk = closed();
        let groups = lines(&disk, Format::default(), 0..u64::MAX);
        let group = groups.iter().filter(|line| line.starts_with("group ")).nth(9).unwrap();
        let at: u64 = group.split(['=', ' ']).nth(2).unwrap().parse().unwrap();
        let base = PhysicalOffset::new(at).align_down(SEGMENT_BYTES);
        disk.flip_bit(&segment_name(base), at - base.get() + byte, 4).unwrap();
        let report = verify(&disk);
        let found: Vec<_> =
            report.tally.first_damages.iter().map(|damage| (damage.what, damage.byte)).collect();
        assert_eq!(found, [(what, at - base.get() + if what == What::Payload { 64 } else { byte.min(16) })]);
        assert_eq!(report.tally.records(), sound - lost, "{what:?}");
    }
}

#[test]
fn a_range_is_listed_by_itself() {
    let disk = closed();
    let all = lines(&disk, Format::default(), 0..u64::MAX);
    let (from, to) = (SEGMENT_BYTES + 20_000, SEGMENT_BYTES + 30_000);
    let part = lines(&disk, Format::default(), from..to);
    let part: Vec<&String> = part.iter().filter(|line| line.contains(" at=")).collect();
    assert!(part.len() > 3 && part.iter().all(|line| all.contains(line)), "{part:?}");
    let at = |line: &str| line.split("at=").nth(1)?.split(' ').next()?.parse::<u64>().ok();
    assert!(part.iter().all(|line| at(line).is_none_or(|at| (from - 5000..to).contains(&at))), "{part:?}");
}

#[test]
fn items_are_written_as_text_and_as_json() {
    let disk = closed();
    let name = |kind: Kind| (kind == Kind::EPOCH).then_some("epoch");
    let format = Format { payload: true, kind_name: name, ..Format::default() };
    let text = lines(&disk, format, 4096..4200);
    let record = text.iter().find(|line| line.starts_with("record ")).unwrap();
    assert!(
        record.starts_with(
            "record at=4112 kind=1 name=epoch epoch=1 stored_at=1700000000000 payload_bytes=32 "
        )
    );
    assert!(
        record.ends_with("payload=1010000000000000000000000000000001000000000000000100000000000000"),
        "{record}"
    );
    let json = lines(&disk, Format { json: true, ..format }, 4096..4200);
    let record = json.iter().find(|line| line.starts_with("{\"item\":\"record\",")).unwrap();
    assert!(record.contains("\"at\":4112,\"kind\":1,\"name\":\"epoch\",\"epoch\":1,"), "{record}");
    assert!(record.contains("\"header_crc\":\"") && record.ends_with("\"}"), "{record}");
}

#[test]
fn a_preview_is_what_the_opening_then_reports() {
    let mut world = World::new(Disk::new(5), options());
    for bytes in [10, 9000, 30_000, 100] {
        world.append(&[bytes]).unwrap();
        world.settle().unwrap();
    }
    world.append(&[20_000]).unwrap();
    world.step_writer().unwrap();
    let disk = world.disk.crash();
    let options = RecoveryOptions { segment_bytes: SEGMENT_BYTES, ..RecoveryOptions::default() };
    let operations = disk.operations();
    let previewed = preview(&disk, &options).unwrap();
    assert_eq!(disk.operations(), operations, "a preview changes nothing");
    assert_eq!(recover(&disk, &options).unwrap().report, previewed);
}

#[test]
fn a_block_that_cannot_be_read_is_damage_and_the_others_are_read() {
    let sound = verify(&closed()).tally.records();
    let name = segment_name(PhysicalOffset::new(SEGMENT_BYTES));
    let disk = closed();
    disk.fail_reads(&name, 5 * 4096 + 17..5 * 4096 + 18).unwrap();
    let report = verify(&disk);
    let unreadable =
        report.tally.first_damages.iter().find(|damage| damage.what == What::Unreadable).unwrap();
    assert_eq!((unreadable.byte, unreadable.segment), (5 * 4096, Some(PhysicalOffset::new(SEGMENT_BYTES))));
    let lost = sound - report.tally.records();
    assert!((1..6).contains(&lost), "{lost} records cannot be read");
}

#[test]
fn damages_are_the_same_from_the_page_cache_and_from_the_disk() {
    let disk = closed();
    let damaged = [(0, 9000, 0), (1, 20_000, 7), (1, 20_100, 7), (2, 40, 1), (2, 4096, 3)];
    for (index, byte, bit) in damaged {
        disk.flip_bit(&segment_name(PhysicalOffset::new(index * SEGMENT_BYTES)), byte, bit).unwrap();
    }
    let expected = format!("{:?}", verify(&disk));
    // On the disk that the build is on: where temporary files are, there may be memory alone.
    let temporary = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::create_dir(temporary.path().join("log")).unwrap();
    let mut names: Vec<String> = disk.list("log").unwrap().iter().map(|name| format!("log/{name}")).collect();
    names.push(CHECKPOINT_NAME.to_owned());
    for name in &names {
        let file = disk.open(name).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        fs::write(temporary.path().join(name), bytes).unwrap();
    }
    let files = ReadOnlyDirectory::open(temporary.path()).unwrap();
    assert_eq!(format!("{:?}", verify(&files)), expected);
    for name in &names {
        let file = fs::File::open(temporary.path().join(name)).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    assert_eq!(format!("{:?}", verify(&files)), expected);
}

#[test]
fn what_a_verdict_rests_on_is_told() {
    let log = || {
        let mut world = World::new(Disk::new(3), options());
        for _ in 0..6 {
            world.append(&[3000]).expect("no promise is broken");
            world.settle().expect("no promise is broken");
        }
        world.disk.kill()
    };
    let disk = log();
    let sound = verify(&disk);
    assert_eq!((sound.behind, &sound.evidence), (Verdict::Nothing, &None));
    let groups = {
        let inspection = Inspection::open(&disk, false).unwrap();
        let mut groups = Vec::new();
        let note = |item: &Item<'_>| {
            if let Item::Group { at, .. } = item {
                groups.push(*at);
            }
            Ok(())
        };
        inspection.list(.., note).unwrap();
        groups
    };
    // A group in front of one that goes on in another block: what lies in that block and behind it can be taken away.
    let is_parted = |next: &[PhysicalOffset]| next[1].get() / 4096 != (next[2].get() - 1) / 4096;
    let [middle, next, _] = groups.windows(3).skip(1).find(|next| is_parted(next)).unwrap() else { panic!() };
    let name = segment_name(PhysicalOffset::ZERO);
    let middle = middle.get();
    let (here, later) = (middle..middle + 1, next.get().next_multiple_of(4096)..SEGMENT_BYTES);
    for (words, is_rotten, worn) in [
        ("proves that everything below", true, None),
        ("the disk refuses to read", false, Some(here)),
        ("the disk refuses to read", true, Some(later)),
    ] {
        let disk = log();
        if is_rotten {
            disk.flip_bit(&name, middle + 500, 1).unwrap();
        }
        if let Some(worn) = worn {
            disk.fail_reads(&name, worn).unwrap();
        }
        let report = verify(&disk);
        let evidence = report.evidence.expect("an opening refuses");
        assert!(report.behind == Verdict::Corrupt && evidence.to_string().contains(words), "{evidence}");
        let refused = preview(&disk, &RecoveryOptions::default()).expect_err("it is refused").to_string();
        assert!(refused.contains(&evidence.to_string()), "{refused}\n{evidence}");
    }
}
