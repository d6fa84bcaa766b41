//! Standard output and standard error, which may be full or closed.
//!
//! - [`out!`](crate::out) prints what a command is for. An error ends the command.
//! - [`say!`](crate::say) prints what happened, such as a training's figures. An error never ends the work; the exit code tells it in the end.
//! - [`log!`](crate::log) writes to standard error, and gives up where it can't.

use std::fmt::Arguments;
use std::io::{self, Write};
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

/// Writes bytes to standard output.
///
/// # Errors
///
/// [`OutputError`] for output that is full or closed.
pub fn write(bytes: &[u8]) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Writes a line to standard output, for [`out!`](crate::out).
///
/// # Errors
///
/// [`OutputError`] for output that is full or closed.
pub fn write_line(line: Arguments<'_>) -> Result<(), OutputError> {
    // The stream is buffered by lines: each is handed on here.
    Ok(writeln!(io::stdout().lock(), "{line}")?)
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
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The error of the first line of [`say!`](crate::say) that could not be written, if there is one.
pub(crate) fn check_said() -> Result<(), OutputError> {
    FAILED.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
}

/// Standard error for a log: what cannot be written is dropped.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
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
