//! How a command ends. This is the one place that decides it.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | The work is done, also where nobody reads the output any more (`\| head`) |
//! | 1 | The machine failed the work: a full disk, no permission, a read error, output that cannot be written, a network or a server that does not answer. Also: some of many files could not be read as images; `dataset check` found classes that no training takes |
//! | 2 | An argument, a setting or data is wrong. A file that is named and does not exist is a wrong argument; a file that is no image is wrong data |
//! | 130 | Ctrl-C. A service ends with 0: that is how it is ended |

use std::error::Error;
use std::io::{self, ErrorKind};

use firstsight_transfer::{HubError, Interrupted, WriteError};

use crate::reading::{SomeUnreadable, UnfitClasses};
use crate::stdio::OutputError;

/// The machine failed the work.
pub(crate) const FAILED: u8 = 1;
/// An argument, a setting or data is wrong.
pub(crate) const WRONG: u8 = 2;
/// Ctrl-C, or another signal that asks for the end.
pub(crate) const INTERRUPTED: u8 = 130;

/// The exit code of an error, and whether there is something to say.
pub(crate) fn code(error: &anyhow::Error) -> (u8, bool) {
    let is = |test: fn(&(dyn Error + 'static)) -> bool| error.chain().any(test);
    if is(|cause| cause.is::<Interrupted>()) {
        (INTERRUPTED, true)
    } else if is(|cause| cause.downcast_ref().is_some_and(OutputError::is_closed)) {
        (0, false)
    } else if error.is::<SomeUnreadable>() || error.is::<UnfitClasses>() || is(is_the_machines) {
        (FAILED, true)
    } else {
        (WRONG, true)
    }
}

/// Whether the machine, a network or a server failed, and no argument or data is wrong.
fn is_the_machines(cause: &(dyn Error + 'static)) -> bool {
    let io = cause.downcast_ref::<io::Error>();
    let hub = hub_error(cause);
    let study = cause.downcast_ref::<firstsight_hpo::Error>();
    cause.is::<WriteError>()
        || cause.is::<OutputError>()
        || matches!(cause.downcast_ref(), Some(firstsight_report::Error::Write { .. }))
        || io.is_some_and(is_system_error)
        || hub.is_some_and(HubError::is_transient)
        || study.is_some_and(firstsight_hpo::Error::is_about_the_machine)
}

/// The hub's error. Errors that show another as their own are no steps of a chain.
fn hub_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a HubError> {
    let of_transfer = |error: &'a firstsight_transfer::Error| match error {
        firstsight_transfer::Error::Hub(error) => Some(&**error),
        _ => None,
    };
    let of_lecture = || match cause.downcast_ref() {
        Some(firstsight_lecture::Error::Transfer(error)) => of_transfer(error),
        _ => None,
    };
    cause.downcast_ref().or_else(|| cause.downcast_ref().and_then(of_transfer)).or_else(of_lecture)
}

/// Whether an operating system refused, for a reason that is not the name of a file. Readers of formats make errors of their own.
fn is_system_error(error: &io::Error) -> bool {
    use ErrorKind::{
        InvalidData, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, Other,
        UnexpectedEof,
    };
    match error.kind() {
        NotFound | IsADirectory | NotADirectory | InvalidFilename => false,
        InvalidData | InvalidInput | Other | UnexpectedEof => error.raw_os_error().is_some(),
        _ => true,
    }
}

/// The error of a system, where it is the cause of an error that is only lent.
pub(crate) fn system_error(error: &(dyn Error + 'static)) -> Option<io::Error> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>().filter(|io| is_system_error(io)) {
            return Some(io.raw_os_error().map_or_else(|| io.kind().into(), io::Error::from_raw_os_error));
        }
        next = cause.source();
    }
    None
}

/// An error with the system's as its cause, if that is known.
pub(crate) fn caused(said: String, cause: Option<io::Error>) -> anyhow::Error {
    match cause {
        Some(cause) => anyhow::Error::new(cause).context(said),
        None => anyhow::Error::msg(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_machine_refuses_is_its_fault() {
        let of = |error: io::Error| {
            let error = firstsight_models::Error::Io { path: "file".into(), source: error };
            code(&anyhow::Error::new(firstsight_transfer::Error::from(error)).context("cannot go on")).0
        };
        // ENOENT, EIO, EACCES, ENOTDIR, EISDIR, ENOSPC, EROFS, EMFILE, ENAMETOOLONG, EDQUOT
        let codes = [2, 5, 13, 20, 21, 28, 30, 24, 36, 122].map(|n| of(io::Error::from_raw_os_error(n)));
        if cfg!(target_os = "linux") {
            assert_eq!(codes, [2, 1, 1, 2, 2, 1, 1, 1, 2, 1]);
        }
        assert_eq!(of(ErrorKind::UnexpectedEof.into()), 2, "a file that is cut off");
        assert_eq!(of(io::Error::other("no such chunk")), 2, "what a reader says of the data");
        let closed = OutputError::from(io::Error::from(ErrorKind::BrokenPipe));
        assert_eq!(code(&closed.into()), (0, false));
        assert_eq!(code(&OutputError::from(io::Error::from(ErrorKind::StorageFull)).into()), (1, true));
        assert_eq!(code(&anyhow::anyhow!("expected a number")), (2, true));
    }
}
