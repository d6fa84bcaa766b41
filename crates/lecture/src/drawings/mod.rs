//! Pictures that the program draws itself, so that the first sections need no files.

mod scene;
mod sprites;

pub(super) use scene::scene;
pub(super) use sprites::{SIDE, sprites};

/// A color: red, green, blue.
pub(super) type Rgb = [u8; 3];

/// An RGB picture, (H, W, 3) bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) pixels: Vec<u8>,
}

impl Picture {
    fn from_fn(height: usize, width: usize, color: impl Fn(usize, usize) -> Rgb) -> Self {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self { height, width, pixels: places.flat_map(|(x, y)| color(x, y)).collect() }
    }
}
