//! The nonnet command line.
fn main() {}
