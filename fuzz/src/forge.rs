//! A log that nobody wrote: every checksum is sound, and what it covers is the fuzzer's choice.
//!
//! The input is a list of steps. Where a step's tweaks are zero it does what a writer would do, so that the fuzzer
//! can go astray at any one place of a log that is right everywhere else.

use skylark_storage::checkpoint::{CHECKPOINT_NAME, Checkpoint, SLOT_BYTES};
use skylark_storage::device::simulated::Disk;
use skylark_storage::epoch::{self, EpochRecord, EpochStart};
use skylark_storage::group::{ChainBuilder, GROUP_HEADER_BYTES, GroupHeader};
use skylark_storage::record::{RECORD_HEADER_BYTES, RecordFields, RecordHeader, payload_crc, record_bytes};
use skylark_storage::segment::{BLOCK_BYTES, SegmentFields, SegmentHeader, segment_name};
use skylark_storage::{Chain, Epoch, Files, Kind, PhysicalOffset};
use zerocopy::IntoBytes;

use crate::disk::{LOG_ID, SEGMENT_BYTES};
use crate::input::Input;

/// How many segments there can be.
const SEGMENTS: usize = 3;
const CREATED_AT: u64 = 1_700_000_000_000;
const STEPS_MAX: usize = 512;

/// The steps, by the byte that chooses them.
pub mod step {
    /// Bytes as they are: a length of three bytes, then so many.
    pub const RAW: u8 = 0;
    /// To another place in the segment, in three bytes.
    pub const MOVE: u8 = 1;
    /// The segment's header.
    pub const HEADER: u8 = 2;
    /// A group begins.
    pub const GROUP: u8 = 3;
    /// A record of the log's user.
    pub const RECORD: u8 = 4;
    /// The record of a new epoch.
    pub const EPOCH: u8 = 5;
    /// A record to the segment's end.
    pub const PADDING: u8 = 6;
    /// The group is finished.
    pub const END: u8 = 7;
    /// To the next segment.
    pub const SEGMENT: u8 = 8;
    /// To the next block.
    pub const BLOCK: u8 = 9;
    /// A checkpoint of what is there so far.
    pub const CHECKPOINT: u8 = 10;
    /// How many there are.
    pub const COUNT: u8 = 11;
}

/// A log under construction.
struct Forge {
    segments: [Option<Vec<u8>>; SEGMENTS],
    segment: usize,
    at: usize,
    /// Where the group that is under way began.
    group_at: usize,
    records: ChainBuilder,
    chain: Chain,
    epoch: EpochStart,
    highest_epoch: Epoch,
    delta: u32,
    durable_end: PhysicalOffset,
    generation: u64,
    slots: [[u8; SLOT_BYTES]; 2],
}

/// Puts a log on the disk.
pub fn forge(disk: &Disk, input: &mut Input<'_>) {
    let none = EpochStart { epoch: Epoch::ZERO, start: PhysicalOffset::ZERO };
    let mut forge = Forge {
        segments: [Some(Vec::new()), None, None],
        segment: 0,
        at: 0,
        group_at: 0,
        records: ChainBuilder::default(),
        chain: Chain::START,
        epoch: none,
        highest_epoch: Epoch::ZERO,
        delta: 0,
        durable_end: PhysicalOffset::ZERO,
        generation: 0,
        slots: [[0; SLOT_BYTES]; 2],
    };
    // Named before it is written to, as a writer does it.
    forge.checkpoint(&mut Input::new(&[]));
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        forge.step(input);
    }
    for (index, bytes) in forge.segments.iter().enumerate() {
        if let Some(bytes) = bytes {
            put(disk, &segment_name(base_of(index)), bytes);
        }
    }
    put(disk, CHECKPOINT_NAME, forge.slots.as_bytes());
}

