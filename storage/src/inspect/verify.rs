//! Verifying a log on several threads: each takes whole segments, and what links them is compared afterwards.

use std::io;
use std::thread;

use super::Inspection;
use super::item::{Item, Verdict};
use super::listing::joint;
use super::tally::Tally;
use super::walk::{Entry, Sink, Tip};
use crate::checkpoint::Checkpoint;
use crate::offset::PhysicalOffset;
use crate::recovery::Corruption;
use crate::sync::{AtomicU64, Ordering};

/// What a log consists of, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Everything that was met.
    pub tally: Tally,
    /// Damages that were found; their places, or the first ten thousand, are in the tally.
    pub damages: u64,
    /// Bytes of the log that were checked, gaps and headers included.
    pub checked_bytes: u64,
    /// Where the log ends.
    pub end: PhysicalOffset,
    /// What lies behind its end.
    pub behind: Verdict,
    /// What the verdict rests on, where an opening refuses or is in doubt.
    pub evidence: Option<Corruption>,
    /// One of the checkpoint's slots is damaged, which a power cut during a checkpoint explains.
    pub slot_damaged: bool,
    /// Segments that belong to no log, and are removed by the next opening.
    pub left_over: u64,
    /// Named segments behind the end, and their files' lengths.
    pub prepared: (u64, u64),
}

/// A segment that was walked by itself.
struct Walked {
    tally: Tally,
    tip: Tip,
    entry: Option<Entry>,
}

/// Counts, besides, what is not part of a segment's walk.
#[derive(Default)]
struct Surroundings {
    tally: Tally,
    left_over: u64,
    prepared: (u64, u64),
}

impl Sink for Surroundings {
    fn item(&mut self, item: &Item<'_>) -> io::Result<()> {
        match *item {
            Item::LeftOver { .. } => self.left_over += 1,
            Item::Prepared { file_bytes, .. } => {
                self.prepared.0 += 1;
                self.prepared.1 += file_bytes;
            }
            _ => {}
        }
        self.tally.item(item)
    }
}

impl Inspection<'_> {
    /// Checks every byte of the log, with `threads` threads, and tells `progress` how many bytes more each step has
    /// checked.
    ///
    /// # Errors
    /// When the disk refuses to open or to measure a file. Blocks that it refuses to read are damage, and reported.
    pub fn verify(&self, threads: usize, progress: &(dyn Fn(u64) + Sync)) -> io::Result<Report> {
        let Checkpoint { durable_end, oldest_segment, segment_bytes, .. } = self.checkpoint;
        let mut surroundings = Surroundings::default();
        self.list_directory(&mut surroundings)?;
        let mut tip = if oldest_segment == PhysicalOffset::ZERO {
            Tip::beginning()
        } else {
            Tip::unknown(oldest_segment)
        };
        let mut base = oldest_segment;
        for walked in self.walk_apart(threads.max(1), progress)? {
            if let Some(entry) = &walked.entry {
                for damage in joint(&tip, entry, base) {
                    surroundings.tally.damage(damage);
                }
            }
            surroundings.tally.add(&walked.tally);
            tip = walked.tip;
            base = base.advance(segment_bytes);
        }
        let end = self.list_end(Some(tip), &mut surroundings)?;
        progress(end.at.since(durable_end.min(end.at)));
        let Surroundings { mut tally, left_over, prepared } = surroundings;
        // What was found between two segments was told before either's own.
        tally.first_damages.sort_by_key(|damage| damage.at);
        Ok(Report {
            damages: tally.damages,
            tally,
            checked_bytes: end.at.since(oldest_segment.min(end.at)),
            end: end.at,
            behind: end.verdict,
            evidence: end.evidence,
            slot_damaged: self.slot_damaged,
            left_over,
            prepared,
        })
    }

    /// Bytes of the log that [`Self::verify`] checks before it looks for the end.
    pub fn durable_bytes(&self) -> u64 {
        self.checkpoint.durable_end.since(self.checkpoint.oldest_segment)
    }

    /// Walks every segment below the durable end, each as if nothing were known of the one before.
    fn walk_apart(&self, threads: usize, progress: &(dyn Fn(u64) + Sync)) -> io::Result<Vec<Walked>> {
        let Checkpoint { durable_end, oldest_segment, segment_bytes, .. } = self.checkpoint;
        let count = self.durable_bytes().div_ceil(segment_bytes);
        let next = AtomicU64::new(0);
        let work = || -> io::Result<Vec<(u64, Walked)>> {
            let mut done = Vec::new();
            loop {
                // Relaxed: the number is all that is shared.
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return Ok(done);
                }
                let base = oldest_segment.advance(index * segment_bytes);
                let mut tally = Tally::default();
                let tip = if base == PhysicalOffset::ZERO { Tip::beginning() } else { Tip::unknown(base) };
                let (tip, entry) = self.walk(base, durable_end, tip, &mut tally)?;
                done.push((index, Walked { tally, tip, entry }));
                progress(durable_end.since(base).min(segment_bytes));
            }
        };
        let mut walked = thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut walked = work();
            for other in others {
                let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                walked = walked.and_then(|mut all| {
                    Ok({
                        all.extend(other?);
                        all
                    })
                });
            }
            walked
        })?;
        walked.sort_unstable_by_key(|(index, _)| *index);
        Ok(walked.into_iter().map(|(_, walked)| walked).collect())
    }
}
