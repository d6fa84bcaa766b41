//! The command line as its users call it. Each test binary uses some of this.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Command, Output};

/// The command in `folder`, with its caches there.
pub(crate) fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firstsight-tests"));
    command.current_dir(folder).args(args).arg("--cache").arg(folder.join("cache"));
    command.env_remove("RUST_BACKTRACE").env("HF_HOME", folder.join("huggingface"));
    command
}

pub(crate) fn cli(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it prints.
pub(crate) fn succeeds(folder: &Path, args: &[&str]) -> String {
    let output = cli(folder, args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Asserts exit code 2, and that the error says each of `words` and is no panic.
pub(crate) fn refused(output: &Output, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("error: ") && !said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "should say {word:?}: {said}");
    }
}

/// Asserts that it is [`refused`].
pub(crate) fn refuses(folder: &Path, args: &[&str], words: &[&str]) {
    refused(&cli(folder, args), words);
}
