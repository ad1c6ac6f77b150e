//! What a walk through the log has met, counted.

use std::io;

use super::item::{Damage, Item};
use super::walk::Sink;
use crate::epoch::{EpochRecord, EpochStart};
use crate::record::Kind;

/// Records of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindTally {
    /// How many.
    pub records: u64,
    /// Their payloads together.
    pub payload_bytes: u64,
}

/// What was met. Sizes are those of the log, not of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Segments that were walked.
    pub segments: u64,
    /// Their files' lengths.
    pub file_bytes: u64,
    /// Groups.
    pub groups: u64,
    /// Their lengths, headers included.
    pub group_bytes: u64,
    /// How many groups are of 2ⁿ bytes or more, and less than twice that.
    pub group_sizes: Vec<u64>,
    /// Records by kind.
    pub kinds: Vec<KindTally>,
    /// Zeros between groups.
    pub gap_bytes: u64,
    /// Given up at the end of segments that were closed early.
    pub padding_bytes: u64,
    /// Bytes beside damage that are nothing.
    pub skipped_bytes: u64,
    /// The epochs that begin in what was walked, lowest first.
    pub epochs: Vec<EpochStart>,
    /// Store times of the oldest and of the newest record, in milliseconds since 1970.
    pub stored_at: Option<(u64, u64)>,
    /// Everything that is not as it was written.
    pub damages: u64,
    /// The first of them, in the order of the log.
    pub first_damages: Vec<Damage>,
}

/// Sizes of groups are told apart by powers of two: this many of them.
pub(super) const GROUP_SIZES: usize = 24;
/// So many damages are kept with their place.
const DAMAGES_MAX: usize = 10_000;

impl Default for Tally {
    fn default() -> Self {
        Self {
            segments: 0,
            file_bytes: 0,
            groups: 0,
            group_bytes: 0,
            group_sizes: vec![0; GROUP_SIZES],
            kinds: vec![KindTally::default(); 1 + usize::from(u8::MAX)],
            gap_bytes: 0,
            padding_bytes: 0,
            skipped_bytes: 0,
            epochs: Vec::new(),
            stored_at: None,
            damages: 0,
            first_damages: Vec::new(),
        }
    }
}

impl Tally {
    /// All records, padding excepted.
    pub fn records(&self) -> u64 {
        self.kinds.iter().skip(1).map(|kind| kind.records).sum()
    }

    /// The payloads of all records.
    pub fn payload_bytes(&self) -> u64 {
        self.kinds.iter().skip(1).map(|kind| kind.payload_bytes).sum()
    }

    /// The kinds that were met, lowest first.
    pub fn kinds(&self) -> impl Iterator<Item = (Kind, KindTally)> + '_ {
        let numbered = (0..=u8::MAX).map(Kind::new).zip(self.kinds.iter().copied());
        numbered.filter(|(_, tally)| tally.records > 0)
    }

    pub(super) fn damage(&mut self, damage: Damage) {
        self.damages += 1;
        if self.first_damages.len() < DAMAGES_MAX {
            self.first_damages.push(damage);
        }
    }

    /// Adds what was met behind it.
    pub(super) fn add(&mut self, behind: &Self) {
        self.segments += behind.segments;
        self.file_bytes += behind.file_bytes;
        self.groups += behind.groups;
        self.group_bytes += behind.group_bytes;
        for (sum, more) in self.group_sizes.iter_mut().zip(&behind.group_sizes) {
            *sum += more;
        }
        for (sum, more) in self.kinds.iter_mut().zip(&behind.kinds) {
            sum.records += more.records;
            sum.payload_bytes += more.payload_bytes;
        }
        self.gap_bytes += behind.gap_bytes;
        self.padding_bytes += behind.padding_bytes;
        self.skipped_bytes += behind.skipped_bytes;
        self.epochs.extend_from_slice(&behind.epochs);
        self.stored_at = match (self.stored_at, behind.stored_at) {
            (Some((oldest, newest)), Some((from, to))) => Some((oldest.min(from), newest.max(to))),
            (one, other) => one.or(other),
        };
        self.damages += behind.damages;
        let room = DAMAGES_MAX - self.first_damages.len();
        self.first_damages.extend(behind.first_damages.iter().take(room));
    }
}

impl Sink for Tally {
    #[inline]
    fn item(&mut self, item: &Item<'_>) -> io::Result<()> {
        match *item {
            Item::Record(record) => {
                let fields = record.header.fields();
                let kind = &mut self.kinds[usize::from(fields.kind.get())];
                kind.records += 1;
                kind.payload_bytes += u64::from(fields.payload_bytes);
                if let Some(at) = record.stored_at {
                    let (oldest, newest) = self.stored_at.unwrap_or((at, at));
                    self.stored_at = Some((oldest.min(at), newest.max(at)));
                }
                if fields.kind == Kind::EPOCH
                    && let Ok(EpochRecord { epoch, start, .. }) = EpochRecord::parse(record.payload)
                {
                    self.epochs.push(EpochStart { epoch, start });
                }
            }
            Item::Group { bytes, .. } => {
                self.groups += 1;
                self.group_bytes += u64::from(bytes);
                let size = usize::try_from(bytes.max(1).ilog2()).unwrap_or(0);
                self.group_sizes[size.min(GROUP_SIZES - 1)] += 1;
            }
            Item::Padding(record) => {
                self.kinds[0].records += 1;
                self.padding_bytes += u64::from(record.header.fields().payload_bytes);
            }
            Item::Gap { bytes, .. } => self.gap_bytes += bytes,
            Item::Skipped { bytes, .. } => self.skipped_bytes += bytes,
            Item::Segment { file_bytes, .. } => {
                self.segments += 1;
                self.file_bytes += file_bytes;
            }
            Item::Damage(damage) => self.damage(damage),
            Item::Log { .. }
            | Item::Slot { .. }
            | Item::LeftOver { .. }
            | Item::End { .. }
            | Item::Behind { .. }
            | Item::Remains { .. }
            | Item::Prepared { .. } => {}
        }
        Ok(())
    }
}
