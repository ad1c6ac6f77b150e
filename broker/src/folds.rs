//! The broker's state besides its messages: values computed by applying the log's records in order.
//!
//! ```text
//! record ──► Change ──► Topics, Groups, Offsets, Heads, LockOwners, Timers, Halves, Pops, … ──► what handlers answer from
//! ```
//!
//! Each fold depends on the records alone: no clock, no configuration, no other fold. So leader and follower, and a
//! broker before and after a restart, hold the same state at the same position; [`Fold::hash`] compares them.
//!
//! | to change…                              | open                                      |
//! |-----------------------------------------|-------------------------------------------|
//! | which kinds of records there are        | `kinds`                                   |
//! | how control records are laid out        | `payload`, and the fold they belong to    |
//! | what a fold is                          | `fold`                                    |
//! | what is kept of topics, groups, offsets | `topics`, `groups`, `offsets`             |
//! | where a queue goes on                   | `heads`                                   |
//! | which delayed messages were delivered   | `timers`                                  |
//! | which transactions are open             | `halves`                                  |
//! | who consumes which queue in order       | `locks`                                   |
//! | what the nameserver inside is told      | `kv`                                      |
//! | which popped messages are in flight     | `pops`                                    |
//! | whether a group pulls or pops           | `request_modes`                           |
//! | who moved which offset                  | `audit`                                   |
//! | which dead letters were dealt with      | `dead_letters`                            |
//! | what a producer has sent before         | `duplicates`                              |
//! | commits that are not in the log yet     | `overlay`                                 |

pub mod audit;
pub mod dead_letters;
pub mod duplicates;
pub mod fold;
pub mod groups;
pub mod halves;
pub mod heads;
pub mod kinds;
pub mod kv;
pub mod locks;
pub mod offsets;
pub mod overlay;
pub mod payload;
pub mod pops;
pub mod request_modes;
pub mod timers;
pub mod topics;
pub mod version;

pub use audit::Trail;
pub use dead_letters::DeadLetters;
pub use duplicates::DuplicateWindow;
pub use fold::{Event, Fold, FoldError, SnapshotError};
pub use groups::Groups;
pub use halves::Halves;
pub use heads::Heads;
pub use kinds::Change;
pub use kv::Kv;
pub use locks::LockOwners;
pub use offsets::Offsets;
pub use overlay::OffsetsOverlay;
pub use pops::Pops;
pub use request_modes::RequestModes;
pub use timers::Timers;
pub use topics::Topics;

#[cfg(test)]
mod tests;
