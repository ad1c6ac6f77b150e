//! The journal of a nameserver that is alone: a file that is written anew with each change.
//!
//! It has the name and the text of Apache's, `kvConfig.json` with `{"configTable":{namespace:{key:value}}}`, so
//! either nameserver goes on with the other's. A change is written under a temporary name, synced, and only then
//! given the file's name: a power cut leaves the configuration before the change or the one after it.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skylark_protocol::json;
use skylark_storage::device::Files;

use crate::{JournalError, KvChange, KvJournal, KvTables, Recorded};

/// The configuration.
const FILE: &str = "kvConfig.json";
/// The next one, until it is whole.
const NEXT: &str = "kvConfig.json.new";
/// Locked while a nameserver uses the directory.
const LOCK: &str = "lock";

/// Larger files are not read. What a nameserver takes is far below, however it is escaped.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A journal in a file.
///
/// Recording blocks for as long as the disk takes to make one small file durable. Only operators cause it.
pub struct FileJournal {
    files: Arc<dyn Files>,
    /// What the file holds.
    tables: KvTables,
    _lock: Box<dyn Send + Sync>,
}

/// Why a journal cannot be used. The file is untouched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Two that write the same file would lose each other's changes.
    #[error("{directory} is used by another nameserver")]
    InUse {
        /// The directory.
        directory: String,
    },
    /// The file is not what a nameserver writes.
    #[error(
        "{FILE} in {directory} is damaged: {reason}; \
         put a sound one in its place, or move it away to begin without key-value configuration"
    )]
    Damaged {
        /// The directory.
        directory: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk failed.
    #[error("cannot read {FILE} in {directory}: {error}")]
    Disk {
        /// The directory.
        directory: String,
        /// How.
        #[source]
        error: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wrapper<T> {
    config_table: T,
}

impl FileJournal {
    /// Opens the journal in a directory and tells what it holds: nothing if there is none yet.
    ///
    /// # Errors
    /// When it is damaged, used by somebody else, or cannot be read.
    pub fn open(files: Arc<dyn Files>) -> Result<(Self, KvTables), OpenError> {
        let directory = files.describe();
        let lock = files.lock(LOCK).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse { directory: directory.clone() },
            _ => OpenError::Disk { directory: directory.clone(), error },
        })?;
        let tables =
            match read(&*files).map_err(|error| OpenError::Disk { directory: directory.clone(), error })? {
                Contents::Absent => KvTables::default(),
                Contents::TooLarge { bytes } => {
                    let reason = format!("it has {bytes} bytes, at most {FILE_BYTES_MAX} are read");
                    return Err(OpenError::Damaged { directory, reason });
                }
                Contents::Text(text) => match json::read(&text) {
                    Ok(Wrapper { config_table }) => config_table,
                    Err(error) => return Err(OpenError::Damaged { directory, reason: error.to_string() }),
                },
            };
        Ok((Self { files, tables: tables.clone(), _lock: lock }, tables))
    }

    fn write(&self, tables: &KvTables) -> Result<(), JournalError> {
        let refused = |error: io::Error| JournalError::Refused { reason: error.to_string() };
        // One may be left of a write that failed or that a power cut ended.
        match self.files.remove(NEXT) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
            _ => {}
        }
        let next = self.files.create(NEXT).map_err(refused)?;
        let text = json::to_vec(&Wrapper { config_table: tables });
        next.write_at(0, &text).and_then(|()| next.sync()).map_err(refused)?;
        // From here on a restart may find the change, whatever fails.
        let named = self.files.rename(NEXT, FILE).and_then(|()| self.files.sync_directory(""));
        named.map_err(|error| JournalError::Unknown { reason: error.to_string() })
    }
}

impl KvJournal for FileJournal {
    fn record(&mut self, change: &KvChange) -> Result<Recorded, JournalError> {
        let mut tables = self.tables.clone();
        tables.apply(change);
        if tables != self.tables {
            self.write(&tables)?;
            self.tables = tables;
        }
        Ok(Recorded::Now)
    }
}

enum Contents {
    Absent,
    TooLarge { bytes: u64 },
    Text(Vec<u8>),
}

fn read(files: &dyn Files) -> io::Result<Contents> {
    if !files.list("")?.iter().any(|name| name == FILE) {
        return Ok(Contents::Absent);
    }
    let file = files.open(FILE)?;
    let bytes = file.len()?;
    let Some(length) = usize::try_from(bytes).ok().filter(|_| bytes <= FILE_BYTES_MAX) else {
        return Ok(Contents::TooLarge { bytes });
    };
    let mut text = vec![0; length];
    let read = file.read_at(0, &mut text)?;
    text.truncate(read);
    Ok(Contents::Text(text))
}

#[cfg(test)]
mod tests;
