//! How the broker's own state changes: every change is a record, decided on what the folds have applied.

use skylark_storage::{AppendError, Kind, NewRecord, PhysicalOffset};

use crate::audit;
use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::folds::Change;
use crate::folds::audit::Mover;
use crate::folds::groups::GroupDeleted;
use crate::folds::offsets::{OffsetsCommitted, OffsetsReset, TopicCommits};
use crate::folds::payload::Payload;
use crate::folds::topics::TopicDeleted;
use crate::pops::Live;

/// A record of the broker's own state, ready to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlRecord {
    /// One of [`crate::folds::kinds`].
    pub kind: Kind,
    /// A version byte, and what that version says.
    pub payload: Vec<u8>,
}

impl ControlRecord {
    /// The record that says this.
    pub fn of<P: Payload>(change: &P) -> Self {
        Self { kind: P::KIND, payload: change.encode() }
    }
}

/// Why a change was not begun. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// An earlier change has to be applied first.
    #[error("a change before {until} is not applied yet")]
    Unsettled {
        /// Before which position it is.
        until: PhysicalOffset,
    },
    /// The log does not take it.
    #[error("{0}")]
    Refused(#[from] AppendError),
}

/// Offsets in one record, at most: a record must stay well below what a group can hold.
const COMMITS_MAX: usize = 10_000;

impl Broker {
    /// Changes topics or groups: `decide` looks at the catalog and gives the records of the change, which become one
    /// append unit. Says before which position the folds must be for the change to hold; `None` if there is none.
    ///
    /// One change at a time: each decision is made on a catalog that has applied all changes before, so that making
    /// a topic for its first send cannot undo what an operator has just said about it.
    ///
    /// # Errors
    /// When an earlier change is still on its way, or the log takes no append.
    pub fn change(
        &self,
        decide: impl FnOnce(&Catalog) -> Vec<ControlRecord>,
    ) -> Result<Option<PhysicalOffset>, ChangeError> {
        let mut latest = self.latest_change.lock();
        if self.applied.get() < *latest {
            return Err(ChangeError::Unsettled { until: *latest });
        }
        let records = decide(&self.catalog.read());
        if records.is_empty() {
            return Ok(None);
        }
        *latest = self.append_control(&records)?;
        Ok(Some(*latest))
    }

    /// Appends a record of the broker's own state, and says where it ends.
    ///
    /// # Errors
    /// When the log does not take it.
    pub fn append_one<P: Payload>(&self, change: &P) -> Result<PhysicalOffset, AppendError> {
        self.append_control(&[ControlRecord::of(change)])
    }

    /// Moves a group in topics, all or none, which has nothing to do with what it popped before; says before which position
    /// the folds must be for the move to be complete, unless there is nothing to move. From now on commits of the group's
    /// consumers are not taken until they have gone where they are sent. Who did it is part of the unit.
    ///
    /// # Errors
    /// When the log does not take it; nothing has changed.
    pub fn reset_offsets(
        &self,
        resets: Vec<OffsetsReset>,
        by: &Mover,
    ) -> Result<Option<PhysicalOffset>, AppendError> {
        let _order = self.commit_order.enter();
        self.reset_in_turn(&mut self.pops.live(), resets, by)
    }

    /// Moves a group; the caller holds the order of commits.
    fn reset_in_turn(
        &self,
        pops: &mut Live,
        resets: Vec<OffsetsReset>,
        by: &Mover,
    ) -> Result<Option<PhysicalOffset>, AppendError> {
        let moves = {
            let progress = self.offsets.lock();
            let moves =
                |reset: &OffsetsReset| audit::moves_to(&progress, &reset.group, &reset.topic, &reset.offsets);
            resets.iter().map(moves).collect()
        };
        let mut records: Vec<_> = resets.iter().map(ControlRecord::of).collect();
        let Some(trail) = self.audit.record(by, moves) else { return Ok(None) };
        records.push(trail);
        let end = self.append_control(&records)?;
        for reset in resets {
            pops.changed(Change::OffsetsReset(reset.clone()), end);
            self.offsets.lock().reset(reset, end, self.applied.get());
        }
        Ok(Some(end))
    }

