//! What the engine does in a step.

use std::collections::VecDeque;

use skylark_index::{SealedError, Timer};
use skylark_storage::{AppendError, PhysicalOffset, ReadError};
use tracing::{error, warn};

use crate::broker::Broker;
use crate::changes::ControlRecord;
use crate::folds::timers::{TimersCarried, TimersFired, Watermark};

use super::schedule::{Limits, Schedule, Upcoming};
use super::unit::{self, Appended, Draft, Parsed};
use super::{Carried, CarryError, Next};

/// The engine's own state. It is volatile: all of it follows from the log.
#[derive(Default)]
pub(super) struct Engine {
    /// What has fired, as of the last unit that was appended. Taken from the fold at the first step, when the folds
    /// have applied what the log held at its opening: from then on this engine alone moves it.
    mark: Option<Watermark>,
    /// Behind that unit.
    in_flight: PhysicalOffset,
    schedule: Schedule,
    carry: Carry,
    /// What failed last, so that it is reported once.
    trouble: Option<String>,
}

/// A trim that waits for timers to be appended again.
#[derive(Default)]
struct Carry {
    below: PhysicalOffset,
    /// Those that were pending when they were looked for, by position.
    timers: VecDeque<Timer>,
    /// Where to look for more.
    from: Option<PhysicalOffset>,
}

/// Why a unit was not appended.
enum Failed {
    Read(ReadError),
    Append(AppendError),
}

impl Engine {
    /// Fires what is due, as much as a unit holds. Also says how many messages nobody will get.
    pub(super) fn step(&mut self, broker: &Broker) -> (Next, u64) {
        let mark = self.mark(broker);
        // Taken before the look: what is applied meanwhile may be seen, and is not to be relied on.
        let applied = broker.applied.get();
        if applied < self.in_flight {
            return (Next::Applied(self.in_flight), 0);
        }
        let upcoming = match self.schedule.look(broker, mark, applied) {
            Ok(upcoming) => upcoming,
            Err(error) => return (self.troubled(unanswered(broker, error).to_string()), 0),
        };
        let now_ms = broker.clock.wall_ms();
        let (Upcoming::Late(timers) | Upcoming::InTurn(timers)) = &upcoming;
        let due = timers.iter().take_while(|timer| timer.key.due <= now_ms).count();
        if due == 0 {
            self.trouble = None;
            return (timers.first().map_or(Next::Arrival, |first| Next::Due(first.key.due)), 0);
        }
        if let Some(why) = broker.archive.refusal() {
            // What is due can wait as senders do; a trim, which makes room, cannot.
            return (self.troubled(why.to_string()), 0);
        }
        let mut timers = &timers[..due];
        timers = &timers[..unit::how_many(timers, broker.log.unit_bytes_max())];
        let last = timers[timers.len() - 1].key;
        let mark = match upcoming {
            // Others behind may be late too.
            Upcoming::Late(_) => mark.fired(mark.through(), last.at.advance(1)),
            // Nothing visible is late, so that whatever is not above the last one's key has fired with it.
            Upcoming::InTurn(_) => mark.fired(last, applied),
        };
        match self.fire(broker, timers, mark) {
            Ok(undeliverable) => {
                self.trouble = None;
                (Next::Now, undeliverable)
            }
            Err(Failed::Read(error)) => (self.troubled(error.to_string()), 0),
            Err(Failed::Append(AppendError::Poisoned { .. } | AppendError::Closed)) => (Next::Stopped, 0),
            // Room is made by dispatch, which applies groups.
            Err(Failed::Append(AppendError::Backpressure { .. })) => (Next::Applied(applied.advance(1)), 0),
            Err(Failed::Append(error)) => (self.troubled(error.to_string()), 0),
        }
    }

    /// Appends a unit of due messages, after which `mark` holds; says how many messages nobody will get.
    fn fire(&mut self, broker: &Broker, timers: &[Timer], mark: Watermark) -> Result<u64, Failed> {
        let waiting = unit::read(broker, timers).map_err(Failed::Read)?;
        let parsed: Vec<Parsed<'_>> = waiting.iter().map(unit::Waiting::parse).collect();
        let fired = parsed.iter().map(Parsed::fired).collect();
        let record = ControlRecord::of(&TimersFired { mark, fired });
        let catalog = broker.catalog.read();
        let drafts: Vec<Draft<'_>> = parsed.iter().filter_map(|parsed| parsed.due(&catalog)).collect();
        drop(catalog);
        let Appended { end, messages } = self.append(broker, &record, &drafts, mark)?;
        let undeliverable = timers.len() - messages;
        if undeliverable > 0 {
            warn!(
                undeliverable,
                end = end.get(),
                "due messages were dropped: their topics are gone, or they are damaged"
            );
        }
        Ok(undeliverable as u64)
    }

