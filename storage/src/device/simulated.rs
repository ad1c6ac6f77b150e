//! A disk in memory that does, from one seed, whatever a real one may.
//!
//! ```
//! use skylark_storage::device::{Files, simulated::Disk};
//!
//! let disk = Disk::new(7);
//! let file = disk.create("log/a")?;
//! file.write_at(0, b"kept")?;
//! file.sync()?;
//! disk.sync_directory("log")?;
//! file.write_at(0, b"lost")?; // or kept, or torn: the seed decides
//!
//! let after = disk.crash();
//! let mut bytes = [0; 4];
//! after.open("log/a")?.read_at(0, &mut bytes)?;
//! assert!(&bytes == b"kept" || &bytes == b"lost");
//! # std::io::Result::Ok(())
//! ```
//!
//! What a power cut leaves, by [`Disk::crash`]:
//! - **contents**: each 512-byte sector written since the file's last flush is what it was at that flush, or after
//!   any of the writes since, independently of its neighbours. So writes are lost, torn and overtaken;
//! - **lengths**: that of the last flush, or after any change since; what lies behind it is gone;
//! - **names**: of the creations, renamings and removals since the last [`Files::sync_directory`], in half of
//!   the cases a prefix (a journal), otherwise each or not (no journal). Flushing a file does not keep its name.
//!
//! A device's flush covers all of its file, or what the device itself has written, as [`Disk::set_flushes_narrow`] says.
//!
//! A killed process loses none of that ([`Disk::kill`]), which is why killing proves little.
//! Every choice comes from the seed; a single-threaded program meets the same disk every time.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use self::state::{NodeId, State};
use super::{Device, File, Files, Operation, Space, Ticket, WriteRefused};

mod contents;
mod state;

/// A simulated disk, and the directory on it. Clones are the same disk.
#[derive(Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

impl Disk {
    /// An empty disk that decides by `seed`.
    pub fn new(seed: u64) -> Self {
        Self::from_state(State::new(seed))
    }

    /// Decides by `seed` from now on: of a disk that many tests begin with, each gets the same copy.
    pub fn reseed(&self, seed: u64) {
        self.state.lock().reseed(seed);
    }

