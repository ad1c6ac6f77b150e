//! Measures the devices in a real directory, on files prepared as segments are, and as the log would use them: a group of
//! a lone appender is written by its own thread, unless the device is bound to the writer's ([`Device::any_thread`]).
//! Then the time counts that passes until the appender is told.

use std::fmt;
use std::io;
use std::iter;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
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
    /// How long a write of each of [`GROUP_BYTES`] took until it was durable: medians; that of the first, which stands
    /// for a lone appender, with the way to the thread that writes and back, where there is one. Or why the device
    /// cannot be used.
    pub medians: Result<[Duration; GROUP_BYTES.len()], String>,
}

/// Measures every device of this build in a directory, whether or not a log is open there. Chooses and records
/// nothing.
///
/// All take turns, so that whatever else keeps the machine busy burdens all alike. Blocks for up to two seconds on a
/// healthy disk; writes about 30 MiB, on files of its own, which are gone afterwards. What a crash leaves of them
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
            match runner.write(clock, group.clone(), size == LONE) {
                Ok(took) => runner.took[size].push(took),
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
    writer: Writer,
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
        let prepared = (|| {
            file.write_zeros(0, FILE_BYTES)?;
            file.sync()?;
            Writer::attach(directory.device_of(kind), &name)
        })();
        // The file lives on in the device. Somebody else who measures here may have removed the name already.
        let writer = match directory.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => prepared?,
        };
        let mut runner = Self { kind, writer, at: 0, took: Default::default() };
        // The first flush of a file covers what preparing it left.
        runner.write(&SystemClock::new(), block, true)?;
        Ok(runner)
    }

    /// Writes a group behind the last one, and makes it durable; how long whoever needs it so has waited. That is the
    /// caller for a lone appender's group. A busy log's writer has the next one at hand when the last is done.
    fn write(&mut self, clock: &SystemClock, group: Bytes, is_alone: bool) -> io::Result<Duration> {
        let bytes = group.len() as u64;
        if self.at + bytes > FILE_BYTES {
            self.at = 0;
        }
        let operation = Operation { at: self.at, pieces: smallvec![group], flush: true };
        self.at += bytes;
        let began = clock.monotonic();
        let written = self.writer.write(operation)?;
        Ok(if is_alone { clock.monotonic().saturating_sub(began) } else { written })
    }
}

/// Who writes to a device.
enum Writer {
    /// Whoever has something to write.
    Anybody(Box<dyn Device>),
    /// A thread, which is told, and tells how long it took.
    Thread(Hand),
}

/// A thread that writes. It ends when this drops, which waits for it: nothing is open any more then.
struct Hand {
    operations: Option<mpsc::SyncSender<Operation>>,
    outcomes: mpsc::Receiver<io::Result<Duration>>,
    thread: Option<JoinHandle<()>>,
}

impl Hand {
    /// What the thread says next.
    fn outcome(&self) -> io::Result<Duration> {
        self.outcomes.recv().unwrap_or_else(|_| Err(gone()))
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that writes is gone")
}

impl Drop for Hand {
    fn drop(&mut self) {
        drop(self.operations.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that measures a device has panicked");
        }
    }
}

impl Writer {
    /// Directs a device at a file, on the thread that is going to write.
    fn attach(mut device: Box<dyn Device>, name: &str) -> io::Result<Self> {
        if device.any_thread() {
            device.attach(name)?;
            return Ok(Self::Anybody(device));
        }
        let name = name.to_owned();
        let (operations, told) = mpsc::sync_channel(1);
        let (tell, outcomes) = mpsc::sync_channel(1);
        let work = move || {
            let attached = device.attach(&name);
            if tell.send(attached.map(|()| Duration::ZERO)).is_err() {
                return;
            }
            for operation in told {
                if tell.send(carry_out(&mut *device, operation)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("probe".to_owned()).spawn(work)?;
        let hand = Hand { operations: Some(operations), outcomes, thread: Some(thread) };
        hand.outcome()?;
        Ok(Self::Thread(hand))
    }

    /// How long the one who writes was at it.
    fn write(&mut self, operation: Operation) -> io::Result<Duration> {
        match self {
            Self::Anybody(device) => carry_out(&mut **device, operation),
            Self::Thread(hand) => {
                let sent = hand.operations.as_ref().map(|operations| operations.send(operation));
                sent.and_then(Result::ok).ok_or_else(gone)?;
                hand.outcome()
            }
        }
    }
}

fn carry_out(device: &mut dyn Device, operation: Operation) -> io::Result<Duration> {
    let clock = SystemClock::new();
    device.submit(operation);
    device.complete().map_or(Ok(()), |(_, outcome)| outcome)?;
    Ok(clock.monotonic())
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
const ROUNDS_MAX: [usize; GROUP_BYTES.len()] = [100, 40, 11];
/// Which of them a lone appender has.
const LONE: usize = 0;
/// A median of fewer would be chance.
const ROUNDS_MIN: usize = 5;
/// No new round begins after this time of one size: two seconds in all.
const SIZE_WITHIN: Duration = Duration::from_millis(600);

/// The longest group. Not zeros, which some disks only pretend to write.
fn data() -> Bytes {
    let longest = GROUP_BYTES[GROUP_BYTES.len() - 1];
    aligned::blocks(iter::repeat_n([0xa5; BLOCK], longest / BLOCK))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread::ThreadId;

    use super::super::Ticket;
    use super::*;

    /// Tells which thread writes.
    struct Told {
        any_thread: bool,
        by: mpsc::Sender<ThreadId>,
        is_at_work: bool,
        /// Held as a file would be.
        _held: Arc<()>,
    }

    impl Device for Told {
        fn attach(&mut self, _segment: &str) -> io::Result<()> {
            self.by.send(thread::current().id()).expect("the test listens");
            Ok(())
        }

        fn submit(&mut self, _operation: Operation) -> Ticket {
            self.by.send(thread::current().id()).expect("the test listens");
            self.is_at_work = true;
            Ticket(0)
        }

        fn complete(&mut self) -> Option<(Ticket, io::Result<()>)> {
            std::mem::take(&mut self.is_at_work).then_some((Ticket(0), Err(io::ErrorKind::Other.into())))
        }

        fn any_thread(&self) -> bool {
            self.any_thread
        }
    }

    fn is_written_here(any_thread: bool) -> bool {
        let (by, told) = mpsc::channel();
        let held = Arc::new(());
        let device = Told { any_thread, by, is_at_work: false, _held: Arc::clone(&held) };
        let mut writer = Writer::attach(Box::new(device), "log/a").expect("a thread starts");
        let group = Operation { at: 0, pieces: smallvec![data().slice(..BLOCK)], flush: true };
        assert!(writer.write(group).is_err(), "what the device says is passed on");
        drop(writer);
        assert_eq!(Arc::strong_count(&held), 1, "the device is gone with whoever wrote to it");
        let (attached, written) = (told.recv(), told.recv());
        assert_eq!(attached, written, "a ring belongs to the thread that attaches");
        written.expect("somebody wrote") == thread::current().id()
    }

    #[test]
    fn a_device_that_is_bound_to_a_thread_is_written_to_by_another() {
        assert!(is_written_here(true));
        assert!(!is_written_here(false));
    }
}
