//! A file's bytes: what a reader sees, what a power cut leaves for certain, and everything it might leave.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use rand::{Rng, RngExt};
use smallvec::SmallVec;

/// The unit in which a disk tears.
const SECTOR: usize = 512;
const SECTOR_BYTES: u64 = SECTOR as u64;
/// The unit in which a file system hands out room, in sectors and in bytes.
const BLOCK_SECTORS: u64 = 8;
const BLOCK_BYTES: u64 = BLOCK_SECTORS * SECTOR_BYTES;
/// So many states of one sector are told apart between two flushes; a rewrite beyond them forgets the oldest.
const VERSIONS_MAX: usize = 8;

static ZEROS: [u8; SECTOR] = [0; SECTOR];

/// A sector's bytes; absent means zeros that take no room. Sectors of one write share its memory.
type Sector = Option<Bytes>;

/// A sparse sequence of bytes; clones share their sectors.
#[derive(Clone, Default)]
struct Image {
    bytes: u64,
    sectors: Arc<BTreeMap<u64, Bytes>>,
}

impl Image {
    fn sector(&self, index: u64) -> Sector {
        self.sectors.get(&index).cloned()
    }

    fn set_sector(&mut self, index: u64, sector: Sector) {
        let sectors = Arc::make_mut(&mut self.sectors);
        match sector {
            Some(sector) => sectors.insert(index, sector),
            None => sectors.remove(&index),
        };
    }

    /// Sets the length, and returns the sectors that changed by it.
    fn resize(&mut self, bytes: u64) -> Vec<u64> {
        self.bytes = bytes;
        let first = bytes / SECTOR_BYTES;
        let changed: Vec<u64> = self.sectors.range(first..).map(|(&index, _)| index).collect();
        for &index in &changed {
            let keep = usize::try_from(bytes.saturating_sub(index * SECTOR_BYTES)).unwrap_or(usize::MAX);
            let sector = self.sector(index).filter(|_| keep > 0);
            self.set_sector(index, sector.map(|old| patched(&old, keep.min(SECTOR), &ZEROS)));
        }
        changed
    }
}

/// A sector with other bytes from `within` on, as far as they and the sector go.
fn patched(old: &[u8], within: usize, bytes: &[u8]) -> Bytes {
    let mut sector = [0; SECTOR];
    sector.copy_from_slice(old);
    let length = bytes.len().min(SECTOR - within);
    sector[within..within + length].copy_from_slice(&bytes[..length]);
    Bytes::copy_from_slice(&sector)
}

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Contents {
    /// What a reader sees.
    current: Image,
    /// As of the last flush.
    durable: Image,
    /// The states each sector has had since, oldest first.
    versions: BTreeMap<u64, SmallVec<[Sector; 1]>>,
    /// The lengths the file has had since.
    lengths: Vec<u64>,
}

/// How a power cut decides: most extremes are more telling than the middle.
#[derive(Clone, Copy)]
pub(super) struct Odds {
    /// Share of sectors and lengths that are as of the last flush.
    pub(super) lost: f64,
    /// Share of sectors that are neither old nor new.
    pub(super) destroyed: f64,
}

impl Contents {
    pub(super) fn len(&self) -> u64 {
        self.current.bytes
    }

    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> usize {
        let bytes = usize::try_from(self.len().saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..bytes];
        for_each_sector(at, bytes, |index, within, range| {
            let part = &mut buffer[range];
            match self.current.sectors.get(&index) {
                Some(sector) => part.copy_from_slice(&sector[within..within + part.len()]),
                None => part.fill(0),
            }
        });
        bytes
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        // Most of what a log writes are the zeros of a segment to come, and those need no memory.
        let mut copy = None;
        for_each_sector(at, bytes.len(), |index, within, range| {
            let part = &bytes[range.clone()];
            let sector = if part.len() < SECTOR {
                patched(self.current.sectors.get(&index).map_or(&ZEROS, |old| old), within, part)
            } else if part == ZEROS {
                Bytes::from_static(&ZEROS)
            } else {
                copy.get_or_insert_with(|| Bytes::copy_from_slice(bytes)).slice(range)
            };
            self.current.set_sector(index, Some(sector.clone()));
            self.remember(index, Some(sector));
        });
        let end = at.saturating_add(bytes.len() as u64);
        if end > self.len() {
            self.current.bytes = end;
            self.lengths.push(end);
        }
    }

    pub(super) fn set_len(&mut self, bytes: u64) {
        for index in self.current.resize(bytes) {
            let sector = self.current.sector(index);
            self.remember(index, sector);
        }
        self.lengths.push(bytes);
    }

