//! How much room a record takes: headers, group headers and the gaps behind padded groups included.
//!
//! What is prepared ahead (the rest of the segment in use, and the next one) is stated apart: it is there once, however
//! long the log is. So is the checkpoint. The log itself has no index; the broker's, `log/*.idx`, is apart too.

use std::path::Path;

use skylark_storage::Options;

use crate::support::appenders::{AppendInTask, RunningLog};
use crate::support::load;
use crate::support::records::Payload;
use crate::support::scratch;

use super::Plan;
use super::cell::Cell;
use super::report::Report;

/// The cell.
pub const CELL: &str = "space";
/// The column that is judged.
pub const RATIO: &str = "stored / own";

const PAYLOADS: [usize; 4] = [256, 1024, 4096, 10 << 10];
const APPENDERS: [usize; 3] = [1, 16, 128];
/// What a record's own header takes, which the target counts as the record's.
const RECORD_HEADER_BYTES: u64 = 32;

/// Measures what the plan wants of it. One round: it is no matter of chance.
pub fn run(plan: &Plan<'_>, report: &mut Report) {
    if !plan.wants(CELL) {
        return;
    }
    let mut cell =
        Cell::new(CELL, "Bytes on the disk for each byte of payload and record header, durable appends.");
    for appenders in APPENDERS {
        for payload_bytes in PAYLOADS {
            let taken = measure(plan, payload_bytes, appenders);
            let subject = subject(payload_bytes, appenders);
            let own_bytes = taken.records * (payload_bytes as u64 + RECORD_HEADER_BYTES);
            let ratio = taken.stored_bytes as f64 / own_bytes as f64;
            cell.note(&subject, RATIO, ratio);
            cell.note(&subject, "records", taken.records as f64);
            cell.note(
                &subject,
                "prepared ahead, MiB",
                mib(taken.allocated_bytes.saturating_sub(taken.stored_bytes)),
            );
            cell.note(&subject, "of that spare, MiB", mib(taken.spare_bytes));
        }
    }
    report.add(cell);
}

/// All rows, each with how much of its own size a record may take.
pub fn subjects() -> impl Iterator<Item = (String, f64)> {
    let limit = |appenders| if appenders >= 16 { 1.1 } else { 1.25 };
    let of = move |appenders| PAYLOADS.map(|bytes| (subject(bytes, appenders), limit(appenders)));
    APPENDERS.into_iter().flat_map(of)
}

fn subject(payload_bytes: usize, appenders: usize) -> String {
    format!("{payload_bytes} B, {appenders} appenders")
}

struct Taken {
    records: u64,
    stored_bytes: u64,
    allocated_bytes: u64,
    spare_bytes: u64,
}

fn measure(plan: &Plan<'_>, payload_bytes: usize, appenders: usize) -> Taken {
    let directory = scratch::directory(&plan.directory);
    let running = RunningLog::open_at(directory.path(), plan.device(), Options::default());
    let act = AppendInTask { log: running.log.clone(), payload: Payload::new(payload_bytes), records: 1 };
    load::measure(plan.times, 1, |conduct| load::tasks(appenders, 1, act, |phase| conduct(phase)));
    let records = running.log.with_state(|count| *count);
    let stored_bytes = running.log.segments().iter().map(|segment| segment.stored_bytes).sum();
    let (allocated_bytes, spare_bytes) = files(&directory.path().join("log"));
    running.close();
    scratch::clear(directory);
    Taken { records, stored_bytes, allocated_bytes, spare_bytes }
}

/// Lengths of all files of the log, and of the one that is prepared for the next segment.
fn files(log: &Path) -> (u64, u64) {
    let bytes = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    let entries = std::fs::read_dir(log).into_iter().flatten().flatten();
    (entries.map(|entry| bytes(&entry.path())).sum(), bytes(&log.join("spare")))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
