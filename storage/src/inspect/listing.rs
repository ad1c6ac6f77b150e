//! The order of a listing: the directory, what is durable, the rest of the log, and what lies behind its end.

use std::io;
use std::ops::{Bound, RangeBounds};

use super::Inspection;
use super::item::{Damage, Item, Verdict, What};
use super::walk::{Entry, Sink, Tip, Walk};
use super::window::Window;
use crate::checkpoint::Checkpoint;
use crate::epoch::EpochStart;
use crate::group::GROUP_HEADER_BYTES;
use crate::offset::PhysicalOffset;
use crate::recovery::directory::{self, SegmentFile};
use crate::recovery::scan::{self, Scan};
use crate::recovery::search::{self, Found, Witness};
use crate::recovery::segments::{HeaderBlock, Segments, header_block};
use crate::recovery::{Corruption, Evidence, Word};
use crate::segment::{BLOCK, SEGMENT_HEADER_BYTES, SegmentError, SegmentFields, is_zero, segment_name};

/// A sink that leaves out what lies outside of a range.
struct Within<F> {
    from: PhysicalOffset,
    to: PhysicalOffset,
    give: F,
}

impl<F: FnMut(&Item<'_>) -> io::Result<()>> Sink for Within<F> {
    fn item(&mut self, item: &Item<'_>) -> io::Result<()> {
        let is_within = item
            .range()
            .is_none_or(|(at, bytes)| at < self.to && at.get().saturating_add(bytes) > self.from.get());
        if is_within { (self.give)(item) } else { Ok(()) }
    }
}

/// The end of the log, and what is said of it.
pub(super) struct End {
    pub(super) at: PhysicalOffset,
    pub(super) verdict: Verdict,
    pub(super) evidence: Option<Corruption>,
}

/// What lies behind the end.
struct Behind {
    verdict: Verdict,
    /// Where an opening refuses or is in doubt: why.
    evidence: Option<Corruption>,
    /// The sound groups.
    items: Vec<Item<'static>>,
    found: Found,
}

impl Behind {
    /// Nobody has looked.
    fn of(verdict: Verdict) -> Self {
        Self { verdict, evidence: None, items: Vec::new(), found: Found::default() }
    }
}

