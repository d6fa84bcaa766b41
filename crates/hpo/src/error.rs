//! The crate's error type. Each error states the rule and the values that break it.

use std::path::PathBuf;

/// The result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of `firstsight-hpo`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An invalid range or list of choices.
    #[error("parameter `{name}`: expected {rule}, found {found}")]
    InvalidSpace {
        /// The parameter's name.
        name: String,
        /// The rule, such as `low <= high`.
        rule: &'static str,
        /// The values that break it.
        found: String,
    },
    /// A file of a search space that states none.
    #[cfg(feature = "toml")]
    #[error("{place}: expected {expected}, found {found}")]
    SpaceFile {
        /// The file, with its line and the parameter.
        place: String,
        /// The expected content.
        expected: String,
        /// The content found.
        found: String,
    },
    /// A parameter was suggested with incompatible distributions.
    #[error("parameter `{name}` was suggested as {before}, and now as {now}: {rule}")]
    Incompatible {
        /// The parameter's name.
        name: String,
        /// The rule that the pair breaks.
        rule: &'static str,
        /// The distribution it had before.
        before: String,
        /// The distribution it is asked for with now.
        now: String,
    },
    /// A value that lies outside its distribution.
    #[error("parameter `{name}`: {value} lies outside {distribution}")]
    OutOfRange {
        /// The parameter's name.
        name: String,
        /// The value.
        value: String,
        /// The distribution.
        distribution: String,
    },
    /// A replayed trial, or a grid, has no value for a parameter.
    #[error("parameter `{name}` is not among those of {place}: {known:?}")]
    UnknownParam {
        /// The parameter's name.
        name: String,
        /// Where it was looked for.
        place: String,
        /// The known names.
        known: Vec<String>,
    },
    /// An invalid setting of a sampler or pruner.
    #[error("{what}: expected {rule}, found {found}")]
    InvalidSetting {
        /// The component and its setting.
        what: &'static str,
        /// The rule.
        rule: &'static str,
        /// The value that breaks it.
        found: String,
    },
    /// A study of that name exists already.
    #[error("another study with name `{name}` already exists; choose a different name, or load it")]
    StudyExists {
        /// The name.
        name: String,
    },
    /// The storage has no study of that name.
    #[error("no study with name `{name}`; the storage holds {known:?}")]
    NoStudy {
        /// The name asked for.
        name: String,
        /// The names in the storage.
        known: Vec<String>,
    },
    /// The study has as many trials as were asked for.
    #[error("study `{study}` has {limit} trials already")]
    Full {
        /// The study's name.
        study: String,
        /// The number asked for.
        limit: usize,
    },
    /// The study has no trial of that number.
    #[error("study `{study}` has no trial {number}; it has {count}")]
    NoTrial {
        /// The study's name.
        study: String,
        /// The trial's number.
        number: usize,
        /// The number of trials of the study.
        count: usize,
    },
    /// No trial is complete yet, so there is no best one.
    #[error("study `{study}` has no complete trial yet")]
    NoCompleteTrial {
        /// The study's name.
        study: String,
    },
    /// Something that has a meaning for one objective alone.
    #[error("study `{study}` has {n} objectives: {what} needs one")]
    OneObjective {
        /// The study's name.
        study: String,
        /// The number of its objectives.
        n: usize,
        /// What was asked for.
        what: &'static str,
    },
    /// A finished trial cannot change.
    #[error("trial {number} is already {state} and cannot be updated")]
    Finished {
        /// The trial's number.
        number: usize,
        /// Its state.
        state: crate::TrialState,
    },
    /// Another worker goes on with the trial, since this one gave no sign of life.
    #[error("trial {number} was taken over by another worker, as this one gave no sign of life")]
    Taken {
        /// The trial's number.
        number: usize,
    },
    /// A trial that a storage would not read again.
    #[error("the trial cannot be stored: expected {expected}, found {found}")]
    InvalidTrial {
        /// The expected content.
        expected: String,
        /// The content found.
        found: String,
    },
    /// An unusable objective value or report.
    #[error("trial {number}: expected {rule}, found {found}")]
    InvalidValue {
        /// The trial's number.
        number: usize,
        /// The rule.
        rule: &'static str,
        /// The value that breaks it.
        found: String,
    },
    /// The objective returned an error, which ended the run; the trial is marked failed.
    #[error("the objective of trial {number} failed")]
    Objective {
        /// The trial's number.
        number: usize,
        /// The objective's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Trials of a run failed for one reason, and none had a value.
    #[error("study `{study}` gave up: {failed} trials failed for one reason, and none has a value: {reason}")]
    GaveUp {
        /// The study's name.
        study: String,
        /// The number of trials that failed.
        failed: usize,
        /// The reason of the last one.
        reason: String,
    },
    /// An address that names no storage.
    #[error("`{address}` cannot keep a study: {rule}")]
    Address {
        /// The address.
        address: String,
        /// What is expected.
        rule: &'static str,
    },
    /// A storage file that is damaged, or not a storage of the expected kind.
    #[error("{path}: expected {expected}, found {found}")]
    Corrupt {
        /// The file, with the line where that is known.
        path: String,
        /// The expected content.
        expected: String,
        /// The content found.
        found: String,
    },
    /// Reading or writing a storage file failed.
    #[error("{path}: {doing}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operation that failed.
        doing: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// The database refused a statement.
    #[cfg(feature = "sqlite")]
    #[error("{path}: {doing}")]
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// The operation that failed.
        doing: &'static str,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// A database server was not reached, or refused.
    #[cfg(feature = "postgresql")]
    #[error("{address}: {doing}: {problem}")]
    Postgres {
        /// The database's address, without its password.
        address: String,
        /// The operation that failed.
        doing: &'static str,
        /// The server's or the system's words, and what helps.
        problem: String,
        /// The error itself.
        error: Box<postgres::Error>,
    },
    /// A value that cannot be stored as JSON.
    #[error("{what} cannot be stored as JSON")]
    Json {
        /// A name for the value.
        what: String,
        /// The serializer's error.
        source: serde_json::Error,
    },
    /// A thread panicked while it held the study.
    #[error("a worker panicked while it held {what}")]
    Poisoned {
        /// The object that was held.
        what: &'static str,
    },
}

impl Error {
    /// Whether a database or a server refused to store or to read, rather than a setting or data being wrong. Of a file, the
    /// operating system's error tells it, which is the [source](std::error::Error::source) of [`Error::Io`].
    #[must_use]
    pub fn is_about_the_machine(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { source, .. } => {
                use rusqlite::ErrorCode::{
                    CannotOpen, DatabaseBusy, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure,
                };
                matches!(
                    source.sqlite_error_code(),
                    Some(
                        CannotOpen | DatabaseBusy | DiskFull | PermissionDenied | ReadOnly | SystemIoFailure
                    )
                )
            }
            #[cfg(feature = "postgresql")]
            Self::Postgres { error, .. } => match error.code() {
                // Classes of SQLSTATE: connection, resources, operator's intervention, system.
                Some(code) => ["08", "53", "57", "58"].iter().any(|class| code.code().starts_with(class)),
                None => {
                    error.is_closed()
                        || std::error::Error::source(&**error)
                            .is_some_and(|cause| cause.is::<std::io::Error>())
                }
            },
            _ => false,
        }
    }
}
