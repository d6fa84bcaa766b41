//! The installed command, for tests: cargo tells them the path of this package's binaries alone.

fn main() -> std::process::ExitCode {
    firstsight::main()
}
