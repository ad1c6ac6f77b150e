//! Snapshots: what the folds and the index had come to at a place in the log, so that a restart need not begin at
//! the log's beginning, and the beginning can be given up.
//!
//! A snapshot is a file, `snapshots/<position>.snap`, the position in 20 decimal digits: the physical offset of a
//! segment's first byte. It is disposable for as long as the log reaches back to where it would be folded from; once
//! the log has been trimmed it is part of the truth. Hence two generations: the log is never trimmed beyond the older
//! of two that were read back and found whole.
//!
//! # The bytes
//!
//! Integers are little-endian. *Seed* is the CRC32C of the log's id; checksums start from it, so that a snapshot of
//! another log never validates. A header of 72 bytes, then the lists, then the sections one behind the other, in the
//! table's order, without gaps; the file ends with the last of them.
//!
//! | at | bytes | field            | meaning                                                                     |
//! |---:|------:|------------------|-----------------------------------------------------------------------------|
//! |  0 |     8 | `magic`          | `SKYLKSNP`                                                                  |
//! |  8 |     4 | `format_version` | 1                                                                           |
//! | 12 |     4 | `epoch`          | of the last record below `position`; 0 when there is none                   |
//! | 16 |    16 | `log_id`         | which log                                                                   |
//! | 32 |     8 | `position`       | everything below it is covered, nothing above it                            |
//! | 40 |     8 | `oldest_segment` | where the log began when this was taken                                     |
//! | 48 |     4 | `chain`          | what the first group at or behind `position` carries                        |
//! | 52 |     4 | `epochs`         | entries of the epoch list                                                   |
//! | 56 |     4 | `sections`       | entries of the table of sections, at most 256                               |
//! | 60 |     4 | `lists_crc`      | CRC32C, from the seed, of the epoch list and the table                      |
//! | 64 |     4 | `crc`            | CRC32C, from the seed, of the 64 bytes before                               |
//! | 68 |     4 | `zero`           | zero                                                                        |
//!
//! Where magic, version and `crc` stand is the same in every format version, so that another version can be told
//! from damage, and is refused by name.
//!
//! The **epoch list**, 16 bytes an entry, oldest first:
//!
//! | at | bytes | field   | meaning                             |
//! |---:|------:|---------|-------------------------------------|
//! |  0 |     8 | `start` | where the epoch began               |
//! |  8 |     4 | `epoch` | which; larger than in the one before |
//! | 12 |     4 | `zero`  | zero                                |
//!
//! The **table of sections**, 16 bytes an entry:
//!
//! | at | bytes | field   | meaning                                     |
//! |---:|------:|---------|---------------------------------------------|
//! |  0 |     1 | `id`    | whose state; larger than in the one before  |
//! |  1 |     3 | `zero`  | zero                                        |
//! |  4 |     4 | `crc`   | CRC32C, from the seed, of the section       |
//! |  8 |     8 | `bytes` | its length                                  |

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use skylark_storage::{Chain, CommitLog, Epoch, EpochStart, File, Files, LogId, PhysicalOffset, ReadError};

pub use format::Damage;

mod format;

/// The directory of the snapshots.
const DIRECTORY: &str = "snapshots";
/// How many are kept.
const GENERATIONS: usize = 2;

/// Which log a snapshot belongs to, and how much of it it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// Which log.
    pub log_id: LogId,
    /// Everything below is covered, nothing above: a segment's base.
    pub position: PhysicalOffset,
    /// Of the last record below the position; zero when there is none.
    pub epoch: Epoch,
    /// What the first group at or behind the position carries: proves which history is covered.
    pub chain: Chain,
    /// Where the log began when this was taken.
    pub oldest_segment: PhysicalOffset,
    /// The epochs of the log, oldest first, past what has been trimmed.
    pub epochs: Vec<EpochStart>,
}

/// The state of every fold, and of the index, as of one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// As of where.
    pub head: SnapshotHead,
    /// Whose state, and what it is.
    pub sections: BTreeMap<u8, Vec<u8>>,
}