impl Inspection<'_> {
    /// Hands out what stands in `range` of the log, in its order, and the directory's own lines. The directory is not
    /// changed.
    ///
    /// # Errors
    /// When the disk refuses, or `give` does.
    pub fn list(
        &self,
        range: impl RangeBounds<PhysicalOffset>,
        give: impl FnMut(&Item<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(from) => from.advance(1),
            Bound::Unbounded => PhysicalOffset::ZERO,
        };
        let to = match range.end_bound() {
            Bound::Included(to) => to.advance(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => PhysicalOffset::new(u64::MAX),
        };
        let mut sink = Within { from, to, give };
        self.list_directory(&mut sink)?;
        let Checkpoint { durable_end, oldest_segment, segment_bytes, .. } = self.checkpoint;
        let mut base = from.align_down(segment_bytes).max(oldest_segment);
        let mut tip = if base == PhysicalOffset::ZERO { Tip::beginning() } else { Tip::unknown(base) };
        while base < durable_end.min(to) {
            (tip, _) = self.walk(base, durable_end, tip, &mut sink)?;
            base = base.advance(segment_bytes);
        }
        if to > durable_end {
            let compared = from.align_down(segment_bytes) < durable_end;
            self.list_end(compared.then_some(tip), &mut sink)?;
        }
        Ok(())
    }

    /// The log's identity, its checkpoint, and the files that are none of it.
    pub(super) fn list_directory(&self, sink: &mut impl Sink) -> io::Result<()> {
        let checkpoint = self.checkpoint;
        sink.item(&Item::Log { checkpoint })?;
        for (slot, byte) in self.slots.iter().flatten().zip([0, SLOT_STEP]) {
            sink.item(&Item::Slot { byte, state: *slot })?;
        }
        if self.is_rebuilt {
            let what = if self.slots.is_some() { What::CheckpointDamaged } else { What::CheckpointMissing };
            sink.item(&Item::Damage(Damage { at: None, segment: None, byte: 0, what }))?;
        }
        for SegmentFile { base, header, .. } in &self.directory.segments {
            let is_behind = *base > checkpoint.newest_segment;
            let is_place = base.get().is_multiple_of(checkpoint.segment_bytes);
            if *base < checkpoint.oldest_segment && is_place || is_behind && *header == HeaderBlock::Blank {
                sink.item(&Item::LeftOver { file: &segment_name(*base) })?;
            } else if is_behind || !is_place {
                let what = What::SegmentUnnamed;
                sink.item(&Item::Damage(Damage { at: Some(*base), segment: Some(*base), byte: 0, what }))?;
            }
        }
        Ok(())
    }

    /// Walks one segment from `tip`, or from its beginning, up to `until`. Where the tip is then, and how the segment
    /// begins.
    pub(super) fn walk(
        &self,
        base: PhysicalOffset,
        until: PhysicalOffset,
        tip: Tip,
        sink: &mut impl Sink,
    ) -> io::Result<(Tip, Option<Entry>)> {
        let Checkpoint { log_id, segment_bytes, .. } = self.checkpoint;
        let limit = base.advance(segment_bytes);
        let name = segment_name(base);
        let begins = tip.end <= base;
        let file = match self.files.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !self.was_trimmed(base)? {
                    damage(sink, base, base, What::SegmentMissing)?;
                }
                return Ok((Tip::unknown(limit), None));
            }
            file => file?,
        };
        let file_bytes = file.len()?;
        let mut window = Window::new(file, self.is_moving())?;
        let block = window.get(0, BLOCK)?;
        let (header, header_damage) = self.segment_header(base, block);
        let rest_is_zero = is_zero(&block[SEGMENT_HEADER_BYTES..]);
        if begins {
            sink.item(&Item::Segment { at: base, file: &name, file_bytes, header })?;
            if let Some(what) = header_damage {
                damage(sink, base, base, what)?;
            } else if !rest_is_zero {
                damage(sink, base, base.advance(SEGMENT_HEADER_BYTES as u64), What::SegmentHeader)?;
            }
        }
        if matches!(header_damage, Some(What::SegmentLog | What::SegmentVersion)) {
            return Ok((Tip::unknown(limit), None));
        }
        let durable = self.checkpoint.durable_end.min(limit);
        if durable > base && file_bytes < durable.since(base) && durable < limit && begins {
            damage(sink, base, base.advance(file_bytes), What::SegmentShort)?;
        }
        let tip = if begins { Tip { end: base, lost: false, ..tip } } else { tip };
        let mut walk = Walk::new(log_id.seed(), base, segment_bytes, window, tip, sink);
        walk.header = header;
        walk.run(until)?;
        Ok((walk.tip, walk.entry))
    }

    /// What a first block says, if it is the header of the segment at `base`, and what is wrong with it otherwise.
    fn segment_header(&self, base: PhysicalOffset, block: &[u8]) -> (Option<SegmentFields>, Option<What>) {
        let Checkpoint { log_id, segment_bytes, .. } = self.checkpoint;
        match header_block(block) {
            HeaderBlock::Sound(fields) if fields.log_id != log_id => (None, Some(What::SegmentLog)),
            HeaderBlock::Sound(fields) if fields.base != base || fields.segment_bytes != segment_bytes => {
                (None, Some(What::SegmentPlace))
            }
            HeaderBlock::Sound(fields) => (Some(fields), None),
            HeaderBlock::Damaged(SegmentError::FormatVersion { .. }) => (None, Some(What::SegmentVersion)),
            HeaderBlock::Damaged(_) | HeaderBlock::Blank | HeaderBlock::Unreadable => {
                (None, Some(What::SegmentHeader))
            }
        }
    }

    /// Whether the segment was given up since this inspection began.
    fn was_trimmed(&self, base: PhysicalOffset) -> io::Result<bool> {
        if !self.is_moving() {
            return Ok(false);
        }
        let slots = super::slots(self.files)?.into_iter().flatten().flatten();
        Ok(slots.map(|checkpoint| checkpoint.oldest_segment).max().is_some_and(|oldest| base < oldest))
    }

    /// From the durable end on. `tip` is where the walk below it came to, if there was one.
    pub(super) fn list_end(&self, tip: Option<Tip>, sink: &mut impl Sink) -> io::Result<End> {
        let Checkpoint { durable_end, chain, epoch, epoch_start, led_from, .. } = self.checkpoint;
        let epoch = EpochStart { epoch, start: epoch_start };
        if let Some(tip) = tip
            && !self.is_rebuilt
            && (tip.end != durable_end
                || tip.chain.is_some_and(|found| found != chain.get())
                || tip.epoch.is_some_and(|found| found != epoch))
        {
            let (at, what) = (Some(durable_end), What::DurableEnd);
            sink.item(&Item::Damage(Damage { at, segment: None, byte: 0, what }))?;
        }
        // Who looks into a log that a disk is losing has the time.
        let mut segments = Segments::new(self.files, self.checkpoint.segment_bytes, usize::MAX);
        let from =
            if self.is_rebuilt { scan::Tip::empty(durable_end) } else { scan::Tip::of(&self.checkpoint) };
        let mut scan = Scan::new(&mut segments, &self.checkpoint, from, self.is_rebuilt);
        scan.run(led_from)?;
        let (scan::Tip { end, .. }, refused) = (scan.tip, scan.refused);
        let tip = if self.is_rebuilt {
            Tip::unknown(durable_end)
        } else {
            Tip { end: durable_end, chain: Some(chain.get()), epoch: Some(epoch), lost: false }
        };
        let tip = self.walk_on(tip, end, sink)?;
        let Behind { verdict, evidence, items: behind, found } =
            self.look_behind(&mut segments, end, refused)?;
        sink.item(&Item::End { at: end, verdict })?;
        for item in &behind {
            sink.item(item)?;
        }
        for remains in &found.remains {
            let bytes = remains.end.since(remains.start);
            sink.item(&Item::Remains { at: remains.start, bytes })?;
        }
        let mut entered = tip.end;
        if verdict == Verdict::Corrupt {
            // What follows was written after what is damaged here: it is listed as what is durable is.
            let last = behind.iter().rev().find_map(|item| match item {
                Item::Behind { at, bytes, word: Word::Witness | Word::Nothing, .. } => {
                    Some(at.advance(*bytes))
                }
                _ => None,
            });
            entered = self.walk_on(tip, last.unwrap_or(end).max(end), sink)?.end;
        }
        self.list_prepared(entered, sink)?;
        Ok(End { at: end, verdict, evidence })
    }

    /// Walks from `tip` to `until`, through as many segments as that takes.
    fn walk_on(&self, mut tip: Tip, until: PhysicalOffset, sink: &mut impl Sink) -> io::Result<Tip> {
        while tip.end < until {
            (tip, _) = self.walk(tip.end.align_down(self.checkpoint.segment_bytes), until, tip, sink)?;
        }
        Ok(tip)
    }

    /// What lies behind the end, as recovery judges it.
    fn look_behind(
        &self,
        segments: &mut Segments<'_>,
        end: PhysicalOffset,
        refused: Option<PhysicalOffset>,
    ) -> io::Result<Behind> {
        let is_closed = self.checkpoint.clean && end == self.checkpoint.durable_end && !self.slot_damaged;
        if self.is_moving() {
            return Ok(Behind::of(Verdict::Moving));
        } else if is_closed && !self.is_rebuilt && refused.is_none_or(|at| at >= end) {
            return Ok(Behind::of(Verdict::Closed));
        }
        let mut items = Vec::new();
        let mut doubts = None;
        let found = search::search(segments, &self.checkpoint, end, &mut |group, word| {
            if word == Word::Doubt {
                doubts.get_or_insert(Witness { at: group.start, attested_end: group.attested_end });
            }
            items.push(Item::Behind {
                at: group.start,
                bytes: group.stored_end.since(group.start),
                epoch: group.first_epoch,
                attested_end: group.attested_end,
                word,
            });
        })?;
        // As an opening judges it.
        let led_from = self.checkpoint.led_from;
        let told = |Witness { at: witness, attested_end }| (end, Evidence::Witness { witness, attested_end });
        let unread = |at| (at, Evidence::Unreadable);
        let lost = refused.filter(|at| *at < end || *at >= led_from).map(unread);
        let proof = lost.or_else(|| found.witness.map(told)).or_else(|| found.silenced(led_from).map(unread));
        let (verdict, evidence) = if proof.is_some() {
            (Verdict::Corrupt, proof)
        } else if found.doubt || refused.is_some() {
            (Verdict::Doubt, doubts.map(told).or_else(|| refused.map(unread)))
        } else if found.remains.is_empty() {
            (Verdict::Nothing, None)
        } else {
            (Verdict::Tear, None)
        };
        let evidence = evidence.map(|(at, evidence)| {
            let base = at.align_down(self.checkpoint.segment_bytes);
            directory::corruption(base, at.since(base), evidence)
        });
        Ok(Behind { verdict, evidence, items, found })
    }

    /// The named segments from `from` on, which holds nothing of the log's.
    fn list_prepared(&self, from: PhysicalOffset, sink: &mut impl Sink) -> io::Result<()> {
        let Checkpoint { segment_bytes, oldest_segment, newest_segment, .. } = self.checkpoint;
        let mut base = from.align_up(segment_bytes).max(oldest_segment);
        while base <= newest_segment {
            let file = self.directory.segments.iter().find(|segment| segment.base == base);
            match file {
                Some(SegmentFile { file_bytes, .. }) => {
                    sink.item(&Item::Prepared {
                        at: base,
                        file: &segment_name(base),
                        file_bytes: *file_bytes,
                    })?;
                }
                None => damage(sink, base, base, What::SegmentMissing)?,
            }
            base = base.advance(segment_bytes);
        }
        Ok(())
    }
}

