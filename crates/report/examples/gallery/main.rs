//! Writes a page with every element of a report:
//! `cargo run --release -p firstsight-report --example gallery OUT.html`.

use std::path::Path;
use std::process::ExitCode;

mod page;

fn main() -> ExitCode {
    let Some(out) = std::env::args_os().nth(1) else {
        eprintln!("usage: gallery OUT.html");
        return ExitCode::from(2);
    };
    match page::gallery().and_then(|report| report.write(Path::new(&out))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
