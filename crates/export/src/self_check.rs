//! The images that a file has with it, and what it must say of them.

use std::io::{Read as _, Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use candle_core::{DType, Device, Tensor};
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use serde::{Deserialize, Serialize};

use crate::Result;

/// Images that a file has with it.
const IMAGES: usize = 3;
/// Most bytes of inputs: float32 in RGB of the largest height and width that a run may have.
const MOST: usize = IMAGES * 3 * 4096 * 4096 * size_of::<f32>();

/// Inputs of a file, with its outputs for them. The inputs are compressed by zlib, then in base64.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SelfCheck {
    /// NumPy's name of their type: `uint8` or `float32`.
    dtype: String,
    shape: Vec<usize>,
    inputs: String,
    outputs: Vec<Vec<f32>>,
}

/// Values of the inputs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Inputs {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
}

impl SelfCheck {
    /// The key of the metadata.
    pub(crate) const KEY: &'static str = "self_check";

    pub(crate) fn new(inputs: &Tensor, outputs: &Tensor) -> Result<Self> {
        let (dtype, bytes) = match inputs.dtype() {
            DType::U8 => ("uint8", inputs.flatten_all()?.to_vec1::<u8>()?),
            _ => {
                let values = inputs.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
                ("float32", values.iter().flat_map(|value| value.to_le_bytes()).collect())
            }
        };
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        let compressed = encoder.write_all(&bytes).and_then(|()| encoder.finish());
        let compressed = compressed.map_err(candle_core::Error::from)?;
        Ok(Self {
            dtype: dtype.to_owned(),
            shape: inputs.dims().to_vec(),
            inputs: STANDARD.encode(compressed),
            outputs: outputs.to_vec2()?,
        })
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_value(self).map(|value| value.to_string()).unwrap_or_default()
    }

    /// Shape of the inputs, (B, …).
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The outputs, one list an image.
    pub(crate) fn outputs(&self) -> &[Vec<f32>] {
        &self.outputs
    }

    /// Bytes of the inputs. `None` for more than a run's can have.
    fn bytes(&self) -> Option<usize> {
        let size = if self.dtype == "uint8" { 1 } else { 4 };
        let n = self.shape.iter().try_fold(size, |n: usize, &side| n.checked_mul(side));
        n.filter(|&n| n <= MOST)
    }

    /// The inputs, or what is wrong with them.
    pub(crate) fn inputs(&self) -> std::result::Result<Inputs, String> {
        let n = self.bytes().ok_or_else(|| format!("images of shape {:?}", self.shape))?;
        let compressed =
            STANDARD.decode(&self.inputs).map_err(|e| format!("images that are not base64: {e}"))?;
        let mut bytes = Vec::new();
        let read = ZlibDecoder::new(compressed.as_slice()).take(n as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|e| format!("images that zlib refuses: {e}"))?;
        if bytes.len() != n {
            return Err(format!("{} bytes of images of shape {:?}", bytes.len(), self.shape));
        }
        match self.dtype.as_str() {
            "uint8" => Ok(Inputs::Bytes(bytes)),
            "float32" => {
                let words = bytes.as_chunks::<4>().0;
                Ok(Inputs::Floats(words.iter().map(|&word| f32::from_le_bytes(word)).collect()))
            }
            other => Err(format!("images of type {other}")),
        }
    }
}

/// Three images (3, C, H, W) u8 of slopes and stripes. They are made by a formula, so a file holds none of anybody's photos.
pub(crate) fn images((channels, height, width): (usize, usize, usize)) -> Result<Tensor> {
    let mut pixels = Vec::with_capacity(IMAGES * channels * height * width);
    for image in 0..IMAGES {
        for c in 0..channels {
            for y in 0..height {
                pixels.extend((0..width).map(|x| match image {
                    0 => (255 * (x + y) / (height + width) + 40 * c) % 256,
                    1 => (x * y / (8 + 4 * c)) % 256,
                    _ => 64 * ((x / 8 + y / 16 + c) % 4) + 31,
                } as u8));
            }
        }
    }
    Ok(Tensor::from_vec(pixels, (IMAGES, channels, height, width), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_inputs_of_a_run_fit_and_no_larger_ones() {
        let bytes = |dtype: &str, shape: [usize; 4]| {
            let (inputs, outputs) = (String::new(), Vec::new());
            SelfCheck { dtype: dtype.to_owned(), shape: shape.to_vec(), inputs, outputs }.bytes()
        };
        assert_eq!(bytes("float32", [IMAGES, 3, 4096, 4096]), Some(603_979_776));
        assert_eq!(bytes("uint8", [IMAGES, 4096, 4096, 3]), Some(150_994_944));
        assert_eq!(bytes("float32", [IMAGES, 3, 4096, 4097]), None);
        assert_eq!(bytes("float32", [usize::MAX, 3, 4096, 4096]), None);
    }
}
