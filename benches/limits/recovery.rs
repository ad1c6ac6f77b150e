//! How long after `kill -9` until the first durable append, and how fast a whole log is checked.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use crate::support::aligned::Aligned;
use crate::support::scratch::{self, PIECE_BYTES};
use crate::support::verify;

use super::Plan;
use super::cell::Cell;
use super::report::Report;
use super::victim;

/// A cell.
pub const FIRST_APPEND: &str = "recovery/first append";
/// A cell.
pub const VERIFY: &str = "recovery/verify";
/// The row of the first append that is judged.
pub const COLD_SUBJECT: &str = "nothing cached";
/// Columns that are judged.
pub const FIRST_APPEND_MS: &str = "first append ms";
/// As above.
pub const COLD_RATIO: &str = "cold / faster read";
/// As above.
pub const PAGE_CACHE: &str = "page cache MB/s";

/// Length of the log that a restart is judged by.
pub const FULL_BYTES: u64 = 10 << 30;

const READ: &str = "read of the files, 1 MiB at a time";
const READ_DIRECT: &str = "read past the page cache, 1 MiB at a time";
/// Appended before each kill but the first.
const APPENDED_BYTES: u64 = 64 << 20;

/// Measures what the plan wants of it.
///
/// # Errors
/// When the disk refuses, or a process that was to be killed ended by itself.
pub fn run(plan: &Plan<'_>, report: &mut Report) -> Result<(), Box<dyn Error>> {
    if !plan.wants(FIRST_APPEND) && !plan.wants(VERIFY) {
        return Ok(());
    }
    let directory = scratch::directory(&plan.directory);
    eprintln!("{FIRST_APPEND}: a log of {} MiB is written", plan.recovery_bytes >> 20);
    victim::start_and_kill(directory.path(), plan.device(), plan.recovery_bytes)?;
    if plan.wants(FIRST_APPEND) {
        first_append(plan, report, directory.path())?;
    }
    if plan.wants(VERIFY) {
        verified(plan, report, directory.path())?;
    }
    scratch::clear(directory);
    Ok(())
}

fn first_append(plan: &Plan<'_>, report: &mut Report, log: &Path) -> Result<(), Box<dyn Error>> {
    let question = format!(
        "A log of {} MiB whose process was killed with SIGKILL while it appended: how long does the next one take?",
        plan.recovery_bytes >> 20
    );
    let mut cell = Cell::new(FIRST_APPEND, question);
    for round in 0..plan.rounds {
        for is_cold in [true, false] {
            if is_cold {
                scratch::forget_log(log)?;
            }
            let killed = victim::start_and_kill(log, plan.device(), APPENDED_BYTES)?;
            let subject = if is_cold { COLD_SUBJECT } else { "page cache as it was left" };
            cell.note(subject, FIRST_APPEND_MS, killed.first_append_ms);
            cell.note(subject, "opening ms", killed.open_ms);
            cell.note(subject, "scanned MiB", killed.scanned_mib);
        }
        eprintln!("{FIRST_APPEND}: round {} of {}", round + 1, plan.rounds);
    }
    report.add(cell);
    Ok(())
}

fn verified(plan: &Plan<'_>, report: &mut Report, log: &Path) -> Result<(), Box<dyn Error>> {
    let mut cell =
        Cell::new(VERIFY, "How fast is every record of the log checked, beside a mere read of its files?");
    let subject = subject();
    for round in 0..plan.rounds {
        scratch::forget_log(log)?;
        let mut cold_read = read(log, false)?;
        cell.note(READ, "cold MB/s", cold_read);
        scratch::forget_log(log)?;
        if let Ok(direct) = read(log, true) {
            cell.note(READ_DIRECT, "cold MB/s", direct);
            cold_read = cold_read.max(direct);
        }
        scratch::forget_log(log)?;
        let cold = verify_once(log)?;
        cell.note(&subject, "cold MB/s", cold);
        cell.note(&subject, COLD_RATIO, cold / cold_read);
        // As far as it fits into memory.
        read(log, false)?;
        cell.note(READ, PAGE_CACHE, read(log, false)?);
        cell.note(&subject, PAGE_CACHE, verify_once(log)?);
        eprintln!("{VERIFY}: round {} of {}", round + 1, plan.rounds);
    }
    report.add(cell);
    Ok(())
}

/// The row of the check.
pub fn subject() -> String {
    format!("verify: {}", verify::HOW)
}

/// MB a second of a check of the whole log.
fn verify_once(log: &Path) -> Result<f64, Box<dyn Error>> {
    let started = Instant::now();
    let bytes = verify::verify(log)?;
    Ok(bytes as f64 / 1e6 / started.elapsed().as_secs_f64())
}

/// MB a second of reading all segments from their beginnings to their ends.
fn read(log: &Path, is_direct: bool) -> Result<f64, Box<dyn Error>> {
    let mut piece = Aligned::new(PIECE_BYTES);
    let mut bytes = 0;
    let started = Instant::now();
    for path in scratch::segments(log)? {
        if is_direct {
            let file = scratch::open_direct(&path)?;
            let mut at = 0;
            loop {
                let read = file.read_at(&mut piece, at)?;
                at += read as u64;
                if read < PIECE_BYTES {
                    break;
                }
            }
            bytes += at;
        } else {
            let mut file = File::open(&path)?;
            loop {
                let read = file.read(&mut piece)?;
                if read == 0 {
                    break;
                }
                bytes += read as u64;
            }
        }
    }
    Ok(bytes as f64 / 1e6 / started.elapsed().as_secs_f64())
}
