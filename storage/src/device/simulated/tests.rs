use std::collections::BTreeSet;

use bytes::Bytes;
use smallvec::smallvec;

use super::*;

/// A disk with a durable file `a` of these bytes.
fn with_file(seed: u64, bytes: &[u8]) -> (Disk, Arc<dyn File>) {
    let disk = Disk::new(seed);
    let file = disk.create("a").unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync().unwrap();
    disk.sync_directory("").unwrap();
    (disk, file)
}

fn read(disk: &Disk, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Everything a power cut was seen to leave, over many seeds.
fn outcomes<T: Ord>(prepare: impl Fn(u64) -> Disk, look: impl Fn(&Disk) -> T) -> BTreeSet<T> {
    (0..300).map(|seed| look(&prepare(seed).crash())).collect()
}

#[test]
fn what_was_flushed_survives_a_power_cut() {
    let seen = outcomes(|seed| with_file(seed, &[7; 3000]).0, |disk| read(disk, "a"));
    assert_eq!(seen, BTreeSet::from([vec![7; 3000]]));
}

#[test]
fn unflushed_sectors_are_old_or_new_each_for_itself() {
    let seen = outcomes(
        |seed| {
            let (disk, file) = with_file(seed, &[1; 1536]);
            file.write_at(100, &[2; 1400]).unwrap();
            disk
        },
        |disk| {
            let bytes = read(disk, "a");
            assert_eq!(bytes.len(), 1536);
            assert!(
                bytes[..100].iter().chain(&bytes[1500..]).all(|&byte| byte == 1),
                "neighbours are untouched"
            );
            for sector in [&bytes[100..512], &bytes[512..1024], &bytes[1024..1500]] {
                assert!(sector.iter().all(|byte| byte == &sector[0]), "a sector is not torn");
            }
            [bytes[100], bytes[512], bytes[1024]]
        },
    );
    assert_eq!(seen.len(), 8, "every combination occurs: {seen:?}");
}

#[test]
fn a_sector_keeps_its_writes_in_order() {
    let seen = outcomes(
        |seed| {
            let (disk, file) = with_file(seed, b"..");
            file.write_at(0, b"1").unwrap();
            file.write_at(1, b"2").unwrap();
            disk
        },
        |disk| read(disk, "a"),
    );
    assert_eq!(seen, BTreeSet::from([b"..".to_vec(), b"1.".to_vec(), b"12".to_vec()]));
}

#[test]
fn later_writes_may_overtake_earlier_ones() {
    let seen = outcomes(
        |seed| {
            let (disk, file) = with_file(seed, &[0; 1024]);
            file.write_at(0, &[1]).unwrap();
            file.write_at(512, &[1]).unwrap();
            disk
        },
        |disk| (read(disk, "a")[0], read(disk, "a")[512]),
    );
    assert!(seen.contains(&(0, 1)));
}

#[test]
fn lengths_are_lost_like_contents() {
    let seen = outcomes(
        |seed| {
            let (disk, file) = with_file(seed, b"ab");
            file.write_at(2, b"c").unwrap();
            file.set_len(1).unwrap();
            disk
        },
        |disk| read(disk, "a").len(),
    );
    assert_eq!(seen, BTreeSet::from([1, 2, 3]));
}

#[test]
fn names_need_their_directory_flushed() {
    let seen = outcomes(
        |seed| {
            let (disk, _) = with_file(seed, b"old");
            let file = disk.create("b").unwrap();
            file.write_at(0, b"new").unwrap();
            file.sync().unwrap();
            disk.rename("b", "a").unwrap();
            disk.create("c").unwrap();
            disk.sync_directory("log").unwrap();
            disk
        },
        |disk| (disk.list("").unwrap(), read(disk, "a")),
    );
    assert!(seen.contains(&(vec!["a".to_owned()], b"old".to_vec())), "nothing happened");
    assert!(seen.contains(&(vec!["a".to_owned(), "c".to_owned()], b"new".to_vec())), "all of it happened");
    assert!(
        seen.contains(&(vec!["a".to_owned(), "c".to_owned()], b"old".to_vec())),
        "the last of it happened"
    );
}

#[test]
fn a_flushed_directory_keeps_its_names() {
    let seen = outcomes(
        |seed| {
            let (disk, _) = with_file(seed, b"old");
            disk.rename("a", "b").unwrap();
            disk.sync_directory("").unwrap();
            disk.remove("b").unwrap();
            disk.create("log/c").unwrap();
            disk.sync_directory("log").unwrap();
            disk
        },
        |disk| disk.list("").unwrap(),
    );
    let expected = [vec!["b".to_owned(), "log".to_owned()], vec!["log".to_owned()]];
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn a_killed_process_loses_no_writes_and_its_locks() {
    let (disk, file) = with_file(1, b"old");
    let _lock = disk.lock("LOCK").unwrap();
    assert_eq!(disk.lock("LOCK").err().unwrap().kind(), io::ErrorKind::WouldBlock);
    file.write_at(0, b"new").unwrap();
    let after = disk.kill();
    assert_eq!(read(&after, "a"), b"new");
    after.lock("LOCK").unwrap();
    let lost = (0..100).map(|_| read(&after.crash(), "a")).collect::<BTreeSet<_>>();
    assert_eq!(
        lost,
        BTreeSet::from([b"old".to_vec(), b"new".to_vec()]),
        "being readable is not being durable"
    );
}

#[test]
fn a_failed_flush_is_not_made_good_by_a_later_one() {
    let seen = outcomes(
        |seed| {
            let (disk, file) = with_file(seed, b"old");
            file.write_at(0, b"new").unwrap();
            disk.fail_flush(1);
            file.sync().unwrap_err();
            file.sync().unwrap();
            assert_eq!(read(&disk, "a"), b"new", "it can be read all the same");
            disk
        },
        |disk| read(disk, "a"),
    );
    assert_eq!(seen, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]));
}

