//! A log on a simulated disk: real ones to begin with, and edits that an accident or a hand may make.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use skylark_storage::clock::SimulatedClock;
use skylark_storage::device::simulated::Disk;
use skylark_storage::recovery::{RecoveryOptions, recover};
use skylark_storage::segment::{segment_base, segment_name};
use skylark_storage::{
    CommitLog, Files, Kind, LogId, NewRecord, OpenError, Opened, Options, PhysicalOffset, Step,
};

use crate::input::Input;

/// The least there can be, so that little input reaches several.
pub const SEGMENT_BYTES: u64 = 64 << 10;
/// What is appended.
pub const KIND: Kind = Kind::new(16);
/// Of every log here.
pub const LOG_ID: LogId = LogId::from_bytes([1; 16]);
/// Creates the same log every time.
pub const RECOVERY: RecoveryOptions =
    RecoveryOptions { segment_bytes: SEGMENT_BYTES, log_id: Some(LOG_ID), repair: false, damaged_at: None };
/// An edit reaches no further.
const FILE_BYTES_MAX: u64 = 2 * SEGMENT_BYTES;

/// A log, and the payload of every record in it.
pub struct Template {
    pub disk: Disk,
    pub payloads: BTreeMap<PhysicalOffset, Vec<u8>>,
}

/// Opens the log on this disk.
pub fn open(disk: &Disk, repair: bool) -> Result<Opened<()>, OpenError> {
    let clock = Arc::new(SimulatedClock::new(1_700_000_000_000));
    let options = Options { segment_bytes: SEGMENT_BYTES, repair, ..Options::default() };
    CommitLog::open(Arc::new(disk.clone()), clock, options, ())
}

/// Lets writer and housekeeper do all there is to do.
pub fn drive(opened: &mut Opened<()>) {
    while opened.writer.step() == Step::Worked || opened.housekeeper.step() == Step::Worked {}
    while let Some(group) = opened.groups.try_next() {
        opened.groups.done(&group);
    }
}

/// A log of several openings and segments: in the middle of its work, or closed.
pub fn template(close: bool) -> Template {
    let mut disk = Disk::new(1);
    let mut payloads = BTreeMap::new();
    recover(&disk, &RECOVERY).expect("a log can be created");
    for opening in 0..3_u8 {
        let mut opened = open(&disk, false).expect("a sound log can be opened");
        for append in 0..40_u8 {
            let payload = vec![append.wrapping_mul(7) ^ opening; usize::from(append) * 67];
            let (head, rest) = payload.split_at(payload.len().min(8));
            let record = NewRecord { kind: KIND, head, rest: &[rest] };
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

/// The bytes of every segment file that is there, those that cannot be read too.
pub fn segments(disk: &Disk) -> BTreeMap<PhysicalOffset, Vec<u8>> {
    let disk = disk.kill();
    disk.heal_reads();
    let names = disk.list("log").expect("the disk works");
    let bases = names.iter().filter_map(|name| segment_base(name));
    bases.map(|base| (base, contents(&disk, &segment_name(base)))).collect()
}

/// The bytes of a file that is there.
pub fn contents(disk: &Disk, name: &str) -> Vec<u8> {
    let file = disk.open(name).expect("it is there");
    let mut bytes = vec![0; usize::try_from(file.len().expect("the disk works")).expect("files are short")];
    file.read_at(0, &mut bytes).expect("the disk works");
    bytes
}

/// A file of the disk, or a name that might be one.
fn name(disk: &Disk, input: &mut Input<'_>) -> String {
    let choice = usize::from(input.byte());
    let mut names: Vec<String> = disk.list("log").expect("the disk works");
    names.iter_mut().for_each(|name| name.insert_str(0, "log/"));
    names.extend(["CHECKPOINT", "CHECKPOINT.tmp", "log/x.tmp", "log/spare"].map(str::to_owned));
    names.extend((0..6).map(|index| segment_name(PhysicalOffset::new(index * SEGMENT_BYTES))));
    names.push("log/00000000000000000123.seg".to_owned());
    names.push("log/18446744073709486080.seg".to_owned());
    names.swap_remove(choice % names.len())
}

/// What the first byte of an edit chooses.
pub const EDITS: u8 = 11;
/// The edit that forges a checkpoint.
pub const FORGE_CHECKPOINT: u8 = 9;
/// The edits that change no file.
const FAIL_FLUSH: u8 = 8;
const FAIL_READS: u8 = 10;

/// What edits have done that allows an opening more than others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edited {
    /// What checksums protect may be forged.
    pub forged: bool,
    /// A flush will fail.
    pub faulty: bool,
    /// So many blocks cannot be read.
    pub worn_blocks: u64,
    /// Files were changed by somebody who flushed nothing: a power cut may take back any part of that.
    pub unflushed: bool,
}

/// Makes one edit: bytes flipped, overwritten, zeroed and copied about, files cut, swapped, removed and created, a
/// flush that fails, a sector that cannot be read.
///
/// # Errors
/// When the disk refuses it; then it is none.
pub fn edit(disk: &Disk, input: &mut Input<'_>, edited: &mut Edited) -> io::Result<()> {
    let kind = input.byte();
    edited.unflushed |= kind % EDITS != FAIL_FLUSH && kind % EDITS < FAIL_READS;
    let file_name = name(disk, input);
    let at = input.number() % FILE_BYTES_MAX;
    let length = usize::try_from(1 + input.number() % 9000).expect("it is short");
    match kind % EDITS {
        0 => disk.flip_bit(&file_name, at, input.byte())?,
        1 => {
            let bytes: Vec<u8> = (0..length.min(64)).map(|_| input.byte()).collect();
            disk.open(&file_name)?.write_at(at, &bytes)?;
        }
        2 => disk.open(&file_name)?.write_at(at, &vec![0; length])?,
        3 => disk.open(&file_name)?.set_len(at)?,
        4 => disk.remove(&file_name)?,
        5 => disk.rename(&file_name, &name(disk, input))?,
        6 => {
            // Bytes of another place, or another file: sound, and misplaced.
            let from = disk.open(&name(disk, input))?;
            let mut bytes = vec![0; length];
            let read = from.read_at((input.number() * 8) % FILE_BYTES_MAX, &mut bytes)?;
            disk.open(&file_name)?.write_at(at / 8 * 8, &bytes[..read])?;
        }
        7 => drop(disk.create(&file_name)?),
        FAIL_FLUSH => {
            disk.fail_flush(1 + at % 8);
            edited.faulty = true;
        }
        FORGE_CHECKPOINT => {
            let slot = u64::from(input.byte() % 2) * 4096;
            let file = disk.open("CHECKPOINT")?;
            let mut bytes = [0; 112];
            file.read_at(slot, &mut bytes)?;
            let field = 16 + usize::from(input.byte()) % 92;
            bytes[field] ^= input.byte();
            let crc = crc32c(&bytes[..108]);
            bytes[108..].copy_from_slice(&crc.to_le_bytes());
            file.write_at(slot, &bytes)?;
            edited.forged = true;
        }
        _ => {
            disk.fail_reads(&file_name, at..at + 1)?;
            edited.worn_blocks += 1;
        }
    }
    Ok(())
}

/// The checksum of all our formats, not by the library that they use.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}