    /// Appends again what is pending below `below`, as much as a unit holds. Also says how many messages nobody will
    /// get.
    pub(super) fn carry_forward(
        &mut self,
        broker: &Broker,
        below: PhysicalOffset,
    ) -> (Result<Carried, CarryError>, u64) {
        let mark = self.mark(broker);
        if broker.applied.get() < below {
            return (Err(CarryError::NotApplied), 0);
        }
        if self.carry.below != below {
            self.carry = Carry { below, timers: VecDeque::new(), from: Some(mark.floor()) };
        }
        // Some may have fired since they were looked for.
        self.carry.timers.retain(|timer| mark.is_pending(timer.key));
        while self.carry.timers.is_empty()
            && let Some(from) = self.carry.from
        {
            match self.schedule.pending_within(broker, mark, from..below) {
                Ok((found, more)) => (self.carry.timers, self.carry.from) = (found.into(), more),
                Err(error) => return (Err(CarryError::Index(unanswered(broker, error))), 0),
            }
        }
        let timers = &*self.carry.timers.make_contiguous();
        let Some(last) = timers[..unit::how_many(timers, broker.log.unit_bytes_max())].last() else {
            // Another trim to the same place finds what has come since; there is nothing.
            self.carry = Carry::default();
            return (Ok(Carried::All { end: self.in_flight }), 0);
        };
        let floor = last.key.at.advance(1);
        let timers: Vec<Timer> = timers.iter().copied().take_while(|timer| timer.key.at < floor).collect();
        match self.carry(broker, &timers, mark.carried(floor)) {
            Ok((end, undeliverable)) => {
                self.carry.timers.drain(..timers.len());
                (Ok(Carried::Some { end }), undeliverable)
            }
            Err(Failed::Read(error)) => (Err(CarryError::Read(error)), 0),
            Err(Failed::Append(AppendError::Poisoned { .. } | AppendError::Closed)) => {
                (Err(CarryError::Stopped), 0)
            }
            Err(Failed::Append(error)) => (Err(CarryError::NoRoom(error)), 0),
        }
    }

    /// Appends a unit of messages that go on waiting, after which `mark` holds.
    fn carry(
        &mut self,
        broker: &Broker,
        timers: &[Timer],
        mark: Watermark,
    ) -> Result<(PhysicalOffset, u64), Failed> {
        let waiting = unit::read(broker, timers).map_err(Failed::Read)?;
        let parsed: Vec<Parsed<'_>> = waiting.iter().map(unit::Waiting::parse).collect();
        let record = ControlRecord::of(&TimersCarried { mark });
        let catalog = broker.catalog.read();
        let drafts: Vec<Draft<'_>> = parsed.iter().filter_map(|parsed| parsed.again(&catalog)).collect();
        drop(catalog);
        let Appended { end, messages } = self.append(broker, &record, &drafts, mark)?;
        Ok((end, (timers.len() - messages) as u64))
    }

    fn append(
        &mut self,
        broker: &Broker,
        record: &ControlRecord,
        drafts: &[Draft<'_>],
        mark: Watermark,
    ) -> Result<Appended, Failed> {
        let mut appended = unit::append(broker, record, drafts);
        if let ([_], Err(AppendError::TooLarge { unit_bytes, max_bytes })) = (drafts, &appended) {
            // It fitted when it was sent, so this log's units have become smaller. It must not hold up the others.
            error!(unit_bytes, max_bytes, "a delayed message is too large for the log; nobody will get it");
            appended = unit::append(broker, record, &[]);
        }
        let appended = appended.map_err(Failed::Append)?;
        self.mark = Some(mark);
        self.in_flight = appended.end;
        Ok(appended)
    }

    fn mark(&mut self, broker: &Broker) -> Watermark {
        *self.mark.get_or_insert_with(|| broker.timers.folded.lock().mark())
    }

    /// Looks at no more timers together than this.
    pub(super) fn look_at_most(&mut self, timers: usize) {
        let timers = timers.max(1);
        self.schedule.limits = Limits { turn: timers, carry: timers };
    }

    /// Reports what stands in the way, unless it did before.
    fn troubled(&mut self, why: String) -> Next {
        if self.trouble.as_ref() != Some(&why) {
            warn!(why, "delayed messages have to wait");
            self.trouble = Some(why);
        }
        Next::Later
    }
}

/// A file did not answer. One that is damaged is given up, and built again: no timer fires until all files are there.
fn unanswered(broker: &Broker, error: SealedError) -> SealedError {
    broker.unreadable(&error);
    error
}