#[test]
fn a_failed_write_may_have_begun() {
    let seen: BTreeSet<_> = (0..200)
        .map(|seed| {
            let (disk, file) = with_file(seed, b"...");
            disk.fail_write(2);
            file.write_at(0, b"1").unwrap();
            file.write_at(1, b"23").unwrap_err();
            read(&disk, "a")
        })
        .collect();
    assert_eq!(seen, BTreeSet::from([b"1..".to_vec(), b"12.".to_vec(), b"123".to_vec()]));
}

#[test]
fn a_full_disk_takes_what_it_has_room_for_already() {
    let (disk, file) = with_file(1, &[1; 5000]);
    disk.set_space_left(Some(4096));
    file.write_at(8000, &[2; 1000]).unwrap();
    let full = file.write_at(12_000, &[3; 1000]).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    file.write_at(0, &[4; 12_288]).unwrap();
    assert_eq!(file.len().unwrap(), 12_288);
    assert_eq!(disk.space().unwrap().available_bytes, 0);
}

#[test]
fn a_file_needs_room_for_its_name_and_gives_its_room_back_when_it_is_gone_for_good() {
    let (disk, file) = with_file(1, &[1; 1000]);
    disk.set_space_left(Some(0));
    assert_eq!(disk.create("b").err().unwrap().kind(), io::ErrorKind::StorageFull);
    disk.rename("a", "b").unwrap();
    disk.remove("b").unwrap();
    let available = || disk.space().unwrap().available_bytes;
    assert_eq!(available(), 0, "a power cut may bring it back");
    disk.sync_directory("").unwrap();
    assert_eq!(available(), 0, "somebody has it open");
    drop(file);
    assert_eq!(available(), 4096);
    disk.create("b").unwrap();
}

#[test]
fn a_lying_flush_keeps_nothing() {
    let seen = outcomes(
        |seed| {
            let (disk, file) = with_file(seed, b"old");
            disk.set_flushes_lie(true);
            file.write_at(0, b"new").unwrap();
            file.sync().unwrap();
            disk
        },
        |disk| read(disk, "a"),
    );
    assert!(seen.contains(b"old".as_slice()));
}

#[test]
fn destroyed_sectors_are_neither_old_nor_new() {
    let seen = outcomes(
        |seed| {
            let (disk, file) = with_file(seed, b"old");
            disk.set_tears_destroy(true);
            file.write_at(0, b"new").unwrap();
            disk
        },
        |disk| read(disk, "a"),
    );
    assert!(seen.iter().any(|bytes| bytes != b"old" && bytes != b"new"));
}

