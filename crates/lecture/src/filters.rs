//! Named 3×3 filters, as image processing knows them.

/// A filter over one channel, rows first.
pub(super) struct NamedFilter {
    pub(super) name: &'static str,
    pub(super) does: &'static str,
    /// Divisor of the weights.
    pub(super) divisor: f32,
    pub(super) weights: [f32; 9],
    /// Whether 0 is the middle of what comes out, rather than its least.
    pub(super) signed: bool,
}

impl NamedFilter {
    /// The weights, divided.
    pub(super) fn kernel(&self) -> Vec<f32> {
        self.weights.iter().map(|weight| weight / self.divisor).collect()
    }
}

/// All of them.
#[rustfmt::skip]
pub(super) const FILTERS: [NamedFilter; 8] = [
    NamedFilter { name: "identity", does: "gives the picture itself", divisor: 1.0, signed: false,
        weights: [0.0, 0.0, 0.0,  0.0, 1.0, 0.0,  0.0, 0.0, 0.0] },
    NamedFilter { name: "box blur", does: "averages nine pixels", divisor: 9.0, signed: false,
        weights: [1.0, 1.0, 1.0,  1.0, 1.0, 1.0,  1.0, 1.0, 1.0] },
    NamedFilter { name: "Gaussian blur", does: "averages, near pixels more", divisor: 16.0, signed: false,
        weights: [1.0, 2.0, 1.0,  2.0, 4.0, 2.0,  1.0, 2.0, 1.0] },
    NamedFilter { name: "sharpen", does: "takes the neighbors off", divisor: 1.0, signed: false,
        weights: [0.0, -1.0, 0.0,  -1.0, 5.0, -1.0,  0.0, -1.0, 0.0] },
    NamedFilter { name: "Sobel, left to right", does: "finds vertical edges", divisor: 1.0, signed: true,
        weights: [-1.0, 0.0, 1.0,  -2.0, 0.0, 2.0,  -1.0, 0.0, 1.0] },
    NamedFilter { name: "Sobel, top to bottom", does: "finds horizontal edges", divisor: 1.0, signed: true,
        weights: [-1.0, -2.0, -1.0,  0.0, 0.0, 0.0,  1.0, 2.0, 1.0] },
    NamedFilter { name: "Laplace", does: "finds edges of any direction", divisor: 1.0, signed: true,
        weights: [0.0, 1.0, 0.0,  1.0, -4.0, 1.0,  0.0, 1.0, 0.0] },
    NamedFilter { name: "emboss", does: "lights it from the side", divisor: 1.0, signed: true,
        weights: [-2.0, -1.0, 0.0,  -1.0, 0.0, 1.0,  0.0, 1.0, 2.0] },
];

/// Sobel's filters, which the examples use: left to right and top to bottom.
pub(super) const SOBEL: [&NamedFilter; 2] = [&FILTERS[4], &FILTERS[5]];
