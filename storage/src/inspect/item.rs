//! What a listing consists of, item by item.

use super::text::Value;
use crate::checkpoint::{CHECKPOINT_NAME, Checkpoint, SlotError};
use crate::offset::{Epoch, PhysicalOffset};
use crate::record::RecordHeader;
use crate::recovery::Word;
use crate::segment::{SegmentFields, segment_name};

/// One thing that stands in a data directory. A listing hands them out in the order of the log.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// Which log it is: what the checkpoint that leads says.
    Log {
        /// The checkpoint; without a sound one, what the segments' own headers suggest.
        checkpoint: Checkpoint,
    },
    /// One of the two slots of the checkpoint.
    Slot {
        /// Where it begins in the file.
        byte: u64,
        /// What it holds.
        state: Result<Checkpoint, SlotError>,
    },
    /// A file that belongs to no named segment; the next opening removes it.
    LeftOver {
        /// The file.
        file: &'a str,
    },
    /// A segment, with its header if that is sound.
    Segment {
        /// Its base.
        at: PhysicalOffset,
        /// Its file.
        file: &'a str,
        /// The file's length.
        file_bytes: u64,
        /// The header.
        header: Option<SegmentFields>,
    },
    /// The header of a group; its records follow.
    Group {
        /// Its first byte.
        at: PhysicalOffset,
        /// Its length.
        bytes: u32,
        /// How far durability lagged behind when it was taken.
        undurable_bytes: u32,
        /// What it says of the groups before.
        chain: u32,
    },
    /// A record whose header is sound.
    Record(RecordItem<'a>),
    /// A padding record: the segment ends early.
    Padding(RecordItem<'a>),
    /// Zeros in front of the next group, or of the next segment.
    Gap {
        /// Where they begin.
        at: PhysicalOffset,
        /// How many there are.
        bytes: u64,
    },
    /// What follows damage, up to the next thing that is sound.
    Skipped {
        /// Where it begins.
        at: PhysicalOffset,
        /// How long it is.
        bytes: u64,
    },
    /// Something that is not as it was written.
    Damage(Damage),
    /// Where the log ends: up to here an opening keeps it.
    End {
        /// The end.
        at: PhysicalOffset,
        /// What lies behind it.
        verdict: Verdict,
    },
    /// A sound group behind the end.
    Behind {
        /// Its first byte.
        at: PhysicalOffset,
        /// How many bytes of it are stored.
        bytes: u64,
        /// Of its first record.
        epoch: Epoch,
        /// Everything below this was durable, it says.
        attested_end: PhysicalOffset,
        /// What its word counts for.
        word: Word,
    },
    /// Blocks behind the end that are not zero, and that a cut would zero.
    Remains {
        /// Where they begin.
        at: PhysicalOffset,
        /// How long they are.
        bytes: u64,
    },
    /// A named segment behind the end.
    Prepared {
        /// Its base.
        at: PhysicalOffset,
        /// Its file.
        file: &'a str,
        /// The file's length.
        file_bytes: u64,
    },
}

/// A record of a listing.
#[derive(Clone, Copy, Debug)]
pub struct RecordItem<'a> {
    /// Where it stands.
    pub at: PhysicalOffset,
    /// Its header, which is sound.
    pub header: RecordHeader,
    /// In milliseconds since 1970; `None` where the segment's header is damaged.
    pub stored_at: Option<u64>,
    /// Head and rest as they stand there, damaged or not.
    pub payload: &'a [u8],
}

/// Something that is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where in the log; `None` for the checkpoint.
    pub at: Option<PhysicalOffset>,
    /// The base of the segment whose file is hit; `None` for the checkpoint.
    pub segment: Option<PhysicalOffset>,
    /// Where in the file.
    pub byte: u64,
    /// What is hit.
    pub what: What,
}