#[test]
fn the_power_fails_at_the_chosen_operation() {
    let work = |disk: &Disk| -> io::Result<()> {
        let file = disk.create("b")?;
        file.write_at(0, b"new")?;
        file.sync()?;
        disk.sync_directory("")
    };
    let (disk, _) = with_file(1, b"");
    let before = disk.operations();
    work(&disk).unwrap();
    assert_eq!(disk.operations() - before, 4);
    for nth in 1..=4 {
        let (disk, file) = with_file(nth, b"old");
        disk.power_off_at(nth);
        work(&disk).unwrap_err();
        assert_eq!(disk.operations() - before, nth);
        assert!(file.len().is_err() && disk.list("").is_err(), "nothing works without power");
        assert_eq!(read(&disk.crash(), "a"), b"old");
    }
}

#[test]
fn the_same_seed_makes_the_same_disk() {
    let run = |seed| {
        let (disk, file) = with_file(seed, &[0; 8192]);
        file.write_at(0, &[1; 8192]).unwrap();
        disk.create("b").unwrap();
        let after = disk.crash();
        (after.list("").unwrap(), read(&after, "a"), read(&disk.crash(), "a"))
    };
    assert!((0..20).all(|seed| run(seed) == run(seed)));
    assert!((0..20).map(run).collect::<BTreeSet<_>>().len() > 10);
}

#[test]
fn a_removed_file_lives_while_it_is_open() {
    let (disk, file) = with_file(1, b"still here");
    disk.remove("a").unwrap();
    disk.sync_directory("").unwrap();
    let mut bytes = [0; 10];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), 10);
    assert_eq!(&bytes, b"still here");
}

#[test]
fn a_bit_flips_for_good() {
    let (disk, file) = with_file(1, b"a");
    disk.flip_bit("a", 0, 1).unwrap();
    assert_eq!((read(&disk, "a"), read(&disk.crash(), "a")), (b"c".to_vec(), b"c".to_vec()));
    assert!(disk.flip_bit("a", 1, 0).is_err());
    drop(file);
}

#[test]
fn a_device_writes_flushes_and_locks_its_segment() {
    let (disk, _) = with_file(3, b"");
    let mut device = disk.device();
    device.attach("a").unwrap();
    assert_eq!(disk.device().attach("a").unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let piece = |bytes: &'static [u8]| Operation {
        at: 4096,
        pieces: smallvec![Bytes::from_static(bytes), Bytes::from_static(b"!")],
        flush: true,
    };
    let tickets: BTreeSet<u64> = [device.submit(piece(b"one")).0, device.submit(piece(b"two")).0].into();
    let done: BTreeSet<u64> = std::iter::from_fn(|| device.complete())
        .map(|(ticket, outcome)| {
            outcome.unwrap();
            ticket.0
        })
        .collect();
    assert_eq!(tickets, done);
    assert_eq!(&read(&disk.crash(), "a")[4096..], b"two!");
    drop(device);
    disk.device().attach("a").unwrap();
}

#[test]
fn a_write_may_end_before_its_end() {
    let seen: BTreeSet<_> = (0..200)
        .map(|seed| {
            let (disk, file) = with_file(seed, b"...");
            disk.shorten_write(1);
            let short = file.write_at(0, b"123").unwrap_err();
            assert_eq!(short.kind(), io::ErrorKind::WriteZero);
            read(&disk, "a")
        })
        .collect();
    assert_eq!(seen, BTreeSet::from([b"1..".to_vec(), b"12.".to_vec()]));
}

/// What a power cut leaves of three sectors: an earlier write, one of the device, one behind; and of the length.
fn after_a_flush_of_the_device(narrow: bool) -> BTreeSet<(Vec<u8>, usize)> {
    outcomes(
        |seed| {
            let (disk, file) = with_file(seed, &[0; 3 * 4096]);
            disk.set_flushes_narrow(narrow);
            let mut device = disk.device();
            device.attach("a").unwrap();
            file.write_at(0, &[1]).unwrap();
            file.write_at(8192, &[1]).unwrap();
            for flush in [false, true] {
                let pieces = smallvec![Bytes::from_static(&[1; 512])];
                device.submit(Operation { at: 4096 + 512 * u64::from(flush), pieces, flush });
                device.complete().unwrap().1.unwrap();
            }
            file.set_len(4 * 4096).unwrap();
            disk
        },
        |disk| {
            let bytes = read(disk, "a");
            assert_eq!(bytes[4096..5120], [1; 1024], "what the device has written is durable");
            (vec![bytes[0], bytes[8192]], bytes.len())
        },
    )
}

