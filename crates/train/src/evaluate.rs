//! Evaluation and prediction.

use candle_core::{D, DType, Module, ModuleT, Tensor};
use firstsight_data::Batches;
use firstsight_ops::PackedWeights;

use crate::metric::{Meter, argmax};
use crate::{Error, FitConfig, Inference, Loss, Metric, Metrics, OutputBatches, PassThrough, Result};

/// Loss and metrics of `model` over `batches`, in inference mode.
///
/// # Errors
///
/// [`Error::Empty`] without examples, [`Error::NonFiniteOutput`] for outputs that are NaN or infinite; errors of the data and
/// the model.
pub fn evaluate(
    model: &impl ModuleT,
    batches: &dyn Batches,
    loss: &dyn Loss,
    metrics: &[&dyn Metric],
) -> Result<Metrics> {
    let mut meter = Meter::new(metrics);
    let mut seen = 0;
    for_each_output(model, batches, |outputs, labels| {
        check_finite(outputs, &mut seen)?;
        meter.add(mean(loss, outputs, labels)?, outputs, labels)
    })?;
    meter.finish("evaluation")
}

/// [`evaluate`] while a model is trained, by the training's processes: outputs that are NaN or infinite give such figures, and
/// the training's callbacks decide.
pub(crate) fn evaluate_any(
    model: &impl ModuleT,
    batches: &dyn Batches,
    config: &FitConfig,
    metrics: &[&dyn Metric],
) -> Result<Metrics> {
    let mut meter = Meter::new(metrics);
    let observe =
        |outputs: &Tensor, labels: &Tensor| meter.add(mean(&*config.loss, outputs, labels)?, outputs, labels);
    match config.communicator.size() {
        1 => for_each_output(model, batches, observe)?,
        _ => {
            let outputs = OutputBatches::new(model, batches, &*config.communicator)?;
            for_each_output(&PassThrough, &outputs, observe)?;
        }
    }
    meter.finish("evaluation")
}

/// The loss of a batch and its weight.
fn mean(loss: &dyn Loss, outputs: &Tensor, labels: &Tensor) -> Result<(f64, f64)> {
    let mean = loss.compute(outputs, labels)?;
    Ok((f64::from(mean.to_dtype(DType::F32)?.to_scalar::<f32>()?), loss.weight(labels)?))
}

/// The results of [`evaluate`] and [`predict`], from one pass over `batches`.
///
/// # Errors
///
/// Those of [`evaluate`].
pub fn evaluate_and_predict(
    model: &impl ModuleT,
    batches: &dyn Batches,
    loss: &dyn Loss,
    metrics: &[&dyn Metric],
) -> Result<(Metrics, Predictions)> {
    let (mut meter, mut predictions) = (Meter::new(metrics), Predictions::empty());
    for_each_output(model, batches, |outputs, labels| {
        predictions.reserve(batches.n_examples(), outputs)?;
        check_finite(outputs, &mut predictions.len())?;
        meter.add(mean(loss, outputs, labels)?, outputs, labels)?;
        predictions.add(outputs, labels)
    })?;
    Ok((meter.finish("evaluation")?, predictions))
}

/// A network's outputs for some examples, with their labels, in the order of the batches.
#[derive(Debug, Clone, PartialEq)]
pub struct Outputs {
    /// The outputs (N, K), row by row.
    pub values: Vec<f32>,
    /// K, at least 1.
    pub n_outputs: usize,
    /// The labels as the batches have them: (N,), or (N, K) row by row.
    pub labels: Vec<f32>,
}

impl Outputs {
    fn empty() -> Self {
        Self { values: Vec::new(), n_outputs: 1, labels: Vec::new() }
    }

