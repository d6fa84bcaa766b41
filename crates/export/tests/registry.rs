//! Every network of the registry as an ONNX file that another runtime runs.

use std::path::Path;
use std::process::Command;

use candle_core::{DType, Device, ModuleT as _, Tensor};
use firstsight_data::{InputSpec, ScanOptions};
use firstsight_export::{Onnx, OnnxInput, OnnxOutput, OnnxRunner, OnnxSettings};
use firstsight_models::{ImageClassifier, InputShape, ModelInfo, Params, registry};
use firstsight_transfer::{RunConfig, Target};

const N_CLASSES: usize = 7;

fn config(info: &ModelInfo, network: &ImageClassifier, input: InputSpec) -> RunConfig {
    RunConfig {
        architecture: info.name.to_owned(),
        num_classes: N_CLASSES,
        num_features: network.n_features(),
        label_names: (0..N_CLASSES).map(|i| format!("class {i}")).collect(),
        named: true,
        target: Target::Class,
        pretrained_cfg: input,
        training: None,
        options: ScanOptions::default(),
        temperature: Some(1.5),
        reject: None,
    }
}

/// Batch normalization with statistics that matter, and layer scales that let the branches through.
fn stir(params: &Params) {
    for (i, (name, var)) in params.named().into_iter().enumerate() {
        let (n, device) = (var.elem_count(), var.device());
        let wave = |scale: f64, offset: f64| {
            let places = Tensor::arange(0u32, n as u32, device).unwrap().to_dtype(DType::F32).unwrap();
            let wave = ((places + i as f64).unwrap() * 0.7).unwrap().sin().unwrap();
            wave.affine(scale, offset).unwrap().reshape(var.shape()).unwrap()
        };
        if name.ends_with("running_mean") {
            var.set(&wave(0.1, 0.0)).unwrap();
        } else if name.ends_with("running_var") {
            var.set(&wave(0.3, 4.0)).unwrap();
        } else if name.contains("gamma") || name.contains("grn") {
            var.set(&wave(0.2, 0.5)).unwrap();
        } else if name.ends_with("bias") {
            var.set(&wave(0.05, 0.0)).unwrap();
        }
    }
}

/// Networks of more parameters take minutes in all: the test that is ignored.
const FEW_PARAMS: usize = 13_000_000;

/// Writes the network to the file, and returns the largest difference of the file's logits, relative to the largest logit.
fn difference(info: &'static ModelInfo, side: usize, path: &Path) -> f32 {
    let (channels, _, _) = info.usual_input;
    let input = (info.input_spec)(channels, side, side + info.input_multiple);
    let params = Params::seeded(1, &Device::Cpu);
    let shape = InputShape::from(&input);
    let network = ImageClassifier::new(info, shape, N_CLASSES, info.init, &params).unwrap();
    stir(&params);
    let config = config(info, &network, input);
    let settings = OnnxSettings { input: OnnxInput::Normalized, output: OnnxOutput::Logits, license: None };
    Onnx::new(&network, &config, &settings).unwrap().save(path).unwrap();
    let runner = OnnxRunner::open(path).unwrap();
    runner.check().unwrap();

    // Another batch than that of the check.
    let n = 2 * shape.count() as u32;
    let images = Tensor::arange(0u32, n, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
    let axes: Vec<usize> = std::iter::once(2).chain(shape.channels_first()).collect();
    let images = (images * 0.013).unwrap().sin().unwrap().reshape(axes.as_slice()).unwrap();
    let expected = network.forward_t(&images, false).unwrap().to_vec2::<f32>().unwrap();
    let found = runner.run_normalized(&axes, images.flatten_all().unwrap().to_vec1().unwrap()).unwrap();
    assert_eq!(found.len(), 2);
    let pairs = || found.iter().flatten().zip(expected.iter().flatten());
    assert!(pairs().all(|(a, _)| a.is_finite()), "{}", info.name);
    let largest = pairs().map(|(_, b)| b.abs()).fold(0.0, f32::max);
    let [mut lowest, mut highest] = [expected[0][0]; 2];
    expected[0].iter().for_each(|&z| (lowest, highest) = (lowest.min(z), highest.max(z)));
    assert!(highest - lowest > largest / 10.0, "{}: all logits are near {lowest}", info.name);
    pairs().map(|(a, b)| (a - b).abs() / largest).fold(0.0, f32::max)
}

/// A size that needs padding, rounding and windows, where the network leaves a choice.
fn side(info: &ModelInfo) -> usize {
    let (_, usual, _) = info.usual_input;
    let wanted = match info.family {
        // Windows that shift and do not fit.
        "Swin" => 60,
        _ if info.input_multiple > 1 => 3 * info.input_multiple,
        _ => 75,
    };
    wanted.max(info.smallest_input.next_multiple_of(info.input_multiple)).min(usual)
}

fn n_params(info: &'static ModelInfo) -> usize {
    let (channels, height, width) = info.usual_input;
    let params = Params::zeros(&Device::Cpu);
    let input = InputShape::Map { channels, height, width };
    let network = ImageClassifier::new(info, input, N_CLASSES, info.init, &params).unwrap();
    network.summary().total_params()
}

fn agrees(info: &'static ModelInfo, path: &Path) {
    let difference = difference(info, side(info), path);
    println!("{}: {difference:.1e}", info.name);
    assert!(difference <= 1e-5, "{}: {difference:e}", info.name);
}

#[test]
fn small_networks_agree_with_other_runtimes() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for info in registry::all().into_iter().filter(|info| n_params(info) <= FEW_PARAMS) {
        let path = folder.path().join(format!("{}.onnx", info.name));
        agrees(info, &path);
        files.push(path);
    }
    assert!(files.len() > 40, "{} files", files.len());
    let Some(python) = std::env::var_os("FIRSTSIGHT_PYTHON") else {
        eprintln!("FIRSTSIGHT_PYTHON is not set: ONNX Runtime is not asked");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/check_onnx.py");
    assert!(Command::new(&python).arg(script).args(&files).status().unwrap().success());
    let checker =
        "import onnx, sys\nfor f in sys.argv[1:]: onnx.checker.check_model(onnx.load(f), full_check=True)";
    assert!(Command::new(&python).args(["-c", checker]).args(&files).status().unwrap().success());
}

/// `cargo test --release -p firstsight-export --test registry -- --ignored`, which takes two minutes on two cores.
#[test]
#[ignore = "takes two minutes and a gigabyte of disk"]
fn large_networks_agree_with_another_runtime() {
    let folder = tempfile::tempdir().unwrap();
    for info in registry::all().into_iter().filter(|info| n_params(info) > FEW_PARAMS) {
        agrees(info, &folder.path().join("network.onnx"));
    }
}