    fn from_state(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The disk as the next process finds it after a power cut now; each call makes its choices anew. This disk
    /// stays as it is. Faults that were asked for are not taken over.
    #[must_use]
    pub fn crash(&self) -> Self {
        Self::from_state(self.state.lock().crash())
    }

    /// The disk as the next process finds it after this one was killed now: everything written is readable, and
    /// no more durable than before. This disk stays as it is. Faults that were asked for are not taken over.
    #[must_use]
    pub fn kill(&self) -> Self {
        Self::from_state(self.state.lock().kill())
    }

    /// How many operations have changed something, or made something durable, so far. Where the count is `n` in
    /// one run, [`Disk::power_off_at`] can cut the power at each of 1 to `n` in the next.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Cuts the power at the `nth` operation from now, counted from 1: it may take effect, it returns an error,
    /// and every operation behind it, reads included, fails. [`Disk::crash`] then tells what is left.
    pub fn power_off_at(&self, nth: u64) {
        let mut state = self.state.lock();
        state.faults.power_off = Some(state.operations + nth);
    }

    /// Fails the `nth` write from now, counted from 1: some of it may have taken effect.
    pub fn fail_write(&self, nth: u64) {
        self.state.lock().faults.fail_write = Some(nth);
    }

    /// Lets the `nth` write from now, counted from 1, end before its end: a beginning takes effect, and the error is
    /// [`io::ErrorKind::WriteZero`].
    pub fn shorten_write(&self, nth: u64) {
        self.state.lock().faults.shorten_write = Some(nth);
    }

    /// Fails the `nth` write from now, counted from 1, for lack of space, even where it would need none: some of it
    /// may have taken effect. Disks do so that copy on write, or promise more than they have.
    pub fn refuse_write(&self, nth: u64) {
        self.state.lock().faults.refuse_write = Some(nth);
    }

    /// Fails the `nth` flush of a file from now, counted from 1. What it was to cover stays readable; some of it
    /// never becomes durable, whatever later flushes say.
    pub fn fail_flush(&self, nth: u64) {
        self.state.lock().faults.fail_flush = Some(nth);
    }

    /// Fails the `nth` use of names from now, counted from 1: a creation, a renaming or a removal without effect, a
    /// listing, or a flush of a directory, whose changes a later one still covers.
    pub fn fail_names(&self, nth: u64) {
        self.state.lock().faults.fail_names = Some(nth);
    }

    /// Fails every read of a file that touches `range`, with `EIO`: a medium that has worn out there. It goes with the disk
    /// through crashes, until the range is written again, which puts it elsewhere, or [`Self::heal_reads`].
    ///
    /// # Errors
    /// When there is no such file.
    pub fn fail_reads(&self, name: &str, range: Range<u64>) -> io::Result<()> {
        self.state.lock().fail_reads(name, range)
    }

    /// Makes everything readable again.
    pub fn heal_reads(&self) {
        self.state.lock().heal_reads();
    }

    /// Lets each operation of a device take up to so long, by the machine's clock, so that others overtake it.
    pub fn set_delay_max(&self, delay_max: Duration) {
        self.state.lock().faults.delay_max = delay_max;
    }

    /// Whether nothing has cut the power yet.
    pub fn has_power(&self) -> bool {
        self.state.lock().has_power()
    }

    /// Leaves room for so many more bytes, in blocks of 4096; `None` for no limit. Writes beyond it fail without effect,
    /// and without any room no file can be created. A file that is gone for good gives its room back, and so does
    /// what is cut off one.
    pub fn set_space_left(&self, bytes: Option<u64>) {
        self.state.lock().faults.space_left = bytes;
    }

    /// Makes flushes of files do nothing and say that they succeeded: a broken disk, with which a test shows that
    /// it would notice.
    pub fn set_flushes_lie(&self, lie: bool) {
        self.state.lock().faults.flushes_lie = lie;
    }

    /// Makes flushes of a device cover what it has written itself since it was attached, and nothing else of the file,
    /// as where a write is its own flush (`RWF_DSYNC`). Goes with the disk through crashes.
    pub fn set_flushes_narrow(&self, narrow: bool) {
        self.state.lock().flushes_narrow = narrow;
    }

    /// Makes a power cut turn some of the sectors under way into neither old nor new, as disks do that a log
    /// should be told to pad for. Goes with the disk through crashes.
    pub fn set_tears_destroy(&self, destroy: bool) {
        self.state.lock().tears_destroy = destroy;
    }

    /// Flips one bit of a file, durably: rot.
    ///
    /// # Errors
    /// When there is no such file, or the file ends before byte `at`.
    pub fn flip_bit(&self, name: &str, at: u64, bit: u8) -> io::Result<()> {
        self.state.lock().flip_bit(name, at, bit)
    }

    fn attached(&self, node: NodeId) -> SimulatedFile {
        self.state.lock().hold(node);
        SimulatedFile { disk: self.clone(), node }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Disk").field("operations", &state.operations).field("names", &state.names()).finish()
    }
}

impl Files for Disk {
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.state.lock().list(directory)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let node = self.state.lock().open(name)?;
        Ok(Arc::new(self.attached(node)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let node = self.state.lock().create(name)?;
        Ok(Arc::new(self.attached(node)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state.lock().rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state.lock().remove(name)
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.state.lock().sync_directory(directory)
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.state.lock();
        if !state.has(name) {
            state.create(name)?;
        }
        state.lock(name)?;
        Ok(Box::new(Lock { disk: self.clone(), name: name.to_owned() }))
    }

    fn device(&self) -> Box<dyn Device> {
        Box::new(SimulatedDevice {
            disk: self.clone(),
            attached: None,
            under_way: Vec::new(),
            unflushed: Vec::new(),
            tickets: 0,
        })
    }

    fn space(&self) -> io::Result<Space> {
        let left = self.state.lock().faults.space_left.unwrap_or(TOTAL_BYTES);
        Ok(Space { total_bytes: TOTAL_BYTES, available_bytes: left.min(TOTAL_BYTES) })
    }

    fn describe(&self) -> String {
        "a simulated disk".to_owned()
    }
}

/// What the disk says its size is; nothing is kept of bytes that were not written.
const TOTAL_BYTES: u64 = 1 << 40;

/// Held until it drops.
struct Lock {
    disk: Disk,
    name: String,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.state.lock().unlock(&self.name);
    }
}

/// An open description; the file's contents live for as long as one of them or a name does.
struct SimulatedFile {
    disk: Disk,
    node: NodeId,
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        self.disk.state.lock().release(self.node);
    }
}

impl File for SimulatedFile {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.state.lock().read(self.node, at, buffer)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.state.lock().write(self.node, at, &[bytes])
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.state.lock().len(self.node)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.state.lock().set_len(self.node, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state.lock().flush(self.node, None)
    }
}

/// Writes when told, flushes when asked for the completion, and completes in any order.
struct SimulatedDevice {
    disk: Disk,
    attached: Option<(SimulatedFile, Lock)>,
    under_way: Vec<(Ticket, io::Result<()>, bool)>,
    /// What was written to the attached file and not flushed.
    unflushed: Vec<(Ticket, Range<u64>)>,
    tickets: u64,
}

impl Device for SimulatedDevice {
    fn attach(&mut self, segment: &str) -> io::Result<()> {
        assert!(self.under_way.is_empty(), "nothing is under way when a device changes segments");
        // The lock of the segment before goes first, so that one segment can be attached again.
        self.attached = None;
        self.unflushed.clear();
        let node = self.disk.state.lock().open(segment)?;
        self.disk.state.lock().lock(segment)?;
        let lock = Lock { disk: self.disk.clone(), name: segment.to_owned() };
        self.attached = Some((self.disk.attached(node), lock));
        Ok(())
    }

    fn submit(&mut self, operation: Operation) -> Ticket {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let (file, _) = self.attached.as_ref().expect("a device is attached before it writes");
        let pieces: Vec<&[u8]> = operation.pieces.iter().map(|piece| piece.as_ref()).collect();
        let outcome = self.disk.state.lock().write(file.node, operation.at, &pieces);
        let outcome = outcome.map_err(WriteRefused::mark);
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        // Some of it may have been written, whatever the outcome.
        self.unflushed.push((ticket, operation.at..operation.at + bytes as u64));
        self.under_way.push((ticket, outcome, operation.flush));
        ticket
    }

    fn complete(&mut self) -> Option<(Ticket, io::Result<()>)> {
        if self.under_way.is_empty() {
            return None;
        }
        let delay = self.disk.state.lock().delay();
        if !delay.is_zero() {
            thread::sleep(delay);
        }
        let mut state = self.disk.state.lock();
        let index = state.choose(self.under_way.len());
        let (ticket, outcome, flush) = self.under_way.swap_remove(index);
        let (file, _) = self.attached.as_ref().expect("a device is attached while something is under way");
        let outcome = outcome.and_then(|()| {
            if !flush {
                return Ok(());
            }
            let covered = self.unflushed.extract_if(.., |(written, _)| written.0 <= ticket.0);
            let covered: Vec<Range<u64>> = covered.map(|(_, range)| range).collect();
            state.flush(file.node, Some(&covered))
        });
        Some((ticket, outcome))
    }
}

#[cfg(test)]
mod tests;
