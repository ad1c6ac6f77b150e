//! How fast is an append?
fn main() {}
