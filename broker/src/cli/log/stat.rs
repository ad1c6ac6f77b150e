//! `skylark log stat`: what a log holds, and what an opening would keep of it.

use std::io::Write;

use skylark_storage::checkpoint::{CHECKPOINT_NAME, Checkpoint};
use skylark_storage::device::Files;
use skylark_storage::inspect::{Inspection, Report};
use skylark_storage::record::RECORD_HEADER_BYTES;
use skylark_storage::recovery::{RecoveryOptions, preview};
use skylark_storage::segment::segment_base;

use super::{Place, kind_name, threads, verify};
use crate::cli::Failure;

/// What `skylark log stat` takes.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Files of one sort.
struct Sort {
    name: &'static str,
    files: u64,
    bytes: u64,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let files = args.place.files()?;
    let inspection = args.place.inspect(&files)?;
    let report = inspection.verify(threads(), &|_| ())?;
    let (sorts, others) = sort_files(&files)?;
    let segment_bytes = inspection.checkpoint().segment_bytes;
    let options = RecoveryOptions { segment_bytes, ..RecoveryOptions::default() };
    let kept = match preview(&files, &options) {
        _ if inspection.is_moving() => "not said, the log is in use".to_owned(),
        Ok(report) => report.to_string(),
        Err(error) => format!("nothing: {error}"),
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json(&inspection, &report, &sorts, &others, &kept))?;
        return Ok(());
    }
    print(&mut out, &inspection, &report, &sorts, &others, &kept)?;
    Ok(())
}

fn print(
    out: &mut dyn Write,
    inspection: &Inspection<'_>,
    report: &Report,
    sorts: &[Sort],
    others: &[String],
    kept: &str,
) -> std::io::Result<()> {
    let Checkpoint { log_id, segment_bytes, durable_end, .. } = *inspection.checkpoint();
    let tally = &report.tally;
    writeln!(out, "log              {log_id}, segments of {segment_bytes} bytes")?;
    writeln!(
        out,
        "from, to         {} to {}, durable at least to {durable_end}",
        inspection.start(),
        report.end
    )?;
    writeln!(out, "behind the end   {}", verify::describe(report))?;
    for (index, slot) in inspection.slots().iter().flatten().enumerate() {
        match slot {
            Ok(slot) => {
                let clean = if slot.clean { ", closed" } else { "" };
                let Checkpoint { generation, durable_end, oldest_segment, newest_segment, .. } = *slot;
                let named = format!("segments {oldest_segment} to {newest_segment}");
                let epochs = format!("epochs up to {}", slot.highest_epoch);
                writeln!(
                    out,
                    "checkpoint {index}     generation {generation}, durable end {durable_end}, {named}, {epochs}{clean}"
                )?;
            }
            Err(error) => writeln!(out, "checkpoint {index}     {error}")?,
        }
    }
    writeln!(out, "opening keeps    {kept}")?;
    writeln!(
        out,
        "segments         {} with groups, {} behind the end, {} left over",
        tally.segments, report.prepared.0, report.left_over
    )?;
    writeln!(out, "groups           {}, {} bytes", tally.groups, tally.group_bytes)?;
    for (power, count) in tally.group_sizes.iter().enumerate().filter(|(_, count)| **count > 0) {
        writeln!(out, "  from {:>9}  {count}", 1_u64 << power)?;
    }
    writeln!(out, "records          {}, {} bytes of payload", tally.records(), tally.payload_bytes())?;
    for (kind, counted) in tally.kinds() {
        let name = kind_name(kind).unwrap_or("");
        writeln!(
            out,
            "  kind {:>3} {name:<18} {:>12} {:>16} bytes",
            kind.get(),
            counted.records,
            counted.payload_bytes
        )?;
    }
    if let Some((oldest, newest)) = tally.stored_at {
        writeln!(out, "stored at        {oldest} to {newest}, milliseconds since 1970")?;
    }
    for epoch in &tally.epochs {
        writeln!(out, "epoch            {} from {}", epoch.epoch, epoch.start)?;
    }
    writeln!(
        out,
        "space            {:.3} × (payload + {RECORD_HEADER_BYTES}) of what was written",
        space_ratio(report)
    )?;
    writeln!(
        out,
        "gaps, padding    {} bytes of zeros, {} bytes given up at segments' ends",
        tally.gap_bytes, tally.padding_bytes
    )?;
    for Sort { name, files, bytes } in sorts.iter().filter(|sort| sort.files > 0) {
        writeln!(out, "files            {name}: {files}, {bytes} bytes")?;
    }
    for name in others {
        writeln!(out, "unknown file     {name}")?;
    }
    if report.damages > 0 {
        writeln!(out, "DAMAGES          {}; skylark log verify lists them", report.damages)?;
    }
    Ok(())
}

