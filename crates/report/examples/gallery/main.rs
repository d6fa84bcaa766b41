//! Writes a page with every element of a report:
//! `cargo run --release -p firstsight-report --example gallery OUT.html [FOLDER]`, and each figure into FOLDER.

use std::path::Path;
use std::process::ExitCode;

mod page;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let (out, folder) = match arguments.as_slice() {
        [out] => (out, None),
        [out, folder] => (out, Some(folder)),
        _ => {
            eprintln!("usage: gallery OUT.html [FOLDER]");
            return ExitCode::from(2);
        }
    };
    let written = page::gallery().and_then(|report| {
        report.write(Path::new(out))?;
        folder.map(|folder| report.write_pictures(Path::new(folder))).transpose()
    });
    match written {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
