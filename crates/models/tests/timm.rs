//! Every network that timm has against timm's, from the same weights and inputs (goldens/timm.py): its published weights; parameters; features,
//! pre-logits and logits in inference at two sizes; for some networks also those in training, running statistics and every
//! gradient.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init as Distribution, VarBuilder};
use firstsight_models::{BuildArgs, ImageClassifier, InputShape, ModelInfo, Params, is_buffer, registry};
use serde_json::Value;

use crate::common::{CLASSES, Worst, images, labels, norm_of, number, value};

/// In float32, by the kernels; where rounding weighs more in PyTorch, so many times its own deviation from float64, which the golden
/// has. (efficientnet_b3's gradients are 1.7e-4 off, and PyTorch's 4.0e-5.)
const OUTPUTS: f64 = 1e-5;
const GRADIENTS: f64 = 1e-4;
const TIMES_OF_OUTPUTS: f64 = 4.0;
const TIMES_OF_GRADIENTS: f64 = 6.0;
/// A gradient in float32 jumps where rounding carries a value over a ReLU's corner or makes another value a window's maximum, in
/// PyTorch as well (mobilenetv2_100's is 2.5e-2 of a tensor's norm away from float64's). mobilenetv2_110d's is 9.5e-2 away here.
const JUMPS: f64 = 0.2;
/// In float64, by the reference implementation, gradients show whether the network is the same.
const EXACT: f64 = 1e-6;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

/// Each golden of a folder by timm's name of its network.
fn goldens(folder: &Path) -> BTreeMap<String, Value> {
    let mut cases = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let mut family: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            for (name, case) in family["cases"].as_object_mut().unwrap() {
                assert!(cases.insert(name.clone(), case.take()).is_none(), "{name} has two goldens");
            }
        }
    }
    cases
}

/// Variables with the script's values.
struct Formula(Params);

impl SimpleBackend for Formula {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Distribution,
        dtype: DType,
        _: &Device,
    ) -> candle_core::Result<Tensor> {
        if self.0.get(name).is_none() {
            self.0.builder_dtype(dtype).get_with_hints(&shape, name, Distribution::Const(0.0))?;
            let values = value(name, shape.dims(), number(name), 3.0, dtype);
            self.0.get(name).map_or(Ok(()), |var| var.set(&values))?;
        }
        self.0.builder_dtype(dtype).get(&shape, name)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("{name} was asked for without a shape")
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.contains_tensor(name)
    }
}

/// A network with the script's weights.
struct Subject {
    network: ImageClassifier,
    params: Params,
    dtype: DType,
}

impl Subject {
    fn new(info: &'static ModelInfo, (height, width): (usize, usize), dtype: DType) -> Self {
        let params = Params::zeros(&Device::Cpu);
        let input = InputShape::Map { channels: 3, height, width };
        let vb = VarBuilder::from_backend(Box::new(Formula(params.clone())), dtype, Device::Cpu);
        let n_features = (info.build)(&BuildArgs::new(input, info.init, vb.clone())).unwrap().n_features();
        vb.pp(info.head_name()).get((CLASSES, n_features), "weight").unwrap();
        vb.pp(info.head_name()).get(CLASSES, "bias").unwrap();
        // It takes the variables that are there, of whatever type.
        let network = ImageClassifier::new(info, input, CLASSES, info.init, &params).unwrap();
        Self { network, params, dtype }
    }

    fn n_params(&self) -> usize {
        self.params.trainable().iter().map(|var| var.elem_count()).sum()
    }

    /// Compares features, pre-logits and logits, which it returns.
    fn outputs(&self, batch: usize, golden: &Value, train: bool, worst: &mut Worst) -> Tensor {
        let (network, images) = (&self.network, images(batch, size(golden), self.dtype));
        let golden = &golden["outputs"];
        let features = network.forward_features(&images, train).unwrap();
        worst.see("features", &features, &golden["features"]);
        let pre_logits = network.pre_logits(&features, train).unwrap();
        worst.see("pre_logits", &pre_logits, &golden["pre_logits"]);
        let logits = network.classify(&pre_logits, train).unwrap();
        worst.see("logits", &logits, &golden["logits"]);
        logits
    }
}

