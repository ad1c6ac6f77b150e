//! Reading what is no longer in memory, from a disk that does not always give it back.

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use skylark_storage::device::Advice;
use skylark_storage::device::Directory;
use skylark_storage::device::simulated::Disk;
use skylark_storage::{
    CommitLog, File, Files, NewRecord, Opened, Options, PhysicalOffset, ReadError, SystemClock, segment,
};

use support::layer::{FileLayer, Layer, Layered, LayeredFile};
use support::{KIND, SEGMENT_BYTES, World, options};

/// A closed log of several segments, opened again, so that nothing of it is in memory.
fn world() -> World {
    let mut world = World::new(Disk::new(1), options());
    for _ in 0..80 {
        world.append(&[3000]).expect("the log takes appends");
        world.settle().expect("no promise is broken");
    }
    world.close().expect("nothing is lost");
    // Once more, because that one has read all of it.
    let disk = world.disk.kill();
    world.opened = support::open(&disk, &world.clock, &world.options).expect("a closed log opens");
    world.disk = disk;
    world
}

fn file_of(at: PhysicalOffset) -> (String, u64) {
    let base = at.align_down(SEGMENT_BYTES);
    (segment::segment_name(base), at.since(base))
}

/// The records that cannot be found one by one.
fn lost(world: &World) -> Vec<PhysicalOffset> {
    let records = world.units.iter().flat_map(|unit| &unit.records);
    records.map(|record| record.at).filter(|at| world.opened.log.record_at(*at).is_err()).collect()
}

/// Scans past what is damaged: how many records came, and the errors between them.
fn scan_past(world: &World) -> (usize, Vec<ReadError>) {
    let mut scan = world.opened.log.scan(PhysicalOffset::ZERO);
    let (mut records, mut errors) = (0, Vec::new());
    loop {
        match scan.next() {
            Some(Ok(group)) => {
                records += group.records().filter(|(_, record)| record.header.fields().kind == KIND).count();
            }
            Some(Err(error)) => {
                errors.push(error);
                assert!(scan.next().is_none(), "it does not go on by itself");
                let position = scan.position();
                assert!(scan.pass_damage() > position);
            }
            None => return (records, errors),
        }
    }
}

#[test]
fn a_record_that_cannot_be_read_is_reported_and_the_others_are_served() {
    let world = world();
    let at = world.units[30].records[0].at;
    let (name, position) = file_of(at);
    world.disk.fail_reads(&name, position + 1000..position + 1001).unwrap();
    assert_eq!(lost(&world), [at]);
    let error = world.opened.log.record_at(at).unwrap_err();
    assert!(
        matches!(&error, ReadError::Io { file, position: found, .. } if *file == name && *found == position)
    );
    assert!(
        error.to_string().contains(&name) && error.to_string().contains(&position.to_string()),
        "{error}"
    );
    let (records, errors) = scan_past(&world);
    assert_eq!(records, world.units.len() - 1);
    assert!(matches!(errors.as_slice(), [ReadError::Io { .. }]), "{errors:?}");
    // A reader who goes on from record to record, so that whole pieces are asked for.
    let failed = world.units.iter().filter(|unit| {
        let at = unit.records[0].at;
        world.opened.log.read_cold(at, u32::try_from(unit.end.since(at)).unwrap()).is_err()
    });
    assert_eq!(failed.count(), 1);
    world.disk.heal_reads();
    assert_eq!(lost(&world), []);
    world.check_records().unwrap();
}

#[test]
fn rot_is_located_and_what_lies_behind_it_is_read() {
    let world = world();
    let at = world.units[30].records[0].at;
    let (name, position) = file_of(at);
    world.disk.flip_bit(&name, position + 1000, 3).unwrap();
    assert_eq!(lost(&world), [at]);
    let (records, errors) = scan_past(&world);
    assert_eq!(records, world.units.len() - 1);
    assert!(
        matches!(errors.as_slice(), [ReadError::Damaged { at: found, .. }] if *found == at),
        "{errors:?}"
    );
    // Where the group's own header is gone, so is the way to the next one in this segment.
    let group = world.opened.log.scan(PhysicalOffset::ZERO).map_while(Result::ok).last().unwrap();
    let (name, position) = file_of(group.end);
    world.disk.flip_bit(&name, position, 0).unwrap();
    let (records, errors) = scan_past(&world);
    assert!(records < world.units.len() - 1 && records > world.units.len() / 2, "{records}");
    assert!(matches!(errors.as_slice(), [ReadError::NotAGroup { at, .. }] if *at == group.end), "{errors:?}");
}

#[test]
fn a_scan_that_was_overtaken_by_a_trim_goes_on_where_the_log_begins() {
    let mut world = world();
    let log = world.opened.log.clone();
    let mut scan = log.scan(PhysicalOffset::ZERO);
    scan.next().unwrap().unwrap();
    let trimmed = world.trim(PhysicalOffset::new(2 * SEGMENT_BYTES)).unwrap();
    assert!(matches!(scan.next(), Some(Err(ReadError::Trimmed { .. }))));
    assert_eq!(scan.pass_damage(), trimmed);
    assert!(scan.next().unwrap().unwrap().start > trimmed);
}

