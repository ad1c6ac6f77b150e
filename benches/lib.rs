//! What the benchmarks of the log have in common, and the table that puts the log beside the disk.
//!
//! | question                                                | where                                     |
//! |---------------------------------------------------------|-------------------------------------------|
//! | how close is the log to what this disk can do?          | [`limits`]; `cargo run --release -p skylark-benches --bin limits` |
//! | what does one operation cost, and did that change?      | `criterion/`; `cargo bench -p skylark-benches` |
//! | how does the broker compare with Apache's?              | `compare/`                                |
//!
//! [`support`] holds what both use: closed loops, records as the log stores them, the contestants.

pub mod limits;
pub mod support;