fn size(golden: &Value) -> (usize, usize) {
    let side = |i: usize| golden["size"][i].as_u64().unwrap() as usize;
    (side(0), side(1))
}

/// The tolerance, or so many times the deviation of PyTorch in float32.
fn tolerance(tolerance: f64, times: f64, golden: &Value) -> f64 {
    tolerance.max(times * golden.as_f64().unwrap())
}

fn check_inference(info: &'static ModelInfo, golden: &Value) {
    let mut subject: Option<Subject> = None;
    for (i, inference) in golden["inference"].as_array().unwrap().iter().enumerate() {
        // A network without position embeddings is the same at every size.
        let any_size =
            |subject: &Subject| info.input_multiple == 1 && subject.network.backbone().takes_any_size();
        let reused = subject.take().filter(any_size);
        let subject =
            subject.insert(reused.unwrap_or_else(|| Subject::new(info, size(inference), DType::F32)));
        if i == 0 {
            assert_eq!(subject.n_params() as u64, golden["n_params"].as_u64().unwrap(), "{info}");
        }
        let mut worst = Worst::default();
        subject.outputs(2, inference, false, &mut worst);
        worst.check(
            &format!("{info} in inference"),
            tolerance(OUTPUTS, TIMES_OF_OUTPUTS, &inference["float32"]),
        );
    }
}

fn check_training(info: &'static ModelInfo, golden: &Value) {
    let smooth = golden["smooth"].as_bool().unwrap();
    let gradients = if smooth { GRADIENTS } else { JUMPS };
    let rounded = [
        tolerance(OUTPUTS, TIMES_OF_OUTPUTS, &golden["float32"]),
        tolerance(gradients, TIMES_OF_GRADIENTS, &golden["float32_grads"]),
    ];
    for (dtype, [outputs, gradients]) in [(DType::F32, rounded), (DType::F64, [EXACT, EXACT])] {
        let subject = Subject::new(info, size(golden), dtype);
        let mut worst = Worst::default();
        let logits = subject.outputs(4, golden, true, &mut worst);
        for (name, golden) in golden["statistics"].as_object().unwrap() {
            worst.see(name, subject.params.get(name).unwrap().as_tensor(), golden);
        }
        let loss = firstsight_ops::softmax_cross_entropy(&logits, &labels(4)).unwrap();
        let found = loss.to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap();
        worst.note("loss", (found / golden["loss"].as_f64().unwrap() - 1.0).abs());
        worst.check(&format!("{info} in training, {dtype:?}"), outputs);

        let mut worst = Worst::default();
        let grads = loss.backward().unwrap();
        let goldens = golden["grads"].as_object().unwrap();
        let norm = |golden: &Value| golden["norm"].as_f64().unwrap();
        let largest = goldens.values().map(norm).fold(0.0, f64::max);
        for (name, var) in subject.params.named() {
            let Some(golden) = goldens.get(&name) else {
                assert!(is_buffer(&name), "{info}: {name} has no golden gradient");
                continue;
            };
            let grad = grads.get(&var).unwrap_or_else(|| panic!("{info}: {name} has no gradient"));
            if norm(golden) > 1e-9 * largest {
                worst.see(&name, grad, golden);
            } else {
                // A shift that the next normalization takes away again has no effect.
                worst.note(&name, norm_of(grad) / largest);
            }
        }
        worst.check(&format!("{info}'s gradients, {dtype:?}"), gradients);
    }
}

/// Runs `check` for every network that `goldens` holds, on as many threads as there are processors, the largest first.
fn each(goldens: &BTreeMap<String, Value>, check: fn(&'static ModelInfo, &Value)) {
    let mut cases: Vec<_> =
        goldens.iter().map(|(name, golden)| (registry::find(name).unwrap(), golden)).collect();
    cases.sort_by_key(|(_, golden)| golden["n_params"].as_u64());
    let cases = std::sync::Mutex::new(cases);
    let next = || cases.lock().unwrap().pop();
    // The gradients of one of these in float64 take 10 GB or more.
    let large = std::sync::Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(2) {
            scope.spawn(|| {
                while let Some((info, golden)) = next() {
                    let is_large = golden["n_params"].as_u64().unwrap() > 100_000_000;
                    let _alone = is_large.then(|| large.lock().unwrap());
                    check(info, golden);
                }
            });
        }
    });
}

