//! What happens in the lives of logs, counted.

use std::fmt;
use std::ops::AddAssign;

/// What happened, so that a test can show that enough does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub units: u64,
    /// Groups that were written by whoever had appended them.
    pub written_here: u64,
    pub refused: u64,
    pub rolls: u64,
    pub trims: u64,
    /// Policies that gave something up, and those that a pin was in the way of.
    pub retentions: u64,
    pub held_back: u64,
    pub pins: u64,
    pub crashes: u64,
    pub kills: u64,
    pub closes: u64,
    /// Openings that were cut short or failed.
    pub cut_short: u64,
    /// Logs that had stopped because of a fault.
    pub poisoned: u64,
    pub full: u64,
    /// Writes that were to be refused for lack of space, wherever they go.
    pub writes_refused: u64,
    /// Operations of the disk that appends and the clock overtook.
    pub overtaken: u64,
    /// Openings that zeroed something, wrote something again.
    pub cut: u64,
    pub rewritten: u64,
    /// Blocks of earlier lives that were put in the log's way.
    pub planted: u64,
    /// Bits that flipped, and those that an opening or a reader reported.
    pub flipped: u64,
    pub reported: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in self.counts_mut().into_iter().zip(other.counts()) {
            *mine += theirs.1;
        }
    }
}

impl Tally {
    pub fn counts(&self) -> [(&'static str, u64); 21] {
        [
            ("units", self.units),
            ("written here", self.written_here),
            ("refused", self.refused),
            ("rolls", self.rolls),
            ("trims", self.trims),
            ("retentions", self.retentions),
            ("held back", self.held_back),
            ("pins", self.pins),
            ("crashes", self.crashes),
            ("kills", self.kills),
            ("closes", self.closes),
            ("openings cut short", self.cut_short),
            ("poisoned", self.poisoned),
            ("full", self.full),
            ("writes refused", self.writes_refused),
            ("overtaken", self.overtaken),
            ("cut", self.cut),
            ("rewritten", self.rewritten),
            ("planted", self.planted),
            ("flipped", self.flipped),
            ("reported", self.reported),
        ]
    }

    fn counts_mut(&mut self) -> [&mut u64; 21] {
        [
            &mut self.units,
            &mut self.written_here,
            &mut self.refused,
            &mut self.rolls,
            &mut self.trims,
            &mut self.retentions,
            &mut self.held_back,
            &mut self.pins,
            &mut self.crashes,
            &mut self.kills,
            &mut self.closes,
            &mut self.cut_short,
            &mut self.poisoned,
            &mut self.full,
            &mut self.writes_refused,
            &mut self.overtaken,
            &mut self.cut,
            &mut self.rewritten,
            &mut self.planted,
            &mut self.flipped,
            &mut self.reported,
        ]
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (what, count)) in self.counts().into_iter().enumerate() {
            write!(f, "{}{what} {count}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
