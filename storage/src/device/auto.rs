//! The device that is chosen for each segment anew.

use std::io;

use super::directory::Directory;
use super::kind::DeviceKind;
use super::{Device, Operation, Ticket};
use crate::staging::TailMemory;

/// Hands each segment to the device that its directory chose last.
pub(super) struct AutoDevice {
    directory: Directory,
    kind: DeviceKind,
    device: Box<dyn Device>,
    memory: Option<TailMemory>,
}

impl AutoDevice {
    pub(super) fn new(directory: Directory) -> Self {
        let kind = directory.chosen_device();
        Self { device: directory.device_of(kind), kind, directory, memory: None }
    }

    fn change_to(&mut self, kind: DeviceKind) {
        self.kind = kind;
        self.device = self.directory.device_of(kind);
        self.memory.iter().for_each(|memory| self.device.lend(memory.clone()));
    }
}

impl Device for AutoDevice {
    fn attach(&mut self, segment: &str) -> io::Result<()> {
        let chosen = self.directory.chosen_device();
        if chosen != self.kind {
            tracing::info!(from = %self.kind, to = %chosen, segment, "the log changes its device");
            self.change_to(chosen);
        }
        match self.device.attach(segment) {
            // A choice made elsewhere: the directory has come to another file system, or under another kernel.
            Err(error) if error.kind() == io::ErrorKind::Unsupported && chosen != DeviceKind::Buffered => {
                tracing::warn!(%error, device = %chosen, "the chosen device cannot be used; buffered takes over");
                self.directory.choose(DeviceKind::Buffered);
                self.change_to(DeviceKind::Buffered);
                self.device.attach(segment)
            }
            outcome => outcome,
        }
    }

    fn lend(&mut self, memory: TailMemory) {
        self.memory = Some(memory.clone());
        self.device.lend(memory);
    }

    fn submit(&mut self, operation: Operation) -> Ticket {
        self.device.submit(operation)
    }

    fn complete(&mut self) -> Option<(Ticket, io::Result<()>)> {
        self.device.complete()
    }

    fn any_thread(&self) -> bool {
        self.device.any_thread()
    }
}

#[cfg(test)]
mod tests;
