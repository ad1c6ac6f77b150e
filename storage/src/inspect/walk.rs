//! One segment from its header on, group by group, and past whatever is damaged.
//!
//! Unlike recovery, which keeps or cuts whole groups, a walk lists what is still there: a damaged record does not hide
//! those beside it, and behind a damaged group header it goes on with the next thing that is sound.

use std::io;

use super::item::{Damage, Item, RecordItem, What};
use super::window::Window;
use crate::epoch::{EpochRecord, EpochStart};
use crate::group::{ChainBuilder, GROUP_BYTES_MAX, GROUP_HEADER_BYTES, GroupHeader};
use crate::log_id::Seed;
use crate::offset::{Epoch, PhysicalOffset};
use crate::record::{Kind, RECORD_ALIGNMENT, RECORD_HEADER_BYTES, RecordFields, RecordHeader, payload_crc};
use crate::recovery::search::may_open_group;
use crate::segment::{BLOCK, BLOCK_BYTES, CLOSING_BYTES, SegmentFields, is_zero};

/// Takes the items of a listing, in order.
pub(super) trait Sink {
    /// The next item.
    fn item(&mut self, item: &Item<'_>) -> io::Result<()>;
}

/// Where a walk is, and what the next group has to fit to, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    /// Behind the last group.
    pub(super) end: PhysicalOffset,
    /// What the next group carries; `None` behind damage, and where the log's beginning was trimmed.
    pub(super) chain: Option<u32>,
    /// Of the last record; epoch zero in front of the first one, `None` where it is not known.
    pub(super) epoch: Option<EpochStart>,
    /// What is behind the end is known to be no place for a group: damage has been told of already.
    pub(super) lost: bool,
}

/// No epoch yet.
pub(super) const NO_EPOCH: EpochStart = EpochStart { epoch: Epoch::ZERO, start: PhysicalOffset::ZERO };

impl Tip {
    /// Nothing is known of what comes before `end`.
    pub(super) fn unknown(end: PhysicalOffset) -> Self {
        Self { end, chain: None, epoch: None, lost: false }
    }

    /// The log's first byte.
    pub(super) fn beginning() -> Self {
        Self { end: PhysicalOffset::ZERO, chain: Some(0), epoch: Some(NO_EPOCH), lost: false }
    }
}

/// What the first group of a segment says of what came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: PhysicalOffset,
    /// What the segment's header says.
    pub(super) header: Option<SegmentFields>,
    pub(super) chain: u32,
    /// The first record's place and epoch, and the epoch before if it is an epoch record.
    pub(super) record: Option<(PhysicalOffset, Epoch, Option<Option<EpochStart>>)>,
}

/// A segment that is being walked.
pub(super) struct Walk<'w, S> {
    pub(super) seed: Seed,
    pub(super) base: PhysicalOffset,
    /// The segment's nominal end.
    pub(super) limit: PhysicalOffset,
    pub(super) header: Option<SegmentFields>,
    pub(super) window: Window,
    pub(super) tip: Tip,
    /// The first group, if the walk began at the segment's beginning.
    pub(super) entry: Option<Entry>,
    pub(super) sink: &'w mut S,
}

/// What stands where the next group should.
enum Place {
    Group(PhysicalOffset, GroupHeader),
    /// The segment has ended.
    Ended,
    /// No group, although there must be one here.
    Nothing(PhysicalOffset),
}

impl<'w, S: Sink> Walk<'w, S> {
    pub(super) fn new(
        seed: Seed,
        base: PhysicalOffset,
        segment_bytes: u64,
        window: Window,
        tip: Tip,
        sink: &'w mut S,
    ) -> Self {
        let limit = base.advance(segment_bytes);
        Self { seed, base, limit, header: None, window, tip, entry: None, sink }
    }

    /// Walks until the tip has reached `until`, or the segment's end.
    pub(super) fn run(&mut self, until: PhysicalOffset) -> io::Result<()> {
        let until = until.min(self.limit);
        while self.tip.end < until {
            match self.place()? {
                Place::Group(at, header) => {
                    self.gap(at)?;
                    self.group(at, &header)?;
                }
                Place::Ended => {
                    self.gap(self.limit)?;
                    self.tip.end = self.limit;
                }
                Place::Nothing(at) if self.tip.lost => self.search(at.min(self.tip.end), until)?,
                Place::Nothing(at) => {
                    self.gap(at)?;
                    self.damage(at, What::GroupHeader)?;
                    self.search(at, until)?;
                }
            }
        }
        let unreadable: Vec<u64> = self.window.unreadable().collect();
        for byte in unreadable {
            self.damage(self.base.advance(byte), What::Unreadable)?;
        }
        Ok(())
    }

