//! A sequence that grows at its end without ever copying what it holds.

use std::mem::size_of;

/// Values in the order in which they were pushed, found by position.
///
/// They sit in chunks of [`CHUNK`]. Only the first chunk doubles as it fills, so that a segment of ten messages is
/// small; every later one is allocated whole, so that a push never moves megabytes under the caller's lock, and
/// less than one chunk is ever unused.
pub(crate) struct Column<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Column<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        match self.chunks.split_last() {
            Some((last, full)) => full.len() * CHUNK + last.len(),
            None => 0,
        }
    }

    /// Adds `value` behind the others.
    pub(crate) fn push(&mut self, value: T) {
        if let Some(last) = self.chunks.last_mut()
            && last.len() < CHUNK
        {
            return last.push(value);
        }
        let mut chunk = if self.chunks.is_empty() { Vec::new() } else { Vec::with_capacity(CHUNK) };
        chunk.push(value);
        self.chunks.push(chunk);
    }

    /// The value at `position`.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn at(&self, position: u32) -> &T {
        &self.chunks[position as usize / CHUNK][position as usize % CHUNK]
    }

    /// The value at `position`, to change it.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn at_mut(&mut self, position: u32) -> &mut T {
        &mut self.chunks[position as usize / CHUNK][position as usize % CHUNK]
    }

    /// How many values at the beginning meet `condition`, which none behind them does.
    pub(crate) fn partition_point(&self, mut condition: impl FnMut(&T) -> bool) -> usize {
        let full = self.chunks.partition_point(|chunk| chunk.first().is_some_and(&mut condition));
        let Some(before) = full.checked_sub(1) else { return 0 };
        before * CHUNK + self.chunks[before].partition_point(condition)
    }

    /// All values, oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// The newest value.
    pub(crate) fn last(&self) -> Option<&T> {
        self.chunks.last()?.last()
    }

    /// Gives unused memory back, once nothing more will be pushed.
    pub(crate) fn shrink(&mut self) {
        if let Some(last) = self.chunks.last_mut() {
            last.shrink_to_fit();
        }
        self.chunks.shrink_to_fit();
    }

    /// Bytes allocated.
    pub(crate) fn memory_bytes(&self) -> usize {
        let values: usize = self.chunks.iter().map(Vec::capacity).sum();
        values * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}

/// Values in a chunk: 80 KiB of entries, 160 KiB of a directory.
const CHUNK: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_growth() {
        let mut column = Column::new();
        for n in 0..u32::try_from(3 * CHUNK).unwrap() + 7 {
            assert_eq!(column.len(), n as usize);
            column.push(n);
            assert_eq!((column.at(n), column.last()), (&n, Some(&n)));
        }
        *column.at_mut(4096) = 9;
        assert_eq!((column.at(4095), column.at(4096), column.at(4097)), (&4095, &9, &4097));
        assert_eq!(column.iter().count(), column.len());
    }

    #[test]
    fn a_column_is_searched() {
        let mut column = Column::new();
        for n in 0..2 * CHUNK {
            assert_eq!(column.partition_point(|_| true), n);
            column.push(n);
        }
        for n in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK] {
            assert_eq!(column.partition_point(|&value| value < n), n);
        }
    }

    #[test]
    fn little_is_unused() {
        let mut column = Column::new();
        column.push(0_u32);
        assert!(column.memory_bytes() < 256, "one value takes {} bytes", column.memory_bytes());
        for n in 0..10 * CHUNK {
            column.push(u32::try_from(n).unwrap());
        }
        column.shrink();
        assert!(column.memory_bytes() < column.len() * 4 + 512);
    }
}
