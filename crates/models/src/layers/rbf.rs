use candle_core::{Device, Result, Tensor};

/// LeNet-5's output layer: (B, 84) to (B, n), minus the squared distances to fixed codes of ±1 (LeCun et al. 1998,
/// section II.B, with the opposite sign, so that the largest output is the nearest code). It has no parameters.
///
/// Up to ten codes are pictures of the digits, 7 pixels wide and 12 high; the paper's pictures differ in details. With more
/// than ten classes, every code is a fixed pseudorandom pattern.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use firstsight_models::Rbf;
///
/// let rbf = Rbf::new(10, &Device::Cpu)?;
/// let distances = rbf.forward(&rbf.codes())?.to_vec2::<f32>()?;
/// assert!((0..10).all(|i| distances[i][i] == 0.0));
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Rbf {
    codes: Tensor,
}

impl Rbf {
    /// Values of a code: 7 × 12 pixels.
    pub const N_IN: usize = 84;

    /// The layer for `n_classes` classes.
    pub fn new(n_classes: usize, device: &Device) -> Result<Self> {
        let codes: Vec<f32> = if n_classes <= DIGITS.len() {
            DIGITS[..n_classes].iter().flat_map(|rows| rows.iter().flat_map(|row| pixels(row))).collect()
        } else {
            (0..n_classes * Self::N_IN).map(|i| hashed_sign(i as u64)).collect()
        };
        Ok(Self { codes: Tensor::from_vec(codes, (n_classes, Self::N_IN), device)? })
    }

    /// The codes, (n, 84).
    pub fn codes(&self) -> Tensor {
        self.codes.clone()
    }

    /// Minus the squared distances of inputs (B, 84) to the codes: (B, n).
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let codes = self.codes.to_dtype(xs.dtype())?;
        let products = xs.matmul(&codes.t()?)?;
        let of_inputs = xs.sqr()?.sum_keepdim(1)?;
        let of_codes = codes.sqr()?.sum(1)?;
        (products * 2.0)?.broadcast_sub(&of_inputs)?.broadcast_sub(&of_codes)
    }

    /// Number of codes.
    pub fn n_out(&self) -> usize {
        self.codes.dims().first().copied().unwrap_or_default()
    }
}

fn pixels(row: &'static str) -> impl Iterator<Item = f32> {
    row.bytes().map(|pixel| if pixel == b'#' { 1.0 } else { -1.0 })
}

/// ±1 by a bit of SplitMix64's output function.
fn hashed_sign(i: u64) -> f32 {
    let z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    if (z ^ (z >> 31)) & 1 == 1 { 1.0 } else { -1.0 }
}

#[rustfmt::skip]
const DIGITS: [[&str; 12]; 10] = [
    [".......", "..###..", ".#...#.", "##...##", "##...##", "##...##", "##...##", "##...##", "##...##", ".#...#.", "..###..", "......."],
    [".......", "...##..", "..###..", ".####..", "...##..", "...##..", "...##..", "...##..", "...##..", "...##..", ".######", "......."],
    [".......", ".####..", "##..##.", "#....##", ".....##", "....##.", "...##..", "..##...", ".##....", "##.....", "#######", "......."],
    [".......", ".#####.", "##...##", ".....##", ".....##", "..####.", ".....##", ".....##", ".....##", "##...##", ".#####.", "......."],
    [".......", "....##.", "...###.", "..####.", ".##.##.", "##..##.", "##..##.", "#######", "....##.", "....##.", "....##.", "......."],
    [".......", "######.", "##.....", "##.....", "##.....", "#####..", "....##.", ".....##", ".....##", "##..##.", ".####..", "......."],
    [".......", "..####.", ".##....", "##.....", "##.....", "######.", "##...##", "##...##", "##...##", "##...##", ".#####.", "......."],
    [".......", "#######", "#....##", ".....##", "....##.", "....##.", "...##..", "...##..", "..##...", "..##...", "..##...", "......."],
    [".......", ".#####.", "##...##", "##...##", "##...##", ".#####.", "##...##", "##...##", "##...##", "##...##", ".#####.", "......."],
    [".......", ".#####.", "##...##", "##...##", "##...##", "##...##", ".######", ".....##", ".....##", "....##.", ".####..", "......."],
];

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    #[test]
    fn codes_are_of_one_size_and_far_from_each_other() {
        for n in [10, 55] {
            let rbf = Rbf::new(n, &Device::Cpu).unwrap();
            let codes = rbf.codes().to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
            assert!(codes.iter().flatten().all(|v| v.abs() == 1.0));
            for (i, a) in codes.iter().enumerate() {
                for b in &codes[..i] {
                    let differing = a.iter().zip(b).filter(|(a, b)| a != b).count();
                    assert!(differing >= 8, "codes {differing} apart among {n}");
                }
            }
        }
    }

    #[test]
    fn outputs_are_minus_squared_distances() {
        let rbf = Rbf::new(2, &Device::Cpu).unwrap();
        let xs = Tensor::full(0.5f32, (1, 84), &Device::Cpu).unwrap();
        let found = rbf.forward(&xs).unwrap().to_vec2::<f32>().unwrap();
        let codes = rbf.codes().to_vec2::<f32>().unwrap();
        for (found, code) in found[0].iter().zip(&codes) {
            let expected: f32 = code.iter().map(|c| -(0.5 - c) * (0.5 - c)).sum();
            assert!((found - expected).abs() < 1e-3, "{found} against {expected}");
        }
    }

    #[test]
    fn codes_of_many_classes_are_the_last_bits_of_splitmix64() {
        // Its first outputs from the state 0 end with f, 4, f, c, b and a.
        let codes = Rbf::new(11, &Device::Cpu).unwrap().codes().to_vec2::<f32>().unwrap();
        assert_eq!(codes[0][..6], [1.0, -1.0, 1.0, -1.0, 1.0, -1.0]);
    }
}
