//! What a disk may hold when a log is opened: nothing panics, nothing grows without bound, and what is recovered is
//! a prefix of what was written, or there is a clean error.
//!
//! The input is a list of edits to the files of a sound log, and the power may be cut in the middle of recovery.
//! Checksums cannot be guessed, so one edit forges a checkpoint with a sound checksum; what is served then need not
//! be a prefix, but nothing may be invented even so.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use skylark_fuzz::disk::{Edited, KIND, Template, edit, open, template};
use skylark_fuzz::input::Input;
use skylark_fuzz::oracle::{self, Segments, sound_record};
use skylark_storage::{Opened, PhysicalOffset, ReadError};

static TEMPLATES: LazyLock<[Template; 2]> = LazyLock::new(|| [template(false), template(true)]);

const EDITS_MAX: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let mode = input.byte();
    let template = &TEMPLATES[usize::from(mode & 1)];
    let repair = mode & 2 != 0;
    let disk = template.disk.kill();
    disk.reseed(u64::from(mode));
    let mut edited = Edited::default();
    for _ in 0..EDITS_MAX {
        if input.is_empty() {
            break;
        }
        // An edit that the disk refuses is none.
        let _refused = edit(&disk, &mut input, &mut edited);
    }
    let is_prefix = |opened: &Opened<()>, before: &Segments| {
        // A new log stands where nothing of the old one was left.
        if !edited.forged && !opened.recovery.created {
            check_prefix(opened, &template.payloads);
            check_served(opened, &template.payloads, before);
        }
    };
    if mode & 4 != 0 {
        let cut_short = disk.kill();
        cut_short.power_off_at(1 + u64::from(mode >> 3));
        if open(&cut_short, repair).is_err() {
            oracle::check(&cut_short.crash(), repair, edited, is_prefix);
        }
    }
    oracle::check(&disk, repair, edited, is_prefix);
});

/// What a scan hands out, up to the first damage, must be what was written, in order, from the log's start, without a
/// gap.
fn check_prefix(opened: &Opened<()>, payloads: &BTreeMap<PhysicalOffset, Vec<u8>>) {
    let start = opened.recovery.start;
    let mut expected = payloads.range(start..);
    for group in opened.log.scan(start).map_while(Result::ok) {
        for (at, record) in group.records().filter(|(_, record)| record.kind() == KIND) {
            let (wanted_at, payload) = expected.next().expect("a record that nobody wrote");
            assert_eq!((at, record.payload), (*wanted_at, &payload[..]), "not what was written");
        }
    }
}

/// Damage beside it, and sectors that cannot be read elsewhere, keep nobody from a record that is still what was written.
fn check_served(opened: &Opened<()>, payloads: &BTreeMap<PhysicalOffset, Vec<u8>>, before: &Segments) {
    for (at, payload) in payloads.range(opened.recovery.start..opened.recovery.end) {
        let is_intact = sound_record(opened, before, *at).is_some_and(|record| record.payload == payload);
        match opened.log.record_at(*at) {
            Ok(record) => assert_eq!(&record.payload()[..], payload, "not what was written at {at}"),
            Err(ReadError::Io { .. }) => {}
            Err(error) => assert!(!is_intact, "{error}"),
        }
    }
}
