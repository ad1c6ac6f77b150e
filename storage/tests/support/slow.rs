//! A disk that takes its time: while an operation of its device is under way the clock goes on, and somebody appends.
//!
//! Everything stays on one thread, so that a seed lives the same life every time: between what the device writes and
//! what it says of that, it does what it was given for this moment.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use skylark_storage::Files;
use skylark_storage::device::{Device, Operation, Ticket};

use super::layer::{Layer, Layered};

/// What happens while the next operation is under way. Clones are of the same disk.
#[derive(Clone, Default)]
pub struct Meanwhile(Arc<Mutex<Option<Deed>>>);

type Deed = Box<dyn FnOnce() + Send>;

impl Meanwhile {
    /// These files, with a device that has time for a deed.
    pub fn on(&self, files: Arc<dyn Files>) -> Arc<dyn Files> {
        Arc::new(Layered(Slow { files, meanwhile: self.clone() }))
    }

    /// Gives the next operation something that is done while it is under way.
    pub fn set(&self, deed: impl FnOnce() + Send + 'static) {
        *self.0.lock() = Some(Box::new(deed));
    }

    /// Takes it back; whether it is too late.
    pub fn is_done(&self) -> bool {
        self.0.lock().take().is_none()
    }

    fn pass(&self) {
        // The lock is free again before the deed begins.
        let deed = self.0.lock().take();
        deed.into_iter().for_each(|deed| deed());
    }
}

struct Slow {
    files: Arc<dyn Files>,
    meanwhile: Meanwhile,
}

impl Layer for Slow {
    fn below(&self) -> &dyn Files {
        &*self.files
    }

    fn device(&self) -> Box<dyn Device> {
        Box::new(SlowDevice { device: self.files.device(), meanwhile: self.meanwhile.clone() })
    }
}

struct SlowDevice {
    device: Box<dyn Device>,
    meanwhile: Meanwhile,
}

impl Device for SlowDevice {
    fn attach(&mut self, segment: &str) -> io::Result<()> {
        self.device.attach(segment)
    }

    fn submit(&mut self, operation: Operation) -> Ticket {
        self.device.submit(operation)
    }

    fn complete(&mut self) -> Option<(Ticket, io::Result<()>)> {
        self.meanwhile.pass();
        self.device.complete()
    }

    fn any_thread(&self) -> bool {
        self.device.any_thread()
    }
}
