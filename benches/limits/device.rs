//! The disk's own figures, without any log.
//!
//! - **S**: one block of 4 KiB, which is what a record of 1 KiB takes alone, written and flushed again and again, from
//!   the beginning to the end of a file that was written before.
//! - **W**: 1 GiB written in pieces of 1 MiB and flushed once, into a file as the log's segments are: written before,
//!   and nothing of it cached. Beside it, into a new file, and past the page cache.
//! - **B**: one thread that appends, writes and flushes, with nobody to wake: records encoded as the log's, with both
//!   checksums, in groups that each begin a block. No group commit on this disk can do better with groups of that size.

use std::error::Error;
use std::path::PathBuf;

use crate::support::aligned::{Aligned, BLOCK_BYTES};
use crate::support::bare::{Bound, Primitive, Stream, WrittenFile, repeat};
use crate::support::load::Outcome;
use crate::support::records::{PAYLOAD_BYTES, Payload};

use super::Plan;
use super::report::{Cell, Report};

/// Records in a group of the bound.
pub const GROUPS: [usize; 4] = [1, 16, 128, 512];

const FILE_BYTES: u64 = 512 << 20;
const STREAM_BYTES: u64 = 1 << 30;
const STREAM_MB: f64 = STREAM_BYTES as f64 / 1e6;

/// Which primitive is the faster one, for S and for each group size of B.
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
        let mut single = Cell::new("device/S", "How long does it take to write 4 KiB and flush them?");
        let mut bound = Cell::new(
            "device/B",
            "How many records of 1 KiB a second does one thread append, write and flush, in groups?",
        );
        for round in 0..plan.rounds {
            for primitive in Primitive::ALL {
                let Ok(outcome) = figures.single_by(plan, primitive) else { continue };
                single.note(&format!("S: {}", primitive.name()), "p50 µs", outcome.latencies.at_us(0.5));
                single.note(&format!("S: {}", primitive.name()), "p99 µs", outcome.latencies.at_us(0.99));
            }
            for (group, primitive) in GROUPS.iter().flat_map(|group| Primitive::ALL.map(|p| (*group, p))) {
                let Ok(outcome) = figures.bound_by(plan, group, primitive) else { continue };
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

    /// S once more, for a round of a cell.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn single(&self, plan: &Plan<'_>) -> std::io::Result<Outcome> {
        self.single_by(plan, Primitive::Buffered)
    }

    /// B once more with the faster primitive, for a round of a cell, and which that is.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn bound(&self, plan: &Plan<'_>, group: usize) -> std::io::Result<(Primitive, Outcome)> {
        let faster = self.faster.iter().find(|(of, _)| *of == group);
        let primitive = faster.map_or(Primitive::Buffered, |(_, primitive)| *primitive);
        Ok((primitive, self.bound_by(plan, group, primitive)?))
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

    fn single_by(&self, plan: &Plan<'_>, primitive: Primitive) -> std::io::Result<Outcome> {
        self.with_file(primitive, |mut file| {
            let mut block = Aligned::new(BLOCK_BYTES);
            block.fill(7);
            repeat(plan.times, 1, || file.store(&block))
        })
    }

    fn bound_by(&self, plan: &Plan<'_>, group: usize, primitive: Primitive) -> std::io::Result<Outcome> {
        self.with_file(primitive, |file| Bound::new(file, Payload::new(PAYLOAD_BYTES), group).run(plan.times))
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
