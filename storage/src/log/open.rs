//! Opening: recovery below, then everything that an open log consists of.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::checkpoint::Checkpoint;
use crate::clock::Clock;
use crate::device::Files;
use crate::epoch::{self, EPOCH_PAYLOAD_BYTES, EpochRecord, EpochStart};
use crate::frontier::Frontier;
use crate::ground::{Filling, Ground};
use crate::handover::{GroupQueue, Handover};
use crate::housekeeper::Housekeeper;
use crate::lack::Lacking;
use crate::log_id::Seed;
use crate::offset::{Epoch, PhysicalOffset};
use crate::poison::Stop;
use crate::reader::{Cold, HotTail};
use crate::record::Kind;
use crate::recovery::{self, NextGroup, OpenError, Recovered, RecoveryOptions};
use crate::retention::pin::Pins;
use crate::staging::chunk::Pool;
use crate::staging::{self, Beginning, CHUNK_BYTES, Constants, NewRecord, Staging, TailMemory, Unit};
use crate::sync::{Doorbell, Mutex};
use crate::writer::{Press, Writer};

use super::front::Front;
use super::shared::{DurablePoint, Shared};
use super::{CommitLog, Opened, Options, Visibility};

/// What is prepared ahead of the writer unless said; less in small segments.
const PREPARED_BYTES_DEFAULT: u64 = 32 << 20;
/// Chunks kept ready for use; more than that are given back to the system when a burst is over.
const CHUNKS_KEPT_MAX: usize = 4;

pub(super) fn open<T: Send + 'static>(
    files: Arc<dyn Files>,
    clock: Arc<dyn Clock>,
    options: &Options,
    state: T,
) -> Result<Opened<T>, OpenError> {
    let directory_lock = files.lock("LOCK").map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { directory: files.describe() },
        _ => OpenError::Io(error),
    })?;
    let recovery_options = RecoveryOptions {
        segment_bytes: options.segment_bytes,
        log_id: None,
        repair: options.repair,
        damaged_at: options.damaged_at,
    };
    let recovered = recovery::recover(&*files, &recovery_options)?;
    let Recovered { checkpoint, epoch, mut epochs, end, chain, stored_at, segments, next, report } =
        recovered;
    let Checkpoint { log_id, segment_bytes, newest_segment, .. } = *checkpoint.current();

    let (base, beginning) = match next {
        NextGroup::Continues { segment, tail } => {
            (segment.base, Beginning::Continues { segment, end, block: tail })
        }
        NextGroup::Begins { base } => (base, Beginning::Begins { base }),
    };
    // Small logs, as tests have, take small chunks.
    let chunk_bytes = usize::try_from(segment_bytes).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
    let pool = Pool::new(chunk_bytes, CHUNKS_KEPT_MAX);
    let mut device = files.device();
    device.lend(TailMemory::of(&pool));
    let previous = epochs.last().copied();
    let previous_epoch = previous.map_or(Epoch::ZERO, |previous| previous.epoch);
    let constants = Constants { log_id, segment_bytes, epoch, previous_epoch, tail: options.tail, pool };
    let mut staging = Staging::new(constants, &beginning, end, stored_at);

    let start = append_epoch(&mut staging, log_id.seed(), epoch, previous, clock.wall_ms());
    epochs.push(EpochStart { epoch, start });

    let none = EpochStart { epoch: Epoch::ZERO, start: PhysicalOffset::ZERO };
    let durable_point = DurablePoint { end, chain, stored_at, epoch: previous.unwrap_or(none) };
    let writer_bell = Arc::new(Doorbell::default());
    let asked = (options.visibility == Visibility::Written).then(|| Arc::clone(&writer_bell));
    let filling = match options.visibility {
        Visibility::Durable => Filling::Zeros,
        Visibility::Written => Filling::Reserved,
    };
    let handover = Arc::new(Handover::default());
    let trimmed = Frontier::new(report.start, None);
    let shared = Arc::new(Shared {
        files: Arc::clone(&files),
        pins: Pins::new(Arc::clone(&clock), trimmed.clone()),
        clock: Arc::clone(&clock),
        log_id,
        seed: log_id.seed(),
        segment_bytes,
        unit_bytes_max: staging::unit_bytes_max(segment_bytes),
        undurable_bytes_max: options.undurable_bytes_max,
        visibility: options.visibility,
        epoch,
        epochs,
        durable: Frontier::new(end, asked.clone()),
        written: Frontier::new(end, asked),
        stop: Stop::default(),
        handover: Arc::clone(&handover),
        ground: Ground::open(
            Arc::clone(&files),
            filling,
            segment_bytes,
            options.prepared_bytes.unwrap_or(PREPARED_BYTES_DEFAULT.min(segment_bytes / 4)),
            base.min(newest_segment),
            newest_segment,
            end,
        )?,
        lacking: Lacking::default(),
        trimmed,
        remains: Mutex::new(VecDeque::new()),
        segments: Catalogue::new(segments),
        hot: HotTail::new(options.tail_bytes, chunk_bytes),
        cold: Cold::new(
            Arc::clone(&files),
            Arc::clone(&clock),
            segment_bytes,
            options.cold_cache_bytes,
            options.cold_bytes_per_second,
            end,
        ),
        writer_bell,
        housekeeper_bell: Doorbell::default(),
        checkpoint: Mutex::new(checkpoint),
        durable_point: Mutex::new(durable_point),
        _directory_lock: directory_lock,
    });
    let press = Press::new(Arc::clone(&shared), device, durable_point);
    let front = Arc::new(Front::new(state, staging, press));
    Ok(Opened {
        writer: Writer::new(Arc::clone(&shared), Arc::clone(&front)),
        housekeeper: Housekeeper::new(Arc::clone(&shared)),
        groups: GroupQueue::new(handover),
        recovery: report,
        log: CommitLog { shared, front },
    })
}

/// Stages the record that every epoch begins with; where it stands.
fn append_epoch(
    staging: &mut Staging,
    seed: Seed,
    epoch: Epoch,
    previous: Option<EpochStart>,
    now_ms: u64,
) -> PhysicalOffset {
    let record = NewRecord { kind: Kind::EPOCH, head: &[0; EPOCH_PAYLOAD_BYTES], rest: &[] };
    let unit = [record];
    let unit = Unit::new(seed, &unit, u64::MAX).expect("an epoch record is short");
    let (placed, _) = staging.append(&unit, now_ms, |place, head| {
        let start = place.physical_offset;
        head.copy_from_slice(&EpochRecord { epoch, start, previous, cause: epoch::Cause::Opened }.to_bytes());
    });
    placed.start
}