/// Why a sound snapshot says nothing about a log.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// It was taken of another log.
    #[error("it belongs to log {found}, this one is {expected}")]
    AnotherLog {
        /// As stored.
        found: LogId,
        /// The log at hand.
        expected: LogId,
    },
    /// It covers bytes that the log does not have.
    #[error("it covers everything below {position}, the log ends at {durable_end}")]
    Ahead {
        /// As stored.
        position: PhysicalOffset,
        /// The log's durable end.
        durable_end: PhysicalOffset,
    },
    /// What would have to be folded on top of it is gone.
    #[error("it ends at {position}, the log begins behind that, at {trimmed}")]
    Behind {
        /// As stored.
        position: PhysicalOffset,
        /// The log's first byte.
        trimmed: PhysicalOffset,
    },
    /// Other records stand below its position than those it was folded from.
    #[error("the log has another history below {position}")]
    AnotherHistory {
        /// As stored.
        position: PhysicalOffset,
    },
    /// Nothing is known about it, because the log could not be asked.
    #[error("the log cannot be compared with it: {0}")]
    Unknown(ReadError),
}

impl SnapshotHead {
    /// Whether the snapshot was folded from this very log, which reaches back to where it ends. May block.
    ///
    /// # Errors
    /// When it was not, or the log could not be read.
    pub fn check<T: Send + 'static>(&self, log: &CommitLog<T>) -> Result<(), Mismatch> {
        let Self { position, log_id: found, .. } = *self;
        let expected = log.log_id();
        if found != expected {
            return Err(Mismatch::AnotherLog { found, expected });
        }
        let frontiers = log.frontiers();
        let (trimmed, durable_end) = (frontiers.trimmed, frontiers.durable_end);
        if position < trimmed {
            return Err(Mismatch::Behind { position, trimmed });
        }
        if position > durable_end {
            return Err(Mismatch::Ahead { position, durable_end });
        }
        match log.chain_at(position).map_err(Mismatch::Unknown)? {
            Some(point) if point.chain == self.chain && point.epoch == self.epoch => Ok(()),
            _ => Err(Mismatch::AnotherHistory { position }),
        }
    }
}

/// The snapshots of a data directory.
///
/// A generation counts once it was read back and found whole, by the process that wrote it or by a later one. There
/// are at most two, and a third one comes before the first one goes.
pub struct Snapshots {
    files: Arc<dyn Files>,
    /// Those that count, newest first.
    generations: Vec<SnapshotHead>,
}

/// Why a file was not read as a snapshot.
enum Unreadable {
    /// The disk refused; another attempt may succeed.
    Io(io::Error),
    /// It is none, for good.
    Damaged(Damage),
}

