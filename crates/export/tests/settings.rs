//! What a file takes, gives and says, for each choice and task.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, ModuleT as _, Result as CandleResult, Tensor};
use firstsight_data::{InputSpec, OnError, Sample, ScanOptions};
use firstsight_export::{Error, Onnx, OnnxInput, OnnxOutput, OnnxRunner, OnnxSettings};
use firstsight_models::graph::Op;
use firstsight_models::networks::SMALL_CNN;
use firstsight_models::summary::{LayerKind, Trace};
use firstsight_models::{ImageClassifier, InputShape, LayerSpec, ModelInfo, Network, Params};
use firstsight_transfer::{RunConfig, Target};

const SETTINGS: OnnxSettings =
    OnnxSettings { input: OnnxInput::BytesLast, output: OnnxOutput::Answers, license: None };

fn spec() -> InputSpec {
    InputSpec { mean: vec![0.4, 0.5, 0.6], std: vec![0.2, 0.3, 0.25], ..InputSpec::imagenet(3, 40, 36) }
}

fn run(n: usize, target: Target, temperature: Option<f64>) -> (ImageClassifier, RunConfig) {
    let params = Params::seeded(3, &Device::Cpu);
    let input = spec();
    let network =
        ImageClassifier::new(&SMALL_CNN, InputShape::from(&input), n, SMALL_CNN.init, &params).unwrap();
    let config = RunConfig {
        architecture: SMALL_CNN.name.to_owned(),
        num_classes: n,
        num_features: network.n_features(),
        label_names: ["ant", "bee \"queen\"", "Köcherfliege"][..n]
            .iter()
            .map(|&name| name.to_owned())
            .collect(),
        named: true,
        target,
        pretrained_cfg: input,
        training: None,
        options: ScanOptions::default(),
        temperature,
        reject: None,
    };
    (network, config)
}

/// Bytes (2, 3, 40, 36).
fn bytes() -> Vec<u8> {
    (0..2 * 3 * 40 * 36).map(|i: usize| (i * 7 % 251) as u8).collect()
}

fn expected(network: &ImageClassifier) -> Vec<Vec<f32>> {
    let spec = spec();
    let of = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap().reshape((1, 3, 1, 1)).unwrap();
    let images = Tensor::from_vec(bytes(), (2, 3, 40, 36), &Device::Cpu).unwrap();
    let unit = (images.to_dtype(DType::F32).unwrap() / 255.0).unwrap();
    let images = unit.broadcast_sub(&of(&spec.mean)).unwrap().broadcast_div(&of(&spec.std)).unwrap();
    network.forward_t(&images, false).unwrap().to_vec2().unwrap()
}

fn answers(file: &Path, input: OnnxInput) -> Vec<Vec<f32>> {
    let runner = OnnxRunner::open(file).unwrap();
    assert!(runner.check().unwrap() < 1e-5);
    let first = Tensor::from_vec(bytes(), (2, 3, 40, 36), &Device::Cpu).unwrap();
    let values = |images: &Tensor| images.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    match input {
        OnnxInput::BytesLast => {
            let last = first.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
            runner.run_bytes(&[2, 40, 36, 3], values(&last)).unwrap()
        }
        OnnxInput::BytesFirst => runner.run_bytes(&[2, 3, 40, 36], values(&first)).unwrap(),
        OnnxInput::Normalized => {
            let normalized = bytes().into_iter().enumerate().map(|(i, byte)| {
                let c = i / (40 * 36) % 3;
                (f32::from(byte) / 255.0 - spec().mean[c]) / spec().std[c]
            });
            runner.run_normalized(&[2, 3, 40, 36], normalized.collect()).unwrap()
        }
    }
}

fn assert_near(found: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_eq!((found.len(), found[0].len()), (expected.len(), expected[0].len()));
    for (a, b) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((a - b).abs() < 1e-5 * b.abs().max(1.0), "{a} and {b}");
    }
}