/// What damage hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum What {
    /// There are segments with content, and no checkpoint.
    CheckpointMissing,
    /// Neither slot is sound.
    CheckpointDamaged,
    /// The log does not come to where the checkpoint says that it was durable, in the state that it says.
    DurableEnd,
    /// A named segment has no file.
    SegmentMissing,
    /// A segment's header.
    SegmentHeader,
    /// The header is sound, and belongs to a segment elsewhere, or of another length.
    SegmentPlace,
    /// The header is sound, and belongs to another log.
    SegmentLog,
    /// The header is of another format version.
    SegmentVersion,
    /// The file ends below what was durable.
    SegmentShort,
    /// The header states another epoch, or another start of it, than the first group has.
    SegmentEpoch,
    /// A file with content that the checkpoint does not name.
    SegmentUnnamed,
    /// No group stands where the next one must.
    GroupHeader,
    /// The group is sound, but does not follow the one before.
    GroupChain,
    /// A record's header, its head included.
    RecordHeader,
    /// Checksums are sound over fields that no writer produces.
    RecordFields,
    /// The record's epoch does not follow the one before.
    Epoch,
    /// A record's payload behind the head.
    Payload,
    /// The zeros that fill a record up.
    Filling,
    /// The disk refused to read the block; it counts as zeros.
    Unreadable,
}

impl Damage {
    /// The file that is hit, in the data directory.
    pub fn file(&self) -> String {
        self.segment.map_or_else(|| CHECKPOINT_NAME.to_owned(), segment_name)
    }
}

impl What {
    /// As listings name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CheckpointMissing => "checkpoint-missing",
            Self::CheckpointDamaged => "checkpoint-damaged",
            Self::DurableEnd => "durable-end",
            Self::SegmentMissing => "segment-missing",
            Self::SegmentHeader => "segment-header",
            Self::SegmentPlace => "segment-place",
            Self::SegmentLog => "segment-log",
            Self::SegmentVersion => "segment-version",
            Self::SegmentShort => "segment-short",
            Self::SegmentEpoch => "segment-epoch",
            Self::SegmentUnnamed => "segment-unnamed",
            Self::GroupHeader => "group-header",
            Self::GroupChain => "group-chain",
            Self::RecordHeader => "record-header",
            Self::RecordFields => "record-fields",
            Self::Epoch => "epoch",
            Self::Payload => "payload",
            Self::Filling => "filling",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What lies behind a log's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The log was closed here; nobody looked further.
    Closed,
    /// Zeros.
    Nothing,
    /// Remains of a write that a crash tore, or of an earlier life of these bytes: an opening cuts them.
    Tear,
    /// As before, but more may have been durable that another node led: a group says so, or the disk refuses to read
    /// where one would stand. An opening cuts, and reports doubt.
    Doubt,
    /// A group proves that what is damaged here was durable, or the disk refuses to read where the log goes on: an
    /// opening refuses.
    Corrupt,
    /// The log is in use: what stands here is still moving.
    Moving,
}

impl Verdict {
    /// As listings name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Nothing => "nothing",
            Self::Tear => "tear",
            Self::Doubt => "doubt",
            Self::Corrupt => "corrupt",
            Self::Moving => "moving",
        }
    }
}

/// The name that listings give a group's word.
fn word_name(word: Word) -> &'static str {
    match word {
        Word::Nothing => "nothing",
        Word::EarlierLife => "earlier-life",
        Word::Doubt => "doubt",
        Word::Witness => "witness",
    }
}

/// The name that listings give a slot's error.
fn slot_state(error: SlotError) -> &'static str {
    match error {
        SlotError::Empty => "empty",
        SlotError::Magic => "magic",
        SlotError::FormatVersion { .. } => "version",
        SlotError::Crc { .. } => "crc",
        SlotError::NotZero => "not-zero",
        SlotError::Contradiction => "contradiction",
        SlotError::Unreadable => "unreadable",
    }
}