fn json(
    inspection: &Inspection<'_>,
    report: &Report,
    sorts: &[Sort],
    others: &[String],
    kept: &str,
) -> serde_json::Value {
    let checkpoint = inspection.checkpoint();
    let tally = &report.tally;
    let kinds = tally.kinds().map(|(kind, counted)| {
        serde_json::json!({
            "kind": kind.get(),
            "name": kind_name(kind),
            "records": counted.records,
            "payload_bytes": counted.payload_bytes,
        })
    });
    let groups = tally.group_sizes.iter().enumerate().filter(|(_, count)| **count > 0);
    let slots = inspection.slots();
    let slots = slots.iter().flatten().map(|slot| match slot {
        Ok(slot) => serde_json::json!({
            "generation": slot.generation,
            "clean": slot.clean,
            "durable_end": slot.durable_end.get(),
            "oldest_segment": slot.oldest_segment.get(),
            "newest_segment": slot.newest_segment.get(),
            "epoch": slot.epoch.get(),
            "highest_epoch": slot.highest_epoch.get(),
        }),
        Err(error) => serde_json::json!({ "damaged": error.to_string() }),
    });
    serde_json::json!({
        "log_id": checkpoint.log_id.to_string(),
        "segment_bytes": checkpoint.segment_bytes,
        "start": inspection.start().get(),
        "durable_end": checkpoint.durable_end.get(),
        "end": report.end.get(),
        "behind": report.behind.as_str(),
        "evidence": report.evidence.as_ref().map(ToString::to_string),
        "checkpoints": slots.collect::<Vec<_>>(),
        "opening": kept,
        "segments": tally.segments,
        "segments_prepared": report.prepared.0,
        "segments_left_over": report.left_over,
        "groups": tally.groups,
        "group_bytes": tally.group_bytes,
        "group_sizes": groups.map(|(power, count)| (1_u64 << power, *count)).collect::<Vec<_>>(),
        "records": tally.records(),
        "payload_bytes": tally.payload_bytes(),
        "kinds": kinds.collect::<Vec<_>>(),
        "stored_at": tally.stored_at,
        "epochs": tally.epochs.iter().map(|epoch| (epoch.epoch.get(), epoch.start.get())).collect::<Vec<_>>(),
        "space_ratio": space_ratio(report),
        "gap_bytes": tally.gap_bytes,
        "padding_bytes": tally.padding_bytes,
        "files": sorts.iter().map(|sort| (sort.name, (sort.files, sort.bytes))).collect::<std::collections::BTreeMap<_, _>>(),
        "unknown_files": others,
        "damages": report.damages,
    })
}

/// Bytes on the disk for each byte of payload and record header. What is given up at a segment's end has no blocks.
fn space_ratio(report: &Report) -> f64 {
    let tally = &report.tally;
    let used = report.checked_bytes.saturating_sub(tally.padding_bytes);
    let needed = tally.payload_bytes() + tally.records() * RECORD_HEADER_BYTES as u64;
    used as f64 / (needed as f64).max(1.0)
}

/// What lies in the directory, by sort, and what nobody here knows.
fn sort_files(files: &dyn Files) -> Result<(Vec<Sort>, Vec<String>), Failure> {
    let names = ["segments", "spare", "indexes", "snapshots", "records of devices"];
    let mut sorts: Vec<Sort> = names.into_iter().map(|name| Sort { name, files: 0, bytes: 0 }).collect();
    let mut others = Vec::new();
    for directory in ["", "log", "snapshots"] {
        let mut names = files.list(directory)?;
        names.sort();
        for name in names {
            let sort = match (directory, name.as_str()) {
                ("", CHECKPOINT_NAME | "LOCK" | "log" | "snapshots") => continue,
                ("", "DEVICE") => 4,
                ("log", name) if segment_base(name).is_some() => 0,
                ("log", "spare") => 1,
                ("log", name) if name.ends_with(".idx") => 2,
                ("snapshots", name) if name.ends_with(".snap") => 3,
                _ => {
                    others.push(if directory.is_empty() { name } else { format!("{directory}/{name}") });
                    continue;
                }
            };
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            // It may be gone by now, where somebody has the log open.
            if let Ok(bytes) = files.open(&path).and_then(|file| file.len()) {
                sorts[sort].files += 1;
                sorts[sort].bytes += bytes;
            }
        }
    }
    Ok((sorts, others))
}
