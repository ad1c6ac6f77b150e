//! What a recovery came to, for its caller and for a person.

use std::fmt;

use super::error::Corruption;
use crate::offset::PhysicalOffset;

/// Bytes that the disk refused to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The file, in the data directory.
    pub file: String,
    /// Where in the file they begin.
    pub position: u64,
    /// How many there are.
    pub bytes: u64,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, position, bytes } = self;
        write!(f, "{bytes} bytes of {file} from byte {position} on")
    }
}

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// There was no log: this opening created it.
    pub created: bool,
    /// The log had been closed.
    pub clean: bool,
    /// Segments that are named.
    pub segments: u64,
    /// The log's first byte.
    pub start: PhysicalOffset,
    /// The log's end.
    pub end: PhysicalOffset,
    /// Bytes from where the scan began to the end.
    pub scanned_bytes: u64,
    /// Groups in them.
    pub scanned_groups: u64,
    /// Bytes searched for witnesses behind the end.
    pub searched_bytes: u64,
    /// Bytes that could be read but were not known to be durable, and were written again.
    pub rewritten_bytes: u64,
    /// Bytes behind the end, in whole blocks, that were not zero, and are now.
    pub cut_bytes: u64,
    /// A group behind the end vouches for bytes that are missing, but a leader wrote it, not this node. What was
    /// acknowledged may be missing here: leave the in-sync set and fetch again.
    pub doubt: bool,
    /// One of the checkpoint's slots was damaged, which a power cut during a checkpoint explains.
    pub slot_damaged: bool,
    /// What the disk refused to read, and the log can do without. A slot of the checkpoint, and what lies behind the end,
    /// is written again and can be read then. What is below the end stays so: whoever reads there is told.
    pub unreadable: Vec<Unreadable>,
    /// Files that belonged to no named segment, and were removed; by a repair, segments were set aside.
    pub removed: Vec<String>,
    /// The files, `*.given-up`, that a repair keeps what it gave up in: whole segments, and what could be read behind the
    /// end in the segment that was cut. It may be all that is left of something.
    pub set_aside: Vec<String>,
    /// The corruption that was cut at the operator's request: the first that was found.
    pub repaired: Option<Corruption>,
}

impl fmt::Display for RecoveryReport {
    /// One line that says what was kept, and what was not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.created {
            return f.write_str("a new log was created");
        }
        let Self { start, end, segments, scanned_bytes, scanned_groups, .. } = self;
        write!(f, "kept {start} to {end} in {segments} segments")?;
        if self.clean && *scanned_bytes == 0 {
            f.write_str("; it had been closed")?;
        } else {
            write!(f, "; {scanned_groups} groups of {scanned_bytes} bytes lay behind the last checkpoint")?;
        }
        if self.rewritten_bytes > 0 {
            write!(f, ", {} bytes written again", self.rewritten_bytes)?;
        }
        match self.cut_bytes {
            0 => f.write_str("; nothing was cut")?,
            cut => write!(f, "; cut {cut} bytes behind the end that a crash left")?,
        }
        if self.slot_damaged {
            f.write_str("; one slot of the checkpoint is damaged")?;
        }
        for unreadable in &self.unreadable {
            write!(f, "; THE DISK REFUSES to read {unreadable}")?;
        }
        if !self.removed.is_empty() {
            write!(f, "; removed {}", self.removed.join(", "))?;
        }
        if self.doubt {
            f.write_str("; IN DOUBT: another leader's group vouches for more than was found")?;
        }
        match &self.repaired {
            Some(damage) => write!(f, "; REPAIRED by giving up what lay behind {damage}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_line_that_says_what_was_kept_and_what_was_cut() {
        let report = RecoveryReport {
            segments: 2,
            end: PhysicalOffset::new(70_000),
            scanned_bytes: 4000,
            scanned_groups: 3,
            cut_bytes: 4096,
            ..RecoveryReport::default()
        };
        assert_eq!(
            report.to_string(),
            "kept 0 to 70000 in 2 segments; 3 groups of 4000 bytes lay behind the last checkpoint; \
             cut 4096 bytes behind the end that a crash left"
        );
        let unreadable = Unreadable { file: "log/x.seg".to_owned(), position: 8192, bytes: 4096 };
        let worn = RecoveryReport { segments: 1, unreadable: vec![unreadable], ..RecoveryReport::default() };
        assert!(
            worn.to_string()
                .ends_with("; THE DISK REFUSES to read 4096 bytes of log/x.seg from byte 8192 on"),
            "{worn}"
        );
        let closed = RecoveryReport { clean: true, segments: 1, ..RecoveryReport::default() };
        assert_eq!(closed.to_string(), "kept 0 to 0 in 1 segments; it had been closed; nothing was cut");
    }
}