/// A disk whose system holds old bytes of its files in memory, until it is told to let go of them.
#[derive(Clone)]
struct Forgetful {
    disk: Disk,
    is_stale: Arc<AtomicBool>,
}

struct StaleFile(Arc<dyn File>, Arc<AtomicBool>);

impl Layer for Forgetful {
    fn below(&self) -> &dyn Files {
        &self.disk
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(LayeredFile(StaleFile(self.disk.open(name)?, Arc::clone(&self.is_stale)))))
    }
}

impl FileLayer for StaleFile {
    fn below(&self) -> &dyn File {
        &*self.0
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read_at(at, buffer)?;
        if self.1.load(Ordering::Relaxed) {
            // As it was prepared.
            buffer.fill(0);
        }
        Ok(read)
    }

    fn advise(&self, _at: u64, bytes: u64, advice: Advice) {
        if advice == Advice::DontNeed && bytes > 0 {
            self.1.store(false, Ordering::Relaxed);
        }
    }
}

#[test]
fn bytes_that_the_system_held_for_too_long_are_read_again() {
    let world = world();
    let files = Forgetful { disk: world.disk.kill(), is_stale: Arc::default() };
    let clock = Arc::new(SystemClock::new());
    let opened = CommitLog::open(Arc::new(Layered(files.clone())), clock, options(), ()).unwrap();
    let at = world.units[30].records[0].at;
    let is_stale = &files.is_stale;
    // A piece of them is in our own memory too.
    is_stale.store(true, Ordering::Relaxed);
    opened.log.read_cold(at, 1000).unwrap();
    opened.log.read_cold(at.advance(1000), 1000).unwrap();
    assert_eq!(opened.log.record_at(at).unwrap().payload().len(), 3000 + support::HEAD_BYTES);
    assert!(!is_stale.load(Ordering::Relaxed));
    for _ in 0..3 {
        is_stale.store(true, Ordering::Relaxed);
        assert!(opened.log.scan(PhysicalOffset::ZERO).all(|group| group.is_ok()));
    }
    // Zeros look like the gap behind a padded group: nobody goes on behind them.
    let groups: Vec<_> = opened.log.scan(PhysicalOffset::ZERO).map(|group| group.unwrap().start).collect();
    assert!(groups.iter().any(|start| start.get() % 4096 != 0));
    for start in groups {
        is_stale.store(true, Ordering::Relaxed);
        assert_eq!(opened.log.scan(start).next().unwrap().unwrap().start, start);
    }
}

#[test]
fn replays_beside_appends_read_what_was_appended() {
    let directory = tempfile::tempdir().unwrap();
    let files = Arc::new(Directory::open(directory.path()).unwrap());
    let options = Options { segment_bytes: 1 << 20, tail_bytes: 0, ..options() };
    let Opened { log, writer, housekeeper, groups, .. } =
        CommitLog::open(files, Arc::new(SystemClock::new()), options, 0_u64).unwrap();
    drop(groups);
    let machines = [thread::spawn(|| writer.run()), thread::spawn(|| housekeeper.run())];
    let done = Arc::new(AtomicBool::new(false));
    let replays: Vec<_> = (0..2)
        .map(|_| {
            let (log, done) = (log.clone(), Arc::clone(&done));
            thread::spawn(move || {
                let mut is_last = false;
                while !is_last {
                    is_last = done.load(Ordering::Relaxed);
                    let mut expected = 0_u64;
                    for group in log.scan(PhysicalOffset::ZERO) {
                        let group = group.unwrap();
                        for (at, record) in
                            group.records().filter(|(_, record)| record.header.fields().kind == KIND)
                        {
                            assert_eq!(record.payload[..8], expected.to_le_bytes());
                            let cold = log.read_cold(at, 40).unwrap();
                            assert_eq!(cold[32..], expected.to_le_bytes());
                            expected += 1;
                        }
                    }
                    if is_last {
                        return expected;
                    }
                }
                unreachable!("the last round returns")
            })
        })
        .collect();
    let mut last = PhysicalOffset::ZERO;
    for _ in 0..3000 {
        let record = NewRecord { kind: KIND, head: &[0; 8], rest: &[&[7; 1200]] };
        let appended = log.append(&[record], |number, _, head| {
            head.copy_from_slice(&number.to_le_bytes());
            *number += 1;
        });
        last = appended.unwrap().end;
        if last.get().is_multiple_of(7) {
            log.durable().wait_blocking(last).unwrap();
        }
    }
    log.durable().wait_blocking(last).unwrap();
    done.store(true, Ordering::Relaxed);
    for replay in replays {
        assert_eq!(replay.join().unwrap(), 3000);
    }
    log.close();
    log.wait_stopped();
    machines.into_iter().for_each(|machine| machine.join().unwrap());
}
