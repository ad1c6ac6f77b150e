//! The table that puts the log beside the disk, the mapped file and another log; see [`skylark_benches::limits`].

use std::process::ExitCode;

use skylark_benches::limits;
use skylark_benches::support::okay::Okay;

fn main() -> ExitCode {
    limits::main(&[&Okay])
}
