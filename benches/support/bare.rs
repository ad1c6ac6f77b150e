//! The disk without a log: what bounds every log on it.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::{ReadWriteFlags, pwritev2};
use skylark_storage::group::GROUP_HEADER_BYTES;

use super::aligned::{Aligned, BLOCK_BYTES};
use super::cpu;
use super::load::{Outcome, Times};
use super::records::{Encoder, Payload};
use super::samples::Samples;
use super::scratch;

/// How bytes are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Primitive {
    /// `pwrite` into the page cache, then `fdatasync`.
    Buffered,
    /// `pwritev2` past it (`O_DIRECT`), with `RWF_DSYNC`.
    Direct,
    /// The same without, then `fdatasync`.
    DirectThenFlush,
}

impl Primitive {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Buffered, Self::Direct, Self::DirectThenFlush];

    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Buffered => "pwrite + fdatasync",
            Self::Direct => "O_DIRECT + RWF_DSYNC",
            Self::DirectThenFlush => "O_DIRECT + fdatasync",
        }
    }
}

/// A file that was written once, to be written again and again from its beginning to its end.
pub struct WrittenFile {
    file: File,
    primitive: Primitive,
    at: u64,
    bytes: u64,
}

impl WrittenFile {
    /// The file at `path`, or a new one, of so many bytes and prepared as the log prepares its segments.
    ///
    /// # Errors
    /// When the disk refuses, direct transfers for example.
    pub fn open_or_create(path: &Path, bytes: u64, primitive: Primitive) -> io::Result<Self> {
        if !path.metadata().is_ok_and(|metadata| metadata.len() == bytes) {
            scratch::written_file(path, bytes)?;
        }
        let file = File::options().read(true).write(true).open(path)?;
        scratch::forget_cached(&file)?;
        let file = match primitive {
            Primitive::Buffered => file,
            Primitive::Direct | Primitive::DirectThenFlush => scratch::open_direct(path)?,
        };
        let mut written = Self { file, primitive, at: 0, bytes };
        written.store(&Aligned::new(BLOCK_BYTES))?;
        Ok(written)
    }

    /// The file at `path`, or a new one, of so many bytes, all of them written and cached: whoever writes a part of a
    /// page does not have to wait for the rest of it to be read.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open_or_create_cached(path: &Path, bytes: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() != bytes {
            let zeros = vec![0; scratch::PIECE_BYTES];
            for at in (0..bytes).step_by(zeros.len()) {
                file.write_all_at(&zeros, at)?;
            }
            file.sync_all()?;
        }
        Ok(Self { file, primitive: Primitive::Buffered, at: 0, bytes })
    }

    /// Writes behind what was written last, and makes it durable. Past the page cache only whole blocks can be.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn store(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = if self.at + bytes.len() as u64 > self.bytes { 0 } else { self.at };
        self.at = at + bytes.len() as u64;
        match self.primitive {
            Primitive::Buffered => {
                self.file.write_all_at(bytes, at)?;
                self.file.sync_data()
            }
            Primitive::Direct | Primitive::DirectThenFlush => {
                let durably = self.primitive == Primitive::Direct;
                let flags = if durably { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
                let written = pwritev2(&self.file, &[IoSlice::new(bytes)], at, flags)?;
                if written < bytes.len() {
                    return Err(io::Error::other("a short write, which a bound does not deal with"));
                }
                if durably { Ok(()) } else { self.file.sync_data() }
            }
        }
    }

    /// Where the next write goes.
    pub fn position(&self) -> u64 {
        self.at
    }
}

/// What a single writer does who has nobody to wake: it encodes a group of records as the log would, checksums
/// included, writes it from the next block on, and makes it durable.
pub struct Bound {
    file: WrittenFile,
    payload: Payload,
    group: usize,
    buffer: Aligned,
    encoder: Encoder,
}

impl Bound {
    /// Groups of so many records.
    pub fn new(file: WrittenFile, payload: Payload, group: usize) -> Self {
        let buffer = Aligned::new(GROUP_HEADER_BYTES + group * payload.stored_bytes());
        Self { file, payload, group, buffer, encoder: Encoder::default() }
    }

    /// Encodes a group, without storing it.
    pub fn encode(&mut self) {
        let start = self.file.position();
        let stored_bytes = self.payload.stored_bytes();
        let mut at = GROUP_HEADER_BYTES;
        for _ in 0..self.group {
            // The checksum of the payload is part of an append.
            let crc = self.payload.crc();
            let into = &mut self.buffer[at..at + stored_bytes];
            self.encoder.record(into, start + at as u64, &self.payload, crc);
            at += stored_bytes;
        }
        self.encoder.group(&mut self.buffer, start, at);
    }

    /// Encodes a group and stores it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn step(&mut self) -> io::Result<()> {
        self.encode();
        self.file.store(&self.buffer)
    }

    /// Stores groups for a while.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn run(&mut self, times: Times) -> io::Result<Outcome> {
        repeat(times, self.group as u64, || self.step())
    }
}

/// Does something again and again on this thread; each time stands for `records`.
///
/// # Errors
/// When `act` fails.
pub fn repeat(times: Times, records: u64, mut act: impl FnMut() -> io::Result<()>) -> io::Result<Outcome> {
    let warmed = Instant::now() + times.warm;
    while Instant::now() < warmed {
        act()?;
    }
    let mut samples = Samples::with_capacity(1 << 16);
    let (started, cpu_before) = (Instant::now(), cpu::process());
    let mut last = started;
    while last - started < times.measured {
        act()?;
        let now = Instant::now();
        samples.push(now - last);
        last = now;
    }
    let (elapsed, cpu) = (last - started, cpu::process() - cpu_before);
    Ok(Outcome { records: samples.count() * records, elapsed, cpu, latencies: samples.percentiles() })
}

/// Into what a stream of bytes is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// A file as the log's segments are: written before, nothing of it cached.
    Written,
    /// A new file, which grows.
    Fresh,
    /// As the first, past the page cache.
    Direct,
}

impl Stream {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Written, Self::Fresh, Self::Direct];

    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Written => "buffered, into a written file (W)",
            Self::Fresh => "buffered, into a new file",
            Self::Direct => "O_DIRECT, into a written file",
        }
    }

    /// Writes so many bytes a piece at a time and flushes once; how long that took.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn run(self, path: &Path, bytes: u64) -> io::Result<Duration> {
        let file = match self {
            Self::Written => scratch::written_file(path, bytes)?,
            Self::Fresh => File::create(path)?,
            Self::Direct => {
                scratch::written_file(path, bytes)?;
                scratch::open_direct(path)?
            }
        };
        let mut piece = Aligned::new(scratch::PIECE_BYTES);
        piece.fill(7);
        let started = Instant::now();
        for at in (0..bytes).step_by(piece.len()) {
            file.write_all_at(&piece, at)?;
        }
        file.sync_data()?;
        Ok(started.elapsed())
    }
}
