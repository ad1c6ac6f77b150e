//! Makes the log ready for its next append: everything that recovery changes on the disk, step by step. Each is durable
//! before the next begins.

use std::io;
use std::ops::Range;

use super::cut;
use super::error::OpenError;
use super::scan::Tip;
use super::search::Found;
use super::segments::HeaderBlock;
use super::{NextGroup, Recovered, Recovery, Scanned};
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::epoch::EpochStart;
use crate::offset::PhysicalOffset;
use crate::segment::{BLOCK_BYTES, segment_name};

impl Recovery<'_> {
    pub(super) fn left_over_names(&self) -> Vec<String> {
        let segments = self.left_over.iter().map(|base| segment_name(*base));
        segments.chain(self.directory.unfinished.iter().cloned()).collect()
    }

    pub(super) fn remove_left_over(&mut self) -> io::Result<()> {
        // What a trim left goes on the checkpoint's word alone: were that gone after a power cut, the one before it
        // would miss the files.
        let is_trimmed = self.left_over.iter().any(|base| *base < self.checkpoint.oldest_segment);
        if let Some(file) = self.file.as_ref().filter(|_| is_trimmed) {
            file.store_again()?;
        }
        self.report.removed = self.left_over_names();
        for name in &self.left_over_names() {
            if self.report.repaired.is_some() && name.ends_with(".seg") {
                let aside = self.given_up_name(name)?;
                self.files.rename(name, &aside)?;
                self.report.set_aside.push(aside);
            } else {
                self.files.remove(name)?;
            }
        }
        self.report.set_aside.sort();
        self.segments.forget();
        Ok(())
    }

    /// What a segment, or what was cut off it, is called beside the log. What an earlier repair gave up stays.
    fn given_up_name(&self, segment: &str) -> io::Result<String> {
        let taken = self.files.list("log")?;
        let mut name = format!("{segment}{GIVEN_UP}");
        let mut number = 1;
        while taken.iter().any(|taken| name.strip_prefix("log/") == Some(taken)) {
            number += 1;
            name = format!("{segment}{GIVEN_UP}-{number}");
        }
        Ok(name)
    }

    /// The files that a repair would keep what it gives up in.
    pub(super) fn would_set_aside(&mut self, end: PhysicalOffset) -> io::Result<Vec<String>> {
        if self.report.repaired.is_none() {
            return Ok(Vec::new());
        }
        let removed = self.report.removed.iter().filter(|name| name.ends_with(".seg"));
        let mut aside: Vec<String> =
            removed.map(|name| self.given_up_name(name)).collect::<Result<_, _>>()?;
        for range in self.behind(end) {
            if cut::is_copied(&mut self.segments, &range)? {
                aside.push(self.given_up_name(&segment_name(self.segments.base_of(range.start)))?);
            }
        }
        aside.sort();
        Ok(aside)
    }

    /// Copies what a repair takes out of the segments that stay: what is zeroed, and what the log will be written over.
    fn set_aside(&mut self, end: PhysicalOffset) -> io::Result<()> {
        for range in self.behind(end) {
            let segment = segment_name(self.segments.base_of(range.start));
            // Of a copy that is not finished the next opening removes what there is.
            let unfinished = format!("{segment}{GIVEN_UP}.tmp");
            if cut::copy(self.files, &mut self.segments, range, &unfinished)? {
                let aside = self.given_up_name(&segment)?;
                self.files.rename(&unfinished, &aside)?;
                self.report.set_aside.push(aside);
            }
        }
        self.report.set_aside.sort();
        self.files.sync_directory("log")
    }

    /// What lies behind the log's end in the segments that stay, each range within one.
    fn behind(&self, end: PhysicalOffset) -> Vec<Range<PhysicalOffset>> {
        let (mut from, last) = (end, self.segments.limit_of(self.checkpoint.newest_segment));
        let ranges = std::iter::from_fn(|| {
            let range = (from < last).then(|| from..self.segments.limit_of(from))?;
            from = range.end;
            Some(range)
        });
        ranges.collect()
    }

    /// What can be read and is not known to be durable, each range within one segment, to the end of its last block: the
    /// zeros behind a group were written with it, and are relied on where the next one stands in another block.
    pub(super) fn unattested(&self, scanned: &Scanned) -> Vec<Range<PhysicalOffset>> {
        let ranges = scanned.stored_ends.iter().map(|&to| {
            // Of the last byte: a group may end where its segment does.
            let base = self.segments.base_of(PhysicalOffset::new(to.get() - 1));
            let from = scanned.attested_end.max(scanned.from).align_down(BLOCK_BYTES).max(base);
            let header_end = base.advance(BLOCK_BYTES);
            let from = if from > header_end {
                from
            } else if self.unreadable.contains(&base) {
                // What cannot be read cannot be written again.
                header_end
            } else {
                base
            };
            // As far as there is a file: writing again needs no space.
            let file_end = base.advance(self.directory.file_bytes(base));
            (from < to).then(|| from..to.align_up(BLOCK_BYTES).min(file_end))
        });
        ranges.flatten().collect()
    }

    /// Makes durable what could be read and is not known to be.
    pub(super) fn write_again(&mut self, scanned: &Scanned) -> io::Result<()> {
        for range in self.unattested(scanned) {
            self.report.rewritten_bytes += cut::write_again(&mut self.segments, range)?;
        }
        Ok(())
    }

    /// Zeroes what is behind the end. Every file that was looked into is flushed: what was zeroed by a recovery that
    /// did not come to its end may look clean already.
    pub(super) fn cut(&mut self, tip: &Tip, found: &Found) -> io::Result<()> {
        if self.report.repaired.is_some() {
            self.set_aside(tip.end)?;
        }
        for remains in &found.remains {
            self.report.cut_bytes += cut::zero(&mut self.segments, remains.clone())?;
        }
        let mut base = self.segments.base_of(tip.end);
        while base <= self.checkpoint.newest_segment && base < found.searched_end {
            self.segments.sync(base)?;
            base = base.advance(self.checkpoint.segment_bytes);
        }
        Ok(())
    }

    /// Prepares the next append, and names its epoch in a checkpoint.
    ///
    /// A segment that is still to be made for it is the writer's business, who waits for space if there is none:
    /// a log can be opened on a full disk.
    pub(super) fn finish(mut self, tip: &Tip, epochs: Vec<EpochStart>) -> Result<Recovered, OpenError> {
        let base = self.next_segment(tip.end);
        let is_named = base <= self.checkpoint.newest_segment;
        if is_named && self.segments.file_bytes(base)?.is_none() {
            self.create_segment(base)?;
        }
        // Even where no name changed: those that are found may be as little durable as bytes that can be read. A
        // process that was killed between creating a file and this may have left them.
        self.files.sync_directory("log")?;
        self.files.sync_directory("")?;
        let next = match self.segments.header(base)? {
            HeaderBlock::Sound(segment) if base < tip.end => {
                NextGroup::Continues { segment, tail: self.tail(tip.end)? }
            }
            // It was sound when it was judged.
            _ if base < tip.end => {
                let text = format!("the header of {} cannot be read any more", segment_name(base));
                return Err(io::Error::other(text).into());
            }
            _ => NextGroup::Begins { base },
        };
        // A slot that was lost may have named an epoch that left bytes behind.
        let certain = self.file.is_some() && !self.report.slot_damaged;
        let highest_epoch = self.checkpoint.highest_epoch.max(tip.epoch);
        let epoch =
            if certain || self.report.created { highest_epoch.next() } else { highest_epoch.next().next() };
        let checkpoint = Checkpoint {
            durable_end: tip.end,
            chain: tip.chain,
            epoch: tip.epoch,
            epoch_start: tip.epoch_start,
            highest_epoch: epoch,
            stored_at: tip.stored_at,
            clean: false,
            ..self.checkpoint
        };
        let checkpoint = match self.file {
            Some(mut file) => {
                file.store(checkpoint)?;
                file
            }
            None => CheckpointFile::create(self.files, checkpoint)?,
        };
        let Checkpoint { oldest_segment, newest_segment, segment_bytes, .. } = *checkpoint.current();
        self.report.segments = newest_segment.since(oldest_segment) / segment_bytes + 1;
        (self.report.start, self.report.end) = (oldest_segment, tip.end);
        let segments = self.directory.infos(oldest_segment, tip.end, tip.stored_at);
        let Tip { end, chain, stored_at, .. } = *tip;
        Ok(Recovered {
            checkpoint,
            epoch,
            epochs,
            end,
            chain,
            stored_at,
            segments,
            next,
            report: self.report,
        })
    }

    /// What stands in front of `end` in its block.
    fn tail(&mut self, end: PhysicalOffset) -> io::Result<Vec<u8>> {
        let from = end.align_down(BLOCK_BYTES);
        let bytes = usize::try_from(end.since(from)).unwrap_or(usize::MAX);
        Ok(self.segments.read_exactly(from, bytes)?.to_vec())
    }

    /// Creates a new log's first segment, or one whose loss the operator has accepted, at its first step: an idle log
    /// stays small, and a new one starts at once.
    fn create_segment(&mut self, base: PhysicalOffset) -> io::Result<()> {
        let file = self.files.create(&segment_name(base))?;
        let bytes = FIRST_STEP_BYTES.min(self.checkpoint.segment_bytes);
        file.write_at(0, &vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)])?;
        file.sync()?;
        self.segments.forget();
        Ok(())
    }
}

/// So much of a segment that recovery creates exists when it returns; the rest is for the writer's housekeeping.
const FIRST_STEP_BYTES: u64 = 1 << 20;

/// Behind the name of a segment that a repair has given up, or cut.
const GIVEN_UP: &str = ".given-up";
