//! `skylark log verify`: is every byte as it was written?

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use skylark_storage::inspect::{Format, Item, Report, Verdict};

use super::{Place, threads};
use crate::cli::Failure;

/// What `skylark log verify` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,

    /// Threads that check; twice as many as there are processors unless said
    #[arg(long)]
    threads: Option<usize>,

    /// Print damages as JSON objects, and the totals as one more
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let files = args.place.files()?;
    let inspection = args.place.inspect(&files)?;
    let begun = Instant::now();
    let progress = Progress::new(inspection.durable_bytes());
    let report = inspection.verify(args.threads.unwrap_or_else(threads), &|bytes| progress.advance(bytes))?;
    progress.clear();
    let seconds = begun.elapsed().as_secs_f64();
    let mut out = std::io::stdout().lock();
    let format = Format { json: args.json, ..Format::default() };
    for damage in &report.tally.first_damages {
        format.write(&Item::Damage(*damage), &mut out)?;
    }
    let untold = report.damages - report.tally.first_damages.len() as u64;
    let megabytes_per_second = report.checked_bytes as f64 / 1e6 / seconds.max(1e-9);
    let is_sound = report.damages == 0;
    if args.json {
        let totals = serde_json::json!({
            "item": "verified",
            "sound": is_sound,
            "damages": report.damages,
            "start": inspection.start().get(),
            "durable_end": inspection.checkpoint().durable_end.get(),
            "end": report.end.get(),
            "behind": report.behind.as_str(),
            "evidence": report.evidence.as_ref().map(ToString::to_string),
            "slot_damaged": report.slot_damaged,
            "segments": report.tally.segments,
            "groups": report.tally.groups,
            "records": report.tally.records(),
            "bytes": report.checked_bytes,
            "seconds": seconds,
        });
        writeln!(out, "{totals}")?;
    } else {
        if untold > 0 {
            writeln!(out, "… and {untold} more")?;
        }
        let tally = &report.tally;
        writeln!(
            out,
            "{}: {} damages in {} bytes from {} to {}, {} segments, {} groups, {} records",
            if is_sound { "sound" } else { "DAMAGED" },
            report.damages,
            report.checked_bytes,
            inspection.start(),
            report.end,
            tally.segments,
            tally.groups,
            tally.records(),
        )?;
        writeln!(out, "behind the end: {}", describe(&report))?;
        if report.slot_damaged {
            writeln!(
                out,
                "one slot of the checkpoint is damaged, as a power cut leaves it; the other one leads"
            )?;
        }
        writeln!(out, "{seconds:.2} s, {megabytes_per_second:.0} MB/s")?;
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

/// What lies behind a log's end, for a person.
pub(super) fn describe(report: &Report) -> String {
    let verdict = match report.behind {
        Verdict::Closed => "nothing, the log was closed",
        Verdict::Nothing => "nothing",
        Verdict::Tear => "remains of a write that a crash tore; an opening cuts them",
        Verdict::Doubt => "what another leader may have made durable; an opening cuts, and is in doubt",
        Verdict::Corrupt => "what cannot be given up silently; an opening refuses",
        Verdict::Moving => "not judged, the log is in use",
    };
    match &report.evidence {
        Some(evidence) => format!("{verdict}: {evidence}"),
        None => verdict.to_owned(),
    }
}

const DAMAGED: u8 = 1;

/// How far the work has got, on a terminal.
struct Progress {
    total_bytes: u64,
    done_bytes: AtomicU64,
    shown_percent: AtomicU64,
    is_shown: bool,
}

impl Progress {
    fn new(total_bytes: u64) -> Self {
        let (done_bytes, shown_percent) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { total_bytes, done_bytes, shown_percent, is_shown: std::io::stderr().is_terminal() }
    }

    fn advance(&self, bytes: u64) {
        // Relaxed: numbers to be looked at.
        let done = self.done_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let percent = (done.saturating_mul(100) / self.total_bytes.max(1)).min(100);
        if self.is_shown && self.shown_percent.fetch_max(percent, Ordering::Relaxed) < percent {
            eprint!("\r{percent:3} % of {} MiB", self.total_bytes >> 20);
        }
    }

    fn clear(&self) {
        if self.is_shown {
            eprint!("\r{:40}\r", "");
        }
    }
}
