//! A broken device: it says that a write is durable before it has begun it. So everything is acknowledged as soon as
//! it is staged, which is what a log must not do.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use skylark_storage::device::simulated::Disk;
use skylark_storage::device::{Device, File, Files, Operation, Space, Ticket};

/// A disk whose device is broken.
pub struct Eager(pub Disk);

struct EagerDevice {
    device: Box<dyn Device>,
    /// Said to be done.
    waiting: VecDeque<Operation>,
    done: VecDeque<Ticket>,
    next: u64,
}

impl EagerDevice {
    fn catch_up(&mut self) {
        while let Some(operation) = self.waiting.pop_front() {
            self.device.submit(operation);
            while self.device.complete().is_some() {}
        }
    }
}

impl Device for EagerDevice {
    fn attach(&mut self, segment: &str) -> io::Result<()> {
        self.catch_up();
        self.device.attach(segment)
    }

    fn submit(&mut self, operation: Operation) -> Ticket {
        self.catch_up();
        self.waiting.push_back(operation);
        self.next += 1;
        self.done.push_back(Ticket(self.next));
        Ticket(self.next)
    }

    fn complete(&mut self) -> Option<(Ticket, io::Result<()>)> {
        self.done.pop_front().map(|ticket| (ticket, Ok(())))
    }
}

impl Files for Eager {
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.0.list(directory)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.open(name)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.create(name)
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
        Box::new(EagerDevice {
            device: self.0.device(),
            waiting: VecDeque::new(),
            done: VecDeque::new(),
            next: 0,
        })
    }

    fn space(&self) -> io::Result<Space> {
        self.0.space()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}
