//! The command line as inside a clone, for tests: cargo gives them the path of their own package's binaries only.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use firstsight::{Command, Program};
use firstsight_data::files::{self, Step};
use firstsight_models::{Error, ModelInfo, registry};
use firstsight_ops::{Instructions, limit_instructions};

/// A network that cannot be built: every training of it fails.
static UNBUILDABLE: ModelInfo = ModelInfo::new("unbuildable", |_| {
    Err(Error::Setting { model: "unbuildable", rule: "it is never built", found: "an attempt".to_owned() })
});

/// Ends the process, or lets a step fail, where the test says so: at the n-th step of writing, counted from 1. Where
/// `FIRSTSIGHT_TESTS_TORN` is set, half of what the step would write is written before the end; where `FIRSTSIGHT_TESTS_ONLY` is a part of
/// a file's name, only such files' steps count.
fn disturb() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let (kill_at, fail_at) = (number("FIRSTSIGHT_TESTS_KILL_AT"), number("FIRSTSIGHT_TESTS_FAIL_AT"));
    let error = number("FIRSTSIGHT_TESTS_ERROR").unwrap_or(0) as i32;
    if kill_at.is_none() && fail_at.is_none() {
        return;
    }
    let only = std::env::var("FIRSTSIGHT_TESTS_ONLY").ok();
    let is_torn = std::env::var_os("FIRSTSIGHT_TESTS_TORN").is_some();
    let steps = AtomicUsize::new(0);
    files::observe(move |step| {
        // The cache is nobody's result.
        if step.path().components().any(|part| part.as_os_str() == "cache") {
            return Ok(());
        }
        let name = step.path().file_name().unwrap_or_default().to_string_lossy();
        if only.as_ref().is_some_and(|only| !name.contains(only)) {
            return Ok(());
        }
        let n = steps.fetch_add(1, Ordering::Relaxed) + 1;
        if kill_at == Some(n) {
            if let Step::Write(path, bytes) = step
                && is_torn
            {
                let half = &bytes[..bytes.len() / 2];
                let _ = File::options().append(true).open(path).and_then(|mut file| file.write_all(half));
            }
            std::process::abort();
        }
        // A disk that is full stays full.
        match fail_at.is_some_and(|at| n >= at) {
            true => Err(io::Error::from_raw_os_error(error)),
            false => Ok(()),
        }
    });
}

fn main() -> ExitCode {
    disturb();
    match std::env::var("FIRSTSIGHT_TESTS_INSTRUCTIONS").as_deref() {
        Ok("plain") => limit_instructions(Instructions::Plain),
        Ok("avx2") => limit_instructions(Instructions::Avx2),
        _ => {}
    }
    if std::env::var_os("FIRSTSIGHT_TESTS_UNBUILDABLE").is_some() && registry::register(&UNBUILDABLE).is_err()
    {
        return ExitCode::FAILURE;
    }
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let workspace = package.and_then(|package| package.parent().map(PathBuf::from));
    let program =
        Program { name: "cargo xtask", workspace: Some(workspace.unwrap_or_else(|| PathBuf::from("."))) };
    firstsight::main_with::<Command>(&program, |command, context| command.run(context))
}