    fn bytes(&mut self, at: PhysicalOffset, bytes: usize) -> io::Result<&[u8]> {
        self.window.get(at.since(self.base), bytes)
    }

    fn place(&mut self) -> io::Result<Place> {
        let end = self.tip.end;
        if end == self.base {
            let first = self.base.advance(BLOCK_BYTES);
            return Ok(self
                .group_header(first)?
                .map_or(Place::Nothing(first), |header| Place::Group(first, header)));
        }
        let closes = self.limit.since(end) < CLOSING_BYTES;
        if !closes && let Some(header) = self.group_header(end)? {
            return Ok(Place::Group(end, header));
        }
        let block = end.align_up(BLOCK_BYTES);
        let rest = usize::try_from(block.since(end)).unwrap_or(usize::MAX);
        if !is_zero(self.bytes(end, rest)?) {
            return Ok(Place::Nothing(end));
        }
        if closes || block == self.limit {
            return Ok(Place::Ended);
        }
        Ok(self.group_header(block)?.map_or(Place::Nothing(block), |header| Place::Group(block, header)))
    }

    /// The header of a group that fits into the segment, if one stands at `at`.
    fn group_header(&mut self, at: PhysicalOffset) -> io::Result<Option<GroupHeader>> {
        let (seed, left) = (self.seed, self.limit.since(at));
        let bytes = self.bytes(at, GROUP_HEADER_BYTES)?;
        if !may_open_group(bytes) {
            return Ok(None);
        }
        Ok(GroupHeader::parse(seed, at, bytes).ok().filter(|header| u64::from(header.group_bytes()) <= left))
    }

    /// The header of a record of at most `left` stored bytes, if one stands at `at`.
    #[inline]
    fn record_header(&mut self, at: PhysicalOffset, left: u64) -> io::Result<Option<RecordHeader>> {
        let seed = self.seed;
        let bytes = self.bytes(at, RECORD_HEADER_BYTES)?;
        // Cheaper than a checksum at every eighth byte.
        if bytes.get(8..16) != Some(&at.get().to_le_bytes()[..]) {
            return Ok(None);
        }
        let needs = RECORD_HEADER_BYTES + usize::from(bytes[5]);
        let bytes = self.bytes(at, needs)?;
        Ok(RecordHeader::parse(seed, at, bytes).ok().filter(|header| header.stored_bytes() <= left))
    }

    fn gap(&mut self, to: PhysicalOffset) -> io::Result<()> {
        // The header block in front of a segment's first group is no gap.
        let bytes = if self.tip.end == self.base { 0 } else { to.since(self.tip.end) };
        if bytes > 0 { self.sink.item(&Item::Gap { at: self.tip.end, bytes }) } else { Ok(()) }
    }

    fn skipped(&mut self, from: PhysicalOffset, to: PhysicalOffset) -> io::Result<()> {
        let bytes = to.since(from);
        if bytes > 0 { self.sink.item(&Item::Skipped { at: from, bytes }) } else { Ok(()) }
    }

    fn damage(&mut self, at: PhysicalOffset, what: What) -> io::Result<()> {
        let byte = at.since(self.base);
        self.sink.item(&Item::Damage(Damage { at: Some(at), segment: Some(self.base), byte, what }))
    }

