//! Names of candle-transformers' tensors in timm's checkpoints.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use firstsight_models::Params;

/// Where a tensor that a network asks for comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The variable of this name.
    Variable(String),
    /// A third of the rows of the variable of this name: attention's queries, keys and values lie in one.
    Third(String, usize),
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
        let variable =
            |shape: Shape, name: &str| SimpleBackend::get(&self.params, shape, name, init, dtype, device);
        match (self.source)(name) {
            Source::Variable(name) => variable(shape, &name),
            Source::Third(name, third) => {
                let mut dims = shape.into_dims();
                let Some(rows) = dims.first().copied() else { return Err(absent(&name)) };
                dims[0] = 3 * rows;
                variable(dims.into(), &name)?.narrow(0, third * rows, rows)
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
            Source::Variable(name) | Source::Third(name, _) => self.params.contains_tensor(&name),
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

/// ResNet: the same names.
pub(super) fn resnet(name: &str) -> Source {
    variable(name)
}

/// EfficientNet: candle-transformers has torchvision's names.
pub(super) fn efficientnet(name: &str) -> Source {
    with_head(name, "classifier.1", |name| {
        let parts: Vec<&str> = name.split('.').collect();
        match parts[..] {
            ["features", "0", part, rest] => {
                variable(&format!("{}.{rest}", ["conv_stem", "bn1"][place(part)]))
            }
            ["features", "8", part, rest] => {
                variable(&format!("{}.{rest}", ["conv_head", "bn2"][place(part)]))
            }
            ["features", stage, block, "block", layer, part, rest] => {
                let stage = place_of(stage).saturating_sub(1);
                // The first stage doesn't widen, so its blocks lack the first convolution.
                let layers: &[[&str; 2]] = match stage {
                    0 => &[["conv_dw", "bn1"], SQUEEZE, ["conv_pw", "bn2"]],
                    _ => &[["conv_pw", "bn1"], ["conv_dw", "bn2"], SQUEEZE, ["conv_pwl", "bn3"]],
                };
                match layers.get(place_of(layer)) {
                    Some(names) => variable(&format!("blocks.{stage}.{block}.{}.{rest}", names[place(part)])),
                    None => Source::Absent,
                }
            }
            _ => Source::Absent,
        }
    })
}

/// timm's names of `fc1` and `fc2`.
const SQUEEZE: [&str; 2] = ["se.conv_reduce", "se.conv_expand"];

/// `0` or `fc1`, and `1` or `fc2`.
fn place(part: &str) -> usize {
    usize::from(matches!(part, "1" | "fc2"))
}

fn place_of(number: &str) -> usize {
    number.parse().unwrap_or(usize::MAX)
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

/// ConvNeXt: the same names. The first version scales layers, the second normalises responses.
pub(super) fn convnext(second: bool, name: &str) -> Source {
    let is_absent = if second { name.ends_with(".gamma") } else { name.contains(".mlp.grn.") };
    if is_absent { Source::Absent } else { with_head(name, "head.fc", variable) }
}

/// ViT: candle-transformers has the names of Python's transformers.
pub(super) fn vit(name: &str) -> Source {
    with_head(name, "classifier", |name| {
        let Some(name) = name.strip_prefix("vit.") else { return Source::Absent };
        if let Some(rest) = name.strip_prefix("encoder.layer.") {
            let Some((block, rest)) = rest.split_once('.') else { return Source::Absent };
            return vit_block(block, rest);
        }
        for (theirs, timms) in [
            ("embeddings.cls_token", "cls_token"),
            ("embeddings.position_embeddings", "pos_embed"),
            ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
            ("layernorm", "norm"),
        ] {
            if let Some(rest) = name.strip_prefix(theirs) {
                return variable(&format!("{timms}{rest}"));
            }
        }
        Source::Absent
    })
}

fn vit_block(block: &str, name: &str) -> Source {
    for (third, part) in ["query", "key", "value"].into_iter().enumerate() {
        if let Some(rest) = name.strip_prefix(&format!("attention.attention.{part}.")) {
            return Source::Third(format!("blocks.{block}.attn.qkv.{rest}"), third);
        }
    }
    for (theirs, timms) in [
        ("attention.output.dense.", "attn.proj."),
        ("intermediate.dense.", "mlp.fc1."),
        ("output.dense.", "mlp.fc2."),
        ("layernorm_before.", "norm1."),
        ("layernorm_after.", "norm2."),
    ] {
        if let Some(rest) = name.strip_prefix(theirs) {
            return variable(&format!("blocks.{block}.{timms}{rest}"));
        }
    }
    Source::Absent
}

/// DINOv2: the same names.
pub(super) fn dino_v2(name: &str) -> Source {
    with_head(name, "head", variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_timms() {
        for (theirs, timms) in [
            ("features.0.1.running_mean", "bn1.running_mean"),
            ("features.1.0.block.0.0.weight", "blocks.0.0.conv_dw.weight"),
            ("features.1.0.block.2.1.bias", "blocks.0.0.bn2.bias"),
            ("features.3.1.block.2.fc2.bias", "blocks.2.1.se.conv_expand.bias"),
            ("features.8.0.weight", "conv_head.weight"),
        ] {
            assert_eq!(efficientnet(theirs), variable(timms));
        }
        assert_eq!(efficientnet("classifier.1.weight"), Source::Identity);
        let third = Source::Third("blocks.7.attn.qkv.bias".to_owned(), 1);
        assert_eq!(vit("vit.encoder.layer.7.attention.attention.key.bias"), third);
        assert_eq!(vit("vit.encoder.layer.7.output.dense.bias"), variable("blocks.7.mlp.fc2.bias"));
        assert_eq!(vit("vit.embeddings.patch_embeddings.projection.bias"), variable("patch_embed.proj.bias"));
        assert_eq!(convnext(false, "stages.0.blocks.0.mlp.grn.weight"), Source::Absent);
        assert_eq!(convnext(true, "stages.0.blocks.0.gamma"), Source::Absent);
        let lacking = BTreeSet::from(["blocks.2.1.dw_start".to_owned()]);
        assert_eq!(mobilenet_v4(false, &lacking, "blocks.2.1.dw_start.bn.weight"), Source::Absent);
        assert_eq!(
            mobilenet_v4(false, &lacking, "blocks.2.11.dw_mid.bn.weight"),
            variable("blocks.2.11.dw_mid.bn.weight")
        );
        assert_eq!(mobilenet_v4(true, &lacking, "blocks.3.1.attn.key.norm.weight"), Source::Absent);
    }
}
