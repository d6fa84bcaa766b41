//! The command `firstsight`.

fn main() -> std::process::ExitCode {
    firstsight::main()
}
