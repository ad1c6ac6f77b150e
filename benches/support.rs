//! Contestants, loads and measures, which the table and the criterion benchmarks share.

pub mod aligned;
pub mod appenders;
pub mod bare;
pub mod cpu;
pub mod devices;
pub mod load;
pub mod mapped;
pub mod nowhere;
pub mod okay;
pub mod peer;
pub mod records;
pub mod samples;
pub mod scratch;
pub mod verify;
