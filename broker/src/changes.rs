//! How the broker's own state changes: every change is a record, decided on what the folds have applied.

use skylark_storage::{AppendError, Kind, NewRecord, PhysicalOffset};

use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::folds::OffsetsOverlay;
use crate::folds::offsets::OffsetsReset;
use crate::folds::payload::Payload;

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

    /// Moves a group in a topic, and says before which position the folds must be for the move to be complete. From
    /// now on commits of the group's consumers are not taken until they have gone where they are sent.
    ///
    /// # Errors
    /// When the log does not take it; nothing has changed.
    pub fn reset_offsets(&self, reset: OffsetsReset) -> Result<PhysicalOffset, AppendError> {
        let _order = self.commit_order.enter();
        let end = self.append_one(&reset)?;
        self.offsets.lock().reset(reset, end, self.applied.get());
        Ok(end)
    }

    /// Changes topics or groups as [`Broker::change`] does, in a way that makes offsets void: commits that wait for
    /// their turn must not follow it into the log, so `forget` drops them.
    ///
    /// # Errors
    /// As for [`Broker::change`].
    pub fn delete(
        &self,
        decide: impl FnOnce(&Catalog) -> Vec<ControlRecord>,
        forget: impl FnOnce(&mut OffsetsOverlay),
    ) -> Result<Option<PhysicalOffset>, ChangeError> {
        let _order = self.commit_order.enter();
        let changed = self.change(decide);
        if let Ok(Some(_)) = changed {
            forget(self.offsets.lock().overlay());
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
