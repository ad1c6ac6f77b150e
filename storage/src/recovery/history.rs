//! Which epochs the log has seen: its epoch records, walked backwards.

use std::io;

use super::directory;
use super::error::{Evidence, OpenError};
use super::{Recovery, Scanned};
use crate::epoch::{EPOCH_PAYLOAD_BYTES, EpochRecord, EpochStart};
use crate::offset::{Epoch, PhysicalOffset};
use crate::record::{Kind, RECORD_HEADER_BYTES, Record};

impl Recovery<'_> {
    /// Rows E7 and E11. Walks the epoch records from the newest backwards.
    pub(super) fn epochs(&mut self, scanned: &Scanned) -> Result<Vec<EpochStart>, OpenError> {
        let mut epochs: Vec<EpochStart> = scanned.starts.iter().rev().copied().collect();
        let mut next = match epochs.last() {
            Some(oldest) => Some(*oldest),
            None if scanned.tip.epoch == Epoch::ZERO => None,
            None => {
                let last = EpochStart { epoch: scanned.tip.epoch, start: scanned.tip.epoch_start };
                epochs.push(last);
                Some(last)
            }
        };
        // Each began in front of the next, and the last one in front of the end: what lies behind that is cut.
        let mut below = scanned.tip.end;
        while let Some(EpochStart { epoch, start }) = next
            && start >= self.checkpoint.oldest_segment
        {
            self.segments.take_refused();
            let record = if start < below { self.epoch_record(start)? } else { None };
            if let Some(refused) = self.segments.take_refused() {
                // What was between is not known, but each segment's header says what was going on where it begins.
                self.unreadable.insert(refused);
                below = start;
                next = self.directory.epoch_before(start, self.checkpoint.oldest_segment);
                next = next.filter(|known| known.epoch < epoch);
                epochs.extend(next);
                continue;
            }
            let Some(record) = record.filter(|record| record.epoch == epoch) else {
                let base = self.segments.base_of(start);
                let damage = directory::corruption(base, start.since(base), Evidence::EpochHistory);
                return Err(OpenError::Corrupt(damage));
            };
            below = start;
            next = record.previous;
            epochs.extend(next);
        }
        epochs.reverse();
        Ok(epochs)
    }

    fn epoch_record(&mut self, at: PhysicalOffset) -> io::Result<Option<EpochRecord>> {
        let seed = self.checkpoint.log_id.seed();
        // The history is long where a log is opened often, and its records are far apart.
        let bytes = self.segments.read_alone(at, RECORD_HEADER_BYTES + EPOCH_PAYLOAD_BYTES)?;
        let record = Record::parse(seed, at, bytes).ok().filter(|r| r.header.fields().kind == Kind::EPOCH);
        Ok(record
            .and_then(|record| EpochRecord::parse(record.payload).ok())
            .filter(|record| record.start == at))
    }
}
