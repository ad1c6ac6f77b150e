//! `pwritev` and `fdatasync`: works on every file system.

use std::collections::VecDeque;
use std::fs;
use std::io;

use super::directory::Directory;
use super::open_file::OpenFile;
use super::rest::Rest;
use super::{Device, Operation, Ticket, WriteRefused};

/// Writes through the page cache. Does each operation when it is submitted, and hands over the outcome when asked.
pub(super) struct BufferedDevice {
    directory: Directory,
    segment: Option<OpenFile>,
    done: VecDeque<(Ticket, io::Result<()>)>,
    tickets: u64,
}

impl BufferedDevice {
    pub(super) fn new(directory: Directory) -> Self {
        Self { directory, segment: None, done: VecDeque::new(), tickets: 0 }
    }
}

impl Device for BufferedDevice {
    fn attach(&mut self, segment: &str) -> io::Result<()> {
        assert!(self.done.is_empty(), "nothing is under way when a device changes segments");
        // The lock of the segment before goes first, so that one segment can be attached again.
        self.segment = None;
        let path = self.directory.path(segment);
        let file = OpenFile::open(path, fs::OpenOptions::new().read(true).write(true))?;
        file.lock_when_free()?;
        self.segment = Some(file);
        Ok(())
    }

    fn submit(&mut self, operation: Operation) -> Ticket {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let segment = self.segment.as_ref().expect("a device is attached before it writes");
        let flush = operation.flush;
        let written = Rest::cached(operation)
            .write_all(|slices, at| Ok(rustix::io::pwritev(&segment.file, slices, at)?))
            .map_err(segment.about("write"))
            .map_err(WriteRefused::mark);
        let outcome = written.and_then(|()| if flush { segment.sync_data() } else { Ok(()) });
        self.done.push_back((ticket, outcome));
        ticket
    }

    fn complete(&mut self) -> Option<(Ticket, io::Result<()>)> {
        self.done.pop_front()
    }
}
