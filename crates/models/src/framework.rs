/// Framework whose conventions a network follows where frameworks differ.
///
/// These are the padding of strided layers and ε, momentum and running variance of batch normalization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framework {
    /// PyTorch: the same padding on every side; ε = 1e-5, momentum 0.1, unbiased running variance.
    Torch,
    /// Keras: `same` padding with an odd pixel at the bottom and right; ε = 1e-3, the network's momentum, biased running
    /// variance.
    Keras,
}