#[test]
fn every_network_of_timms_has_a_golden() {
    let goldens: Vec<String> = goldens(&folder().join("timm")).into_keys().collect();
    let mut ours: Vec<&str> = registry::all().iter().filter_map(|info| info.timm).collect();
    ours.sort_unstable();
    assert_eq!(ours, goldens, "the registry and tests/goldens/timm/*.json (goldens/timm.py)");
}

/// Repository, license and preprocessing of the published weights.
#[test]
fn the_usual_weights_are_timms() {
    for (name, golden) in goldens(&folder().join("timm")) {
        let (info, stated) = (registry::find(&name).unwrap(), &golden["published"]);
        // Of Xception, timm itself has no weights on the hub.
        let ours = info.weights.first().filter(|weights| weights.repository.starts_with("timm/"));
        let Some(ours) = ours else {
            assert!(stated.is_null() || info.name == "xception", "{name} has weights: {stated}");
            continue;
        };
        let input = (ours.input)();
        let (_, height, width) = input.input_size;
        let interpolation = serde_json::to_value(input.interpolation).unwrap();
        let close = |a: f64, b: &Value| (a - b.as_f64().unwrap()).abs() < 1e-6;
        let all_close =
            |a: &[f32], b: &Value| a.iter().zip(b.as_array().unwrap()).all(|(a, b)| close(f64::from(*a), b));
        assert_eq!(stated["hf_hub_id"], ours.repository, "{name}");
        assert_eq!(stated["license"], ours.license.unwrap().to_lowercase(), "{name}");
        assert_eq!(stated["input_size"], serde_json::json!([3, height, width]), "{name}");
        assert_eq!(info.usual_input, (3, height, width), "{name}");
        assert_eq!(stated["interpolation"], interpolation, "{name}");
        assert_eq!(stated["num_classes"], ours.n_classes, "{name}");
        assert!(close(input.crop_pct, &stated["crop_pct"]), "{name}: {stated}");
        assert_eq!(stated["crop_mode"], serde_json::to_value(input.crop_mode).unwrap(), "{name}");
        assert!(
            all_close(&input.mean, &stated["mean"]) && all_close(&input.std, &stated["std"]),
            "{name}: {stated}"
        );
    }
}

#[test]
fn networks_are_timms_in_inference() {
    each(&goldens(&folder().join("timm")), check_inference);
}

#[test]
fn small_networks_are_timms_in_training() {
    let mut goldens = goldens(&folder().join("timm"));
    goldens.retain(|_, golden| golden.get("training").is_some());
    each(&goldens, |info, golden| check_training(info, &golden["training"]));
}

/// Everything of every network, against the timm that is installed. FIRSTSIGHT_FAMILIES names some of goldens/timm/*.txt.
#[test]
#[ignore = "needs timm, and minutes"]
fn networks_are_those_of_the_installed_timm() {
    let Some(python) = std::env::var_os("FIRSTSIGHT_PYTHON") else {
        eprintln!("FIRSTSIGHT_PYTHON is not set: nothing is compared with timm");
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let families = std::env::var("FIRSTSIGHT_FAMILIES").unwrap_or_default();
    let script = folder().join("timm.py");
    let ran = Command::new(python)
        .arg(script)
        .arg("--full")
        .arg("--out")
        .arg(out.path())
        .args(families.split_whitespace())
        .status()
        .unwrap();
    assert!(ran.success());
    let goldens = goldens(out.path());
    assert!(!goldens.is_empty());
    each(&goldens, |info, golden| {
        check_inference(info, golden);
        check_training(info, &golden["training"]);
    });
}
