#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! | file | content |
//! | --- | --- |
//! | `space.rs` | ranges, and their [`Distribution`]s |
//! | `space_file.rs` | spaces that a TOML file states |
//! | `trial.rs` | [`Suggest`] and its implementors: [`Trial`] samples, [`Replay`] repeats |
//! | `study.rs` | [`Study`]: ask, tell, optimize, with one worker or several |
//! | `sampler/` | one file per [`Sampler`]; `tpe/` has the estimators and the history that they are fitted to |
//! | `pruner/` | one file per [`Pruner`] |
//! | `storage/` | one file per [`Storage`]: memory, journal, SQLite, PostgreSQL; `rdb.rs` is what the last two share |
//! | `pareto.rs` | several objectives: ranks, hypervolumes, subsets |
//! | `random.rs`, `math.rs` | NumPy's random numbers and its rounding |
//! | `importance.rs`, `plots.rs`, `average.rs` | analysis of a study |
//!
//! A study hands samplers and pruners a [`StudyView`], never itself; they answer with values and attributes,
//! and the study writes. Every change to a trial is one [`storage::Change`], which each storage records in its
//! own form and applies to its table in one and the same way; studies follow the table through a
//! [`storage::Snapshot`], which catches up in time proportional to what it missed.
//!
//! # Exactness
//!
//! Random numbers, order of operations, order of ties among up to 256 observations and pairwise sums are NumPy's;
//! erf, erfc and scalar logarithms are the system's C library's, as in Python. NumPy's last bits depend on the
//! processor. Here e^x is NumPy's on x86-64 with AVX-512, measured equal in all but 14 of ten million cases; log,
//! log1p and expm1 are rounded correctly, as NumPy's are there in all but 3 of 1000. Of 730 studies by Optuna 4.8 on
//! such a processor (46,000 trials: floats, integers and choices, conditional and not, by all samplers) all come
//! out, trial for trial; with a correctly rounded e^x 7 of 394 did not. With the processor's AVX-512 turned off,
//! Optuna itself proposes otherwise in 5 of 224.
//!
//! Beyond 256 observations of which some are equal, NumPy's order of ties depends on the processor; here they keep
//! theirs, so a search over parameters of few values then takes another way than Optuna's.
//!
//! [`TpeConfig::optuna4`] proposes what Optuna 4.8 does, and is the default; [`TpeConfig::optuna5`] has the defaults and the
//! bandwidth of Optuna 5.0, and proposes what that does (112 studies of the same kinds, and the traces beside the tests). Random
//! and grid search, the pruners and the storages' schema are the same in both.
//!
//! Studies of several objectives agree the same way: 22 traces of TPE and NSGA-II beside the tests, of two, three and four objectives by
//! both releases (2,280 trials), come out. Of 2 objectives and up to 15 trials on a front, hypervolumes have NumPy's last bit; beyond, NumPy's scalar products
//! depend on its BLAS and the processor, and hypervolumes agree to some 1e-15, which decides between trials that add equal volumes alone.
//!
//! [`Tpe`]'s proposals are decided by fast estimates of the densities wherever those suffice, which is almost
//! always, and otherwise worked out operation by operation.

mod average;
mod decimal;
mod error;
mod importance;
mod math;
mod pareto;
pub mod plots;
pub mod pruner;
mod python;
mod random;
pub mod sampler;
mod space;
#[cfg(feature = "toml")]
mod space_file;
pub mod storage;
mod study;
mod trial;

pub use self::average::{Averaged, over_seeds};
pub use self::error::{Error, Result};
pub use self::importance::{ForestConfig, Importance, param_importances};
pub use self::pruner::{
    HalvingConfig, Hyperband, HyperbandConfig, MinResource, NeverPrune, Patient, Percentile,
    PercentileConfig, Pruner, SuccessiveHalving, Threshold,
};
pub use self::random::RandomState;
pub use self::sampler::tpe::{Bandwidth, Multivariate};
pub use self::sampler::{Grid, Nsga2, Nsga2Config, Random, Sampler, StudyView, Tpe, TpeConfig, grid_cost};
pub use self::space::{Distribution, FloatRange, IntRange};
#[cfg(feature = "toml")]
pub use self::space_file::{Known, SearchSpace, Settings, Values};
#[cfg(feature = "postgresql")]
pub use self::storage::Postgres;
#[cfg(feature = "sqlite")]
pub use self::storage::Sqlite;
pub use self::storage::{Journal, Memory, Storage};
pub use self::study::{Direction, Outcome, Stop, Study, StudyBuilder};
pub use self::trial::{FrozenTrial, Param, Recast, Replay, Suggest, Trial, TrialState};
