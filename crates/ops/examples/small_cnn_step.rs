//! Times the training step of the lecture's small network with these ops alone: 128 greyscale images of 80×60,
//! convolutions of 16, 32 and 64 filters with max pooling by 2, 2 and 4, dense 64, dense 55, Adam.
//!
//! `cargo run --release -p firstsight-ops --example small_cnn_step -- [STEPS]` prints the median of the steps in
//! milliseconds, the same by part, and the loss, which falls because the batch is always the same.

use std::time::Instant;

use candle_core::{Device, Result, Tensor, Var};
use firstsight_ops::optim::{AdamStep, EpsilonPlacement, adam_step};
use firstsight_ops::{
    Activation, Conv2dConfig, Padding2d, Pool2dConfig, conv2d_max_pool, linear, softmax_cross_entropy,
};

const BATCH: usize = 128;
const CLASSES: usize = 55;

fn main() -> Result<()> {
    let steps = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(30);
    let network = Network::new()?;
    let device = Device::Cpu;
    let images = Tensor::from_vec(noise(1, BATCH * 4800), (BATCH, 1, 80, 60), &device)?;
    let labels = Tensor::from_iter((0..BATCH as u32).map(|i| i * 7 % CLASSES as u32), &device)?;
    let moments: Vec<(Tensor, Tensor)> =
        network.vars.iter().map(|var| Ok((var.zeros_like()?, var.zeros_like()?))).collect::<Result<_>>()?;

    let mut times = Vec::new();
    for step in 1..=steps {
        let start = Instant::now();
        let loss = softmax_cross_entropy(&network.forward(&images)?, &labels)?;
        let forward = start.elapsed();
        let grads = loss.backward()?;
        let backward = start.elapsed() - forward;
        let adam = AdamStep {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-7,
            epsilon_placement: EpsilonPlacement::Keras,
            weight_decay: 0.0,
            step,
        };
        for (var, (m, v)) in network.vars.iter().zip(&moments) {
            if let Some(grad) = grads.get(var) {
                adam_step(var, grad, m, v, &adam)?;
            }
        }
        times.push([start.elapsed(), forward, backward, start.elapsed() - forward - backward]);
        if step == 1 || step == steps {
            println!("step {step}: loss {:.4}", loss.to_scalar::<f32>()?);
        }
    }
    for (part, name) in ["step", "forward", "backward", "optimiser"].into_iter().enumerate() {
        let mut part: Vec<f64> = times.iter().map(|time| time[part].as_secs_f64() * 1e3).collect();
        part.sort_by(f64::total_cmp);
        println!("{name}: median {:.2} ms, least {:.2} ms", part[part.len() / 2], part[0]);
    }
    Ok(())
}

struct Network {
    vars: Vec<Var>,
}

impl Network {
    fn new() -> Result<Self> {
        let shapes: [(&[usize], usize); 5] = [
            (&[16, 1, 3, 3], 9),
            (&[32, 16, 3, 3], 144),
            (&[64, 32, 3, 3], 288),
            (&[64, 960], 960),
            (&[CLASSES, 64], 64),
        ];
        let mut vars = Vec::new();
        for (seed, (shape, fan_in)) in shapes.into_iter().enumerate() {
            let bound = (3.0 / fan_in as f64).sqrt();
            let values = noise(seed as u64 + 2, shape.iter().product());
            let weight = (Tensor::from_vec(values, shape, &Device::Cpu)? * bound)?;
            vars.push(Var::from_tensor(&weight)?);
            vars.push(Var::zeros(shape[0], candle_core::DType::F32, &Device::Cpu)?);
        }
        Ok(Self { vars })
    }

    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let same = Conv2dConfig { padding: Padding2d::symmetric(1, 1), ..Conv2dConfig::PLAIN };
        let mut xs = images.clone();
        for (layer, pool) in [2, 2, 4].into_iter().enumerate() {
            let (weight, bias) = (&self.vars[2 * layer], &self.vars[2 * layer + 1]);
            xs = conv2d_max_pool(
                &xs,
                weight,
                Some(bias),
                &same,
                Activation::Relu,
                &Pool2dConfig::square(pool),
            )?;
        }
        let xs = linear(&xs.flatten_from(1)?, &self.vars[6], Some(&self.vars[7]), Activation::Relu)?;
        linear(&xs, &self.vars[8], Some(&self.vars[9]), Activation::Identity)
    }
}

/// Even numbers in [-1, 1), always the same for a seed.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
    .take(count)
    .collect()
}
