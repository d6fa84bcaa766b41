//! What a network costs where it is used.

use std::time::Instant;

use candle_core::{DType, Module as _, Tensor};
use firstsight_models::{ImageClassifier, SaveDtype};
use firstsight_train::{Inference, PackedWeights};

use crate::{Result, Runtime};

/// Passes before the time is taken, and passes of which the median counts.
const PASSES: (usize, usize) = (5, 31);

/// Seconds that the network takes for one image: the median of 31 forward passes, after 5 that warm up. The image is black, since the
/// time does not depend on it. Other work at the same time makes it longer.
///
/// # Errors
///
/// Those of the forward pass.
pub fn latency(network: &ImageClassifier, runtime: &Runtime) -> Result<f64> {
    let shape = [&[1], &network.input().channels_first()[..]].concat();
    let image = Tensor::zeros(shape, DType::F32, &runtime.device)?;
    let packed = PackedWeights::default();
    let inference = Inference::in_pool(network, &packed);
    let mut seconds = Vec::with_capacity(PASSES.1);
    for pass in 0..PASSES.0 + PASSES.1 {
        let started = Instant::now();
        // On a device of its own the pass is over once its result is here.
        inference.forward(&image)?.to_vec2::<f32>()?;
        if pass >= PASSES.0 {
            seconds.push(started.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[PASSES.1 / 2])
}

/// Bytes of the network's weights in a file of this type, without its header.
pub fn weight_bytes(network: &ImageClassifier, dtype: SaveDtype) -> u64 {
    let bytes = match dtype {
        SaveDtype::Float32 => 4,
        SaveDtype::Float16 | SaveDtype::BFloat16 => 2,
    };
    network.params().named().iter().map(|(_, var)| var.elem_count() as u64 * bytes).sum()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use firstsight_models::{Init, InputShape, Params, registry};

    use super::*;

    #[test]
    fn weights_take_four_or_two_bytes_each() {
        let params = Params::zeros(&Device::Cpu);
        let input = InputShape::Map { channels: 1, height: 3, width: 2 };
        let network = registry::find("logistic").unwrap();
        let network = ImageClassifier::new(network, input, 5, Init::PyTorch, &params).unwrap();
        let bytes = [SaveDtype::Float32, SaveDtype::Float16, SaveDtype::BFloat16]
            .map(|dtype| weight_bytes(&network, dtype));
        assert_eq!(bytes, [4 * (6 * 5 + 5), 2 * (6 * 5 + 5), 2 * (6 * 5 + 5)]);
    }
}
