//! Trains a small CNN: `cargo run --release -p firstsight-ops --example train_cnn`.

use candle_core::{Device, Result, Tensor, Var};
use firstsight_ops::optim::{SgdStep, sgd_step};
use firstsight_ops::{Activation, Conv2dConfig, ConvLayer, Padding2d, Pool2dConfig};
use firstsight_ops::{backward, global_avg_pool2d, linear, softmax_cross_entropy};

fn main() -> Result<()> {
    // Images of one channel; the label says whether the bright stripe is vertical.
    let pixel = |i: u32| if [i % 12, i / 12 % 12][(i / 144 % 2) as usize] == 5 { 1f32 } else { 0. };
    let images = Tensor::from_iter((0..8 * 144).map(pixel), &Device::Cpu)?.reshape((8, 1, 12, 12))?;
    let labels = Tensor::from_iter((0..8u32).map(|i| i % 2), &Device::Cpu)?;

    let kernels = Var::randn(0f32, 0.5, (4, 1, 3, 3), &Device::Cpu)?;
    let bias = Var::zeros(4, candle_core::DType::F32, &Device::Cpu)?;
    let head = Var::randn(0f32, 0.5, (2, 4), &Device::Cpu)?;
    let variables = [&kernels, &bias, &head];
    let velocities = [kernels.zeros_like()?, bias.zeros_like()?, head.zeros_like()?];
    let same = Conv2dConfig { padding: Padding2d::symmetric(1, 1), ..Default::default() };
    let sgd = SgdStep { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0 };

    for step in 0..60 {
        let conv = ConvLayer::new(&kernels, same).bias(&bias).activation(Activation::Relu);
        let features = global_avg_pool2d(&conv.max_pool(Pool2dConfig::square(2)).forward(&images)?)?;
        let logits = linear(&features, &head, None, Activation::Identity)?;
        let loss = softmax_cross_entropy(&logits, &labels)?;
        let grads = backward(&loss)?;
        for (variable, velocity) in variables.iter().zip(&velocities) {
            if let Some(grad) = grads.get(variable) {
                sgd_step(variable, grad, velocity, &sgd)?;
            }
        }
        if step % 20 == 19 {
            println!("step {}: loss {:.4}", step + 1, loss.to_scalar::<f32>()?);
        }
    }
    Ok(())
}
