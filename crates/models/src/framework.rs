use crate::Padding;

/// Whose conventions a network follows where frameworks differ: padding of strided layers, and batch
/// normalisation's ε, momentum and running variance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framework {
    /// PyTorch's: as much padding on every side; ε = 1e-5, a tenth of the running statistics replaced by each batch,
    /// the unbiased variance kept.
    Torch,
    /// Keras's: "same" padding, the odd pixel at the bottom and right; ε = 1e-3, the network's own momentum, the
    /// biased variance kept.
    Keras,
}

impl Framework {
    /// The padding of a 3×3 convolution.
    pub(crate) fn padding(self) -> Padding {
        self.dilated_padding(1)
    }

    /// The padding of a 3×3 convolution whose taps lie `dilation` apart.
    pub(crate) fn dilated_padding(self, dilation: usize) -> Padding {
        match self {
            Self::Torch => Padding::Symmetric(dilation),
            Self::Keras => Padding::Same,
        }
    }
}
