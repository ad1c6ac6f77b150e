//! Checking a whole log.

use std::error::Error;
use std::path::Path;

use skylark_storage::{Options, PhysicalOffset};

use super::appenders::RunningLog;
use super::devices::Choice;

/// How it is checked, for the table.
pub const HOW: &str = "scan of the open log, one thread";

/// Checks every record, group and link of a log that nobody else has open; how many bytes were checked.
///
/// # Errors
/// When the log is damaged.
pub fn verify(log: &Path, choice: Choice) -> Result<u64, Box<dyn Error>> {
    let running = RunningLog::open_at(log, choice, Options::default());
    let groups = running.log.scan(PhysicalOffset::ZERO);
    let bytes = groups.map(|group| Ok(group?.bytes.len() as u64)).sum::<Result<u64, Box<dyn Error>>>()?;
    running.close();
    Ok(bytes)
}
