//! A trained network as an ONNX file.

use std::path::Path;

use candle_core::{D, DType, Device, ModuleT as _, Tensor, WithDType};
use firstsight_data::{InputSpec, NpyRows, NpyValue, OnError, Sample, decode_bytes};
use firstsight_models::ImageClassifier;
use firstsight_ops::no_grad;
use firstsight_transfer::{RunConfig, Target};
use prost::Message as _;

use crate::builder::{Builder, int, ints};
use crate::proto::{self, DataType, Extent};
use crate::self_check::{SelfCheck, images};
use crate::{Error, Result, lower};

/// What a file takes. The batch size B is free; height and width are those of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnnxInput {
    /// Bytes (B, H, W, C), as image libraries decode them.
    BytesLast,
    /// Bytes (B, C, H, W).
    BytesFirst,
    /// Normalized float32 (B, C, H, W), as PyTorch's networks take them.
    Normalized,
}

/// What a file gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnnxOutput {
    /// What the run says of an image: probabilities (B, n) of the classes, calibrated where the run is, or of each label, or a
    /// number (B, 1).
    Answers,
    /// What the network gives, (B, n).
    Logits,
}

/// The choices of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxSettings {
    /// What the file takes.
    pub input: OnnxInput,
    /// What the file gives.
    pub output: OnnxOutput,
    /// The license of the weights, where it is known.
    pub license: Option<String>,
}

/// An ONNX file: opset 17, IR version 8.
///
/// Its metadata have the run's `config.json` but for the training, key by key, and three images with the outputs for them.
#[derive(Debug, Clone)]
pub struct Onnx(pub(crate) proto::Model);

const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

impl Onnx {
    /// The network of a run, with its preprocessing from pixels of the right size on.
    ///
    /// # Errors
    ///
    /// [`Error::Opaque`] for a network with a layer that has no operator; [`Error::TooLarge`] beyond 2 GB.
    pub fn new(network: &ImageClassifier, config: &RunConfig, settings: &OnnxSettings) -> Result<Self> {
        let mut graph = Builder::default();
        let input_name = graph.unique("images");
        let images = preprocess(&mut graph, &input_name, settings.input, &config.pretrained_cfg);
        let logits = lower::network(network, &images, &mut graph)?;
        let output_name = answers(&mut graph, &logits, settings.output, config);

        let input = value_info(
            &input_name,
            settings.input.data_type(),
            &settings.input.shape(&config.pretrained_cfg),
        );
        let output = value_info(&output_name, DataType::Float, &[network.n_classes()]);
        let mut model = proto::Model {
            ir_version: Some(IR_VERSION),
            producer_name: Some("firstsight".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(graph.build(network.info().name, input, output)),
            opset_import: vec![proto::OperatorSet { domain: None, version: Some(OPSET) }],
            metadata_props: Vec::new(),
        };
        model.metadata_props = metadata(network, config, settings)?;
        let bytes = model.encoded_len();
        if bytes > i32::MAX as usize {
            return Err(Error::TooLarge { model: network.info().name, bytes });
        }
        Ok(Self(model))
    }

    /// What the file takes, in words: `images (batch, 224, 224, 3) uint8`.
    pub fn input(&self) -> String {
        self.0.graph.as_ref().and_then(|graph| graph.input.first()).map(described).unwrap_or_default()
    }

    /// What the file gives, in words: `probabilities (batch, 2) float32`.
    pub fn output(&self) -> String {
        self.0.graph.as_ref().and_then(|graph| graph.output.first()).map(described).unwrap_or_default()
    }

    /// The content of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] for a file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        firstsight_transfer::files::write(path, &self.to_bytes())?;
        Ok(())
    }
}

