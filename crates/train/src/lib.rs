//! One training loop for [candle](https://github.com/huggingface/candle): losses, metrics, optimisers, and
//! callbacks that observe the loop.
//!
//! [`fit`] is the loop; everything else plugs into it or watches it:
//!
//! - [`Loss`] and [`Metric`] say what is minimised and what is reported;
//! - [`OptimizerConfig`] says how: SGD with momentum, Adam, AdamW; a [`Schedule`] changes its rate from step to step, and
//!   a [`ParamGroup`] of variables may have a rate and a weight decay of its own;
//! - a [`Callback`] sees the end of each batch and epoch, and may end the training:
//!   [`EarlyStopping`](callbacks::EarlyStopping), [`Checkpoint`](callbacks::Checkpoint),
//!   [`CsvHistory`](callbacks::CsvHistory), [`StopOnNan`](callbacks::StopOnNan),
//!   [`Interrupt`](callbacks::Interrupt);
//! - [`evaluate`] and [`predict`] run a network over batches without training it.
//!
//! The loop sees batches and a candle `ModuleT`, and knows nothing of images or of particular networks. Given
//! the same batches, initial variables and configuration it computes the same bytes; a training that was
//! interrupted and resumed from its checkpoint ends exactly where an uninterrupted one ends.
//!
//! ```
//! use candle_core::{Device, Module, Tensor, Var};
//! use candle_nn::Linear;
//! use firstsight_data::{Sampling, TensorBatches};
//! use firstsight_train::{Accuracy, CrossEntropy, FitConfig, OptimizerConfig, Trainable, fit};
//!
//! // Two clouds on a line, told apart by one weight and one bias for each class.
//! let x = Tensor::new(&[[-2f32], [-1.5], [-1.0], [1.0], [1.5], [2.0]], &Device::Cpu)?;
//! let y = Tensor::new(&[0u32, 0, 0, 1, 1, 1], &Device::Cpu)?;
//! let train = TensorBatches::new(x.clone(), y.clone(), 2, Sampling::Shuffled { seed: 1 })?;
//! let val = TensorBatches::new(x, y, 6, Sampling::Sequential)?;
//! let weight = Var::zeros((2, 1), candle_core::DType::F32, &Device::Cpu)?;
//! let bias = Var::zeros(2, candle_core::DType::F32, &Device::Cpu)?;
//! let linear = Linear::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()));
//! let model = Trainable::new(&linear, vec![("weight".to_owned(), weight), ("bias".to_owned(), bias)]);
//! let config = FitConfig::new(20, CrossEntropy, OptimizerConfig::adam_keras(0.05)).metric(Accuracy);
//! let history = fit(&model, &train, Some(&val), &config, &mut [])?;
//! let last = history.epochs.last().unwrap().val.as_ref().unwrap();
//! assert_eq!(last.get(&Accuracy), Some(1.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod calibration;
pub mod callbacks;
mod config;
mod error;
mod evaluate;
mod fit;
mod history;
mod loss;
mod lr_find;
mod metric;
mod model;
mod optim;
mod schedule;

pub use calibration::{ClassFigures, ConfidenceBin};
pub use callbacks::{BatchEnd, Callback, EpochEnd, SavedState, TrainBegin, TrainEnd};
pub use config::FitConfig;
pub use error::{Error, Result};
pub use evaluate::{Predictions, evaluate, predict};
pub use fit::{backward_step, fit, gradient};
pub use history::{Epoch, History, Monitor, StopReason};
pub use loss::{
    BinaryCrossEntropy, CrossEntropy, FocalLoss, Loss, MeanAbsoluteError, MeanSquaredError, Poisson,
    WeightedCrossEntropy,
};
pub use lr_find::{LrCurve, lr_find};
pub use metric::{
    Accumulator, Accuracy, BalancedAccuracy, BatchOutputs, BinaryAccuracy, MacroF1, MacroPrecision,
    MacroRecall, Metric, Metrics, R2, RocAuc, TopK,
};
pub use model::{Model, ParamGroup, ParamGroups, Trainable};
pub use optim::{AdamEpsilon, Optimizer, OptimizerConfig};
pub use schedule::{Schedule, TrainingLength};
