//! Standard output and standard error, which may be full or closed.
//!
//! - [`out!`](crate::out) prints what a command is for. An error ends the command.
//! - [`say!`](crate::say) prints what happened, such as a training's figures. An error never ends the work; the exit code tells it in the end.
//! - [`log!`](crate::log) writes to standard error, and gives up where it can't.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};

/// Standard output that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct OutputError(#[from] io::Error);

impl OutputError {
    /// Whether nobody reads the output any more, as after `| head`.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Writes bytes to standard output as they are, and to a terminal without control characters.
///
/// # Errors
///
/// [`OutputError`] for output that is full or closed.
pub fn write(bytes: &[u8]) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    match std::str::from_utf8(bytes) {
        Ok(text) if out.is_terminal() => out.write_all(visible(text).as_bytes())?,
        _ => out.write_all(bytes)?,
    }
    Ok(out.flush()?)
}

/// Writes a line to standard output, for [`out!`](crate::out).
///
/// # Errors
///
/// [`OutputError`] for output that is full or closed.
pub fn write_line(line: Arguments<'_>) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    // The stream is buffered by lines: each is handed on here.
    let written = match out.is_terminal() {
        true => writeln!(out, "{}", visible(&line.to_string())),
        false => writeln!(out, "{line}"),
    };
    Ok(written?)
}

/// The first error of a line that did not end the work.
static FAILED: Mutex<Option<OutputError>> = Mutex::new(None);

/// Writes a line to standard output, for [`say!`](crate::say).
pub fn say_line(line: Arguments<'_>) {
    if let Err(error) = write_line(line) {
        FAILED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// Writes a line to standard error where that is possible, for [`log!`](crate::log).
pub fn log_line(line: Arguments<'_>) {
    // In one piece, since other threads and processes write too.
    let _ = io::stderr().write_all(format!("{}\n", visible(&line.to_string())).as_bytes());
}

/// The error of the first line of [`say!`](crate::say) that could not be written, if there is one.
pub(crate) fn check_said() -> Result<(), OutputError> {
    FAILED.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
}

/// Text without what moves a terminal's cursor, sets its title or turns its text around: control characters, which file and class names
/// of strangers may have, as escapes such as `\u{1b}`.
fn visible(text: &str) -> Cow<'_, str> {
    let acts = |c: char| match c {
        '\n' | '\t' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => c.is_control(),
    };
    if !text.contains(acts) {
        return text.into();
    }
    let shown = |c: char| if acts(c) { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(shown).collect::<String>().into()
}

/// Standard error for a log: what cannot be written is dropped.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(visible(&String::from_utf8_lossy(bytes)).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints a line, as `println!` does; the result is an error where that failed.
#[macro_export]
macro_rules! out {
    ($($text:tt)*) => { $crate::stdio::write_line(::std::format_args!($($text)*)) };
}

/// Prints a line of a training's or a search's results: where that fails, the work goes on, and the exit code tells it in the end.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::stdio::say_line(::std::format_args!($($text)*)) };
}

/// Writes a line to standard error where that is possible.
#[macro_export]
macro_rules! log {
    ($($text:tt)*) => { $crate::stdio::log_line(::std::format_args!($($text)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_drive_the_terminal() {
        assert_eq!(
            visible("\u{1b}[2Jants\u{202e}gnp.exe\r\n\tbees é\u{7f}"),
            "\\u{1b}[2Jants\\u{202e}gnp.exe\\u{d}\n\tbees é\\u{7f}"
        );
        assert!(matches!(visible("啊 ants, bees\n"), Cow::Borrowed(_)));
    }
}
