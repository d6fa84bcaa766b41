//! Networks in inference mode.

use candle_core::{ModuleT, Result, Tensor};

/// A network that always runs in inference mode: batch norm uses its running statistics, and dropout does nothing.
///
/// ```
/// use candle_core::{DType, Device, ModuleT, Tensor};
/// use firstsight_transfer::Frozen;
///
/// struct ZeroWhenTraining;
/// impl ModuleT for ZeroWhenTraining {
///     fn forward_t(&self, xs: &Tensor, train: bool) -> candle_core::Result<Tensor> {
///         if train { xs.zeros_like() } else { Ok(xs.clone()) }
///     }
/// }
/// let ones = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
/// let frozen = Frozen(ZeroWhenTraining).forward_t(&ones, true)?;
/// assert_eq!(frozen.sum_all()?.to_scalar::<f32>()?, 6.0);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Frozen<B>(pub B);

impl<B: ModuleT> ModuleT for Frozen<B> {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Result<Tensor> {
        self.0.forward_t(xs, false)
    }
}
