//! Checking a whole log.

use std::error::Error;
use std::path::Path;
use std::thread;

use skylark_storage::device::read_only::ReadOnlyDirectory;
use skylark_storage::inspect::Inspection;

/// How it is checked, for the table.
pub const HOW: &str = "as `skylark log verify`, two threads for each core";

/// Checks every record, group and link of a log that nobody has open, as it was left; how many bytes were checked.
///
/// # Errors
/// When the log is damaged.
pub fn verify(log: &Path) -> Result<u64, Box<dyn Error>> {
    let files = ReadOnlyDirectory::open(log)?;
    let threads = thread::available_parallelism().map_or(1, |cores| 2 * cores.get());
    let report = Inspection::open(&files, false)?.verify(threads, &|_| ())?;
    if report.damages > 0 {
        return Err(format!("{} places of the log are damaged", report.damages).into());
    }
    Ok(report.checked_bytes)
}
