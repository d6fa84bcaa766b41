//! The command line, as the tests of this package run it.

fn main() -> std::process::ExitCode {
    xtask::main()
}
