//! The layers of ViT-S/16 (batch 16, 197 tokens, 384 features, 6 heads) and ConvNeXt-T: the least milliseconds of a forward pass, and
//! of a forward and a backward pass, one line each.
//!
//! `benches/peers/transformer_ops.py` times PyTorch's beside them. `cargo bench -p firstsight-ops --bench transformer -- attention`
//! times the layers with that word in their names.

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, Var};
use firstsight_ops::{
    Activation, activate, feed_forward, layer_norm, layer_norm_2d, linear, self_attention, softmax,
};

/// Time for each measurement.
const LIMIT: Duration = Duration::from_millis(400);

fn noise(seed: usize, shape: &[usize]) -> Result<Tensor> {
    let value = |i: usize| (((i + seed * 7919) as f64 * 0.754_877_666).fract() * 2.0 - 1.0) as f32;
    Tensor::from_iter((0..shape.iter().product()).map(value), &Device::Cpu)?.reshape(shape)
}

/// The least time of a run, in milliseconds.
fn least(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let (start, mut least) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < LIMIT {
        let began = Instant::now();
        run()?;
        least = least.min(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(least)
}

/// A scalar whose gradient is given.
struct Seeded(Tensor);

impl CustomOp1 for Seeded {
    fn name(&self) -> &'static str {
        "seeded"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

fn time(name: &str, shapes: &[&[usize]], op: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if only.is_some_and(|only| !name.contains(&only)) {
        return Ok(());
    }
    let tensors: Vec<Tensor> =
        shapes.iter().enumerate().map(|(i, shape)| noise(i, shape)).collect::<Result<_>>()?;
    let forward = least(|| op(black_box(&tensors)).map(drop))?;
    let vars: Vec<Var> = tensors.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let tracked: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let seed = op(&tensors)?.ones_like()?;
    let both = least(|| {
        let loss = op(black_box(&tracked))?.apply_op1(Seeded(seed.clone()))?;
        firstsight_ops::backward(&loss).map(drop)
    })?;
    println!("{name}\t{forward:.3}\t{both:.3}");
    Ok(())
}

fn main() -> Result<()> {
    const TOKENS: [usize; 2] = [16, 197];
    let tokens = |features| [TOKENS[0], TOKENS[1], features];
    time("layer_norm 384", &[&tokens(384), &[384], &[384]], |a| layer_norm(&a[0], &a[1], &a[2], 1e-6))?;
    time("gelu 1536", &[&tokens(1536)], |a| activate(&a[0], Activation::Gelu))?;
    time("softmax 197", &[&[16, 6, 197, 197]], |a| softmax(&a[0]))?;
    time("attention 6 heads", &[&tokens(1152)], |a| self_attention(&a[0], 6, None))?;
    for (n_in, n_out) in [(384, 1152), (384, 384), (384, 1536), (1536, 384)] {
        let shapes: [&[usize]; 3] = [&tokens(n_in), &[n_out, n_in], &[n_out]];
        time(&format!("linear {n_in} to {n_out}"), &shapes, |a| {
            linear(&a[0], &a[1], Some(&a[2]), Activation::Identity)
        })?;
    }
    time("linear 384 to 1536 and gelu", &[&tokens(384), &[1536, 384], &[1536]], |a| {
        linear(&a[0], &a[1], Some(&a[2]), Activation::Gelu)
    })?;
    let shapes: [&[usize]; 5] = [&tokens(384), &[1536, 384], &[1536], &[384, 1536], &[384]];
    time("feed_forward 384, 1536", &shapes, |a| {
        feed_forward(&a[0], (&a[1], Some(&a[2])), (&a[3], Some(&a[4])), Activation::Gelu)
    })?;
    time("layer_norm_2d 96", &[&[16, 96, 56, 56], &[96], &[96]], |a| {
        layer_norm_2d(&a[0], &a[1], &a[2], 1e-6)
    })?;
    time("silu", &[&[16, 96, 56, 56]], |a| activate(&a[0], Activation::Silu))
}
