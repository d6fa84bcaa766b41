//! Networks of candle-transformers in the registry.

use std::fmt;
use std::sync::Arc;

use candle_core::{ModuleT as _, Result as CandleResult, Tensor};
use firstsight_data::InputSpec;
use firstsight_models::graph::Op;
use firstsight_models::summary::{LayerKind, Trace};
use firstsight_models::{
    BuildArgs, Error, Init, InputShape, LayerSpec, ModelInfo, Network, Result, Weights, is_buffer, registry,
};

use super::{CandleBackbone, CandleModel};

/// MobileNetV4 by timm's names.
pub static MOBILENETS_V4: [ModelInfo; 5] = [
    variant(
        "mobilenetv4_conv_small",
        224,
        |args| build("mobilenetv4_conv_small", args),
        &[weights("timm/mobilenetv4_conv_small.e2400_r224_in1k", 73.756, || imagenet(224, 0.875))],
    ),
    variant(
        "mobilenetv4_conv_medium",
        256,
        |args| build("mobilenetv4_conv_medium", args),
        &[weights("timm/mobilenetv4_conv_medium.e500_r256_in1k", 79.916, || imagenet(256, 0.95))],
    ),
    variant(
        "mobilenetv4_conv_large",
        384,
        |args| build("mobilenetv4_conv_large", args),
        &[weights("timm/mobilenetv4_conv_large.e600_r384_in1k", 82.974, || imagenet(384, 0.95))],
    ),
    variant(
        "mobilenetv4_hybrid_medium",
        256,
        |args| build("mobilenetv4_hybrid_medium", args),
        &[weights("timm/mobilenetv4_hybrid_medium.e200_r256_in12k_ft_in1k", 82.36, || imagenet(256, 0.95))],
    ),
    variant(
        "mobilenetv4_hybrid_large",
        384,
        |args| build("mobilenetv4_hybrid_large", args),
        &[weights("timm/mobilenetv4_hybrid_large.ix_e600_r384_in1k", 83.996, || imagenet(384, 0.95))],
    ),
];

/// Adds the networks that are not in the registry.
///
/// ```
/// use firstsight_models::registry;
///
/// firstsight_transfer::candle_models::register()?;
/// firstsight_transfer::candle_models::register()?;
/// assert_eq!(registry::find("mobilenetv4_conv_small")?.family, "MobileNetV4");
/// # Ok::<(), firstsight_models::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::NameTaken`] where another network has a name of theirs as an alias.
pub fn register() -> Result<()> {
    MOBILENETS_V4.iter().filter(|info| registry::find(info.name).is_err()).try_for_each(registry::register)
}

const fn variant(
    name: &'static str,
    side: usize,
    build: fn(&BuildArgs<'_>) -> Result<Arc<dyn Network>>,
    weights: &'static [Weights],
) -> ModelInfo {
    ModelInfo {
        timm: Some(name),
        family: "MobileNetV4",
        paper: "Qin et al., MobileNetV4: Universal models for the mobile ecosystem, ECCV 2024",
        head: |n_classes| LayerSpec::dense("classifier", n_classes),
        blocks: &[("network", &["conv_stem", "bn1", "blocks", "conv_head", "norm_head"])],
        usual_input: (3, side, side),
        smallest_input: 32,
        input_spec: InputSpec::imagenet,
        init: Init::Kaiming,
        weights,
        ..ModelInfo::new(name, build)
    }
}

const fn weights(repository: &'static str, top1: f64, input: fn() -> InputSpec) -> Weights {
    Weights::timm(repository, "Apache-2.0", top1, input)
}

fn imagenet(side: usize, crop_pct: f64) -> InputSpec {
    InputSpec { crop_pct, ..InputSpec::imagenet(3, side, side) }
}

fn build(name: &'static str, args: &BuildArgs<'_>) -> Result<Arc<dyn Network>> {
    let refuse = |rule, found: String| Error::Setting { model: name, rule, found };
    let Some(params) = &args.params else {
        return Err(refuse("it must be built over a set of variables", "none".to_owned()));
    };
    if args.channels()? != 3 {
        return Err(refuse("its input must have 3 channels", args.channels()?.to_string()));
    }
    let wrong = |e: crate::Error| Error::Candle(candle_core::Error::Msg(e.to_string()));
    let model: CandleModel = name.parse().map_err(wrong)?;
    let backbone = CandleBackbone::new(model, params).map_err(wrong)?;
    let (mut n_params, mut n_buffers) = (0, 0);
    for (name, var) in params.named().into_iter().filter(|(name, _)| !model.is_left_out(name)) {
        *(if is_buffer(&name) { &mut n_buffers } else { &mut n_params }) += var.elem_count();
    }
    Ok(Arc::new(Registered { backbone, n_params, n_buffers }))
}

/// A backbone with what the registry's networks tell of themselves. Its layers are not known one by one.
struct Registered {
    backbone: CandleBackbone,
    n_params: usize,
    n_buffers: usize,
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registered").field(&self.backbone.name()).finish()
    }
}

impl Network for Registered {
    fn n_features(&self) -> usize {
        self.backbone.n_features()
    }

    /// Its features: candle-transformers gives no maps.
    fn forward_features(&self, xs: &Tensor, train: bool) -> CandleResult<Tensor> {
        self.backbone.forward_t(xs, train)
    }

    fn pre_logits(&self, features: &Tensor, _train: bool) -> CandleResult<Tensor> {
        Ok(features.clone())
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        let features = InputShape::Features(self.backbone.n_features());
        let entry = trace.push("blocks", LayerKind::Other("MobileNetV4"), Op::Opaque, features);
        (entry.params, entry.buffers) = (self.n_params, self.n_buffers);
        Ok(())
    }

    fn takes_any_size(&self) -> bool {
        true
    }
}