    /// A group goes on at `offset` in a queue, says somebody else than its consumers. Says before which position the folds
    /// must be for it to be known who that was; nothing if a reset is pending, which holds whatever is committed.
    ///
    /// A group that pops there is moved as by a reset: its progress follows from what it has popped, which would undo
    /// the commit. That holds until somebody has popped there; from then on whoever is certain to be an operator moves it again.
    ///
    /// # Errors
    /// When the log does not take it; nothing has changed.
    pub fn commit_for(
        &self,
        (group, topic, queue): (&str, &str, u32),
        offset: u64,
        by: &Mover,
        is_certain: bool,
    ) -> Result<Option<PhysicalOffset>, AppendError> {
        let _order = self.commit_order.enter();
        let mut pops = self.pops.live();
        let offsets = vec![(queue, offset)];
        let is_reset = self.offsets.lock().is_reset(group, topic, queue);
        let is_popped = pops.position(group, topic, queue).is_some();
        // Nobody pulls where a group pops: a reset would stay pending there for good, so an operator may go on.
        if is_reset && !(is_popped && is_certain) {
            return Ok(None);
        }
        if is_popped {
            let reset = OffsetsReset { group: group.to_owned(), topic: topic.to_owned(), offsets };
            return self.reset_in_turn(&mut pops, vec![reset], by);
        }
        let moves = audit::moves_to(&self.offsets.lock(), group, topic, &offsets);
        let commits = TopicCommits { group: group.to_owned(), topic: topic.to_owned(), offsets };
        let mut records = vec![ControlRecord::of(&OffsetsCommitted { commits: vec![commits] })];
        records.extend(self.audit.record(by, vec![moves]));
        let end = self.append_control(&records)?;
        // It is seen at once, and goes into the log once more with what consumers commit: nobody else's commit can then
        // come between the two.
        self.offsets.lock().commit(group, topic, queue, offset);
        Ok(Some(end))
    }

    /// Changes topics or groups as [`Broker::change`] does, in a way that makes offsets void: commits that wait for
    /// their turn must not follow it into the log, so they are dropped.
    ///
    /// # Errors
    /// As for [`Broker::change`].
    pub fn delete(
        &self,
        decide: impl FnOnce(&Catalog) -> Vec<ControlRecord>,
    ) -> Result<Option<PhysicalOffset>, ChangeError> {
        let _order = self.commit_order.enter();
        let mut pops = self.pops.live();
        let mut records = Vec::new();
        let changed = self.change(|catalog| {
            records = decide(catalog);
            records.clone()
        });
        if let Ok(Some(end)) = changed {
            for ControlRecord { kind, payload } in records {
                let change = Change::decode(kind, &payload).expect("what was encoded here can be decoded");
                match &change {
                    Change::TopicDeleted(TopicDeleted { topic }) => {
                        self.offsets.lock().overlay().forget_topic(topic);
                    }
                    Change::GroupDeleted(GroupDeleted { group, with_offsets: true }) => {
                        self.offsets.lock().overlay().forget_group(group);
                    }
                    _ => {}
                }
                pops.changed(change, end);
            }
        }
        changed
    }

    fn append_control(&self, records: &[ControlRecord]) -> Result<PhysicalOffset, AppendError> {
        let payloads: Vec<[&[u8]; 1]> = records.iter().map(|record| [&*record.payload]).collect();
        let record = |(record, rest): (&ControlRecord, _)| NewRecord { kind: record.kind, head: &[], rest };
        let unit: Vec<_> = records.iter().zip(payloads.iter().map(|rest| &rest[..])).map(record).collect();
        Ok(self.log.append(&unit, |_, _, _| {})?.end)
    }

    /// What has to happen every [`COMMIT_INTERVAL`](crate::broker::COMMIT_INTERVAL): makes the offsets that consumers have committed durable.
    ///
    /// # Errors
    /// As for an append; the offsets stay dirty and are tried again.
    pub fn commit_offsets(&self) -> Result<(), AppendError> {
        loop {
            let _order = self.commit_order.enter();
            let Some(record) = self.offsets.lock().overlay().take_dirty(COMMITS_MAX) else { return Ok(()) };
            match self.append_one(&record) {
                Ok(end) => self.offsets.lock().overlay().appended(end),
                Err(error) => {
                    self.offsets.lock().overlay().put_back();
                    return Err(error);
                }
            }
        }
    }
}
