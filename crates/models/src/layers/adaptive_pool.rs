use candle_core::{Device, Result, Tensor};

use crate::graph::Op;

/// Means over `size` × `size` windows that cover the map: (B, C, H, W) to (B, C, size, size), window i from
/// ⌊i·H / size⌋ up to ⌈(i + 1)·H / size⌉ (PyTorch's `AdaptiveAvgPool2d`). A map of that size passes unchanged.
pub(crate) fn adaptive_avg_pool2d(xs: &Tensor, size: usize) -> Result<Tensor> {
    let (b, c, h, w) = xs.dims4()?;
    if (h, w) == (size, size) {
        return Ok(xs.clone());
    }
    let of = |n| windows(n, size, xs.device())?.to_dtype(xs.dtype());
    let (rows, columns) = (of(h)?, of(w)?.t()?.contiguous()?);
    let by_column = xs.reshape((b * c * h, w))?.matmul(&columns)?.reshape((b * c, h, size))?;
    rows.broadcast_matmul(&by_column)?.reshape((b, c, size, size))
}

/// The operator for maps of `height` × `width`.
pub(super) fn op((height, width): (usize, usize), size: usize, device: &Device) -> Result<Op> {
    if (height, width) == (size, size) {
        return Ok(Op::Identity);
    }
    Ok(Op::AdaptiveAvgPool { rows: windows(height, size, device)?, columns: windows(width, size, device)? })
}

/// The (size, n) matrix that takes n values to their means over windows, in float64.
///
/// # Errors
///
/// No values, which have no mean.
fn windows(n: usize, size: usize, device: &Device) -> Result<Tensor> {
    if n == 0 {
        candle_core::bail!("adaptive average pooling takes maps of at least 1 pixel, found a side of 0");
    }
    let mut matrix = vec![0f64; size * n];
    for (i, row) in matrix.chunks_exact_mut(n).enumerate() {
        let (start, end) = (i * n / size, ((i + 1) * n).div_ceil(size));
        row[start..end].fill(1.0 / (end - start) as f64);
    }
    Tensor::from_vec(matrix, (size, n), device)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    #[test]
    fn windows_overlap_as_pytorchs_do() {
        // torch.nn.AdaptiveAvgPool2d(2) of arange(9).reshape(1, 1, 3, 3)
        let xs = Tensor::arange(0f32, 9.0, &Device::Cpu).unwrap().reshape((1, 1, 3, 3)).unwrap();
        let ys = super::adaptive_avg_pool2d(&xs, 2).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(ys, [2.0, 3.0, 5.0, 6.0]);
        // torch.nn.AdaptiveAvgPool2d(2) of arange(2).reshape(1, 1, 1, 2)
        let xs = Tensor::arange(0f32, 2.0, &Device::Cpu).unwrap().reshape((1, 1, 1, 2)).unwrap();
        let ys = super::adaptive_avg_pool2d(&xs, 2).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(ys, [0.0, 1.0, 0.0, 1.0]);
        let empty = Tensor::zeros((1, 3, 0, 5), candle_core::DType::F32, &Device::Cpu).unwrap();
        let said = super::adaptive_avg_pool2d(&empty, 2).unwrap_err().to_string();
        assert!(said.contains("found a side of 0"), "{said}");
    }
}
