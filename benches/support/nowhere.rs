//! A disk that takes everything at once and keeps nothing of the segments: what is left is the cost of the log itself.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skylark_storage::device::simulated::Disk;
use skylark_storage::device::{Operation, Space, Ticket};
use skylark_storage::{Device, File, Files};

/// Keeps the checkpoint, on a simulated disk, and of the segments only their names.
pub struct Nowhere(Disk);

impl Default for Nowhere {
    fn default() -> Self {
        Self(Disk::new(0))
    }
}

fn is_segment(name: &str) -> bool {
    name.starts_with("log/")
}

impl Files for Nowhere {
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.0.list(directory)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        if is_segment(name) { Ok(Arc::new(NowhereFile::default())) } else { self.0.open(name) }
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.0.create(name)?;
        if is_segment(name) { Ok(Arc::new(NowhereFile::default())) } else { Ok(file) }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.0.sync_directory(directory)
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Send + Sync>> {
        self.0.lock(name)
    }

    fn device(&self) -> Box<dyn Device> {
        Box::new(NowhereDevice::default())
    }

    fn space(&self) -> io::Result<Space> {
        self.0.space()
    }

    fn describe(&self) -> String {
        "nowhere".to_owned()
    }
}

/// A length, and zeros.
#[derive(Default)]
struct NowhereFile(AtomicU64);

impl File for NowhereFile {
    fn read_at(&self, _at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(0);
        Ok(buffer.len())
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.fetch_max(at + bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.load(Ordering::Relaxed))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct NowhereDevice {
    next: u64,
    done: VecDeque<Ticket>,
}

impl Device for NowhereDevice {
    fn attach(&mut self, _segment: &str) -> io::Result<()> {
        Ok(())
    }

    fn submit(&mut self, _operation: Operation) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.done.push_back(ticket);
        ticket
    }

    fn complete(&mut self) -> Option<(Ticket, io::Result<()>)> {
        self.done.pop_front().map(|ticket| (ticket, Ok(())))
    }
}
