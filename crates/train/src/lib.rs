#![doc = include_str!("../README.md")]

mod calibration;
pub mod callbacks;
mod class_figures;
mod communicator;
mod config;
mod error;
mod evaluate;
mod fit;
mod history;
mod identity;
mod inference;
mod interval;
mod loss;
mod lr_find;
mod metric;
mod model;
mod multi_label;
mod optim;
mod schedule;
mod sharding;

pub use calibration::{Calibrated, ConfidenceBin};
pub use callbacks::{BatchEnd, Callback, EpochEnd, SavedState, TrainBegin, TrainEnd};
pub use class_figures::{ClassFigures, MacroAverages};
#[cfg(feature = "mpi")]
pub use communicator::Mpi;
#[cfg(feature = "nccl")]
pub use communicator::Nccl;
pub use communicator::{Alone, Communicator, check_same, gather};
pub use config::FitConfig;
pub use error::{Error, Result};
pub use evaluate::{
    Outputs, Predictions, evaluate, evaluate_and_predict, evaluate_with_outputs, outputs, predict,
};
pub use firstsight_ops::PackedWeights;
pub use fit::{backward_step, fit, gradient};
pub use history::{Epoch, History, Monitor, StopReason};
pub use identity::{Difference, Identity};
pub use inference::Inference;
pub use interval::wilson_interval;
pub use loss::{
    BinaryCrossEntropy, CrossEntropy, FocalLoss, Loss, MeanAbsoluteError, MeanSquaredError, Poisson,
    WeightedCrossEntropy,
};
pub use lr_find::{LrCurve, lr_find};
pub use metric::{
    Accumulator, Accuracy, BalancedAccuracy, BatchOutputs, BinaryAccuracy, MacroF1, MacroPrecision,
    MacroRecall, MeanAveragePrecision, Metric, Metrics, R2, RocAuc, TopK, average_precision,
    best_f1_threshold,
};
pub use model::{Model, ParamGroup, ParamGroups, Trainable};
pub use multi_label::{LabelCounts, MultiLabelPredictions};
pub use optim::{AdamEpsilon, Optimizer, OptimizerConfig};
pub use schedule::{Schedule, TrainingLength};
pub use sharding::{OutputBatches, PassThrough, check_shards};
