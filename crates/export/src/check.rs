//! A file run by rten, on the images that it has with it.

use std::path::{Path, PathBuf};

use prost::Message as _;
use rten::{Model, Value};
use rten_tensor::prelude::*;

use crate::proto;
use crate::self_check::{Inputs, SelfCheck};
use crate::{Error, Onnx, Result};

/// An ONNX file that rten runs.
///
/// rten is a runtime in Rust, other code than that which computed the network in training.
pub struct OnnxRunner {
    path: PathBuf,
    model: Model,
    check: SelfCheck,
    metadata: Vec<(String, String)>,
}

impl std::fmt::Debug for OnnxRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnnxRunner").field("path", &self.path).finish_non_exhaustive()
    }
}

impl OnnxRunner {
    /// Largest difference of an output that [`OnnxRunner::check`] accepts, of outputs up to 1.
    pub const TOLERANCE: f32 = 1e-4;

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]; [`Error::File`] for a file that [`Onnx::save`] did not write; [`Error::Run`] for one that rten refuses.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
        let file = |found: String| Error::File { path: path.to_path_buf(), found };
        let model = proto::Model::decode(bytes.as_slice())
            .map_err(|_| file("a file of another format, or a part of one".to_owned()))?;
        let pair = |property: proto::Property| Some((property.key?, property.value?));
        let metadata: Vec<(String, String)> = model.metadata_props.into_iter().filter_map(pair).collect();
        let Some((_, check)) = metadata.iter().find(|(key, _)| key == SelfCheck::KEY) else {
            let producer = model.producer_name.filter(|name| !name.is_empty());
            return Err(file(match producer {
                Some(name) => format!("one of {name} without {}", SelfCheck::KEY),
                None => "a file of another format".to_owned(),
            }));
        };
        let check = serde_json::from_str(check).map_err(|e| file(format!("{}: {e}", SelfCheck::KEY)))?;
        let model =
            Model::load(bytes).map_err(|e| Error::Run { path: path.to_path_buf(), reason: e.to_string() })?;
        Ok(Self { path: path.to_path_buf(), model, check, metadata })
    }

    /// The metadata but for the check, as written: texts as they are, else JSON.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        pairs.filter(|(key, _)| *key != SelfCheck::KEY)
    }

    /// The outputs for bytes of the file's shape, (B, …), one list an image.
    ///
    /// # Errors
    ///
    /// [`Error::Run`]
    pub fn run_bytes(&self, shape: &[usize], images: Vec<u8>) -> Result<Vec<Vec<f32>>> {
        self.check_shape(shape, images.len())?;
        self.run(rten_tensor::Tensor::from_data(shape, images).into())
    }

    /// The outputs for normalized images of the file's shape, (B, C, H, W), one list an image.
    ///
    /// # Errors
    ///
    /// [`Error::Run`]
    pub fn run_normalized(&self, shape: &[usize], images: Vec<f32>) -> Result<Vec<Vec<f32>>> {
        self.check_shape(shape, images.len())?;
        self.run(rten_tensor::Tensor::from_data(shape, images).into())
    }

    fn run(&self, input: Value) -> Result<Vec<Vec<f32>>> {
        let output = self.model.run_one(input.into(), None).map_err(|e| self.error(e.to_string()))?;
        let output: rten_tensor::Tensor<f32> =
            output.try_into().map_err(|_| self.error("no floats".to_owned()))?;
        match output.shape() {
            [_, n] if *n > 0 => Ok(output.to_vec().chunks_exact(*n).map(<[f32]>::to_vec).collect()),
            shape => Err(self.error(format!("its output has shape {shape:?}"))),
        }
    }

    fn check_shape(&self, shape: &[usize], n: usize) -> Result<()> {
        let expected = self.check.shape();
        let fits = shape.len() == expected.len() && shape.get(1..) == expected.get(1..);
        if !fits || shape.iter().product::<usize>() != n {
            let expected = format!("expected images of shape (batch, {})", axes(expected));
            return Err(self.error(format!("{expected}, found {n} values as (batch, {})", axes(shape))));
        }
        Ok(())
    }

    fn error(&self, reason: String) -> Error {
        Error::Run { path: self.path.clone(), reason }
    }

    /// Runs the file on its own images and returns the largest difference from the outputs that the network had, relative to the
    /// largest output where that is more than 1.
    ///
    /// # Errors
    ///
    /// [`Error::Different`] beyond [`OnnxRunner::TOLERANCE`]; [`Error::File`] for damaged images; [`Error::Run`].
    pub fn check(&self) -> Result<f32> {
        let file = |found: String| Error::File { path: self.path.clone(), found };
        let shape = self.check.shape();
        let found = match self.check.inputs().map_err(file)? {
            Inputs::Bytes(images) => self.run_bytes(shape, images)?,
            Inputs::Floats(images) => self.run_normalized(shape, images)?,
        };
        let expected = self.check.outputs();
        if found.len() != expected.len() || found.iter().zip(expected).any(|(a, b)| a.len() != b.len()) {
            return Err(file("outputs of another shape".to_owned()));
        }
        let pairs = || found.iter().flatten().zip(expected.iter().flatten());
        let scale = pairs().map(|(_, expected)| expected.abs()).fold(1.0, f32::max);
        // NaN is no agreement.
        let far =
            |(a, b): (&f32, &f32)| if (a - b).is_finite() { (a - b).abs() / scale } else { f32::INFINITY };
        let largest = pairs().map(far).fold(0.0, f32::max);
        if largest > Self::TOLERANCE {
            return Err(Error::Different { path: self.path.clone(), largest, tolerance: Self::TOLERANCE });
        }
        Ok(largest)
    }
}

fn axes(shape: &[usize]) -> String {
    let axes: Vec<String> = shape.iter().skip(1).map(usize::to_string).collect();
    axes.join(", ")
}

impl Onnx {
    /// Writes the file, then reads and checks it.
    ///
    /// # Errors
    ///
    /// Those of [`Onnx::save`], [`OnnxRunner::open`] and [`OnnxRunner::check`].
    pub fn save_and_check(&self, path: &Path) -> Result<f32> {
        self.save(path)?;
        OnnxRunner::open(path)?.check()
    }
}
