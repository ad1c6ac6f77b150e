//! A broken device: it says that a write is durable before it has begun it. So everything is acknowledged as soon as
//! it is staged, which is what a log must not do.

use std::collections::VecDeque;
use std::io;

use skylark_storage::device::simulated::Disk;
use skylark_storage::device::{Device, Files, Operation, Ticket};

use crate::support::layer::Layer;

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

impl Layer for Eager {
    fn below(&self) -> &dyn Files {
        &self.0
    }

    fn device(&self) -> Box<dyn Device> {
        Box::new(EagerDevice {
            device: self.0.device(),
            waiting: VecDeque::new(),
            done: VecDeque::new(),
            next: 0,
        })
    }
}