#[test]
fn every_input_gives_the_same() {
    let (network, config) = run(3, Target::Class, None);
    let folder = tempfile::tempdir().unwrap();
    for input in [OnnxInput::BytesLast, OnnxInput::BytesFirst, OnnxInput::Normalized] {
        let path = folder.path().join(format!("{input:?}.onnx"));
        let settings = OnnxSettings { input, output: OnnxOutput::Logits, license: None };
        Onnx::new(&network, &config, &settings).unwrap().save_and_check(&path).unwrap();
        assert_near(&answers(&path, input), &expected(&network));
    }
}

#[test]
fn answers_are_those_of_the_task() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.onnx");
    let save = |network: &ImageClassifier, config: &RunConfig| {
        let onnx = Onnx::new(network, config, &SETTINGS).unwrap();
        onnx.save_and_check(&path).unwrap();
        (onnx.output(), answers(&path, OnnxInput::BytesLast))
    };

    let (network, config) = run(3, Target::Class, Some(2.5));
    let (output, found) = save(&network, &config);
    assert_eq!(output, "probabilities (batch, 3) float32");
    let softmax = |row: &Vec<f32>| {
        let powers: Vec<f32> = row.iter().map(|z| (z / 2.5).exp()).collect();
        powers.iter().map(|p| p / powers.iter().sum::<f32>()).collect()
    };
    assert_near(&found, &expected(&network).iter().map(softmax).collect::<Vec<_>>());

    let (network, config) = run(3, Target::Labels { thresholds: vec![0.5; 3] }, None);
    let (output, found) = save(&network, &config);
    assert_eq!(output, "probabilities (batch, 3) float32");
    let sigmoid = |row: &Vec<f32>| row.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
    assert_near(&found, &expected(&network).iter().map(sigmoid).collect::<Vec<_>>());

    let (network, config) = run(1, Target::Value { mean: 40.0, std: 12.5 }, None);
    let (output, found) = save(&network, &config);
    assert_eq!(output, "values (batch, 1) float32");
    let value = |row: &Vec<f32>| row.iter().map(|z| z * 12.5 + 40.0).collect();
    assert_near(&found, &expected(&network).iter().map(value).collect::<Vec<_>>());
}

#[test]
fn a_file_says_what_it_is() {
    let (network, config) = run(3, Target::Class, Some(2.5));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.onnx");
    let settings = OnnxSettings { license: Some("CC-BY-4.0".to_owned()), ..SETTINGS };
    let onnx = Onnx::new(&network, &config, &settings).unwrap();
    assert_eq!(onnx.input(), "images (batch, 40, 36, 3) uint8");
    onnx.save(&path).unwrap();
    let runner = OnnxRunner::open(&path).unwrap();
    let said = |key: &str| {
        let value = runner.metadata().find(|(found, _)| *found == key).map(|(_, value)| value.to_owned());
        value.unwrap_or_else(|| panic!("no {key}"))
    };
    assert_eq!(said("architecture"), "small-cnn");
    assert_eq!(said("license"), "CC-BY-4.0");
    assert_eq!(said("temperature"), "2.5");
    let names: Vec<String> = serde_json::from_str(&said("label_names")).unwrap();
    assert_eq!(names, config.label_names);
    let input: serde_json::Value = serde_json::from_str(&said("pretrained_cfg")).unwrap();
    assert_eq!(input["crop_pct"], 0.875);
    assert!(runner.metadata().all(|(key, _)| key != "training" && key != "data"));
}

#[test]
fn a_changed_file_is_refused() {
    let (network, config) = run(3, Target::Class, None);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.onnx");
    let onnx = Onnx::new(&network, &config, &SETTINGS).unwrap();
    let bytes = onnx.to_bytes();
    let written = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        OnnxRunner::open(&path).and_then(|runner| runner.check())
    };
    written(&bytes).unwrap();

    // The last layer's bias is the first constant of three zeros: another one, another answer.
    let zeros = [0u8; 12];
    let at = bytes.windows(14).position(|w| w[0] == 0x4a && w[1] == 12 && w[2..] == zeros).unwrap();
    let mut changed = bytes.clone();
    changed[at + 2..at + 6].copy_from_slice(&0.5f32.to_le_bytes());
    assert!(matches!(written(&changed), Err(Error::Different { .. })));

    assert!(matches!(written(b"not a network"), Err(Error::File { .. })));
    assert!(matches!(written(&[]), Err(Error::File { .. })));
    for length in (0..bytes.len()).step_by(bytes.len() / 23) {
        written(&bytes[..length]).unwrap_err();
    }
    assert!(matches!(OnnxRunner::open(&folder.path().join("none")), Err(Error::Read { .. })));
    let runner = {
        std::fs::write(&path, &bytes).unwrap();
        OnnxRunner::open(&path).unwrap()
    };
    assert!(matches!(runner.run_bytes(&[1, 40, 36, 3], vec![0; 5]), Err(Error::Run { .. })));
    assert!(matches!(runner.run_bytes(&[1, 40, 36, 1], vec![0; 40 * 36]), Err(Error::Run { .. })));
}