fn put(disk: &Disk, name: &str, bytes: &[u8]) {
    let file = disk.create(name).expect("there is no such file");
    file.write_at(0, bytes).expect("the disk works");
    file.sync().expect("the disk works");
    let directory = name.split_once('/').map_or("", |(directory, _)| directory);
    disk.sync_directory(directory).expect("the disk works");
}

fn base_of(index: usize) -> PhysicalOffset {
    PhysicalOffset::new(index as u64 * SEGMENT_BYTES)
}

fn low(number: u64) -> u32 {
    number as u32
}

impl Forge {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % step::COUNT {
            step::RAW => {
                let length = usize::try_from(input.number()).expect("three bytes");
                self.put(input.take(length));
            }
            step::MOVE => self.at = usize::try_from(input.number() % SEGMENT_BYTES).expect("it is short"),
            step::HEADER => self.header(input),
            step::GROUP => {
                self.group_at = self.at;
                self.records = ChainBuilder::default();
                self.at += GROUP_HEADER_BYTES;
            }
            step::RECORD => {
                let (head, rest) = (input.byte(), input.number() % 9000);
                let filling = input.byte();
                let head = vec![filling; usize::from(head)];
                let rest = vec![filling; usize::try_from(rest).expect("it is short")];
                self.record(Kind::new(16), &head, &rest, None, input);
            }
            step::EPOCH => {
                let start = self.here();
                let epoch =
                    Epoch::new(self.epoch.epoch.get().wrapping_add(1).wrapping_add(low(input.tweak())));
                let previous = (self.epoch.epoch > Epoch::ZERO).then_some(EpochStart {
                    epoch: Epoch::new(self.epoch.epoch.get().wrapping_add(low(input.tweak()))),
                    start: PhysicalOffset::new(self.epoch.start.get().wrapping_add(input.tweak())),
                });
                self.epoch = EpochStart { epoch, start };
                self.highest_epoch = self.highest_epoch.max(epoch);
                let record = EpochRecord { epoch, start, previous, cause: epoch::Cause::Opened };
                self.record(Kind::EPOCH, &record.to_bytes(), &[], None, input);
            }
            step::PADDING => {
                let left = SEGMENT_BYTES.saturating_sub((self.at + RECORD_HEADER_BYTES) as u64);
                let claims = low(left.wrapping_add(input.tweak()));
                self.record(Kind::PADDING, &[], &[], Some(claims), input);
            }
            step::END => self.end(input),
            step::SEGMENT => {
                self.segment = (self.segment + 1) % SEGMENTS;
                self.segments[self.segment].get_or_insert_default();
                self.at = 0;
            }
            step::BLOCK => {
                self.at = self.at.next_multiple_of(usize::try_from(BLOCK_BYTES).expect("it is short"))
            }
            _ => self.checkpoint(input),
        }
    }

    fn here(&self) -> PhysicalOffset {
        base_of(self.segment).advance(self.at as u64)
    }

    /// Writes at the present place, and goes behind it.
    fn put(&mut self, bytes: &[u8]) {
        let segment = self.segments[self.segment].get_or_insert_default();
        let end = self.at.saturating_add(bytes.len());
        // A little beyond the nominal end, but not at any place.
        if end as u64 <= 2 * SEGMENT_BYTES {
            if segment.len() < end {
                segment.resize(end, 0);
            }
            segment[self.at..end].copy_from_slice(bytes);
            self.at = end;
        }
    }

    fn header(&mut self, input: &mut Input<'_>) {
        let fields = SegmentFields {
            log_id: LOG_ID,
            base: PhysicalOffset::new(base_of(self.segment).get().wrapping_add(input.tweak())),
            segment_bytes: SEGMENT_BYTES.wrapping_add(input.tweak()),
            created_at: CREATED_AT.wrapping_add(input.tweak()),
            // As of the next record, unless that begins an epoch: then the tweak has to say so.
            epoch: Epoch::new(self.epoch.epoch.get().wrapping_add(low(input.tweak()))),
            epoch_start: PhysicalOffset::new(self.epoch.start.get().wrapping_add(input.tweak())),
        };
        self.at = 0;
        self.delta = 0;
        self.put(SegmentHeader::new(&fields).as_bytes());
        self.at = usize::try_from(BLOCK_BYTES).expect("it is short");
    }

    /// A record; a padding record claims a payload that is not stored.
    fn record(&mut self, kind: Kind, head: &[u8], rest: &[u8], claims: Option<u32>, input: &mut Input<'_>) {
        let seed = LOG_ID.seed();
        let stored = low((head.len() + rest.len()) as u64);
        self.delta = self.delta.wrapping_add(low(input.tweak()));
        let fields = RecordFields {
            payload_bytes: claims.unwrap_or(stored).wrapping_add(low(input.tweak())),
            kind: Kind::new(kind.get().wrapping_add(input.tweak() as u8)),
            head_bytes: u8::try_from(head.len()).expect("a head is short"),
            physical_offset: PhysicalOffset::new(self.here().get().wrapping_add(input.tweak())),
            epoch: Epoch::new(self.epoch.epoch.get().wrapping_add(low(input.tweak()))),
            stored_at_delta: self.delta,
            payload_crc: payload_crc(seed, &[rest]),
        };
        let header = RecordHeader::new(seed, &fields, head);
        self.records.record(header.header_crc());
        self.put(header.as_bytes());
        self.put(head);
        self.put(rest);
        let stored = record_bytes(stored) - u64::from(stored) - RECORD_HEADER_BYTES as u64;
        self.put(&[0; 8][..usize::try_from(stored).expect("less than eight")]);
    }

    fn end(&mut self, input: &mut Input<'_>) {
        let behind = self.at;
        let start = base_of(self.segment).advance(self.group_at as u64);
        let bytes = low((behind.saturating_sub(self.group_at)) as u64).wrapping_add(low(input.tweak()));
        let undurable =
            low(start.get().wrapping_sub(self.durable_end.get())).wrapping_add(low(input.tweak()));
        let chain = Chain::new(self.chain.get().wrapping_add(low(input.tweak())));
        let header = GroupHeader::new(LOG_ID.seed(), start, bytes, undurable, chain);
        self.at = self.group_at;
        self.put(header.as_bytes());
        self.at = behind;
        self.chain = self.records.finish(&header);
        if input.byte() & 1 == 0 {
            self.durable_end = self.here();
        }
    }

    fn checkpoint(&mut self, input: &mut Input<'_>) {
        self.generation += 1;
        let newest = self.segments.iter().rposition(Option::is_some).unwrap_or_default();
        let place = |right: PhysicalOffset, input: &mut Input<'_>| {
            PhysicalOffset::new(right.get().wrapping_add(input.tweak()))
        };
        let mut checkpoint = Checkpoint::first(LOG_ID, SEGMENT_BYTES);
        checkpoint.generation = self.generation.wrapping_add(input.tweak());
        checkpoint.segment_bytes = SEGMENT_BYTES.wrapping_add(input.tweak());
        checkpoint.durable_end = place(self.durable_end, input);
        checkpoint.chain = Chain::new(self.chain.get().wrapping_add(low(input.tweak())));
        checkpoint.epoch = Epoch::new(self.epoch.epoch.get().wrapping_add(low(input.tweak())));
        checkpoint.epoch_start = place(self.epoch.start, input);
        checkpoint.highest_epoch =
            Epoch::new(self.highest_epoch.get().wrapping_add(1).wrapping_add(low(input.tweak())));
        checkpoint.oldest_segment = place(base_of(0), input);
        checkpoint.newest_segment = place(base_of(newest), input);
        checkpoint.led_from = place(PhysicalOffset::ZERO, input);
        checkpoint.stored_at = input.tweak();
        checkpoint.clean = input.tweak() & 1 == 1;
        self.slots[usize::from(checkpoint.generation % 2 == 1)] = checkpoint.to_slot();
    }
}
