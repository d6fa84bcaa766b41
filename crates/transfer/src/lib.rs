#![doc = include_str!("../README.md")]

mod answer_json;
#[cfg(feature = "candle-transformers")]
pub mod candle_models;
mod card;
pub mod check;
mod class_means;
mod classifier;
mod comparison;
mod config;
mod cross_validation;
mod embedding;
mod error;
mod evaluation;
mod feature_map;
mod features;
mod figures;
pub mod files;
mod fine_tune;
mod fine_tuning;
mod frozen;
mod going_on;
mod head;
mod hub;
mod imagenet;
mod measures;
mod predictions_csv;
mod preset;
mod pretrained;
mod reject;
pub mod report_sections;
mod row_file;
mod run_folder;
mod runtime;
mod splits;
pub mod task;
pub mod training;
mod transfer_model;

pub use answer_json::{AnswerJson, TaskAnswerJson};
pub use card::{CardSettings, model_card, published_files};
pub use class_means::{ClassMeans, Places};
pub use classifier::{Answer, Classifier, DecodedFile, PredictOptions, Prediction, Row};
pub use comparison::{ComparedRun, Comparison, Difference};
pub use config::{HubModelConfig, RunConfig, TrainingRecord};
pub use cross_validation::{CrossValidated, Fold, Pooled, Spread, Tally, cross_validate};
pub use embedding::{EmbeddingRow, Likeness};
pub use error::{Error, Result, Smaller};
pub use evaluation::Evaluation;
pub use feature_map::{FeatureMap, MappedImages};
pub use features::{FeatureBatches, FeatureConfig, FeatureView, Features, features, fingerprint};
pub use figures::{CalibratedFigures, ClassFigures, EvaluationFigures, Figures};
pub use files::WriteError;
pub use fine_tune::{BatchNormMode, BlockRates, FineTuneConfig, FineTuner};
pub use fine_tuning::{FineTuneResult, FineTuning, Kept, LearningRate, Seconds};
pub use frozen::Frozen;
pub use going_on::GoingOn;
pub use head::{CrossValidation, Head, HeadConfig};
pub use hub::{
    Authorities, Hub, HubCommit, HubConfig, HubContent, HubError, HubFile, HubProgress, HubPush, HubUpload,
    WebFile, is_repository,
};
pub use imagenet::imagenet_classes;
pub use measures::{latency, weight_bytes};
pub use predictions_csv::{write_confusion, write_predictions};
pub use preset::{Cost, Preset, Recipe, Tuning};
pub use pretrained::{Pretrained, WeightsSource};
pub use reject::{COVERAGE, Reject, Rejection, Thresholds};
pub use row_file::{RowFile, RowFormat, csv_row};
pub use run_folder::RunFolder;
pub use runtime::{Count, Event, InterruptFlag, Interrupted, Runtime, TrainingProgress};
pub use splits::{
    Across, ContentHash, Contents, DecodedSplits, Duplicates, FileNote, FileNotes, GroupBy, Measured,
    Provenance, RecordedImage, Selection, Split, SplitConfig, SplitMethod, SplitRecord, Splits,
    VALIDATION_SHARE, decode, loader,
};
pub use task::{LabelsEvaluation, Target, TaskEvaluation, ValueEvaluation};
pub use transfer_model::TransferModel;

/// Adds the networks that the feature `candle-transformers` brings to the [registry](firstsight_models::registry); without it,
/// nothing.
///
/// # Errors
///
/// A network has a name of theirs.
pub fn register_networks() -> firstsight_models::Result<()> {
    #[cfg(feature = "candle-transformers")]
    candle_models::register()?;
    Ok(())
}
