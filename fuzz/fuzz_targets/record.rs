//! The layouts of the log, one by one: no bytes panic, and what was read is written as the same bytes.
//!
//! The input's bytes are read as they are, and once more with the checksum made to fit, which no fuzzer guesses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skylark_fuzz::disk::{LOG_ID, crc32c};
use skylark_fuzz::input::Input;
use skylark_storage::checkpoint::{Checkpoint, SLOT_BYTES};
use skylark_storage::epoch::EpochRecord;
use skylark_storage::group::{GROUP_HEADER_BYTES, GroupHeader};
use skylark_storage::record::{
    RECORD_HEADER_BYTES, Record, RecordError, RecordFields, RecordHeader, payload_crc,
};
use skylark_storage::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_base, segment_name};
use skylark_storage::{Kind, PhysicalOffset};
use zerocopy::{FromBytes, IntoBytes};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let layout = input.byte();
    let at = PhysicalOffset::new(input.tweak());
    let bytes = input.rest();
    match layout % 6 {
        0 => record(at, bytes),
        1 => group(at, bytes),
        2 => segment(bytes),
        3 => checkpoint(bytes),
        4 => epoch(bytes),
        _ => name(bytes),
    }
});

fn record(at: PhysicalOffset, bytes: &[u8]) {
    let seed = LOG_ID.seed();
    let _almost_never = Record::parse(seed, at, bytes);
    let mut bytes = bytes.to_vec();
    let Ok((header, rest)) = RecordHeader::read_from_prefix(&bytes) else { return };
    let fields = header.fields();
    let head_bytes = usize::from(fields.head_bytes);
    let Some(head) = rest.get(..head_bytes) else { return };
    let payload = rest.get(..fields.payload_bytes as usize).unwrap_or(rest);
    let rest = payload.get(head_bytes..).unwrap_or_default();
    let fields = RecordFields { physical_offset: at, payload_crc: payload_crc(seed, &[rest]), ..fields };
    let sound = RecordHeader::new(seed, &fields, head);
    bytes[..RECORD_HEADER_BYTES].copy_from_slice(sound.as_bytes());
    match Record::parse(seed, at, &bytes) {
        // Of which only the header is stored.
        Ok(record) if record.kind() == Kind::PADDING => {}
        Ok(record) => {
            let again = RecordHeader::new(seed, &record.header.fields(), record.head());
            assert_eq!(again.as_bytes(), &bytes[..RECORD_HEADER_BYTES]);
            let mut written = [again.as_bytes(), record.head(), record.rest()].concat();
            written.resize(usize::try_from(again.stored_bytes()).expect("it was read from memory"), 0);
            assert_eq!(written, &bytes[..written.len()]);
            // Nothing that a checksum covers can change.
            let last = written.len() - 1;
            for flip in [0, RECORD_HEADER_BYTES - 1, RECORD_HEADER_BYTES, last] {
                let mut flipped = written.clone();
                if let Some(byte) = flipped.get_mut(flip) {
                    *byte ^= 1;
                    assert!(Record::parse(seed, at, &flipped).is_err(), "byte {flip} may be anything");
                }
            }
        }
        Err(error) => {
            let explained = matches!(
                error,
                RecordError::Truncated { .. } | RecordError::Head { .. } | RecordError::NotZero
            );
            assert!(explained, "{error}");
        }
    }
}

fn group(at: PhysicalOffset, bytes: &[u8]) {
    let seed = LOG_ID.seed();
    let _almost_never = GroupHeader::parse(seed, at, bytes);
    let Ok((header, _)) = GroupHeader::read_from_prefix(bytes) else { return };
    let (group_bytes, undurable_bytes, chain) =
        (header.group_bytes(), header.undurable_bytes(), header.chain());
    let sound = GroupHeader::new(seed, at, group_bytes, undurable_bytes, chain);
    if let Ok(read) = GroupHeader::parse(seed, at, sound.as_bytes()) {
        assert_eq!(
            (read.group_bytes(), read.undurable_bytes(), read.chain()),
            (group_bytes, undurable_bytes, chain)
        );
        assert_eq!(sound.as_bytes()[..GROUP_HEADER_BYTES - 4], bytes[..GROUP_HEADER_BYTES - 4]);
    }
}

fn segment(bytes: &[u8]) {
    let _almost_never = SegmentHeader::parse(bytes);
    let mut bytes = bytes.to_vec();
    if bytes.len() < SEGMENT_HEADER_BYTES {
        return;
    }
    let covered = SEGMENT_HEADER_BYTES - 4;
    let crc = crc32c(&bytes[..covered]);
    bytes[covered..SEGMENT_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    if let Ok(header) = SegmentHeader::parse(&bytes) {
        assert_eq!(SegmentHeader::new(&header.fields()).as_bytes(), &bytes[..SEGMENT_HEADER_BYTES]);
    }
}

fn checkpoint(bytes: &[u8]) {
    let mut slot = [0; SLOT_BYTES];
    let length = bytes.len().min(SLOT_BYTES);
    slot[..length].copy_from_slice(&bytes[..length]);
    let _almost_never = Checkpoint::from_slot(&slot);
    let crc = crc32c(&slot[..108]);
    slot[108..112].copy_from_slice(&crc.to_le_bytes());
    if let Ok(checkpoint) = Checkpoint::from_slot(&slot) {
        assert!(checkpoint.to_slot() == slot);
    }
}

fn epoch(bytes: &[u8]) {
    if let Ok(record) = EpochRecord::parse(bytes) {
        assert_eq!(record.to_bytes(), bytes);
    }
}

fn name(bytes: &[u8]) {
    let Ok(name) = str::from_utf8(bytes) else { return };
    if let Some(base) = segment_base(name) {
        assert_eq!(segment_name(base), format!("log/{name}"));
    }
}