    fn group(&mut self, at: PhysicalOffset, header: &GroupHeader) -> io::Result<()> {
        let (bytes, chain) = (header.group_bytes(), header.chain().get());
        self.sink.item(&Item::Group { at, bytes, undurable_bytes: header.undurable_bytes(), chain })?;
        if self.tip.chain.is_some_and(|expected| expected != chain) {
            self.damage(at, What::GroupChain)?;
        }
        let is_first = at == self.base.advance(BLOCK_BYTES);
        if is_first {
            self.entry = Some(Entry { at, header: self.header, chain, record: None });
        }
        let end = at.advance(u64::from(bytes));
        let mut walk = Records { end, delta: 0, ..Records::default() };
        let mut position = at.advance(GROUP_HEADER_BYTES as u64);
        while position < end {
            let Some(record) = self.record_header(position, end.since(position))? else {
                self.damage(position, What::RecordHeader)?;
                (walk.unknown, self.tip.epoch) = (true, None);
                position = self.next_record(position, end)?;
                continue;
            };
            walk.chain.record(record.header_crc());
            if is_first && walk.count == 0 && !walk.unknown {
                self.enter(position, &record)?;
            }
            self.record(position, &record, &mut walk)?;
            position = position.advance(record.stored_bytes());
        }
        self.tip.end = walk.closes.unwrap_or(end);
        self.tip.chain = (!walk.unknown).then(|| walk.chain.finish(header).get());
        // A padding record may be among what is lost: then nothing follows here.
        self.tip.lost = walk.unknown;
        Ok(())
    }

    /// Goes on inside a group with the next record that is sound; its place, or the group's end.
    fn next_record(&mut self, from: PhysicalOffset, end: PhysicalOffset) -> io::Result<PhysicalOffset> {
        let mut at = from.advance(RECORD_ALIGNMENT as u64);
        while at.advance(RECORD_HEADER_BYTES as u64) <= end
            && self.record_header(at, end.since(at))?.is_none()
        {
            at = at.advance(RECORD_ALIGNMENT as u64);
        }
        let next = if at.advance(RECORD_HEADER_BYTES as u64) <= end { at } else { end };
        self.skipped(from, next)?;
        Ok(next)
    }

    /// Notes, and compares with the segment's header, what the first record of a segment says.
    fn enter(&mut self, at: PhysicalOffset, record: &RecordHeader) -> io::Result<()> {
        let fields = record.fields();
        let begins = self.epoch_record(at, record)?;
        let previous = begins.map(|begins| begins.previous);
        if let Some(entry) = &mut self.entry {
            entry.record = Some((at, fields.epoch, previous));
        }
        let Some(header) = self.header else { return Ok(()) };
        let start = match begins {
            Some(_) => Some(at),
            None => self.tip.epoch.map(|epoch| epoch.start),
        };
        if header.epoch != fields.epoch || start.is_some_and(|start| start != header.epoch_start) {
            self.damage(self.base, What::SegmentEpoch)?;
        }
        if begins.is_none() && self.tip.epoch.is_none() {
            self.tip.epoch = Some(EpochStart { epoch: header.epoch, start: header.epoch_start });
        }
        Ok(())
    }

    /// What the record says, if it is an epoch record that says where it stands.
    fn epoch_record(&mut self, at: PhysicalOffset, record: &RecordHeader) -> io::Result<Option<EpochRecord>> {
        let fields = record.fields();
        if fields.kind != Kind::EPOCH {
            return Ok(None);
        }
        let bytes = fields.payload_bytes as usize;
        let payload = self.bytes(at.advance(RECORD_HEADER_BYTES as u64), bytes)?;
        Ok(EpochRecord::parse(payload)
            .ok()
            .filter(|begins| begins.start == at && begins.epoch == fields.epoch))
    }

    /// Lists a record whose header is sound, and checks the rest of it.
    #[inline]
    fn record(&mut self, at: PhysicalOffset, record: &RecordHeader, walk: &mut Records) -> io::Result<()> {
        let fields = record.fields();
        let created_at = self.header.map(|header| header.created_at);
        let stored_at = created_at.map(|created| created.saturating_add(fields.stored_at_delta.into()));
        let stored = usize::try_from(record.stored_bytes()).unwrap_or(usize::MAX);
        let is_padding = fields.kind == Kind::PADDING;
        let (seed, head) = (self.seed, usize::from(fields.head_bytes));
        let bytes = self.window.get(at.since(self.base), stored)?;
        let payload_end = if is_padding {
            RECORD_HEADER_BYTES
        } else {
            RECORD_HEADER_BYTES + fields.payload_bytes as usize
        };
        let (payload, filling) = bytes[RECORD_HEADER_BYTES..].split_at(payload_end - RECORD_HEADER_BYTES);
        let payload_is_sound = is_padding || payload_crc(seed, &[&payload[head..]]) == fields.payload_crc;
        let filling_is_sound = is_zero(filling);
        let item = RecordItem { at, header: *record, stored_at, payload };
        self.sink.item(&if is_padding { Item::Padding(item) } else { Item::Record(item) })?;

        if fields.epoch == Epoch::ZERO
            || fields.stored_at_delta < walk.delta
            || !self.fields_are_sound(at, &fields, walk)
        {
            self.damage(at, What::RecordFields)?;
        }
        self.epoch(at, record)?;
        if !payload_is_sound {
            self.damage(at.advance((RECORD_HEADER_BYTES + head) as u64), What::Payload)?;
        }
        if !filling_is_sound {
            self.damage(at.advance(payload_end as u64), What::Filling)?;
        }
        walk.delta = fields.stored_at_delta;
        walk.count += 1;
        if is_padding {
            walk.closes = Some(self.limit);
        }
        Ok(())
    }

