//! What a disk may hold when a log is opened: nothing panics, nothing grows without bound, and what is recovered is
//! a prefix of what was written, or there is a clean error.
//!
//! The input is a list of edits to the files of a sound log: bytes flipped, overwritten, zeroed and copied about,
//! files cut, swapped, removed and created, the power cut in the middle of recovery. Checksums cannot be guessed,
//! so one edit forges a checkpoint with a sound checksum; then only the absence of panics is asked for.
#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use skylark_storage::clock::SimulatedClock;
use skylark_storage::device::simulated::Disk;
use skylark_storage::recovery::{RecoveryOptions, recover};
use skylark_storage::{
    CommitLog, Files, Kind, LogId, NewRecord, OpenError, Opened, Options, PhysicalOffset, ReadError, Step,
};

const SEGMENT_BYTES: u64 = 64 << 10;
const KIND: Kind = Kind::new(16);
/// Creates the same log every time.
const RECOVERY: RecoveryOptions =
    RecoveryOptions { segment_bytes: SEGMENT_BYTES, log_id: Some(LogId::from_bytes([1; 16])), repair: false };
/// An edit reaches no further.
const FILE_BYTES_MAX: u64 = 2 * SEGMENT_BYTES;

/// A log, and the payload of every record in it.
struct Template {
    disk: Disk,
    payloads: BTreeMap<PhysicalOffset, Vec<u8>>,
}

/// A log in the middle of its work, of several openings and segments; and one that was closed.
static TEMPLATES: LazyLock<[Template; 2]> = LazyLock::new(|| [template(false), template(true)]);

fn options(repair: bool) -> Options {
    Options { segment_bytes: SEGMENT_BYTES, repair, ..Options::default() }
}

fn open(disk: &Disk, repair: bool) -> Result<Opened<()>, OpenError> {
    let clock = Arc::new(SimulatedClock::new(1_700_000_000_000));
    CommitLog::open(Arc::new(disk.clone()), clock, options(repair), ())
}

fn drive(opened: &mut Opened<()>) {
    while opened.writer.step() == Step::Worked || opened.housekeeper.step() == Step::Worked {}
    while let Some(group) = opened.groups.try_next() {
        opened.groups.done(&group);
    }
}

fn template(close: bool) -> Template {
    let mut disk = Disk::new(1);
    let mut payloads = BTreeMap::new();
    recover(&disk, &RECOVERY).expect("a log can be created");
    for opening in 0..3_u8 {
        let mut opened = open(&disk, false).expect("a sound log can be opened");
        for append in 0..40_u8 {
            let payload = vec![append.wrapping_mul(7) ^ opening; usize::from(append) * 67];
            let record = NewRecord { kind: KIND, head: &payload[..payload.len().min(8)], rest: &[] };
            let parts = [&payload[record.head.len()..]];
            let record = NewRecord { rest: &parts, ..record };
            let appended = opened.log.append(&[record], |(), place, _| {
                payloads.insert(place.physical_offset, payload.clone());
            });
            appended.expect("there is room");
            if append % 3 != 0 {
                drive(&mut opened);
            }
        }
        drive(&mut opened);
        if close {
            opened.log.close();
            drive(&mut opened);
        }
        let next = disk.kill();
        drop(opened);
        disk = next;
    }
    Template { disk, payloads }
}

/// Bytes of the input, one behind the other; zeros when there are no more.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    fn number(&mut self) -> u64 {
        (0..3).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A file of the disk, or a name that might be one.
fn name(disk: &Disk, input: &mut Input<'_>) -> String {
    let choice = usize::from(input.byte());
    let mut names: Vec<String> = disk.list("log").expect("the disk works");
    names.iter_mut().for_each(|name| name.insert_str(0, "log/"));
    names.extend(["CHECKPOINT", "CHECKPOINT.tmp", "log/x.tmp", "log/spare"].map(str::to_owned));
    names.extend((0..6).map(|index| format!("log/{:020}.seg", index * SEGMENT_BYTES)));
    names.push("log/00000000000000000123.seg".to_owned());
    names.push("log/18446744073709486080.seg".to_owned());
    names.swap_remove(choice % names.len())
}