impl OnnxInput {
    /// Writes photos as inputs of a file to an `.npy` file, (N, …), such as those that calibrate a quantization. With
    /// [`OnError::Skip`], the result has the errors of those that cannot be read.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] for a photo that cannot be read, with [`OnError::Skip`] where none can, and for a file that cannot be
    /// written.
    pub fn save_photos<'a>(
        self,
        photos: impl IntoIterator<Item = &'a Sample>,
        spec: &InputSpec,
        on_error: OnError,
        path: &Path,
    ) -> Result<Vec<firstsight_data::Error>> {
        match self.data_type() {
            DataType::Uint8 => self.save_photos_as::<u8>(photos, spec, on_error, path),
            _ => self.save_photos_as::<f32>(photos, spec, on_error, path),
        }
    }

    fn save_photos_as<'a, T: NpyValue + WithDType>(
        self,
        photos: impl IntoIterator<Item = &'a Sample>,
        spec: &InputSpec,
        on_error: OnError,
        path: &Path,
    ) -> Result<Vec<firstsight_data::Error>> {
        let (settings, (channels, height, width)) = (spec.decode_settings(), spec.input_size);
        let mut rows = NpyRows::<T>::create(path, &self.shape(spec))?;
        let mut skipped = Vec::new();
        for photo in photos {
            match photo.read().and_then(|bytes| decode_bytes(&photo.path(), &bytes, &settings)) {
                Ok(image) => {
                    let last = Tensor::from_vec(image.pixels, (1, height, width, channels), &Device::Cpu)?;
                    let input = self.of_bytes(&last.permute((0, 3, 1, 2))?.contiguous()?, spec)?;
                    rows.push(&input.flatten_all()?.to_vec1::<T>()?)?;
                }
                Err(error) if on_error == OnError::Skip => skipped.push(error),
                Err(error) => return Err(error.into()),
            }
        }
        // None at all is the last one's error.
        if rows.n_rows() == 0
            && let Some(error) = skipped.pop()
        {
            return Err(error.into());
        }
        rows.finish()?;
        Ok(skipped)
    }

    /// Bytes (B, C, H, W) as an input.
    fn of_bytes(self, bytes: &Tensor, spec: &InputSpec) -> Result<Tensor> {
        match self {
            Self::BytesLast => Ok(bytes.permute((0, 2, 3, 1))?.contiguous()?),
            Self::BytesFirst => Ok(bytes.clone()),
            Self::Normalized => normalized(bytes, spec),
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::BytesLast | Self::BytesFirst => DataType::Uint8,
            Self::Normalized => DataType::Float,
        }
    }

    /// Shape of one image.
    pub(crate) fn shape(self, input: &InputSpec) -> [usize; 3] {
        let (channels, height, width) = input.input_size;
        match self {
            Self::BytesLast => [height, width, channels],
            Self::BytesFirst | Self::Normalized => [channels, height, width],
        }
    }
}

/// A value whose first axis is the batch.
fn value_info(name: &str, data_type: DataType, shape: &[usize]) -> proto::ValueInfo {
    let extents = shape.iter().map(|&n| Extent::Value(n as i64));
    let dim = std::iter::once(Extent::Param("batch".to_owned())).chain(extents);
    let shape = proto::Shape { dim: dim.map(|value| proto::Dimension { value: Some(value) }).collect() };
    let tensor = proto::TensorType { elem_type: Some(data_type.into()), shape: Some(shape) };
    proto::ValueInfo { name: Some(name.to_owned()), r#type: Some(proto::Type { tensor_type: Some(tensor) }) }
}

fn described(value: &proto::ValueInfo) -> String {
    let tensor = value.r#type.as_ref().and_then(|of| of.tensor_type.as_ref());
    let axes = tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| shape.dim.as_slice());
    let axis = |axis: &proto::Dimension| match &axis.value {
        Some(Extent::Value(n)) => n.to_string(),
        Some(Extent::Param(name)) => name.clone(),
        None => "?".to_owned(),
    };
    let axes: Vec<String> = axes.unwrap_or_default().iter().map(axis).collect();
    let dtype = match tensor.map(proto::TensorType::elem_type) {
        Some(DataType::Uint8) => "uint8",
        _ => "float32",
    };
    format!("{} ({}) {dtype}", value.name.as_deref().unwrap_or_default(), axes.join(", "))
}