#[test]
fn a_devices_flush_covers_the_file_or_its_own_writes() {
    let lengths = [3 * 4096, 4 * 4096];
    let wide = lengths.map(|length| (vec![1, 1], length));
    assert_eq!(after_a_flush_of_the_device(false), BTreeSet::from(wide));
    let all = [vec![0, 0], vec![0, 1], vec![1, 0], vec![1, 1]];
    let narrow = all.into_iter().flat_map(|bytes| lengths.map(|length| (bytes.clone(), length)));
    assert_eq!(after_a_flush_of_the_device(true), narrow.collect());
}

#[test]
fn a_narrow_flush_keeps_what_it_needs_of_the_length() {
    let seen = outcomes(
        |seed| {
            let (disk, _) = with_file(seed, &[1; 4096]);
            disk.set_flushes_narrow(true);
            let mut device = disk.device();
            device.attach("a").unwrap();
            let pieces = smallvec![Bytes::from_static(&[2; 4096])];
            device.submit(Operation { at: 4096, pieces, flush: true });
            device.complete().unwrap().1.unwrap();
            disk
        },
        |disk| read(disk, "a"),
    );
    assert_eq!(seen, BTreeSet::from([[[1; 4096], [2; 4096]].concat()]));
}

#[test]
fn names_fail_without_effect() {
    let uses: [fn(&Disk) -> io::Result<()>; 5] = [
        |disk| disk.create("b").map(drop),
        |disk| disk.rename("a", "b"),
        |disk| disk.remove("a"),
        |disk| disk.list("").map(drop),
        |disk| disk.sync_directory(""),
    ];
    for fails in uses {
        let (disk, _) = with_file(1, b"old");
        disk.fail_names(1);
        fails(&disk).unwrap_err();
        assert_eq!(disk.list("").unwrap(), ["a"]);
        fails(&disk).unwrap();
    }
    // What a failed flush of a directory was to cover, the next one does.
    let seen = outcomes(
        |seed| {
            let (disk, _) = with_file(seed, b"old");
            disk.rename("a", "b").unwrap();
            disk.fail_names(1);
            disk.sync_directory("").unwrap_err();
            disk.sync_directory("").unwrap();
            disk
        },
        |disk| disk.list("").unwrap(),
    );
    assert_eq!(seen, BTreeSet::from([vec!["b".to_owned()]]));
}

#[test]
fn a_worn_out_range_is_not_read_and_the_rest_is() {
    let (disk, file) = with_file(1, &[1; 2000]);
    disk.fail_reads("a", 500..600).unwrap();
    let mut buffer = [0; 100];
    for (at, works) in [(0, true), (400, true), (401, false), (599, false), (600, true), (1990, true)] {
        assert_eq!(file.read_at(at, &mut buffer).is_ok(), works, "at {at}");
        let after = disk.crash().open("a").unwrap();
        assert_eq!(after.read_at(at, &mut buffer).is_ok(), works, "at {at}, after a crash");
    }
    disk.heal_reads();
    file.read_at(450, &mut buffer).unwrap();
    assert!(disk.fail_reads("b", 0..1).is_err());
}

#[test]
fn operations_under_way_complete_late_and_in_any_order() {
    let orders: BTreeSet<Vec<u64>> = (0..40)
        .map(|seed| {
            let (disk, _) = with_file(seed, b"");
            disk.set_delay_max(Duration::from_micros(100));
            let mut device = disk.device();
            device.attach("a").unwrap();
            for at in 0..3 {
                let pieces = smallvec![Bytes::from_static(b"x")];
                device.submit(Operation { at: at * 4096, pieces, flush: true });
            }
            std::iter::from_fn(|| device.complete()).map(|(ticket, _)| ticket.0).collect()
        })
        .collect();
    assert_eq!(orders.len(), 6, "{orders:?}");
}