/// Makes one edit. Returns whether it could forge what checksums protect.
fn edit(disk: &Disk, input: &mut Input<'_>) -> std::io::Result<bool> {
    let kind = input.byte();
    let file_name = name(disk, input);
    let at = input.number() % FILE_BYTES_MAX;
    let length = 1 + input.number() % 9000;
    match kind % 10 {
        0 => disk.flip_bit(&file_name, at, input.byte())?,
        1 => {
            let bytes: Vec<u8> = (0..length.min(64)).map(|_| input.byte()).collect();
            disk.open(&file_name)?.write_at(at, &bytes)?;
        }
        2 => disk.open(&file_name)?.write_at(at, &vec![0; usize::try_from(length).unwrap_or(0)])?,
        3 => disk.open(&file_name)?.set_len(at)?,
        4 => disk.remove(&file_name)?,
        5 => {
            let other = name(disk, input);
            disk.rename(&file_name, &other)?;
        }
        6 => {
            // Bytes of another place, or another file: sound, and misplaced.
            let from = disk.open(&name(disk, input))?;
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            let read = from.read_at((input.number() * 8) % FILE_BYTES_MAX, &mut bytes)?;
            disk.open(&file_name)?.write_at(at / 8 * 8, &bytes[..read])?;
        }
        7 => drop(disk.create(&file_name)?),
        8 => disk.fail_flush(1 + at % 8),
        _ => {
            let slot = u64::from(input.byte() % 2) * 4096;
            let file = disk.open("CHECKPOINT")?;
            let mut bytes = [0; 112];
            file.read_at(slot, &mut bytes)?;
            let field = 16 + usize::from(input.byte()) % 92;
            bytes[field] ^= input.byte();
            let crc = crc32c(&bytes[..108]);
            bytes[108..].copy_from_slice(&crc.to_le_bytes());
            file.write_at(slot, &bytes)?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

/// Everything that can be read must be what was written, in order, from the log's start, without a gap.
fn check_prefix(opened: &Opened<()>, payloads: &BTreeMap<PhysicalOffset, Vec<u8>>) {
    let start = opened.recovery.start;
    let mut expected = payloads.range(start..);
    let read: Result<Vec<_>, ReadError> = opened.log.scan(start).collect();
    for group in read.iter().flatten() {
        for (at, record) in group.records().filter(|(_, record)| record.header.fields().kind == KIND) {
            let (wanted_at, payload) = expected.next().expect("a record that nobody wrote");
            assert_eq!((at, record.payload), (*wanted_at, &payload[..]), "not what was written");
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mode = input.byte();
    let template = &TEMPLATES[usize::from(mode & 1)];
    let repair = mode & 2 != 0;
    let disk = template.disk.kill();
    disk.reseed(u64::from(mode));
    let mut forged = false;
    let mut edits = 0;
    while !input.is_empty() && edits < 16 {
        // An edit that the disk refuses is none.
        forged |= edit(&disk, &mut input).unwrap_or_default();
        edits += 1;
    }
    if forged {
        let _refused = recover(&disk, &RecoveryOptions { repair, ..RECOVERY }).err().map(|error| error.to_string());
        return;
    }
    if mode & 4 != 0 {
        let cut_short = disk.kill();
        cut_short.power_off_at(1 + u64::from(mode >> 3));
        if open(&cut_short, repair).is_err() {
            check_and_append(cut_short.crash(), repair, &template.payloads);
        }
    }
    check_and_append(disk, repair, &template.payloads);
});

fn check_and_append(disk: Disk, repair: bool, payloads: &BTreeMap<PhysicalOffset, Vec<u8>>) {
    let Ok(mut opened) = open(&disk, repair) else { return };
    // A new log stands where nothing of the old one was left.
    if !opened.recovery.created {
        check_prefix(&opened, payloads);
    }
    // It takes an append, which survives.
    let record = NewRecord { kind: Kind::new(17), head: &[], rest: &[b"appended after recovery"] };
    let mut at = None;
    let appended = opened.log.append(&[record], |(), place, _| at = Some(place.physical_offset));
    drive(&mut opened);
    let (Ok(appended), Some(at)) = (appended, at) else { return };
    if opened.log.frontiers().durable_end < appended.end {
        // Only a disk that fails, which some edits ask for, keeps it from becoming durable.
        assert!(opened.log.stopped().is_some(), "an append was forgotten");
        return;
    }
    let reopened = open(&disk.crash(), false).expect("what was recovered can be opened again");
    let record = reopened.log.record_at(at).expect("what was durable is there");
    assert_eq!(&record.payload()[..], b"appended after recovery");
}
