//! The `gray` binary.
fn main() {}
