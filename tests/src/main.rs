//! Firstsight's command line.

fn main() {}