/// What was found wrong between two segments that were walked apart from each other, in the order in which one walk
/// through both would have told it.
pub(super) fn joint(before: &Tip, entry: &Entry, base: PhysicalOffset) -> Vec<Damage> {
    let mut found = Vec::new();
    let mut tell = |at: PhysicalOffset, what| {
        found.push(Damage { at: Some(at), segment: Some(base), byte: at.since(base), what });
    };
    if before.chain.is_some_and(|expected| expected != entry.chain) {
        tell(entry.at, What::GroupChain);
    }
    let (Some((at, epoch, begins)), Some(known)) = (entry.record, before.epoch) else { return found };
    let start = if begins.is_some() { at } else { known.start };
    if let Some(header) = &entry.header
        && header.epoch == epoch
        && begins.is_none()
        && header.epoch_start != start
    {
        tell(base, What::SegmentEpoch);
    }
    let follows = match begins {
        Some(previous) => previous.unwrap_or(super::walk::NO_EPOCH) == known,
        None => known.epoch == epoch,
    };
    if !follows {
        tell(at, What::Epoch);
    }
    debug_assert!(entry.at.since(base) > GROUP_HEADER_BYTES as u64, "a group follows the segment's header");
    found
}

fn damage(sink: &mut impl Sink, base: PhysicalOffset, at: PhysicalOffset, what: What) -> io::Result<()> {
    sink.item(&Item::Damage(Damage { at: Some(at), segment: Some(base), byte: at.since(base), what }))
}

/// From one slot of the checkpoint to the next.
const SLOT_STEP: u64 = crate::checkpoint::SLOT_BYTES as u64;
