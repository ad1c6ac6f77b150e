//! For `recovery`, `forgery`, `record`, `index_file` and `index_snapshot`: what lies on disks.

use std::io;

use skylark_fuzz::disk::{self, EDITS, FORGE_CHECKPOINT, KIND, drive, open, segments};
use skylark_fuzz::forge::step;
use skylark_fuzz::index::Sealed;
use skylark_storage::device::simulated::Disk;
use skylark_storage::group::{GROUP_HEADER_BYTES, GroupHeader};
use skylark_storage::record::{RECORD_HEADER_BYTES, RecordHeader};
use skylark_storage::recovery::recover;
use skylark_storage::segment::BLOCK_BYTES;
use skylark_storage::{NewRecord, PhysicalOffset};
use zerocopy::FromBytes;

use crate::Corpus;

pub fn write(corpus: &Corpus) -> io::Result<()> {
    edits(corpus)?;
    real_logs(corpus)?;
    written_logs(corpus)?;
    indexes(corpus)
}

/// Every edit in every mode, one at a time, and a few together.
fn edits(corpus: &Corpus) -> io::Result<()> {
    for mode in 0..8 {
        corpus.add("recovery", &format!("untouched-{mode}"), &[mode])?;
        for kind in 0..EDITS {
            for (file, at) in [(0, [0, 0, 100]), (1, [0, 20, 0]), (2, [0, 16, 16]), (3, [0, 1, 0])] {
                let edit = [mode, kind, file, at[0], at[1], at[2], 0, 1, 0, 3, 1, 5];
                corpus.add("recovery", &format!("edit-{mode}-{kind}-{file}"), &edit)?;
            }
        }
    }
    for field in 0..92 {
        let forged = [4, FORGE_CHECKPOINT, 0, 0, 0, 0, 0, 0, 0, field, field, 1];
        corpus.add("recovery", &format!("checkpoint-{field}"), &forged)?;
    }
    Ok(())
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A zero tweak as often as a step asks for one.
const RIGHT: [u8; 16] = [0; 16];

/// The files of small logs, as bytes: whole, of several epochs, and torn by a power cut.
fn real_logs(corpus: &Corpus) -> io::Result<()> {
    let mut disk = Disk::new(3);
    recover(&disk, &disk::RECOVERY).expect("a log can be created");
    for epoch in 0..3_u8 {
        let mut opened = open(&disk, false).expect("the log is sound");
        for append in 0..6_u8 {
            let rest = vec![append; usize::from(append) * 50];
            let record = NewRecord { kind: KIND, head: &[epoch; 8], rest: &[&rest] };
            opened.log.append(&[record, record], |(), _, _| {}).expect("there is room");
            if append % 3 == 2 {
                drive(&mut opened);
            }
        }
        drive(&mut opened);
        let next = disk.kill();
        drop(opened);
        disk = next;
        whole(corpus, &disk, &format!("epoch-{epoch}"))?;
    }
    let mut opened = open(&disk, false).expect("the log is sound");
    disk.power_off_at(3);
    let record = NewRecord { kind: KIND, head: &[], rest: &[&[9; 3000]] };
    opened.log.append(&[record], |(), _, _| {}).expect("there is room");
    drive(&mut opened);
    for tear in 0..4 {
        whole(corpus, &disk.crash(), &format!("torn-{tear}"))?;
    }
    single_layouts(corpus, &disk.crash())
}

/// One input that holds all that is written of a log.
fn whole(corpus: &Corpus, disk: &Disk, name: &str) -> io::Result<()> {
    let mut input = Vec::new();
    for (index, bytes) in segments(disk).values().enumerate() {
        if index > 0 {
            input.push(step::SEGMENT);
        }
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        for (part, at) in
            [(&bytes[..end.min(72)], 0), (bytes.get(block()..end).unwrap_or_default(), BLOCK_BYTES)]
        {
            let length = u32::try_from(part.len()).expect("segments are short").to_be_bytes();
            let at = u32::try_from(at).expect("it is short").to_be_bytes();
            input.extend(join(&[&[step::MOVE], &at[1..], &[step::RAW], &length[1..], part]));
        }
    }
    for mode in 0..2 {
        corpus.add("forgery", &format!("{name}-{mode}"), &join(&[&[mode], &input]))?;
    }
    Ok(())
}

fn block() -> usize {
    usize::try_from(BLOCK_BYTES).expect("it is short")
}

/// The records, groups, headers and slots of a log, one by one.
fn single_layouts(corpus: &Corpus, disk: &Disk) -> io::Result<()> {
    let bytes = segments(disk).remove(&PhysicalOffset::ZERO).expect("the log has a segment");
    let mut at = block();
    let mut groups = 0;
    while let Ok((header, _)) = GroupHeader::read_from_prefix(&bytes[at..]) {
        let group_bytes = header.group_bytes() as usize;
        if group_bytes == 0 || groups == 8 {
            break;
        }
        let records = &bytes[at + GROUP_HEADER_BYTES..at + group_bytes];
        corpus.add("record", &format!("group-{groups}"), &join(&[&[1, 0], &bytes[at..at + group_bytes]]))?;
        corpus.add("record", &format!("record-{groups}"), &join(&[&[0, 0], records]))?;
        if let Ok((header, _)) = RecordHeader::read_from_prefix(records) {
            let payload = &records[RECORD_HEADER_BYTES..][..header.fields().payload_bytes as usize];
            corpus.add("record", &format!("payload-{groups}"), &join(&[&[4, 0], payload]))?;
        }
        at += group_bytes;
        groups += 1;
    }
    let slots = disk::contents(disk, "CHECKPOINT");
    corpus.add("record", "segment", &join(&[&[2, 0], &bytes[..72]]))?;
    corpus.add("record", "slot-0", &join(&[&[3, 0], &slots[..112]]))?;
    corpus.add("record", "slot-1", &join(&[&[3, 0], &slots[block()..block() + 112]]))?;
    corpus.add("record", "name", b"\x05\x0000000000000000065536.seg")
}

/// Logs that are right in every step, and roll.
fn written_logs(corpus: &Corpus) -> io::Result<()> {
    // The header says which epoch is about to begin, and where.
    let plus = |number: u64| join(&[&[255], &number.to_le_bytes()]);
    let first_header = join(&[&[step::HEADER, 0, 0, 0], &plus(1), &plus(4112)]);
    let header = [step::HEADER, 0, 0, 0, 0, 0];
    let epoch = join(&[&[step::EPOCH], &RIGHT[..8]]);
    let record = |head: u8, rest: u16| {
        let [high, low] = rest.to_be_bytes();
        join(&[&[step::RECORD, head, 0, high, low, 7], &RIGHT[..5]])
    };
    let padding = join(&[&[step::PADDING], &RIGHT[..6]]);
    let end = [step::END, 0, 0, 0, 0];
    let checkpoint = join(&[&[step::CHECKPOINT], &RIGHT[..13]]);

    let opened = join(&[&first_header, &[step::GROUP], &epoch, &end]);
    let group = join(&[&[step::GROUP], &record(8, 300), &record(0, 0), &end]);
    let padded = join(&[&[step::BLOCK], &group]);
    let rolled = join(&[&[step::GROUP], &record(8, 5000), &padding, &end, &[step::SEGMENT], &header]);
    let again = join(&[&[step::GROUP], &epoch, &record(3, 3), &end]);
    let torn = join(&[&[step::GROUP], &record(8, 2000)]);
    let hole = join(&[&[step::BLOCK, step::BLOCK], &torn]);
    let logs: [(&str, Vec<&[u8]>); 6] = [
        ("packed", vec![&opened, &group, &group]),
        ("padded", vec![&opened, &padded, &group, &padded]),
        ("rolled", vec![&opened, &group, &rolled, &group, &rolled, &group]),
        ("epochs", vec![&opened, &group, &again, &checkpoint, &group, &again]),
        ("torn", vec![&opened, &group, &checkpoint, &group, &torn]),
        ("hole", vec![&opened, &group, &hole, &group, &group]),
    ];
    for (name, steps) in logs {
        for mode in 0..2 {
            corpus.add("forgery", &format!("{name}-{mode}"), &join(&[&[mode], &steps.concat()]))?;
        }
    }
    Ok(())
}

/// Whole files, edits to them, and snapshots.
fn indexes(corpus: &Corpus) -> io::Result<()> {
    let sealed = Sealed::new();
    corpus.add("index_snapshot", "snapshot", &sealed.snapshot)?;
    for segment in 0..sealed.spans.len() {
        let bytes = disk::contents(&sealed.disk, &sealed.name(segment));
        for mode in 0..4 {
            let mode = mode | u8::try_from(segment << 2).expect("there are few");
            let edit = [mode, 1, 0, 0, 8, 4, 1, 2, 3, 4, 1, 2, 0, 0, 4, 4, 255, 255, 255, 255, 0];
            let input = if mode & 1 == 1 { join(&[&[mode], &bytes]) } else { edit.to_vec() };
            corpus.add("index_file", &format!("file-{mode}"), &input)?;
        }
        for page in 0..8 {
            for at in [0, 8, 20, 48] {
                let edit =
                    [2 | u8::try_from(segment << 2).expect("there are few"), page, 0, 0, at, 1, 255, 1];
                corpus.add("index_file", &format!("page-{segment}-{page}-{at}"), &edit)?;
            }
        }
    }
    Ok(())
}