    fn add(&mut self, outputs: &Tensor, labels: &Tensor) -> Result<()> {
        check_finite(outputs, &mut (self.values.len() / self.n_outputs))?;
        self.n_outputs = outputs.dim(1)?;
        self.values.extend(outputs.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
        self.labels.extend(labels.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }
}

/// The outputs of `model` over `batches`, in inference mode.
///
/// # Errors
///
/// [`Error::Empty`] without examples, [`Error::NonFiniteOutput`] for outputs that are NaN or infinite; errors of the data and
/// the model.
pub fn outputs(model: &impl ModuleT, batches: &dyn Batches) -> Result<Outputs> {
    let mut found = Outputs::empty();
    for_each_output(model, batches, |outputs, labels| found.add(outputs, labels))?;
    if found.values.is_empty() { Err(Error::Empty("evaluation")) } else { Ok(found) }
}

/// The results of [`evaluate`] and [`outputs`], from one pass over `batches`.
///
/// # Errors
///
/// Those of [`evaluate`].
pub fn evaluate_with_outputs(
    model: &impl ModuleT,
    batches: &dyn Batches,
    loss: &dyn Loss,
    metrics: &[&dyn Metric],
) -> Result<(Metrics, Outputs)> {
    let (mut meter, mut found) = (Meter::new(metrics), Outputs::empty());
    for_each_output(model, batches, |outputs, labels| {
        meter.add(mean(loss, outputs, labels)?, outputs, labels)?;
        found.add(outputs, labels)
    })?;
    Ok((meter.finish("evaluation")?, found))
}

/// Calls `observe` with the outputs and labels of each batch, in inference mode.
fn for_each_output(
    model: &impl ModuleT,
    batches: &dyn Batches,
    mut observe: impl FnMut(&Tensor, &Tensor) -> Result<()>,
) -> Result<()> {
    let packed = PackedWeights::default();
    let inference = Inference::new(model, &packed);
    for batch in batches.epoch(0) {
        let batch = batch?;
        let outputs = inference.forward(&batch.inputs).map_err(Error::on(&batch.inputs))?;
        observe(&outputs, &batch.labels)?;
    }
    Ok(())
}

/// Checks a batch of outputs (B, K) that follows `seen` examples, and counts it among them.
fn check_finite(outputs: &Tensor, seen: &mut usize) -> Result<()> {
    let (n, k) = outputs.dims2()?;
    let values = outputs.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    if let Some(i) = values.iter().position(|value| !value.is_finite()) {
        return Err(Error::NonFiniteOutput { example: *seen + i / k, value: values[i] });
    }
    *seen += n;
    Ok(())
}

/// The class probabilities of some examples, in the order of the batches.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// The softmax of the logits (N, `n_classes`), row by row.
    pub probabilities: Vec<f32>,
    /// The label of each example, (N,).
    pub labels: Vec<u32>,
    /// The number of classes.
    pub n_classes: usize,
}

impl Predictions {
    fn empty() -> Self {
        Self { probabilities: Vec::new(), labels: Vec::new(), n_classes: 0 }
    }

    /// Makes room for `n` examples with outputs such as these: growing step by step takes up to three times the memory.
    fn reserve(&mut self, n: usize, outputs: &Tensor) -> Result<()> {
        if self.is_empty() {
            self.labels.reserve_exact(n);
            self.probabilities.reserve_exact(n * outputs.dim(1)?);
        }
        Ok(())
    }

    /// Adds a batch.
    fn add(&mut self, logits: &Tensor, labels: &Tensor) -> Result<()> {
        let probabilities = candle_nn::ops::softmax(&logits.to_dtype(DType::F32)?, D::Minus1)?;
        self.n_classes = probabilities.dim(1)?;
        self.probabilities.extend(probabilities.flatten_all()?.to_vec1::<f32>()?);
        self.labels.extend(labels.to_dtype(DType::U32)?.to_vec1::<u32>()?);
        Ok(())
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The probabilities of example `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.probabilities[i * self.n_classes..(i + 1) * self.n_classes]
    }

    /// The most probable class of example `i`, with its probability.
    pub fn top(&self, i: usize) -> (u32, f32) {
        let class = argmax(self.row(i));
        (class as u32, self.row(i)[class])
    }

    /// The `k` most probable classes of example `i`, best first, each with its probability.
    pub fn ranked(&self, i: usize, k: usize) -> Vec<(usize, f32)> {
        let mut classes: Vec<(usize, f32)> = self.row(i).iter().copied().enumerate().collect();
        classes.sort_by(|a, b| b.1.total_cmp(&a.1));
        classes.truncate(k);
        classes
    }

    /// The confusion matrix: counts by (true, predicted) class, row by row.
    pub fn confusion(&self) -> Vec<usize> {
        let mut counts = vec![0; self.n_classes * self.n_classes];
        for (i, &label) in self.labels.iter().enumerate() {
            counts[label as usize * self.n_classes + self.top(i).0 as usize] += 1;
        }
        counts
    }

    /// The confusions as (examples, true class, predicted class), the most frequent first.
    pub fn confused_pairs(&self) -> Vec<(usize, usize, usize)> {
        let k = self.n_classes;
        let mut pairs: Vec<(usize, usize, usize)> = self
            .confusion()
            .into_iter()
            .enumerate()
            .map(|(i, n)| (n, i / k, i % k))
            .filter(|&(n, truth, guess)| n > 0 && truth != guess)
            .collect();
        pairs.sort_by_key(|&(n, truth, guess)| (std::cmp::Reverse(n), truth, guess));
        pairs
    }
}

/// The class probabilities of `model` over `batches`, in inference mode.
///
/// # Errors
///
/// [`Error::Empty`] without examples, [`Error::NonFiniteOutput`] for outputs that are NaN or infinite; errors of the data and
/// the model.
pub fn predict(model: &impl ModuleT, batches: &dyn Batches) -> Result<Predictions> {
    let mut predictions = Predictions::empty();
    for_each_output(model, batches, |logits, labels| {
        predictions.reserve(batches.n_examples(), logits)?;
        check_finite(logits, &mut predictions.len())?;
        predictions.add(logits, labels)
    })?;
    if predictions.is_empty() { Err(Error::Empty("evaluation")) } else { Ok(predictions) }
}
