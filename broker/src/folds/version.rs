//! How often a table has changed.

use serde::{Deserialize, Serialize};

/// Version of a table of topics or groups, by which name servers and tools notice changes.
///
/// It follows from the records alone: two replicas that applied the same ones answer with the same version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DataVersion {
    /// Compared before the others; for elections, zero until then.
    pub state_version: u64,
    /// How many changes there were.
    pub counter: u64,
    /// When the latest change was stored, in milliseconds since 1970.
    pub timestamp: u64,
}

impl DataVersion {
    /// Counts a change that was stored at this time.
    pub fn bump(&mut self, stored_at: u64) {
        self.counter += 1;
        self.timestamp = stored_at;
    }
}
