//! Measures the devices in a real directory, on files prepared as segments are.

use std::fmt;
use std::io;
use std::iter;
use std::time::Duration;

use bytes::Bytes;
use smallvec::smallvec;

use super::directory::Directory;
use super::kind::DeviceKind;
use super::{Device, Files, Operation, aligned};
use crate::clock::{Clock, SystemClock};
use crate::segment::BLOCK;

/// The groups that are written and made durable: of one sender, of a busy log, and of one at its limit.
pub const GROUP_BYTES: [usize; 3] = [4 << 10, 64 << 10, 512 << 10];

/// What a device came to in one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The device.
    pub kind: DeviceKind,
    /// How long a write of each of [`GROUP_BYTES`] took until it was durable: medians. Or why the device cannot be
    /// used.
    pub medians: Result<[Duration; GROUP_BYTES.len()], String>,
}

/// Measures every device of this build in a directory, whether or not a log is open there. Chooses and records
/// nothing.
///
/// All take turns, so that whatever else keeps the machine busy burdens all alike. Blocks for up to two seconds on a
/// healthy disk; writes about 16 MiB, on files of its own, which are gone afterwards. What a crash leaves of them
/// the next call removes.
///
/// # Errors
/// When the directory takes no file, or [`DeviceKind::Buffered`] cannot write.
pub fn probe(directory: &Directory) -> io::Result<Vec<Measured>> {
    let clock = SystemClock::new();
    let mut field = Field { runners: Vec::new(), measured: Vec::new() };
    let data = data();
    for &kind in DeviceKind::ALL {
        match Runner::new(directory, kind, data.slice(..BLOCK)) {
            Ok(runner) => field.runners.push(runner),
            Err(error) => field.give_up(kind, &error)?,
        }
    }
    for (size, rounds_max) in ROUNDS_MAX.into_iter().enumerate() {
        let group = data.slice(..GROUP_BYTES[size]);
        let began = clock.monotonic();
        for round in 0..rounds_max {
            if round >= ROUNDS_MIN && clock.monotonic().saturating_sub(began) >= SIZE_WITHIN {
                break;
            }
            field.round(&clock, &group, size)?;
        }
    }
    let medians = |runner: Runner| {
        let medians = runner.took.map(|mut took| {
            took.sort_unstable();
            took[took.len() / 2]
        });
        Measured { kind: runner.kind, medians: Ok(medians) }
    };
    field.measured.extend(field.runners.into_iter().map(medians));
    field.measured.sort_by_key(|measured| measured.kind);
    Ok(field.measured)
}

/// Shows that a device can be used in a directory.
pub(super) fn check(directory: &Directory, kind: DeviceKind) -> io::Result<()> {
    Runner::new(directory, kind, data().slice(..BLOCK)).map(drop)
}

/// Who is measured, and who need not be.
struct Field {
    runners: Vec<Runner>,
    measured: Vec<Measured>,
}

impl Field {
    /// Lets everybody write a group of one size.
    fn round(&mut self, clock: &SystemClock, group: &Bytes, size: usize) -> io::Result<()> {
        let mut failed = Vec::new();
        for runner in &mut self.runners {
            let began = clock.monotonic();
            match runner.write(group.clone()) {
                Ok(()) => runner.took[size].push(clock.monotonic().saturating_sub(began)),
                Err(error) => failed.push((runner.kind, error)),
            }
        }
        for (kind, error) in failed {
            self.runners.retain(|runner| runner.kind != kind);
            self.give_up(kind, &error)?;
        }
        // Whoever comes first finds the disk as the last one left it.
        self.runners.rotate_left(1);
        Ok(())
    }

    fn give_up(&mut self, kind: DeviceKind, error: &io::Error) -> io::Result<()> {
        if kind == DeviceKind::Buffered {
            return Err(io::Error::new(error.kind(), error.to_string()));
        }
        self.measured.push(Measured { kind, medians: Err(error.to_string()) });
        Ok(())
    }
}

/// A device at work on a file of its own.
struct Runner {
    kind: DeviceKind,
    device: Box<dyn Device>,
    /// Where the next group goes.
    at: u64,
    took: [Vec<Duration>; GROUP_BYTES.len()],
}

impl Runner {
    /// Makes the file, and writes its first block.
    fn new(directory: &Directory, kind: DeviceKind, block: Bytes) -> io::Result<Self> {
        // Beside the segments, which may lie on a file system of their own.
        let name = format!("log/probe-{kind}");
        let file = match directory.create(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                directory.remove(&name)?;
                directory.create(&name)?
            }
            created => created?,
        };
        let mut device = directory.device_of(kind);
        let prepared = (|| {
            file.write_zeros(0, FILE_BYTES)?;
            file.sync()?;
            device.attach(&name)
        })();
        // The file lives on in the device. Somebody else who measures here may have removed the name already.
        match directory.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => prepared?,
        }
        let mut runner = Self { kind, device, at: 0, took: Default::default() };
        // The first flush of a file covers what preparing it left.
        runner.write(block)?;
        Ok(runner)
    }

    /// Writes a group behind the last one, and makes it durable.
    fn write(&mut self, group: Bytes) -> io::Result<()> {
        let bytes = group.len() as u64;
        if self.at + bytes > FILE_BYTES {
            self.at = 0;
        }
        self.device.submit(Operation { at: self.at, pieces: smallvec![group], flush: true });
        self.at += bytes;
        self.device.complete().map_or(Ok(()), |(_, outcome)| outcome)
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.kind)?;
        match &self.medians {
            Ok(medians) => {
                for (index, (bytes, median)) in GROUP_BYTES.iter().zip(medians).enumerate() {
                    let separator = if index > 0 { ", " } else { "" };
                    write!(f, "{separator}{} KiB {} µs", bytes >> 10, median.as_micros())?;
                }
                Ok(())
            }
            Err(reason) => f.write_str(reason),
        }
    }
}

const FILE_BYTES: u64 = 1 << 20;
/// Of each of [`GROUP_BYTES`], so that about as much time goes to each on a fast disk.
const ROUNDS_MAX: [usize; GROUP_BYTES.len()] = [100, 40, 7];
/// A median of fewer would be chance.
const ROUNDS_MIN: usize = 5;
/// No new round begins after this time of one size: two seconds in all.
const SIZE_WITHIN: Duration = Duration::from_millis(600);

/// The longest group. Not zeros, which some disks only pretend to write.
fn data() -> Bytes {
    let longest = GROUP_BYTES[GROUP_BYTES.len() - 1];
    aligned::blocks(iter::repeat_n([0xa5; BLOCK], longest / BLOCK))
}