    /// Whether storage writes a record like this there.
    fn fields_are_sound(&self, at: PhysicalOffset, fields: &RecordFields, walk: &Records) -> bool {
        match fields.kind {
            Kind::PADDING => {
                let header_end = at.advance(RECORD_HEADER_BYTES as u64);
                header_end.advance(fields.payload_bytes.into()) == self.limit
                    && fields.head_bytes == 0
                    && (walk.end == PhysicalOffset::ZERO || header_end == walk.end)
            }
            Kind::EPOCH => true,
            kind => !kind.is_internal(),
        }
    }

    /// An epoch goes on, or begins with a record that names the one before.
    #[inline]
    fn epoch(&mut self, at: PhysicalOffset, record: &RecordHeader) -> io::Result<()> {
        let fields = record.fields();
        if fields.kind != Kind::EPOCH {
            match self.tip.epoch {
                Some(known) if known.epoch == fields.epoch => return Ok(()),
                Some(_) => self.damage(at, What::Epoch)?,
                None => {}
            }
            self.tip.epoch = None;
            return Ok(());
        }
        let begins = self.epoch_record(at, record)?;
        let follows = begins.is_some_and(|begins| {
            self.tip.epoch.is_none_or(|known| begins.previous.unwrap_or(NO_EPOCH) == known)
        });
        self.tip.epoch = begins.map(|begins| EpochStart { epoch: begins.epoch, start: at });
        if follows { Ok(()) } else { self.damage(at, What::Epoch) }
    }

    /// Behind a place where a group should stand: lists the records that are sound, up to the next group.
    fn search(&mut self, from: PhysicalOffset, until: PhysicalOffset) -> io::Result<()> {
        let (mut at, mut skipped) = (from, from);
        (self.tip.chain, self.tip.epoch, self.tip.lost) = (None, None, true);
        while at < until {
            if at > from && self.group_header(at)?.is_some() && self.opens_group(at)? {
                break;
            }
            let left = self.limit.since(at).min(GROUP_BYTES_MAX.into());
            if left >= RECORD_HEADER_BYTES as u64
                && let Some(record) = self.record_header(at, left)?
            {
                self.skipped(skipped, at)?;
                self.record(at, &record, &mut Records::default())?;
                at = at.advance(record.stored_bytes());
                skipped = at;
                if record.fields().kind == Kind::PADDING {
                    self.tip.end = self.limit;
                    return Ok(());
                }
                continue;
            }
            // Nothing begins in a block of zeros.
            let block = at.advance(BLOCK_BYTES);
            if at.get().is_multiple_of(BLOCK_BYTES) && block <= until && is_zero(self.bytes(at, BLOCK)?) {
                at = block;
            } else {
                at = at.advance(RECORD_ALIGNMENT as u64);
            }
        }
        let at = at.min(self.limit);
        self.skipped(skipped, at)?;
        self.tip.end = at;
        Ok(())
    }

    /// Whether a record stands behind the group header at `at`: more than one checksum says that it is one.
    fn opens_group(&mut self, at: PhysicalOffset) -> io::Result<bool> {
        let first = at.advance(GROUP_HEADER_BYTES as u64);
        Ok(self.record_header(first, self.limit.since(first))?.is_some())
    }
}

/// The records of one group so far.
#[derive(Default)]
struct Records {
    /// The group's end; zero for records without one.
    end: PhysicalOffset,
    chain: ChainBuilder,
    delta: u32,
    count: u64,
    /// A header is damaged, so that nobody knows the chain.
    unknown: bool,
    /// Where a padding record reaches to.
    closes: Option<PhysicalOffset>,
}
