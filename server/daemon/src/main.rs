//! The nonnet daemon.
fn main() {}
