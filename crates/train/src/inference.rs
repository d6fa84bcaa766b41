//! Models in inference mode.

use candle_core::{Module, ModuleT, Result, Tensor};
use firstsight_ops::PackedWeights;

/// A model in inference mode, without what a backward pass would need: PyTorch's `model.eval()` with `torch.no_grad()`.
///
/// The first pass leaves its weights in `packed`, as kernels read them, for the next passes. So the model must not change as long
/// as that lives.
///
/// ```
/// use candle_core::{Device, Module, Tensor, Var};
/// use candle_nn::Linear;
/// use firstsight_train::{Inference, PackedWeights};
///
/// let layer = Linear::new(Var::new(&[[2f32]], &Device::Cpu)?.as_tensor().clone(), None);
/// let packed = PackedWeights::default();
/// let outputs = Inference::new(&layer, &packed).forward(&Tensor::new(&[[3f32]], &Device::Cpu)?)?;
/// assert_eq!(outputs.to_vec2::<f32>()?, [[6.0]]);
/// assert!(!outputs.track_op());
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Inference<'a, M> {
    model: &'a M,
    packed: &'a PackedWeights,
    run: fn(&M, &PackedWeights, &Tensor) -> Result<Tensor>,
}

impl<'a, M: ModuleT> Inference<'a, M> {
    /// `model` in inference mode.
    pub fn new(model: &'a M, packed: &'a PackedWeights) -> Self {
        let run = |model: &M, packed: &PackedWeights, xs: &Tensor| {
            packed.infer(|| Ok(model.forward_t(xs, false)?.detach()))
        };
        Self { model, packed, run }
    }

    /// The same on the threads of the pool: on the CPU, large batches go through the model in parts of eight examples, so that
    /// their maps stay in the caches, and no op has to wake a thread and wait for it.
    ///
    /// The result for an example does not depend on the number of threads.
    pub fn in_pool(model: &'a M, packed: &'a PackedWeights) -> Self
    where
        M: Sync,
    {
        Self { model, packed, run: run_in_pool }
    }
}

fn run_in_pool<M: ModuleT + Sync>(model: &M, packed: &PackedWeights, xs: &Tensor) -> Result<Tensor> {
    const TOGETHER: usize = 8;
    // The pool's threads would wait for another device.
    if !xs.device().is_cpu() {
        return Inference::new(model, packed).forward(xs);
    }
    let batch = xs.dim(0)?;
    let part = |part: usize| {
        let first = part * TOGETHER;
        Ok(model.forward_t(&xs.narrow(0, first, TOGETHER.min(batch - first))?, false)?.detach())
    };
    let parts = packed.infer_parts(batch.div_ceil(TOGETHER).max(1), part);
    match parts.into_iter().collect::<Result<Vec<Tensor>>>()?.as_slice() {
        [all] => Ok(all.clone()),
        parts => Tensor::cat(parts, 0),
    }
}

impl<M> Module for Inference<'_, M> {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        (self.run)(self.model, self.packed, xs)
    }
}
