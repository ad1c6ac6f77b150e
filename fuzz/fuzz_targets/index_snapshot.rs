//! Snapshots of an index of any bytes: nothing panics, nothing grows without bound, and what was read is written as
//! something that reads the same.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use skylark_fuzz::disk::LOG_ID;
use skylark_fuzz::index::{Sealed, ask_everything};
use skylark_index::{Entry, Extras, Index, needed_from};
use skylark_storage::Files;

static SOUND: LazyLock<Sealed> = LazyLock::new(Sealed::new);

fuzz_target!(|bytes: &[u8]| {
    let files: Arc<dyn Files> = Arc::new(SOUND.disk.clone());
    let restore = |bytes: &[u8]| Index::restore(bytes, &files, LOG_ID, &SOUND.spans);
    let needed = needed_from(bytes);
    let Ok(mut index) = restore(bytes) else { return };
    assert!(needed.expect("what is restored can be read") <= index.sealed().end());
    let _answers = ask_everything(&index);

    let written = index.snapshot();
    let again = restore(&written).expect("what was written can be read");
    assert_eq!(again.snapshot(), written);
    for queue in index.queues() {
        let (name, number) = index.name(queue);
        assert_eq!(again.lookup(name, number), Some(queue));
        assert_eq!(again.range(queue), index.range(queue));
    }

    // It goes on from there.
    let base = index.sealed().end();
    if index.begin_segment(base, u64::MAX / 2).is_err() {
        return;
    }
    for (place, queue) in (0..).zip(index.queues().take(100)) {
        let entry = Entry {
            queue_offset: index.range(queue).end,
            physical_offset: base.advance(4096 + place * 64),
            record_bytes: 64,
            tag_hash: 0,
            stored_at: u64::MAX / 2,
        };
        let _refused = index.push(queue, entry, Extras::default());
    }
});
