//! Where a group goes on in a queue, as far as one client can know it that does one thing after the other.

use std::collections::BTreeSet;

use skylark_storage::PhysicalOffset;

/// The group's offset, and whether it was moved there and has not gone yet.
pub type Progress = (Option<u64>, bool);

/// Something that may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Query,
    Commit(u64),
    Reset(u64),
    /// From this offset on.
    Pull(u64),
}

/// What the group's progress may be.
///
/// Each time the broker has told the log what was committed, an era begins. Once the log is durable up to there, no
/// crash leads back to an earlier one.
#[derive(Debug)]
pub struct Register {
    now: BTreeSet<Progress>,
    eras: Vec<Era>,
    open: Option<Operation>,
}

#[derive(Debug)]
struct Era {
    begins_with: PhysicalOffset,
    progress: BTreeSet<Progress>,
}

impl Default for Register {
    fn default() -> Self {
        let now = BTreeSet::from([(None, false)]);
        let eras = vec![Era { begins_with: PhysicalOffset::ZERO, progress: now.clone() }];
        Self { now, eras, open: None }
    }
}

fn after(operation: Operation, (offset, is_moved): Progress) -> Progress {
    match operation {
        Operation::Query => (offset, is_moved),
        Operation::Commit(_) if is_moved => (offset, is_moved),
        Operation::Commit(offset) => (Some(offset), false),
        Operation::Reset(offset) => (Some(offset), true),
        Operation::Pull(_) => (offset, false),
    }
}

impl Register {
    pub fn is_idle(&self) -> bool {
        self.open.is_none()
    }

    pub fn begin(&mut self, operation: Operation) {
        assert_eq!(self.open.replace(operation), None, "one thing after the other");
        self.remember();
    }

    pub fn operation(&self) -> Operation {
        self.open.expect("something is under way")
    }

    /// It was done.
    pub fn done(&mut self) {
        let operation = self.open.take().expect("something is under way");
        self.now = self.now.iter().map(|progress| after(operation, *progress)).collect();
        if let Operation::Reset(_) = operation {
            // That is only said once it is durable.
            self.eras.clear();
            self.eras.push(Era { begins_with: PhysicalOffset::ZERO, progress: self.now.clone() });
        }
        self.remember();
    }

    /// Nobody knows whether it was.
    pub fn unknown(&mut self) {
        let Some(operation) = self.open.take() else { return };
        let done: Vec<_> = self.now.iter().map(|progress| after(operation, *progress)).collect();
        self.now.extend(done);
    }

    /// It was answered that this is where the group goes on.
    pub fn is_at(&mut self, offset: Option<u64>) {
        let before = self.now.clone();
        self.now.retain(|(known, _)| *known == offset);
        assert!(!self.now.is_empty(), "the group goes on at {offset:?}, which is none of {before:?}");
    }

    /// A pull was sent where the group was moved to.
    pub fn was_moved_to(&mut self, offset: u64) {
        let before = self.now.clone();
        self.now.retain(|progress| *progress == (Some(offset), true));
        assert!(!self.now.is_empty(), "sent to {offset}, and the group goes on at one of {before:?}");
    }

    /// A pull was not sent anywhere.
    pub fn was_not_moved(&mut self) {
        let before = self.now.clone();
        self.now.retain(|(_, is_moved)| !is_moved);
        assert!(!self.now.is_empty(), "the group was moved, and nobody told it: {before:?}");
    }

    /// The log ends at `end`, and has been told of everything so far.
    pub fn told(&mut self, end: PhysicalOffset) {
        self.eras.push(Era { begins_with: end, progress: BTreeSet::new() });
        self.remember();
    }

    /// The broker is gone, and the log is durable up to `durable_end`.
    pub fn crashed(&mut self, durable_end: PhysicalOffset) {
        self.unknown();
        self.remember();
        let kept = self.eras.iter().rposition(|era| era.begins_with <= durable_end).expect("the first is");
        self.now = self.eras.drain(..).skip(kept).flat_map(|era| era.progress).collect();
        self.eras.push(Era { begins_with: PhysicalOffset::ZERO, progress: self.now.clone() });
    }

    /// What may be true at this moment.
    fn remember(&mut self) {
        let now = self.now.iter().copied();
        let done = self.open.map(|operation| now.clone().map(move |progress| after(operation, progress)));
        let era = self.eras.last_mut().expect("there is always one");
        era.progress.extend(now.chain(done.into_iter().flatten()));
    }
}

#[test]
fn what_was_durable_is_not_gone_back_behind() {
    let at = PhysicalOffset::new;
    let commit = |register: &mut Register, offset| {
        register.begin(Operation::Commit(offset));
        register.done();
    };
    let mut register = Register::default();
    commit(&mut register, 3);
    register.told(at(100));
    commit(&mut register, 5);
    register.told(at(200));
    commit(&mut register, 7);
    register.crashed(at(150));
    assert_eq!(register.now, BTreeSet::from([3, 5, 7].map(|offset| (Some(offset), false))));
    register.begin(Operation::Reset(1));
    register.crashed(at(300));
    assert_eq!(register.now.len(), 4);
    register.begin(Operation::Reset(2));
    register.done();
    commit(&mut register, 9);
    register.crashed(at(300));
    assert_eq!(register.now, BTreeSet::from([(Some(2), true)]));
}
