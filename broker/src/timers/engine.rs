//! What the engine does in a step.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use skylark_index::{SealedError, Timer, TimerKey};
use skylark_protocol::command::recall::RecallHandle;
use skylark_storage::{AppendError, PhysicalOffset, ReadError};
use tracing::{error, info, warn};

use crate::broker::Broker;
use crate::changes::ControlRecord;
use crate::engine::Next;
use crate::folds::timers::{NoTurn, TURNS_MAX, TimersCarried, TimersFired, TimersRecalled, Watermark};

use super::schedule::{LAST, Limits, Schedule, Upcoming};
use super::unit::{self, Appended, Draft, Parsed};
use super::{Carried, CarryError, RECALLED_MAX, RecallError};

/// The engine's own state. It is volatile: all of it follows from the log.
#[derive(Default)]
pub(super) struct Engine {
    /// What has fired, as of the last unit that was appended. Taken from the fold at the first step, when the folds
    /// have applied what the log held at its opening: from then on this engine alone moves it.
    mark: Option<Watermark>,
    /// Behind that unit.
    in_flight: PhysicalOffset,
    /// When the messages of that unit were due, until they can be consumed.
    fired_due: Vec<u64>,
    /// What was recalled and is not known to the fold yet, and behind which record.
    recalled: BTreeMap<TimerKey, PhysicalOffset>,
    /// Behind the last unit of messages that were appended again.
    carried_end: PhysicalOffset,
    schedule: Schedule,
    carry: Carry,
    /// The clock was set back too often, which was reported.
    is_out_of_turns: bool,
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
        self.settle(broker, applied);
        let now_ms = broker.clock.wall_ms();
        let upcoming = match self.schedule.look(broker, &mark, applied, now_ms) {
            Ok(upcoming) => upcoming,
            Err(error) => return (self.troubled(unanswered(broker, error).to_string()), 0),
        };
        let (Upcoming::Late(timers) | Upcoming::InTurn { timers, .. }) = &upcoming;
        let due = timers.iter().take_while(|timer| timer.key.due <= now_ms).count();
        // Those behind one that is not due count, too: they are held up.
        let oldest_due = timers.iter().map(|timer| timer.key.due).filter(|due| *due <= now_ms).min();
        broker.timers.set_overdue_since(oldest_due);
        if due == 0 {
            self.trouble = None;
            return (self.wait(broker, mark, &upcoming, applied, now_ms), 0);
        }
        if let Some(why) = broker.archive.refusal() {
            // What is due can wait as senders do; a trim, which makes room, cannot.
            return (self.troubled(why.to_string()), 0);
        }
        let timers = &timers[..due];
        let fired = as_many_as_fit(unit::how_many(timers, broker.log.unit_bytes_max()), |count| {
            let timers = &timers[..count];
            let last = timers[count - 1].key;
            let mark = match upcoming {
                // Others behind may be late too.
                Upcoming::Late(_) => mark.clone().fired(mark.through(), last.at.advance(1)),
                // Nothing visible is late, so that whatever is not above the last one's key has fired with it.
                Upcoming::InTurn { .. } => mark.clone().fired(last, applied),
            };
            self.fire(broker, timers, mark, now_ms)
        });
        match fired {
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

    /// Nothing of what is upcoming is due: says what to wait for. Where the mark moves, it says the same of every timer as
    /// before, and needs no record.
    fn wait(
        &mut self,
        broker: &Broker,
        mark: Watermark,
        upcoming: &Upcoming,
        applied: PhysicalOffset,
        now_ms: u64,
    ) -> Next {
        match upcoming {
            Upcoming::Late(timers) => {
                let fired_due = mark.through().due;
                match mark.trimmed(broker.log.frontiers().trimmed).next_turn(now_ms) {
                    Ok(mark) => {
                        let (ahead_ms, earlier_turns) = (fired_due - now_ms, mark.earlier_turns());
                        info!(
                            ahead_ms,
                            earlier_turns,
                            "the clock was set back behind what it let fire: messages sent since come by the clock as it is"
                        );
                        self.mark = Some(mark);
                        self.is_out_of_turns = false;
                        self.schedule.turn_again();
                        return Next::Now;
                    }
                    Err(NoTurn::TooMany) if !self.is_out_of_turns => {
                        self.is_out_of_turns = true;
                        warn!(
                            ahead_ms = fired_due - now_ms,
                            "the clock was set back {TURNS_MAX} times without catching up: delayed messages sent from here \
                             on wait for those sent before them until it has, or retention takes the log"
                        );
                    }
                    Err(NoTurn::TooMany | NoTurn::Needless) => {}
                }
                timers.first().map_or(Next::Arrival, |first| Next::Due(first.key.due))
            }
            Upcoming::InTurn { timers, complete_to } => match timers.first() {
                Some(first) => Next::Due(first.key.due),
                None if *complete_to == LAST => Next::Arrival,
                None if complete_to.due <= now_ms => {
                    // All that is due and was looked at has fired, and none of it is looked at again.
                    self.mark = Some(mark.fired(*complete_to, applied));
                    Next::Now
                }
                None => Next::Due(complete_to.due),
            },
        }
    }

    /// Appends a unit of due messages, after which `mark` holds; says how many messages nobody will get.
    fn fire(
        &mut self,
        broker: &Broker,
        timers: &[Timer],
        mark: Watermark,
        now_ms: u64,
    ) -> Result<u64, Failed> {
        // What was recalled passes with the mark alone.
        let timers: Vec<Timer> =
            timers.iter().filter(|timer| !self.is_recalled(broker, timer.key)).copied().collect();
        let waiting = unit::read(broker, &timers).map_err(Failed::Read)?;
        let parsed: Vec<Parsed<'_>> = waiting.iter().map(unit::Waiting::parse).collect();
        let fired = parsed.iter().map(Parsed::fired).collect();
        let record = ControlRecord::of(&TimersFired { mark: mark.clone(), fired, bytes: bytes(&timers) });
        let catalog = broker.catalog.read();
        let drafts: Vec<Draft<'_>> =
            parsed.iter().filter_map(|parsed| parsed.due(&catalog, now_ms)).collect();
        drop(catalog);
        let Appended { end, messages } = self.append(broker, &record, &drafts, timers.len(), mark)?;
        broker.statistics.fired.add(timers.len() as u64, 0);
        self.fired_due = timers.iter().map(|timer| timer.key.due).collect();
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
        // Some may have fired since they were looked for, or were recalled.
        let mut timers = std::mem::take(&mut self.carry.timers);
        let waits = |timer: &Timer| mark.is_pending(timer.key) && !self.is_recalled(broker, timer.key);
        timers.retain(waits);
        while timers.is_empty()
            && let Some(from) = self.carry.from
        {
            match self.schedule.pending_within(broker, &mark, from..below) {
                Ok((found, more)) => {
                    timers = found.into_iter().filter(|timer| !self.is_recalled(broker, timer.key)).collect();
                    self.carry.from = more;
                }
                Err(error) => return (Err(CarryError::Index(unanswered(broker, error))), 0),
            }
        }
        let waiting = &*timers.make_contiguous();
        let count = unit::how_many(waiting, broker.log.unit_bytes_max());
        if count == 0 {
            // Another trim to the same place finds what has come since; there is nothing.
            self.carry = Carry::default();
            return (Ok(Carried::All { end: self.in_flight }), 0);
        }
        let carried = as_many_as_fit(count, |count| {
            let floor = waiting[count - 1].key.at.advance(1);
            self.carry(broker, &waiting[..count], mark.clone().carried(floor)).map(|carried| (carried, count))
        });
        self.carry.timers = timers;
        match carried {
            Ok(((end, undeliverable), count)) => {
                self.carry.timers.drain(..count);
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
        let (messages, bytes) = (timers.len() as u64, bytes(timers));
        let record = ControlRecord::of(&TimersCarried { mark: mark.clone(), messages, bytes });
        let catalog = broker.catalog.read();
        let drafts: Vec<Draft<'_>> = parsed.iter().filter_map(|parsed| parsed.again(&catalog)).collect();
        drop(catalog);
        let Appended { end, messages } = self.append(broker, &record, &drafts, timers.len(), mark)?;
        self.carried_end = end;
        Ok((end, (timers.len() - messages) as u64))
    }

    /// Recalls those of `timers` that have yet to fire, and says behind which record they are recalled: none of them, if
    /// nothing of it waits. What was recalled before counts as recalled now.
    ///
    /// # Errors
    /// See [`RecallError`].
    pub(super) fn recall(
        &mut self,
        broker: &Broker,
        timers: &[Timer],
        seen: PhysicalOffset,
        handle: &RecallHandle<'_>,
    ) -> Result<Option<PhysicalOffset>, RecallError> {
        let mark = self.mark(broker);
        let applied = broker.applied.get();
        self.settle(broker, applied);
        if self.carried_end > seen && timers.iter().any(|timer| timer.key.at < mark.floor()) {
            return Err(RecallError::Moving);
        }
        let pending = timers.iter().filter(|timer| mark.is_pending(timer.key));
        let (known, open): (Vec<Timer>, Vec<Timer>) =
            pending.copied().partition(|timer| self.is_recalled(broker, timer.key));
        if open.is_empty() {
            // The record of an earlier recall may be on its way yet.
            let end = known.iter().filter_map(|timer| self.recalled.get(&timer.key)).max();
            return Ok((!known.is_empty()).then_some(end.copied().unwrap_or(applied)));
        }
        let known_to_fold = broker.timers.folded.lock().recalled();
        if known_to_fold + self.recalled.len() + open.len() > RECALLED_MAX {
            return Err(RecallError::TooMany);
        }
        let record = TimersRecalled {
            topic: handle.topic.clone().into_owned(),
            unique_key: handle.message_id.clone().into_owned(),
            timers: open.iter().map(|timer| (timer.key.due, timer.key.at.get())).collect(),
            bytes: bytes(&open),
        };
        let end = broker.append_one(&record).map_err(RecallError::Append)?;
        self.recalled.extend(open.iter().map(|timer| (timer.key, end)));
        Ok(Some(end))
    }

    fn is_recalled(&self, broker: &Broker, key: TimerKey) -> bool {
        self.recalled.contains_key(&key) || broker.timers.folded.lock().is_recalled(key)
    }

    /// Gives up what the folds know by now, and counts how late the messages were that can be consumed since the last
    /// look.
    fn settle(&mut self, broker: &Broker, applied: PhysicalOffset) {
        self.recalled.retain(|_, end| *end > applied);
        if applied >= self.in_flight && !self.fired_due.is_empty() {
            let now_ms = broker.clock.wall_ms();
            let lags = self.fired_due.drain(..).map(|due_ms| now_ms.saturating_sub(due_ms));
            lags.for_each(|lag_ms| broker.statistics.fire_lags.add(Duration::from_millis(lag_ms)));
        }
    }

    /// Appends the record about so many timers, and the messages behind it.
    fn append(
        &mut self,
        broker: &Broker,
        record: &ControlRecord,
        drafts: &[Draft<'_>],
        timers: usize,
        mark: Watermark,
    ) -> Result<Appended, Failed> {
        let mut appended = unit::append(broker, record, drafts);
        if let (1, Err(AppendError::TooLarge { unit_bytes, max_bytes })) = (timers, &appended) {
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
        self.mark.get_or_insert_with(|| broker.timers.folded.lock().mark()).clone()
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

/// Appends the first `count`, or half as many for as long as they are too large together: how much they take was a guess.
fn as_many_as_fit<T>(
    mut count: usize,
    mut append: impl FnMut(usize) -> Result<T, Failed>,
) -> Result<T, Failed> {
    loop {
        match append(count) {
            Err(Failed::Append(AppendError::TooLarge { .. })) if count > 1 => count /= 2,
            appended => return appended,
        }
    }
}

/// Bytes of the timers' records, together.
fn bytes(timers: &[Timer]) -> u64 {
    timers.iter().map(|timer| u64::from(timer.record_bytes)).sum()
}

/// A file did not answer. One that is damaged is given up, and built again: no timer fires until all files are there.
fn unanswered(broker: &Broker, error: SealedError) -> SealedError {
    broker.unreadable(&error);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_together_is_appended_in_halves() {
        for (count, fits) in [(1, 1), (2, 1), (7, 3), (256, 100), (256, 1), (5, 5)] {
            let mut sizes: Vec<usize> = (1..=300).collect();
            let mut tried = 0;
            while !sizes.is_empty() {
                let taken = as_many_as_fit(count.min(sizes.len()), |count| {
                    tried += 1;
                    let too_large =
                        AppendError::TooLarge { unit_bytes: count as u64, max_bytes: fits as u64 };
                    if count > fits { Err(Failed::Append(too_large)) } else { Ok(count) }
                });
                let Ok(taken) = taken else { panic!("{count} of which {fits} fit are never appended") };
                assert!(taken > fits / 2 || taken == sizes.len().min(count), "{taken} of {fits}");
                sizes.drain(..taken);
            }
            assert!(tried <= 300 * 9, "{tried}");
        }
    }

    #[test]
    fn one_that_is_too_large_alone_is_said_to_be() {
        let refused = as_many_as_fit(4, |count| {
            Err::<(), _>(Failed::Append(AppendError::TooLarge { unit_bytes: count as u64, max_bytes: 0 }))
        });
        assert!(matches!(refused, Err(Failed::Append(AppendError::TooLarge { unit_bytes: 1, .. }))));
    }
}
