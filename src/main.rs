//! The command: reads arguments, calls the library, turns its answer into an exit status.
fn main() {}
