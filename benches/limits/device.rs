//! The disk's own figures, without any log.
//!
//! - **S**: 1 KiB written with `pwrite` behind the 1 KiB before it, and flushed with `fdatasync`, again and again, in a
//!   file that was written before. Beside it, the same with whole blocks of 4 KiB, which is what a lone record takes in
//!   the log, also past the page cache.
//! - **W**: 1 GiB written in pieces of 1 MiB and flushed once, into a file as the log's segments are: written before,
//!   and nothing of it cached. Beside it, into a new file, and past the page cache.
//! - **B**: one thread that appends, writes and flushes, with nobody to wake: records encoded as the log's, with both
//!   checksums, in groups that each begin a block. No group commit on this disk can do better with groups of that size.

use std::error::Error;
use std::path::PathBuf;

use crate::support::aligned::{Aligned, BLOCK_BYTES};
use crate::support::bare::{Bound, Primitive, Stream, WrittenFile, repeat};
use crate::support::load::{Outcome, Times};
use crate::support::records::{PAYLOAD_BYTES, Payload};

use super::Plan;
use super::beside::Windows;
use super::cell::Cell;
use super::report::Report;

/// Records in a group of the bound.
pub const GROUPS: [usize; 4] = [1, 16, 128, 512];

const FILE_BYTES: u64 = 512 << 20;
const SINGLE_FILE_BYTES: u64 = 16 << 20;
const STREAM_BYTES: u64 = 1 << 30;
const STREAM_MB: f64 = STREAM_BYTES as f64 / 1e6;

/// What S writes at a time.
const SINGLE_BYTES: usize = 1 << 10;

/// Which primitive is the fastest one for each group size of B.
pub struct Figures {
    faster: Vec<(usize, Primitive)>,
    directory: PathBuf,
}

impl Figures {
    /// Measures the device.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn measure(plan: &Plan<'_>, report: &mut Report) -> Result<Self, Box<dyn Error>> {
        let figures = Self { faster: Vec::new(), directory: plan.directory.clone() };
        let times = Windows::of(plan.times.measured).contestant;
        let mut single = Cell::new("device/S", "How long does it take to write 1 KiB and flush it?");
        let mut bound = Cell::new(
            "device/B",
            "How many records of 1 KiB a second does one thread append, write and flush, in groups?",
        );
        for round in 0..plan.rounds {
            note_single(&mut single, "S: 1 KiB, pwrite + fdatasync", &figures.single(times)?);
            for primitive in Primitive::ALL {
                let Ok(outcome) = figures.block_by(times, primitive) else { continue };
                note_single(&mut single, &format!("4 KiB, {}", primitive.name()), &outcome);
            }
            for (group, primitive) in GROUPS.iter().flat_map(|group| Primitive::ALL.map(|p| (*group, p))) {
                let Ok(outcome) = figures.bound_by(times, group, primitive) else { continue };
                bound.note_outcome(&bound_name(group, primitive), &outcome);
            }
            eprintln!("device: round {} of {}", round + 1, plan.rounds);
        }
        let faster = GROUPS.iter().map(|&group| {
            let speed = |primitive| bound.median(&bound_name(group, primitive), "records/s").unwrap_or(0.0);
            let faster = Primitive::ALL.into_iter().max_by(|a, b| speed(*a).total_cmp(&speed(*b)));
            (group, faster.unwrap_or(Primitive::Buffered))
        });
        let figures = Self { faster: faster.collect(), ..figures };
        report.add(single);
        report.add(bound);
        if plan.wants("device/W") {
            let mut stream = Cell::new("device/W", "How fast are 1 GiB written and flushed?");
            // Uncounted: the page cache of a virtual machine may have to be backed by its host first.
            figures.stream(Stream::Fresh)?;
            for round in 0..plan.rounds {
                for turn in 0..Stream::ALL.len() {
                    let kind = Stream::ALL[(turn + round) % Stream::ALL.len()];
                    match figures.stream(kind) {
                        Ok(mb_per_second) => stream.note(kind.name(), "MB/s", mb_per_second),
                        Err(error) => eprintln!("{}: {error}", kind.name()),
                    }
                }
                eprintln!("device/W: round {} of {}", round + 1, plan.rounds);
            }
            report.add(stream);
        }
        Ok(figures)
    }

    /// S for so long.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn single(&self, times: Times) -> std::io::Result<Outcome> {
        let mut file = WrittenFile::open_or_create_cached(&self.directory.join("single"), SINGLE_FILE_BYTES)?;
        let bytes = [7; SINGLE_BYTES];
        repeat(times, 1, || file.store(&bytes))
    }

    /// B for so long, with the fastest primitive for groups of this size.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn bound(&self, times: Times, group: usize) -> std::io::Result<Outcome> {
        self.bound_by(times, group, self.faster(group))
    }

    /// What B is called that has groups of this size.
    pub fn bound_name(&self, group: usize) -> String {
        format!("B: {}", self.faster(group).name())
    }

    fn faster(&self, group: usize) -> Primitive {
        let faster = self.faster.iter().find(|(of, _)| *of == group);
        faster.map_or(Primitive::Buffered, |(_, primitive)| *primitive)
    }

    /// Writes 1 GiB; how many MB a second that is, the flush included.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn stream(&self, kind: Stream) -> std::io::Result<f64> {
        let path = self.directory.join("stream");
        let spent = kind.run(&path, STREAM_BYTES);
        std::fs::remove_file(&path)?;
        Ok(STREAM_MB / spent?.as_secs_f64())
    }

    fn block_by(&self, times: Times, primitive: Primitive) -> std::io::Result<Outcome> {
        self.with_file(primitive, |mut file| {
            let mut block = Aligned::new(BLOCK_BYTES);
            block.fill(7);
            repeat(times, 1, || file.store(&block))
        })
    }

    fn bound_by(&self, times: Times, group: usize, primitive: Primitive) -> std::io::Result<Outcome> {
        self.with_file(primitive, |file| Bound::new(file, Payload::new(PAYLOAD_BYTES), group).run(times))
    }

    fn with_file(
        &self,
        primitive: Primitive,
        run: impl FnOnce(WrittenFile) -> std::io::Result<Outcome>,
    ) -> std::io::Result<Outcome> {
        let path = self.directory.join("bare");
        let outcome = WrittenFile::open_or_create(&path, FILE_BYTES, primitive).and_then(run);
        if let Err(error) = &outcome {
            eprintln!("{}: {error}", primitive.name());
        }
        outcome
    }
}

fn bound_name(group: usize, primitive: Primitive) -> String {
    format!("B, groups of {group}: {}", primitive.name())
}

/// Latencies of a bare loop.
pub(super) fn note_single(cell: &mut Cell, subject: &str, outcome: &Outcome) {
    cell.note(subject, "p50 µs", outcome.latencies.at_us(0.5));
    cell.note(subject, "p99 µs", outcome.latencies.at_us(0.99));
}