impl Item<'_> {
    /// The word that a line of a listing begins with.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Log { .. } => "log",
            Self::Slot { .. } => "slot",
            Self::LeftOver { .. } => "left-over",
            Self::Segment { .. } => "segment",
            Self::Group { .. } => "group",
            Self::Record(_) => "record",
            Self::Padding(_) => "padding",
            Self::Gap { .. } => "gap",
            Self::Skipped { .. } => "skipped",
            Self::Damage(_) => "damage",
            Self::End { .. } => "end",
            Self::Behind { .. } => "behind",
            Self::Remains { .. } => "remains",
            Self::Prepared { .. } => "prepared",
        }
    }

    /// The range of the log that the item stands for; `None` for what concerns the directory.
    pub fn range(&self) -> Option<(PhysicalOffset, u64)> {
        match *self {
            Self::Log { .. } | Self::Slot { .. } | Self::LeftOver { .. } => None,
            Self::Segment { at, .. } | Self::Prepared { at, .. } => Some((at, 72)),
            Self::Group { at, .. } => Some((at, 16)),
            Self::Record(RecordItem { at, header, .. }) | Self::Padding(RecordItem { at, header, .. }) => {
                Some((at, header.stored_bytes()))
            }
            Self::Gap { at, bytes }
            | Self::Skipped { at, bytes }
            | Self::Behind { at, bytes, .. }
            | Self::Remains { at, bytes } => Some((at, bytes)),
            Self::Damage(Damage { at, .. }) => at.map(|at| (at, 1)),
            Self::End { at, .. } => Some((at, 1)),
        }
    }

    /// Hands out the item's fields, in the order of a listing.
    pub(super) fn fields(&self, give: &mut dyn FnMut(&'static str, Value<'_>)) {
        use Value::{Hex, Name, None, Number};
        match *self {
            Self::Log { checkpoint } => {
                let id = checkpoint.log_id.to_string();
                give("id", Name(&id));
                give("segment_bytes", Number(checkpoint.segment_bytes));
            }
            Self::Slot { byte, state } => {
                give("byte", Number(byte));
                match state {
                    Ok(checkpoint) => {
                        give("state", Name("sound"));
                        checkpoint_fields(&checkpoint, give);
                    }
                    Err(error) => give("state", Name(slot_state(error))),
                }
            }
            Self::LeftOver { file } => give("file", Name(file)),
            Self::Segment { at, file, file_bytes, header } => {
                give("at", Number(at.get()));
                give("file", Name(file));
                give("file_bytes", Number(file_bytes));
                let header = header.as_ref();
                let number = |value: Option<u64>| value.map_or(None, Number);
                give("created_at", number(header.map(|header| header.created_at)));
                give("epoch", number(header.map(|header| header.epoch.get().into())));
                give("epoch_start", number(header.map(|header| header.epoch_start.get())));
            }
            Self::Group { at, bytes, undurable_bytes, chain } => {
                give("at", Number(at.get()));
                give("bytes", Number(bytes.into()));
                give("undurable_bytes", Number(undurable_bytes.into()));
                give("chain", Hex(chain));
            }
            Self::Record(record) | Self::Padding(record) => {
                let fields = record.header.fields();
                give("at", Number(record.at.get()));
                give("kind", Number(fields.kind.get().into()));
                give("epoch", Number(fields.epoch.get().into()));
                give("stored_at", record.stored_at.map_or(None, Number));
                give("payload_bytes", Number(fields.payload_bytes.into()));
                give("head_bytes", Number(fields.head_bytes.into()));
                give("header_crc", Hex(record.header.header_crc()));
                give("payload_crc", Hex(fields.payload_crc));
            }
            Self::Gap { at, bytes } | Self::Skipped { at, bytes } | Self::Remains { at, bytes } => {
                give("at", Number(at.get()));
                give("bytes", Number(bytes));
            }
            Self::Damage(damage) => {
                let file = damage.file();
                give("file", Name(&file));
                give("byte", Number(damage.byte));
                give("at", damage.at.map_or(None, |at| Number(at.get())));
                give("what", Name(damage.what.as_str()));
            }
            Self::End { at, verdict } => {
                give("at", Number(at.get()));
                give("behind", Name(verdict.as_str()));
            }
            Self::Behind { at, bytes, epoch, attested_end, word } => {
                give("at", Number(at.get()));
                give("bytes", Number(bytes));
                give("epoch", Number(epoch.get().into()));
                give("attested_end", Number(attested_end.get()));
                give("word", Name(word_name(word)));
            }
            Self::Prepared { at, file, file_bytes } => {
                give("at", Number(at.get()));
                give("file", Name(file));
                give("file_bytes", Number(file_bytes));
            }
        }
    }
}

fn checkpoint_fields(checkpoint: &Checkpoint, give: &mut dyn FnMut(&'static str, Value<'_>)) {
    use Value::{Hex, Number};
    give("generation", Number(checkpoint.generation));
    give("clean", Number(checkpoint.clean.into()));
    give("durable_end", Number(checkpoint.durable_end.get()));
    give("chain", Hex(checkpoint.chain.get()));
    give("epoch", Number(checkpoint.epoch.get().into()));
    give("epoch_start", Number(checkpoint.epoch_start.get()));
    give("highest_epoch", Number(checkpoint.highest_epoch.get().into()));
    give("oldest_segment", Number(checkpoint.oldest_segment.get()));
    give("newest_segment", Number(checkpoint.newest_segment.get()));
    give("led_from", Number(checkpoint.led_from.get()));
    give("stored_at", Number(checkpoint.stored_at));
}
