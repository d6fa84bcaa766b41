//! What can go wrong, each error with the rule and the values that broke it.

use std::path::PathBuf;

/// The result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of `firstsight-hpo`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A range or a list of choices that no parameter can have.
    #[error("parameter `{name}`: {rule} must hold, but got {got}")]
    InvalidSpace {
        /// The parameter's name.
        name: String,
        /// The rule, such as `low <= high`.
        rule: &'static str,
        /// The values that break it.
        got: String,
    },
    /// One name, two kinds of distribution.
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
        /// The names that are there.
        known: Vec<String>,
    },
    /// A sampler's or pruner's setting that makes no sense.
    #[error("{what}: {rule} must hold, but got {got}")]
    InvalidSetting {
        /// The component and its setting.
        what: &'static str,
        /// The rule.
        rule: &'static str,
        /// The value that breaks it.
        got: String,
    },
    /// A study of that name is there already.
    #[error("another study with name `{name}` already exists; choose a different name, or load it")]
    StudyExists {
        /// The name.
        name: String,
    },
    /// No study of that name is there.
    #[error("no study with name `{name}`; the storage holds {known:?}")]
    NoStudy {
        /// The name asked for.
        name: String,
        /// The names in the storage.
        known: Vec<String>,
    },
    /// No such trial.
    #[error("study `{study}` has no trial {number}; it has {count}")]
    NoTrial {
        /// The study's name.
        study: String,
        /// The trial's number.
        number: usize,
        /// How many trials the study has.
        count: usize,
    },
    /// No trial is complete yet, so there is no best one.
    #[error("study `{study}` has no complete trial yet, so no best one")]
    NoCompleteTrial {
        /// The study's name.
        study: String,
    },
    /// A finished trial cannot change.
    #[error("trial {number} is {state} already and cannot be updated")]
    Finished {
        /// The trial's number.
        number: usize,
        /// Its state.
        state: crate::TrialState,
    },
    /// A negative or otherwise unusable objective value or report.
    #[error("trial {number}: {rule} must hold, but got {got}")]
    InvalidValue {
        /// The trial's number.
        number: usize,
        /// The rule.
        rule: &'static str,
        /// The value that breaks it.
        got: String,
    },
    /// The objective gave an error, which ended the run; its trial is marked failed.
    #[error("the objective of trial {number} failed")]
    Objective {
        /// The trial's number.
        number: usize,
        /// What the objective said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A storage file that is damaged, or no storage of the expected kind.
    #[error("{path}: expected {expected}, found {found}")]
    Corrupt {
        /// The file, with the line where that is known.
        path: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Reading or writing a storage file failed.
    #[error("{path}: {doing}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
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
        /// What was being done.
        doing: &'static str,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// A value that cannot be stored as JSON.
    #[error("{what} cannot be stored as JSON")]
    Json {
        /// What was to be stored.
        what: String,
        /// The serialiser's error.
        source: serde_json::Error,
    },
    /// A thread panicked while it held the study.
    #[error("a worker panicked while it held {what}")]
    Poisoned {
        /// The thing that was held.
        what: &'static str,
    },
}
