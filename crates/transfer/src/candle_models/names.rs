//! Names of candle-transformers' tensors in timm's checkpoints.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use firstsight_models::{Params, is_buffer};

/// Where a tensor that a network asks for comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The variable of this name.
    Variable(String),
    /// Ones on the diagonal: a last layer that passes the features on.
    Identity,
    /// Zeros.
    Zeros,
    /// The network goes without it.
    Absent,
}

/// Answers a network's constructor out of [`Params`].
struct Renamed<F> {
    params: Params,
    source: F,
}

/// A builder that asks `source` what each name stands for.
pub(super) fn builder(
    params: &Params,
    source: impl Fn(&str) -> Source + Send + Sync + 'static,
) -> VarBuilder<'static> {
    let device = params.device().clone();
    VarBuilder::from_backend(Box::new(Renamed { params: params.clone(), source }), DType::F32, device)
}

impl<F: Fn(&str) -> Source + Send + Sync> SimpleBackend for Renamed<F> {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        match (self.source)(name) {
            Source::Variable(name) => {
                let tensor = SimpleBackend::get(&self.params, shape, &name, init, dtype, device)?;
                // Batch norm copies what is no variable, and would keep statistics of before the weights were read.
                let statistics = is_buffer(&name).then(|| self.params.get(&name)).flatten();
                Ok(statistics.map_or(tensor, |var| var.as_tensor().clone()))
            }
            Source::Identity => {
                let (rows, columns) = shape.dims2()?;
                let values = (0..rows * columns).map(|i| f32::from(i / columns == i % columns));
                Tensor::from_iter(values, device)?.reshape((rows, columns))?.to_dtype(dtype)
            }
            Source::Zeros => Tensor::zeros(shape, dtype, device),
            Source::Absent => Err(absent(name)),
        }
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        match (self.source)(name) {
            Source::Variable(name) => self.params.get_unchecked(&name, dtype, device),
            _ => Err(absent(name)),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        match (self.source)(name) {
            Source::Variable(name) => self.params.contains_tensor(&name),
            Source::Identity | Source::Zeros => true,
            Source::Absent => false,
        }
    }
}

fn absent(name: &str) -> Error {
    Error::CannotFindTensor { path: name.to_owned() }
}

/// The modules that `build` asks for with kernels of no size. candle-transformers means by that that they are absent,
/// and finds it out by asking for weights that the checkpoint lacks.
pub(super) fn without_kernel(
    device: &Device,
    build: impl FnOnce(VarBuilder<'static>) -> Result<()>,
) -> Result<BTreeSet<String>> {
    let found = Arc::new(Mutex::new(BTreeSet::new()));
    build(VarBuilder::from_backend(Box::new(Probe(found.clone())), DType::F32, device.clone()))?;
    let found = found.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(found.clone())
}

/// Gives zeros that take no memory, and notes whose weights have no elements.
struct Probe(Arc<Mutex<BTreeSet<String>>>);

impl SimpleBackend for Probe {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        if shape.elem_count() == 0 {
            if let Some(module) = name.strip_suffix(".conv.weight") {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(module.to_owned());
            }
            return Err(absent(name));
        }
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        Err(absent(name))
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

fn variable(name: &str) -> Source {
    Source::Variable(name.to_owned())
}

/// `source`, but the last layer `head` passes its inputs on.
fn with_head(name: &str, head: &str, source: impl FnOnce(&str) -> Source) -> Source {
    match name.strip_prefix(head) {
        Some(".weight") => Source::Identity,
        Some(".bias") => Source::Zeros,
        _ => source(name),
    }
}

/// MobileNetV4: the same names. `lacking` are the convolutions that a block goes without; only hybrid networks scale
/// layers, and only their third stage makes keys and values smaller.
pub(super) fn mobilenet_v4(hybrid: bool, lacking: &BTreeSet<String>, name: &str) -> Source {
    let shrinks = [".key.down_conv", ".key.norm", ".value.down_conv", ".value.norm"];
    let shrinks = shrinks.iter().any(|part| name.contains(part));
    let is_absent = (name.contains(".layer_scale.") && !hybrid)
        || (shrinks && !name.starts_with("blocks.2."))
        || lacking.iter().any(|module| name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.')));
    if is_absent { Source::Absent } else { with_head(name, "classifier", variable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_timms() {
        let lacking = BTreeSet::from(["blocks.2.1.dw_start".to_owned()]);
        assert_eq!(mobilenet_v4(false, &lacking, "blocks.2.1.dw_start.bn.weight"), Source::Absent);
        assert_eq!(
            mobilenet_v4(false, &lacking, "blocks.2.11.dw_mid.bn.weight"),
            variable("blocks.2.11.dw_mid.bn.weight")
        );
        assert_eq!(mobilenet_v4(true, &lacking, "blocks.3.1.attn.key.norm.weight"), Source::Absent);
    }
}
