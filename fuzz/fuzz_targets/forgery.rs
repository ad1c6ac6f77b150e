//! Segments of any bytes, and of sound groups that no writer wrote: recovery does not panic, does not grow without
//! bound, serves nothing that was not there, and leaves a log that the next opening finds the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skylark_fuzz::disk::Edited;
use skylark_fuzz::forge::forge;
use skylark_fuzz::input::Input;
use skylark_fuzz::oracle;
use skylark_storage::device::simulated::Disk;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let repair = input.byte() & 1 == 1;
    let disk = Disk::new(1);
    forge(&disk, &mut input);
    oracle::check(&disk, repair, Edited { forged: true, ..Edited::default() }, |_, _| ());
});