/// Images as the network takes them: (x / 255 − mean) / std.
fn preprocess(graph: &mut Builder, images: &str, input: OnnxInput, spec: &InputSpec) -> String {
    if input == OnnxInput::Normalized {
        return images.to_owned();
    }
    let mut images = graph.node("preprocess.cast", "Cast", &[images], [int("to", DataType::Float as i64)]);
    if input == OnnxInput::BytesLast {
        images = graph.node("preprocess.transpose", "Transpose", &[&images], [ints("perm", &[0, 3, 1, 2])]);
    }
    // A network that takes bytes needs neither step.
    for (name, op_type, values, neutral) in [("mean", "Sub", &spec.mean, 0.0), ("std", "Div", &spec.std, 1.0)]
    {
        let bytes: Vec<f32> = values.iter().map(|value| value * 255.0).collect();
        if bytes.iter().any(|value| *value != neutral) {
            let value = graph.floats(&format!("preprocess.{name}"), &[bytes.len(), 1, 1], &bytes);
            images = graph.node(&format!("preprocess.{op_type}"), op_type, &[&images, &value], []);
        }
    }
    images
}

/// The file's output from the network's.
fn answers(graph: &mut Builder, logits: &str, output: OnnxOutput, config: &RunConfig) -> String {
    let by_number = |graph: &mut Builder, op_type: &str, x: &str, number: f64| {
        let number = graph.float("answers.number", number);
        graph.node("answers", op_type, &[x, &number], [])
    };
    match (output, &config.target) {
        (OnnxOutput::Logits, _) => graph.renamed(logits, "logits"),
        (OnnxOutput::Answers, Target::Class) => {
            let logits = match config.temperature {
                Some(temperature) => by_number(graph, "Div", logits, temperature),
                None => logits.to_owned(),
            };
            graph.node("probabilities", "Softmax", &[&logits], [int("axis", -1)])
        }
        (OnnxOutput::Answers, Target::Labels { .. }) => graph.node("probabilities", "Sigmoid", &[logits], []),
        (OnnxOutput::Answers, Target::Value { mean, std }) => {
            let scaled = by_number(graph, "Mul", logits, *std);
            let mean = graph.float("answers.mean", *mean);
            graph.node("values", "Add", &[&scaled, &mean], [])
        }
    }
}

/// The same of a tensor (B, n).
fn answers_of(logits: &Tensor, output: OnnxOutput, config: &RunConfig) -> Result<Tensor> {
    let logits = logits.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let answers = match (output, &config.target) {
        (OnnxOutput::Logits, _) => logits,
        (OnnxOutput::Answers, Target::Class) => {
            let logits = (logits / config.temperature.unwrap_or(1.0))?;
            let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?.exp()?;
            shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)?
        }
        (OnnxOutput::Answers, Target::Labels { .. }) => (logits.neg()?.exp()? + 1.0)?.recip()?,
        (OnnxOutput::Answers, Target::Value { mean, std }) => logits.affine(*std, *mean)?,
    };
    Ok(answers.to_dtype(DType::F32)?)
}

/// The keys of `config.json` but for the training, the license, and the check.
fn metadata(
    network: &ImageClassifier,
    config: &RunConfig,
    settings: &OnnxSettings,
) -> Result<Vec<proto::Property>> {
    let property =
        |key: &str, value: String| proto::Property { key: Some(key.to_owned()), value: Some(value) };
    let mut properties = Vec::new();
    for (key, value) in config.document()? {
        // How it was trained, and on which files, is the run's to say.
        if key == "training" || key == "data" {
            continue;
        }
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        properties.push(property(&key, text));
    }
    if let Some(license) = &settings.license {
        properties.push(property("license", license.clone()));
    }

    let spec = &config.pretrained_cfg;
    let bytes = images(spec.input_size)?;
    let images = normalized(&bytes, spec)?.to_device(network.params().device())?;
    let logits = no_grad(|| network.forward_t(&images, false))?;
    let outputs = answers_of(&logits, settings.output, config)?;
    let check = SelfCheck::new(&settings.input.of_bytes(&bytes, spec)?, &outputs)?;
    properties.push(property(SelfCheck::KEY, check.to_json()));
    Ok(properties)
}

/// Bytes (B, C, H, W) u8 as the network takes them, in float32.
fn normalized(bytes: &Tensor, spec: &InputSpec) -> Result<Tensor> {
    let per_channel = |values: &[f32]| Tensor::new(values, &Device::Cpu)?.reshape((1, (), 1, 1));
    let unit = (bytes.to_dtype(DType::F32)? / 255.0)?;
    Ok(unit.broadcast_sub(&per_channel(&spec.mean)?)?.broadcast_div(&per_channel(&spec.std)?)?)
}
