//! Weights that are brought into the order of kernels once for many forward passes.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::autograd::no_grad;
use crate::cpu;
use crate::cpu::gemm::PackedRhs;
use crate::cpu::memory::threads::with_threads_awake;
use crate::cpu::simd::lanes;

thread_local! {
    /// The weights of the innermost [`PackedWeights::infer`] in this thread.
    static CURRENT: RefCell<Option<PackedWeights>> = const { RefCell::new(None) };
}

/// A network's weights in the order in which kernels read them, with normalization folded in, kept between forward passes.
///
/// Every op packs its weights before it multiplies by them, and folds batch normalization into convolutions. With many images
/// that costs little; with one it is a good part of the time. Here each op of the first pass leaves its packed weights for the
/// next passes. They take as much memory as the weights themselves, or 1.8 times as much where Winograd's algorithm is used, on the CPU;
/// other devices need none.
///
/// The weights must not change as long as they are kept: make a new one after training or loading. Clones share them.
///
/// ```
/// use candle_core::{DType, Device, Var};
/// use firstsight_ops::{Activation, Conv2dConfig, PackedWeights, conv2d};
///
/// let weight = Var::ones((8, 8, 1, 1), DType::F32, &Device::Cpu)?;
/// let packed = PackedWeights::default();
/// for value in 1..4 {
///     let x = candle_core::Tensor::full(value as f32, (1, 8, 5, 5), &Device::Cpu)?;
///     let config = Conv2dConfig::default();
///     let y = packed.infer(|| conv2d(&x, &weight, None, &config, Activation::Identity))?;
///     assert_eq!(y.flatten_all()?.to_vec1::<f32>()?[0], 8.0 * value as f32);
/// }
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct PackedWeights(Arc<Mutex<HashMap<Key, Entry>>>);

/// What is made of the weights, for vectors of what length, and the weights.
type Key = (Packing, usize, Vec<Place>);

/// Where a tensor lies: address, offset and dimensions.
type Place = (usize, usize, Vec<usize>);

struct Entry {
    packed: Arc<dyn Any + Send + Sync>,
    /// Kept so that no other tensor can take their place in memory.
    _weights: Vec<Tensor>,
}

/// What is made of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Packing {
    /// Those of a convolution, with its normalization.
    Conv {
        algorithm: cpu::plan::Forward,
        groups: usize,
        /// The bits of the normalization's epsilon.
        epsilon: Option<u64>,
    },
    /// Those of a linear layer.
    Linear,
}

impl PackedWeights {
    /// Runs `work` as [`no_grad`] does, with the weights that earlier calls have packed.
    pub fn infer<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Sets the outer weights back, also when `work` panics.
        struct Outer(Option<PackedWeights>);

        impl Drop for Outer {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }

        let _outer = Outer(CURRENT.replace(Some(self.clone())));
        no_grad(work)
    }

    /// [`Self::infer`] for the parts 0 to `count` − 1 of some work, on the threads of the pool, where ops need not wake a thread
    /// and wait for it. Returns the parts' results in order.
    pub fn infer_parts<T: Send>(&self, count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
        with_threads_awake(|| {
            (0..count).into_par_iter().with_max_len(1).map(|part| self.infer(|| work(part))).collect()
        })
    }
}

impl std::fmt::Debug for PackedWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let layers = self.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct("PackedWeights").field("layers", &layers).finish_non_exhaustive()
    }
}

/// What `pack` makes of contiguous `weights`, or what it made of them in an earlier pass of the current [`PackedWeights`].
/// `None` outside of one.
pub(crate) fn reuse<T: Send + Sync + 'static>(
    packing: Packing,
    weights: &[&Tensor],
    pack: impl FnOnce() -> Result<T>,
) -> Result<Option<Arc<T>>> {
    let current = CURRENT.with_borrow(Clone::clone);
    let Some(current) = current.filter(|_| weights.iter().all(|weight| weight.is_contiguous())) else {
        return Ok(None);
    };
    let place = |weight: &&Tensor| {
        let start = cpu::storage_start(weight)? as usize;
        Ok((start, weight.layout().start_offset(), weight.dims().to_vec()))
    };
    let key = (packing, lanes(), weights.iter().map(place).collect::<Result<Vec<_>>>()?);
    let lock = || current.0.lock().unwrap_or_else(PoisonError::into_inner);
    let known = lock().get(&key).map(|entry| entry.packed.clone());
    if let Some(packed) = known.and_then(|packed| packed.downcast().ok()) {
        return Ok(Some(packed));
    }
    let packed = Arc::new(pack()?);
    let weights = weights.iter().map(|&weight| weight.clone()).collect();
    lock().insert(key, Entry { packed: packed.clone(), _weights: weights });
    Ok(Some(packed))
}

/// The weight (out, in) of a linear layer, if packed weights are kept.
pub(crate) fn linear(weight: &Tensor) -> Result<Option<Arc<PackedRhs>>> {
    reuse(Packing::Linear, &[weight], || {
        let (n_out, n_in) = weight.dims2()?;
        Ok(PackedRhs::from_columns(cpu::data(weight).slice()?, (n_in, n_out)))
    })
}
