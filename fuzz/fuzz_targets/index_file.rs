//! Index files of any bytes: nothing panics, every question ends, and what was changed without its checksum is found
//! to be damaged, not answered.
//!
//! The input is edits to the pages of sound files, or a whole file. With `sealed` set the checksums are made to fit,
//! so that what they cover is the fuzzer's; then any answer is right that comes to an end.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use skylark_fuzz::disk::{LOG_ID, contents};
use skylark_fuzz::index::{PAGE_BYTES, SEGMENTS, Sealed, ask_everything};
use skylark_fuzz::input::Input;
use skylark_index::{Index, SealedError};
use skylark_storage::Files;
use skylark_storage::device::simulated::Disk;

/// Files, and what they answer.
static SOUND: LazyLock<(Sealed, Vec<String>)> = LazyLock::new(|| {
    let sealed = Sealed::new();
    let answers = ask_everything(&restore(&sealed, &sealed.disk)).into_iter();
    let answers = answers.collect::<Result<_, _>>().expect("the files are sound");
    (sealed, answers)
});

const EDITS_MAX: usize = 16;

fn restore(sealed: &Sealed, disk: &Disk) -> Index {
    let files: Arc<dyn Files> = Arc::new(disk.clone());
    Index::restore(&sealed.snapshot, &files, LOG_ID, &sealed.spans).expect("the disk works")
}

fuzz_target!(|bytes: &[u8]| {
    let (sealed, answers) = &*SOUND;
    let mut input = Input::new(bytes);
    let mode = input.byte();
    let (is_whole, is_sealed) = (mode & 1 != 0, mode & 2 != 0);
    let disk = sealed.disk.kill();
    let mut segment = usize::from(mode >> 2) % usize::try_from(SEGMENTS).expect("there are few");
    let write = |segment: usize, mut bytes: Vec<u8>| {
        if is_sealed {
            sealed.seal(segment, &mut bytes);
        }
        let file = disk.open(&sealed.name(segment)).expect("it is there");
        file.set_len(0).and_then(|()| file.write_at(0, &bytes)).expect("the disk works");
    };
    if is_whole {
        let mut bytes = input.rest().to_vec();
        if mode & 128 == 0 {
            bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
        }
        write(segment, bytes);
    } else {
        for _ in 0..EDITS_MAX {
            if input.is_empty() {
                break;
            }
            let mut bytes = contents(&disk, &sealed.name(segment));
            let page = usize::from(input.byte()) % (bytes.len() / PAGE_BYTES).max(1);
            let at = page * PAGE_BYTES + usize::try_from(input.number()).expect("three bytes") % PAGE_BYTES;
            let length = usize::from(input.byte() % 16);
            for (byte, new) in bytes.iter_mut().skip(at).zip(input.take(length)) {
                *byte ^= new;
            }
            write(segment, bytes);
            segment = (segment + usize::from(input.byte() & 1)) % sealed.spans.len();
        }
    }

    let mut index = restore(sealed, &disk);
    let found = ask_everything(&index);
    if !is_sealed {
        for (found, expected) in found.iter().zip(answers) {
            match found {
                Ok(found) => assert_eq!(found, expected, "damage was taken for an answer"),
                Err(SealedError::Missing { .. } | SealedError::Damaged { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    // A trim and a rebuild read what the questions do not.
    let missing = index.missing();
    if let Some(base) = missing.first()
        && let Ok(plan) = index.rebuild(*base)
    {
        let _damaged = plan.begin().map(drop);
    }
    if let Some(plan) = index.trim_plan(index.sealed().end())
        && let Ok(trim) = plan.read()
    {
        index.trim(trim);
        let _answers = ask_everything(&index);
    }
});
