//! What does one operation of the log cost, and did that change? One program, because linking takes longer than most
//! of its groups.
//!
//! | question                                                           | module       |
//! |--------------------------------------------------------------------|--------------|
//! | what does an append cost, and how long until it is durable?        | [`append`]   |
//! | what does a read cost, from memory and from files?                 | [`read`]     |
//! | what do the checksums cost?                                        | [`checksum`] |
//! | what do opening an unclean log and going to the next segment cost? | [`life`]     |
//!
//! Files go to `SKYLARK_BENCH_DIR`, or the system's temporary directory; a tmpfs there makes most of it pointless.

mod append;
mod checksum;
mod life;
mod read;

criterion::criterion_main!(checksum::benches, append::benches, read::benches, life::benches);
