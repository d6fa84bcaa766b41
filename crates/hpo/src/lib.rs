//! firstsight-hpo
mod decimal;
mod error;
mod math;
pub mod pruner;
mod python;
mod random;
pub mod sampler;
mod space;
pub mod storage;
mod study;
mod trial;

pub use self::error::{Error, Result};
pub use self::pruner::{
    HalvingConfig, Hyperband, HyperbandConfig, MinResource, NeverPrune, Patient, Percentile, PercentileConfig,
    Pruner, SuccessiveHalving, Threshold,
};
pub use self::random::RandomState;
pub use self::sampler::tpe::Multivariate;
pub use self::sampler::{Grid, Random, Sampler, StudyView, Tpe, TpeConfig, grid_cost};
pub use self::space::{Distribution, FloatRange, IntRange};
#[cfg(feature = "sqlite")]
pub use self::storage::Sqlite;
pub use self::storage::{Journal, Memory, Storage};
pub use self::study::{Direction, Outcome, Stop, Study, StudyBuilder};
pub use self::trial::{FrozenTrial, Param, Replay, Suggest, Trial, TrialState};
