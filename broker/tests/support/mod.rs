//! What tests of the whole binary share: programs as children, and the broker among them.

// Each test binary includes all of this and uses its own part.
#![allow(dead_code, unreachable_pub, reason = "no test binary needs every function, and none exports any")]

#[path = "../../../storage/tests/support/layer.rs"]
pub(crate) mod layer;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod server;
