//! A device of somebody else's: what it is told of the memory that operations come from.

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skylark_storage::clock::SimulatedClock;
use skylark_storage::device::simulated::Disk;
use skylark_storage::device::{Operation, Ticket};
use skylark_storage::{
    CommitLog, Device, Files, Frontiers, NewRecord, Opened, Options, Step, Stretch, TailMemory,
};

use support::layer::{Layer, Layered};
use support::{BEGINNING_MS, KIND, options};

#[derive(Clone)]
struct Registering {
    disk: Disk,
    /// Pieces that came from memory which was prepared.
    prepared: Arc<AtomicUsize>,
}

impl Layer for Registering {
    fn below(&self) -> &dyn Files {
        &self.disk
    }

    fn device(&self) -> Box<dyn Device> {
        let (device, prepared) = (self.disk.device(), Arc::clone(&self.prepared));
        Box::new(RegisteringDevice { device, memory: None, known: Vec::new(), prepared })
    }
}

struct RegisteringDevice {
    device: Box<dyn Device>,
    memory: Option<TailMemory>,
    known: Vec<Stretch>,
    prepared: Arc<AtomicUsize>,
}

impl Device for RegisteringDevice {
    fn attach(&mut self, segment: &str) -> io::Result<()> {
        self.known.retain(|stretch| !stretch.is_left());
        self.device.attach(segment)
    }

    fn lend(&mut self, memory: TailMemory) {
        self.memory = Some(memory);
    }

    fn submit(&mut self, operation: Operation) -> Ticket {
        let memory = self.memory.as_ref().expect("memory is lent before the first operation");
        for piece in &operation.pieces {
            let known = self.known.iter().any(|stretch| stretch.holds(piece));
            if let Some(stretch) = memory.find(piece).filter(|_| !known) {
                assert!(stretch.holds(piece) && stretch.bytes() >= piece.len() && !stretch.first().is_null());
                assert!(self.known.iter().all(|other| other.first() != stretch.first()));
                self.known.push(stretch);
            } else if known {
                self.prepared.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.device.submit(operation)
    }

    fn complete(&mut self) -> Option<(Ticket, io::Result<()>)> {
        self.device.complete()
    }
}

#[test]
fn it_can_prepare_the_memory_that_a_busy_log_uses_again() {
    let files = Registering { disk: Disk::new(1), prepared: Arc::default() };
    let options = Options { segment_bytes: 1 << 20, tail_bytes: 0, ..options() };
    let clock = Arc::new(SimulatedClock::new(BEGINNING_MS));
    let Opened { log, mut writer, mut housekeeper, groups, .. } =
        CommitLog::open(Arc::new(Layered(files.clone())), clock, options, ())
            .expect("an empty disk can be opened");
    drop(groups);
    let record = NewRecord { kind: KIND, head: &[], rest: &[&[7; 200_000]] };
    for _ in 0..100 {
        log.append(&[record], |(), _, _| ()).expect("the log takes appends");
        while writer.step() == Step::Worked {}
        while housekeeper.step() == Step::Worked {}
    }
    let Frontiers { durable_end, appended_end, .. } = log.frontiers();
    assert_eq!(durable_end, appended_end);
    let prepared = files.prepared.load(Ordering::Relaxed);
    assert!(prepared > 50, "{prepared} of 100 groups came from known memory");
}
