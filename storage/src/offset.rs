//! Where something is in the log.

use std::fmt;

/// Byte position in the commit log. Advances by the length of each record.
///
/// A position is never reused: it names the same bytes on every replica, for as long as the log lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysicalOffset(u64);

impl PhysicalOffset {
    /// The log's first byte.
    pub const ZERO: Self = Self(0);

    /// The position `bytes` behind the start of the log.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes from the start of the log.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position `bytes` further on.
    ///
    /// # Panics
    /// When the sum exceeds 2⁶⁴: no log lives that long, so an offset from outside was believed unchecked.
    #[must_use]
    pub const fn advance(self, bytes: u64) -> Self {
        Self(self.0.checked_add(bytes).expect("physical offsets stay below 2^64"))
    }

    /// How many bytes lie between `earlier` and this position.
    ///
    /// # Panics
    /// When `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.checked_sub(earlier.0).expect("`earlier` lies before this offset")
    }

    /// The last multiple of `unit` at or below this position.
    #[must_use]
    pub const fn align_down(self, unit: u64) -> Self {
        Self(self.0 - self.0 % unit)
    }

    /// The first multiple of `unit` at or above this position.
    #[must_use]
    pub const fn align_up(self, unit: u64) -> Self {
        Self(self.0.next_multiple_of(unit))
    }
}

impl fmt::Display for PhysicalOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which opening or leadership wrote a record. Never decreases along the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u32);

impl Epoch {
    /// Below every epoch that writes.
    pub const ZERO: Self = Self(0);

    /// The epoch with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The epoch's number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The next higher epoch.
    ///
    /// # Panics
    /// After 2³² openings.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a log is opened fewer than 2^32 times"))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
