//! Handing over, fetching and giving up in every order: no group is lost, and none counts as staged for ever.

use std::sync::Arc;

use loom::thread;

use super::*;

fn group(start: u64) -> Group {
    Group {
        start: PhysicalOffset::new(start),
        end: PhysicalOffset::new(start + 16),
        created_at: 0,
        epoch: Epoch::ZERO,
        chain: Chain::START,
        bytes: Bytes::from_static(&[0; 16]),
    }
}

#[test]
fn loom_every_group_arrives_in_order_and_then_the_end() {
    loom::model(|| {
        let handover = Arc::new(Handover::default());
        let queue = GroupQueue::new(Arc::clone(&handover));
        let folder = thread::spawn(move || {
            let mut starts = Vec::new();
            while let Some(group) = queue.next_blocking() {
                starts.push(group.start.get());
                queue.done(&group);
            }
            starts
        });
        handover.push(group(0));
        handover.push(group(16));
        handover.end();
        assert_eq!(folder.join().expect("no thread panics"), [0, 16]);
        assert_eq!(handover.released_bytes(), 32);
    });
}

#[test]
fn loom_what_nobody_folds_counts_no_longer() {
    loom::model(|| {
        let handover = Arc::new(Handover::default());
        let queue = GroupQueue::new(Arc::clone(&handover));
        let folder = thread::spawn(move || {
            if let Some(group) = queue.try_next() {
                queue.done(&group);
            }
        });
        handover.push(group(0));
        handover.push(group(16));
        folder.join().expect("no thread panics");
        assert_eq!(handover.released_bytes(), 32);
    });
}
