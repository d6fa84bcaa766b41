//! From the bytes of images to floats.

use candle_core::{Result, Shape, Tensor};

use crate::cuda::program::{Arg, BYTES, Geometry, Program, Word, int};
use crate::cuda::{fits, node, on_device, run};
use crate::reference;

/// [`crate::normalize_bytes`]; mean and std are 255 times as large.
pub(crate) fn normalize_bytes(images: &Tensor, mean: &[f32], std: &[f32]) -> Result<Tensor> {
    if !on_device(&[images]) || !fits(images) {
        return reference::normalize_bytes(images, mean, std);
    }
    let (batch, h, w, channels) = images.dims4()?;
    let count = images.elem_count();
    let mut program = Program::default();
    let (bytes, x) = (program.input_u8(count), program.output(count));
    let channel = |(&mean, &std): (&f32, &f32)| Word::Floats(mean, std);
    let table = Arg::Table(mean.iter().zip(std).map(channel).collect());
    let args = [bytes.into(), table, x.into(), int(batch * channels), int(channels), int(h * w)];
    program.launch(BYTES, "normalize_bytes", Geometry::planes(batch * channels, h * w), args);
    match run(&program, &[&images.contiguous()?])?.pop() {
        Some(x) => Ok(node::tensor(x, &Shape::from((batch, channels, h, w)))),
        None => candle_core::bail!("normalize_bytes: no output"),
    }
}
