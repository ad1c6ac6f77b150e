//! The transactions that are open: who may end one, and when one is due to be asked about.

use std::collections::BTreeMap;
use std::mem;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use skylark_storage::PhysicalOffset;

use crate::folds::halves::{Half, HalvesChecked, HalvesEnded, OpenHalf};
use crate::folds::{Change, Event, Fold, FoldError, Halves};
use crate::membership::Presence;

use super::{Standing, TransactionPolicy};

/// Checks are due at multiples of this.
const SLOT_MS: u64 = 100;
/// Messages that producers are asked about at once take no more, but for the last: they are on their way to them whole.
const ASKED_BYTES_MAX: u64 = 1 << 20;
/// Whoever has not read what it was sent is asked no earlier than after this, in milliseconds.
const BUSY_MS: u64 = 1000;
/// So many places in the schedule are too few for tidying up.
const TIDY_ABOVE: usize = 65_536;

/// What the folds know, and what is on its way to them.
///
/// Memory: besides the fold, 8 to 16 bytes in the schedule for each open transaction, and as much for each that has
/// ended and was not due yet, of which there are at most as many again.
pub(super) struct Open {
    folded: Halves,
    /// Those that somebody is about to end or move, by where their half messages lie. Few: what is not applied yet.
    claims: HashMap<u64, Purpose, RandomState>,
    schedule: Schedule,
    policy: TransactionPolicy,
}

/// Why a transaction is nobody else's just now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    End,
    Move,
    /// A record is in the log that ends it, and consumers get nothing of it.
    Withdrawn,
}

/// What is due.
#[derive(Default)]
pub(super) struct Due {
    /// To be asked about, with how often they were by then.
    pub(super) asked: Vec<(PhysicalOffset, u32)>,
    /// To be given up; these are claimed.
    pub(super) given_up: Vec<OpenHalf>,
}

/// When half messages are to be looked at: by time, and where they lie. What has ended meanwhile, or is due later, is
/// found out when its turn comes.
#[derive(Default)]
struct Schedule {
    slots: BTreeMap<u64, Vec<u64>>,
    places: usize,
}

impl TransactionPolicy {
    /// When a transaction is next due to be asked about, by a clock that shows `now_ms`. The log's time does not go back:
    /// where the clock was set, a half message can have been stored later than it shows, and waits from now on.
    fn due_ms(&self, half: &Half, now_ms: u64) -> u64 {
        let wait_ms = match (half.checks, half.immunity_s) {
            (0, 0) => self.timeout_ms,
            (0, immunity_s) => u64::from(immunity_s) * 1000,
            _ => self.check_interval_ms,
        };
        half.since_ms.min(now_ms).saturating_add(wait_ms)
    }
}

impl Open {
    pub(super) fn new(folded: Halves, policy: TransactionPolicy) -> Self {
        let mut open = Self { folded, claims: HashMap::default(), schedule: Schedule::default(), policy };
        // The engine does so again once it looks at the clock.
        open.reschedule(u64::MAX);
        open
    }

    pub(super) fn folded(&self) -> &Halves {
        &self.folded
    }

    pub(super) fn folded_mut(&mut self) -> &mut Halves {
        &mut self.folded
    }