impl Snapshots {
    /// The snapshots in the directory, none of which counts before [`Self::newest`]. What was not finished is removed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(files: Arc<dyn Files>) -> io::Result<Self> {
        for name in files.list(DIRECTORY)?.iter().filter(|name| name.ends_with(".tmp")) {
            files.remove(&format!("{DIRECTORY}/{name}"))?;
        }
        Ok(Self { files, generations: Vec::with_capacity(GENERATIONS + 1) })
    }

    /// The newest snapshot that is whole and that `matches` accepts. The one before it is verified too, and counts.
    ///
    /// Those that are damaged or refused, and those behind the two, are removed and reported. One that the disk does
    /// not give is passed over, and left to the next [`Self::write`].
    ///
    /// # Errors
    /// When the disk refuses, a snapshot is another release's, or `matches` does not know.
    pub fn newest(
        &mut self,
        matches: impl Fn(&SnapshotHead) -> Result<(), Mismatch>,
    ) -> io::Result<Option<Snapshot>> {
        self.generations.clear();
        let mut newest = None;
        let mut removed = false;
        for position in self.positions()?.into_iter().rev() {
            let mut sections = BTreeMap::new();
            let read = if self.generations.len() == GENERATIONS {
                tracing::info!(position = position.get(), "a snapshot that is not needed is removed");
                Ok(None)
            } else {
                self.read(&snapshot_name(position), |id, bytes| {
                    if newest.is_none() {
                        sections.insert(id, bytes);
                    }
                })
                .and_then(|head| match head.position == position {
                    true => Ok(Some(head)),
                    false => Err(Damage::Misplaced { found: head.position }.into()),
                })
            };
            let head = match read {
                Ok(head) => head,
                Err(Unreadable::Io(error)) => {
                    tracing::error!(position = position.get(), %error, "a snapshot cannot be read");
                    continue;
                }
                Err(Unreadable::Damaged(damage @ Damage::FormatVersion { .. })) => {
                    let what = format!("{}: {damage}", snapshot_name(position));
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                Err(Unreadable::Damaged(damage)) => {
                    tracing::error!(position = position.get(), %damage, "a damaged snapshot is removed");
                    None
                }
            };
            let head = match head.map(|head| matches(&head).map(|()| head)).transpose() {
                Ok(head) => head,
                Err(unknown @ Mismatch::Unknown(_)) => return Err(io::Error::other(unknown)),
                Err(mismatch) => {
                    tracing::warn!(position = position.get(), %mismatch, "a snapshot that says nothing about this log is removed");
                    None
                }
            };
            match head {
                Some(head) => {
                    self.generations.push(head.clone());
                    newest.get_or_insert(Snapshot { head, sections });
                }
                None => {
                    self.files.remove(&snapshot_name(position))?;
                    removed = true;
                }
            }
        }
        if removed {
            self.files.sync_directory(DIRECTORY)?;
        }
        Ok(newest)
    }

    /// Stores a snapshot, and lets go of all but the two newest.
    ///
    /// It gets its name only once it was flushed, read back and found to be what was to be written: no other file is
    /// touched before.
    ///
    /// # Errors
    /// When the disk refuses, or does not give back what it was given. Nothing has changed then, and the same may be
    /// tried again.
    pub fn write(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let position = snapshot.head.position;
        let unfinished = format!("{DIRECTORY}/{:020}.tmp", position.get());
        let stored = self
            .write_to(&unfinished, snapshot)
            .and_then(|()| self.files.rename(&unfinished, &snapshot_name(position)))
            // Until the name is durable a power cut can lose the snapshot, and a trim must not rely on it.
            .and_then(|()| self.files.sync_directory(DIRECTORY));
        if let Err(error) = stored {
            // Gives its space back. Where even that fails, the next attempt or the next opening does it.
            if let Err(left) = self.files.remove(&unfinished) {
                tracing::debug!(error = %left, "an unfinished snapshot is left, or was named already");
            }
            return Err(error);
        }
        self.generations.retain(|generation| generation.position != position);
        self.generations.push(snapshot.head.clone());
        self.generations.sort_by_key(|generation| std::cmp::Reverse(generation.position));
        self.generations.truncate(GENERATIONS);
        if let Err(error) = self.remove_superseded() {
            tracing::warn!(%error, "an old snapshot is left; this is tried again with the next one");
        }
        Ok(())
    }

    /// Where the log may begin at most: at the position of the older of two generations. `None` while there are fewer
    /// than two, when it must not be trimmed.
    pub fn trim_limit(&self) -> Option<PhysicalOffset> {
        self.generations.get(1).map(|older| older.position)
    }

    /// Where the log began when the older of two generations was taken: no fold that begins with either of them asks
    /// for what was indexed below.
    pub fn older_oldest_segment(&self) -> Option<PhysicalOffset> {
        self.generations.get(1).map(|older| older.oldest_segment)
    }

    /// Removes the snapshots that cover anything behind `cut`, durably: before the log is cut there, because what
    /// comes to stand behind it is something else.
    ///
    /// # Errors
    /// When the disk refuses. The log must not be cut then.
    pub fn remove_from(&mut self, cut: PhysicalOffset) -> io::Result<()> {
        self.generations.retain(|generation| generation.position <= cut);
        for position in self.positions()?.into_iter().filter(|position| *position > cut) {
            self.files.remove(&snapshot_name(position))?;
        }
        self.files.sync_directory(DIRECTORY)
    }

    /// Of every snapshot in the directory, whether it counts or not, lowest first.
    fn positions(&self) -> io::Result<Vec<PhysicalOffset>> {
        let names = self.files.list(DIRECTORY)?;
        let mut positions: Vec<_> = names.iter().filter_map(|name| snapshot_position(name)).collect();
        positions.sort_unstable();
        Ok(positions)
    }

    fn remove_superseded(&self) -> io::Result<()> {
        if self.generations.len() < GENERATIONS {
            return Ok(());
        }
        for position in self.positions()? {
            if self.generations.iter().all(|generation| generation.position != position) {
                self.files.remove(&snapshot_name(position))?;
            }
        }
        Ok(())
    }

    /// Writes, flushes, and reads back.
    fn write_to(&self, name: &str, snapshot: &Snapshot) -> io::Result<()> {
        let file = match self.files.create(name) {
            // Of an attempt that failed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.files.remove(name)?;
                self.files.create(name)?
            }
            created => created?,
        };
        let front = format::front(snapshot)?;
        file.write_at(0, &front)?;
        let mut at = front.len() as u64;
        for bytes in snapshot.sections.values() {
            file.write_at(at, bytes)?;
            at += bytes.len() as u64;
        }
        file.sync()?;
        drop(file);
        let mut same = 0;
        let read = self.read(name, |id, bytes| {
            same += usize::from(snapshot.sections.get(&id) == Some(&bytes));
        });
        match read {
            Ok(head) if head == snapshot.head && same == snapshot.sections.len() => Ok(()),
            Err(Unreadable::Io(error)) => Err(error),
            Err(Unreadable::Damaged(damage)) => Err(io::Error::new(io::ErrorKind::InvalidData, damage)),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "another snapshot was read back")),
        }
    }

    /// Reads and checks the whole file, a section at a time.
    fn read(&self, name: &str, mut take: impl FnMut(u8, Vec<u8>)) -> Result<SnapshotHead, Unreadable> {
        let file = self.files.open(name)?;
        let file_bytes = file.len()?;
        let header = format::Header::parse(&read_exact(&*file, 0, format::HEADER_BYTES)?)?;
        let mut at = format::HEADER_BYTES;
        // Checked against the file's length before it sizes anything.
        let lists_bytes = header.lists_bytes();
        if file_bytes.saturating_sub(at) < lists_bytes {
            return Err(Damage::Length { file_bytes, expected: at.saturating_add(lists_bytes) }.into());
        }
        let (head, table) = header.parse_lists(&read_exact(&*file, at, lists_bytes)?)?;
        at += lists_bytes;
        let sections_bytes = table.iter().fold(0_u64, |sum, section| sum.saturating_add(section.bytes));
        let expected = at.saturating_add(sections_bytes);
        if file_bytes != expected {
            return Err(Damage::Length { file_bytes, expected }.into());
        }
        for section in table {
            let bytes = read_exact(&*file, at, section.bytes)?;
            at += section.bytes;
            section.check(head.log_id, &bytes)?;
            take(section.id, bytes);
        }
        Ok(head)
    }
}

/// So many bytes; fewer where the file ends.
fn read_exact(file: &dyn File, at: u64, bytes: u64) -> Result<Vec<u8>, Unreadable> {
    let mut buffer = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    let read = file.read_at(at, &mut buffer)?;
    buffer.truncate(read);
    Ok(buffer)
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Damage> for Unreadable {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

fn snapshot_name(position: PhysicalOffset) -> String {
    format!("{DIRECTORY}/{:020}.snap", position.get())
}

/// The position that a file name in `snapshots/` stands for, if it is a snapshot's.
fn snapshot_position(name: &str) -> Option<PhysicalOffset> {
    let digits = name.strip_suffix(".snap").filter(|digits| digits.len() == 20)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok().map(PhysicalOffset::new))?
}

#[cfg(test)]
mod tests;