/// A network that does not say what its layer computes.
#[derive(Debug)]
struct Secret;

impl Network for Secret {
    fn n_features(&self) -> usize {
        3
    }

    fn forward_features(&self, xs: &Tensor, _train: bool) -> CandleResult<Tensor> {
        Ok(xs.clone())
    }

    fn pre_logits(&self, features: &Tensor, _train: bool) -> CandleResult<Tensor> {
        features.mean((2, 3))
    }

    fn describe(&self, trace: &mut Trace) -> CandleResult<()> {
        trace.push("secret", LayerKind::Other("Secret"), Op::Opaque, InputShape::Features(3));
        Ok(())
    }
}

static SECRET: ModelInfo = ModelInfo {
    head: |n_classes| LayerSpec::dense("fc", n_classes),
    usual_input: (3, 40, 36),
    ..ModelInfo::new("secret", |_| Ok(Arc::new(Secret)))
};

#[test]
fn a_layer_without_an_operator_is_named() {
    let (_, config) = run(3, Target::Class, None);
    let params = Params::seeded(1, &Device::Cpu);
    let network = ImageClassifier::new(&SECRET, InputShape::from(&spec()), 3, SECRET.init, &params).unwrap();
    let error = Onnx::new(&network, &config, &SETTINGS).unwrap_err();
    assert!(error.to_string().starts_with("secret cannot be written as ONNX: the layer 'secret'"), "{error}");
}

#[test]
fn photos_become_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let photo = folder.path().join("1.png");
    image::RgbImage::from_fn(50, 60, |x, y| image::Rgb([x as u8, y as u8, 9])).save(&photo).unwrap();
    let broken = folder.path().join("2.png");
    std::fs::write(&broken, b"\x89PNG\r\n").unwrap();
    let photos = [Sample::file(&photo), Sample::file(&broken), Sample::file(&photo)];
    let path = folder.path().join("photos.npy");
    let save =
        |input: OnnxInput, photos: &[Sample], on_error| input.save_photos(photos, &spec(), on_error, &path);
    assert_eq!(save(OnnxInput::BytesLast, &photos, OnError::Skip).unwrap().len(), 1);
    let images = Tensor::read_npy(&path).unwrap();
    assert_eq!((images.dims(), images.dtype()), ([2, 40, 36, 3].as_slice(), DType::U8));
    assert_eq!(save(OnnxInput::Normalized, &photos[..1], OnError::Fail).unwrap().len(), 0);
    let normalized = Tensor::read_npy(&path).unwrap();
    assert_eq!((normalized.dims(), normalized.dtype()), ([1, 3, 40, 36].as_slice(), DType::F32));
    let first = |images: &Tensor| images.get(0).unwrap().flatten_all().unwrap();
    let (byte, value) =
        (first(&images).to_vec1::<u8>().unwrap()[1], first(&normalized).to_vec1::<f32>().unwrap()[40 * 36]);
    assert!((value - (f32::from(byte) / 255.0 - 0.5) / 0.3).abs() < 1e-6, "{byte} {value}");
    assert!(matches!(save(OnnxInput::Normalized, &photos, OnError::Fail), Err(Error::Data(_))));
    assert!(matches!(save(OnnxInput::Normalized, &photos[1..2], OnError::Skip), Err(Error::Data(_))));
}