    pub(super) fn apply(&mut self, event: &Event<'_>, now_ms: u64) -> Result<(), FoldError> {
        let moved = self.folded.awaited();
        self.folded.apply(event)?;
        match &event.change {
            Change::Half(_) => {
                if let Some(from) = moved {
                    self.release(from);
                }
                self.put(event.at, now_ms);
            }
            Change::HalvesEnded(HalvesEnded { ended }) => {
                ended.iter().for_each(|ended| self.release(PhysicalOffset::new(ended.at)));
            }
            Change::HalvesChecked(HalvesChecked { checked }) => {
                checked.iter().for_each(|(at, _)| self.put(PhysicalOffset::new(*at), now_ms));
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn standing(&self, place: PhysicalOffset) -> Standing {
        let Some(found) = self.folded.find(place) else { return Standing::Gone };
        match self.claims.get(&found.at.get()) {
            None => Standing::Open(found),
            Some(Purpose::Move) => Standing::Moving,
            Some(Purpose::End | Purpose::Withdrawn) => Standing::Gone,
        }
    }

    /// The record was appended that ends this transaction, which is claimed, and lets nobody see anything of it.
    pub(super) fn withdraw(&mut self, at: PhysicalOffset) {
        // Unless that was applied meanwhile.
        if let Some(purpose) = self.claims.get_mut(&at.get()) {
            *purpose = Purpose::Withdrawn;
        }
    }

    /// Whether consumers will get nothing of the transaction whose half message lies at this place, or lay there first,
    /// and the folds do not know yet.
    pub(super) fn is_withdrawn(&self, place: PhysicalOffset) -> bool {
        let found = self.folded.find(place);
        found.is_some_and(|half| self.claims.get(&half.at.get()) == Some(&Purpose::Withdrawn))
    }

    /// Claims the transaction whose half message lies here, to end it; says whether that was possible.
    pub(super) fn claim(&mut self, at: PhysicalOffset) -> bool {
        self.claim_for(at, Purpose::End)
    }

    /// Claims those that are open and lie below `below`, as many as `fits` takes, to be moved; and says whether there are
    /// others that are about to end.
    pub(super) fn claim_below(
        &mut self,
        below: PhysicalOffset,
        mut fits: impl FnMut(&OpenHalf) -> bool,
    ) -> (Vec<OpenHalf>, bool) {
        let (mut claimed, mut others) = (Vec::new(), false);
        for half in self.folded.from(PhysicalOffset::ZERO).take_while(|half| half.at < below) {
            if self.claims.contains_key(&half.at.get()) {
                others = true;
            } else if fits(&half) {
                claimed.push(half);
            } else {
                break;
            }
        }
        claimed.iter().for_each(|half| {
            self.claims.insert(half.at.get(), Purpose::Move);
        });
        (claimed, others)
    }

    pub(super) fn release(&mut self, at: PhysicalOffset) {
        self.claims.remove(&at.get());
    }

    /// Schedules the transaction whose half message lies here, if it is open.
    fn put(&mut self, at: PhysicalOffset, now_ms: u64) {
        if self.schedule.places > TIDY_ABOVE + 2 * self.folded.len() {
            self.reschedule(now_ms);
        } else if let Some(found) = self.folded.at(at) {
            self.schedule.put(self.policy.due_ms(&found.half, now_ms), at.get());
        }
    }

    /// Lets this one be looked at again no earlier than then.
    pub(super) fn put_off(&mut self, at: PhysicalOffset, until_ms: u64) {
        self.schedule.put(until_ms, at.get());
    }

    /// Schedules all of them anew, by a clock that shows `now_ms`.
    pub(super) fn reschedule(&mut self, now_ms: u64) {
        self.schedule = Schedule::default();
        for OpenHalf { at, half, .. } in self.folded.from(PhysicalOffset::ZERO) {
            self.schedule.put(self.policy.due_ms(&half, now_ms), at.get());
        }
    }

    /// Takes what is due by now off the schedule, `limit` transactions at most, and no more to ask about than
    /// [`ASKED_BYTES_MAX`]. `age_max_ms` is how long one may wait for a producer; `presence` says whether a group has one.
    pub(super) fn take_due(
        &mut self,
        now_ms: u64,
        limit: usize,
        age_max_ms: Option<u64>,
        presence: impl Fn(&str) -> Presence,
    ) -> Due {
        let mut due = Due::default();
        let mut known: HashMap<&str, Presence, RandomState> = HashMap::default();
        let mut asked_bytes = 0;
        for at in self.schedule.take(now_ms, limit) {
            let Some(found) = self.folded.at(PhysicalOffset::new(at)) else { continue };
            if self.claims.contains_key(&at) {
                // It vanishes, moves, or is open again because that failed.
                self.schedule.put(now_ms + self.policy.check_interval_ms.min(1000), at);
                continue;
            }
            let due_ms = self.policy.due_ms(&found.half, u64::MAX);
            // One that was stored later than the clock shows has waited since it was put here.
            if due_ms > now_ms && found.half.since_ms <= now_ms {
                self.schedule.put(due_ms, at);
                continue;
            }
            let group = self.folded.group(&found.half);
            let presence = *known.entry(group).or_insert_with(|| presence(group));
            let may_be_asked = found.half.checks < self.policy.checks_max;
            let is_too_old =
                || age_max_ms.is_some_and(|max| now_ms.saturating_sub(found.half.since_ms) > max);
            if may_be_asked && presence == Presence::There && asked_bytes < ASKED_BYTES_MAX {
                asked_bytes += u64::from(found.half.record_bytes);
                due.asked.push((found.at, found.half.checks + 1));
            } else if may_be_asked && presence == Presence::There {
                self.schedule.put(now_ms, at);
            } else if may_be_asked && presence == Presence::Busy {
                self.schedule.put(now_ms + BUSY_MS.min(self.policy.check_interval_ms), at);
            } else if !may_be_asked || is_too_old() {
                self.claims.insert(at, Purpose::End);
                due.given_up.push(found);
            } else {
                self.schedule.put(now_ms + self.policy.check_interval_ms, at);
            }
        }
        due
    }

    /// When something is due next.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.schedule.next_ms()
    }

    fn claim_for(&mut self, at: PhysicalOffset, purpose: Purpose) -> bool {
        let is_free = self.folded.at(at).is_some() && !self.claims.contains_key(&at.get());
        if is_free {
            self.claims.insert(at.get(), purpose);
        }
        is_free
    }
}

impl Schedule {
    fn put(&mut self, due_ms: u64, at: u64) {
        // Rounded up: a slot's turn comes when all of it is due.
        self.slots.entry(due_ms.div_ceil(SLOT_MS)).or_default().push(at);
        self.places += 1;
    }

    fn take(&mut self, now_ms: u64, limit: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(mut slot) = self.slots.first_entry().filter(|slot| *slot.key() <= now_ms / SLOT_MS)
        {
            let left = limit - taken.len();
            if slot.get().len() <= left {
                taken.append(&mut slot.remove());
            } else {
                let rest = slot.get_mut().split_off(left);
                taken.append(&mut mem::replace(slot.get_mut(), rest));
            }
        }
        self.places -= taken.len();
        taken
    }

    fn next_ms(&self) -> Option<u64> {
        self.slots.first_key_value().map(|(slot, _)| slot * SLOT_MS)
    }
}

#[cfg(test)]
mod tests;