    /// How many bytes of disk the file has.
    pub(super) fn held_bytes(&self) -> u64 {
        let mut blocks: Vec<u64> = self.current.sectors.keys().map(|index| index / BLOCK_SECTORS).collect();
        blocks.dedup();
        blocks.len() as u64 * BLOCK_BYTES
    }

    /// How many bytes of disk a write needs that the file does not have yet.
    pub(super) fn missing_bytes(&self, at: u64, bytes: usize) -> u64 {
        let blocks = at / BLOCK_BYTES..(at + bytes as u64).div_ceil(BLOCK_BYTES);
        let is_missing = |block: &u64| {
            let sectors = block * BLOCK_SECTORS..(block + 1) * BLOCK_SECTORS;
            self.current.sectors.range(sectors).next().is_none()
        };
        blocks.filter(is_missing).count() as u64 * BLOCK_BYTES
    }

    pub(super) fn flush(&mut self) {
        // Sector by sector, because what an earlier flush failed to cover is not covered by this one either.
        for &index in self.versions.keys() {
            self.durable.set_sector(index, self.current.sector(index));
        }
        // The length is metadata, which stays dirty until it is written: an earlier failure loses pages, not this.
        self.durable.resize(self.current.bytes);
        self.forget();
    }

    /// Flushes some of what was written, and no more of the length than that takes.
    pub(super) fn flush_ranges(&mut self, ranges: &[Range<u64>]) {
        for range in ranges {
            let sectors = range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES);
            let changed: Vec<u64> = self.versions.range(sectors).map(|(&index, _)| index).collect();
            for index in changed {
                self.versions.remove(&index);
                self.durable.set_sector(index, self.current.sector(index));
            }
        }
        let end = ranges.iter().map(|range| range.end).max();
        if end.is_some_and(|end| end > self.durable.bytes) {
            self.durable.resize(self.current.bytes);
            self.lengths.clear();
        }
    }

    /// A flush that failed: some of it may be durable, and no later one covers the rest.
    pub(super) fn flush_in_vain(&mut self, rng: &mut impl Rng, odds: Odds) {
        self.settle(rng, odds);
        self.forget();
    }

    /// Becomes what a power cut leaves.
    pub(super) fn crash(&mut self, rng: &mut impl Rng, odds: Odds) {
        self.settle(rng, odds);
        self.forget();
        self.current = self.durable.clone();
    }

    /// Changes one bit, as if it had always been so.
    pub(super) fn flip_bit(&mut self, at: u64, bit: u8) {
        for image in [&mut self.current, &mut self.durable] {
            if at < image.bytes {
                let index = at / SECTOR_BYTES;
                let within = usize::try_from(at % SECTOR_BYTES).unwrap_or_default();
                let old = image.sector(index).unwrap_or_else(|| Bytes::from_static(&ZEROS));
                image.set_sector(index, Some(patched(&old, within, &[old[within] ^ (1 << (bit % 8))])));
            }
        }
    }

    fn settle(&mut self, rng: &mut impl Rng, odds: Odds) {
        let lost = |rng: &mut _| RngExt::random_bool(rng, odds.lost);
        for (&index, versions) in &self.versions {
            if lost(rng) {
                continue;
            }
            // Mostly the newest, which is what write-back finds.
            let version =
                if rng.random_bool(0.75) { versions.len() - 1 } else { rng.random_range(..versions.len()) };
            let mut sector = versions[version].clone();
            if rng.random_bool(odds.destroyed) {
                let mut noise = [0; SECTOR];
                rng.fill(&mut noise[..]);
                sector = Some(Bytes::copy_from_slice(&noise));
            }
            self.durable.set_sector(index, sector);
        }
        let bytes = if self.lengths.is_empty() || lost(rng) {
            self.durable.bytes
        } else {
            self.lengths[rng.random_range(..self.lengths.len())]
        };
        self.durable.resize(bytes);
    }

    fn remember(&mut self, index: u64, sector: Sector) {
        let versions = self.versions.entry(index).or_default();
        if versions.len() == VERSIONS_MAX {
            versions.remove(0);
        }
        versions.push(sector);
    }

    fn forget(&mut self) {
        self.versions.clear();
        self.lengths.clear();
    }
}

/// Calls `each` with a sector's index, where in the sector the range begins, and its part of the range.
fn for_each_sector(at: u64, bytes: usize, mut each: impl FnMut(u64, usize, Range<usize>)) {
    let mut done = 0;
    while done < bytes {
        let position = at + done as u64;
        let within = usize::try_from(position % SECTOR_BYTES).unwrap_or_default();
        let part = (SECTOR - within).min(bytes - done);
        each(position / SECTOR_BYTES, within, done..done + part);
        done += part;
    }
}
