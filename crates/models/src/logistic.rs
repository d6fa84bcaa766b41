use firstsight_ops::Activation;

use crate::{Layer, LayerSpec};

/// Multinomial logistic regression on bytes: every pixel times 1/255, one dense layer of logits.
///
/// 80×60×1 and 55 classes make 4800 · 55 + 55 = 264,055 parameters.
pub(crate) fn table(n_classes: usize) -> Vec<LayerSpec> {
    vec![
        LayerSpec { name: "flatten", layer: Layer::Flatten },
        LayerSpec { name: "rescaling", layer: Layer::Rescaling { scale: 1.0 / 255.0, offset: 0.0 } },
        LayerSpec {
            name: "dense",
            layer: Layer::Dense { units: n_classes, activation: Activation::Identity, bias: 0.0 },
        },
    ]
}
