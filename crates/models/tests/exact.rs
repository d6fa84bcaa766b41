//! The networks against timm's, torchvision's and Keras's from the same weights and inputs (goldens/networks.py):
//! features, pre-logits and logits in inference and in training, running statistics, and every gradient.

mod common;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, ModuleT as _, Tensor};
use candle_nn::Init as Distribution;
use firstsight_models::networks::{
    ALEXNET, AlexNetConfig, MOBILENET_V2, MobileNetV2Config, XCEPTION, Xception, XceptionConfig,
};
use firstsight_models::summary::Style;
use firstsight_models::{Framework, ImageClassifier, Init, InputShape, Params, is_buffer};
use serde_json::Value;

use crate::common::{CLASSES, Worst, images, labels, norm_of, value};

struct Case {
    golden: Value,
    build: Build,
    input: InputShape,
    batch: usize,
}

/// Builds a network for a size of input.
type Build = Box<dyn Fn(InputShape, &Params) -> ImageClassifier>;

fn mobilenet_v2(config: MobileNetV2Config) -> Build {
    Box::new(move |input, params| {
        let network = config.network(Init::Keras, &params.builder()).unwrap();
        let head = (MOBILENET_V2.head)(CLASSES);
        ImageClassifier::from_network(&MOBILENET_V2, network, head, input, Init::Keras, params).unwrap()
    })
}

fn xception(config: XceptionConfig) -> Build {
    Box::new(move |input, params| {
        let network = Xception::new(&config, Init::Keras, &params.builder()).unwrap();
        let head = (XCEPTION.head)(CLASSES);
        ImageClassifier::from_network(&XCEPTION, network, head, input, Init::Keras, params).unwrap()
    })
}

fn alexnet(config: AlexNetConfig) -> Build {
    Box::new(move |input, params| {
        ImageClassifier::from_table(&ALEXNET, &config.table(CLASSES), input, Init::Keras, params).unwrap()
    })
}

static ALONE: Mutex<()> = Mutex::new(());

/// A network with the script's weights, and the script's batch.
struct Subject {
    network: ImageClassifier,
    params: Params,
    images: Tensor,
    labels: Tensor,
}

/// Tolerances of a run.
struct Tolerance {
    outputs: f64,
    gradients: f64,
}

impl Case {
    /// The case `name` of the goldens with the network of `build`.
    fn new(name: &str, build: Build) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/networks.json");
        let mut goldens: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let golden = goldens["cases"][name].take();
        let size = |key: &str| golden[key].as_u64().unwrap() as usize;
        let input = InputShape::Map { channels: 3, height: size("height"), width: size("width") };
        let batch = size("batch");
        Self { golden, build, input, batch }
    }

    /// The network takes the variables that exist, of whatever type.
    fn subject(&self, dtype: DType) -> Subject {
        let build = |params: &Params| (self.build)(self.input, params);
        let plain = Params::seeded(0, &Device::Cpu);
        build(&plain);
        let shapes: Vec<(String, Vec<usize>)> =
            plain.named().into_iter().map(|(name, var)| (name, var.dims().to_vec())).collect();
        drop(plain);
        let params = Params::seeded(0, &Device::Cpu);
        let vb = params.builder_dtype(dtype);
        for (k, (name, shape)) in shapes.iter().enumerate() {
            vb.get_with_hints(shape.as_slice(), name, Distribution::Const(0.0)).unwrap();
            params.get(name).unwrap().set(&value(name, shape, k as u32, 6.0, dtype)).unwrap();
        }
        let network = build(&params);
        let [height, width, channels] = self.input.channels_last()[..] else { panic!("{:?}", self.input) };
        assert_eq!(channels, 3);
        let images = images(self.batch, (height, width), dtype);
        let labels = labels(self.batch);
        Subject { network, params, images, labels }
    }

    /// Everything, in float32 by the kernels and in float64. `train`: whether the golden's gradients are those of
    /// training mode.
    ///
    /// A gradient in float32 jumps where rounding carries a value over a ReLU's corner or makes another value a window's
    /// maximum, in PyTorch as well (its own deviation from float64 is in the goldens: up to 9e-3 of a tensor's norm); so
    /// it is in float64 that gradients are compared closely.
    fn check(&self, train: bool) {
        // One at a time: the largest takes a gigabyte.
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_in(DType::F32, train, &Tolerance { outputs: 1e-4, gradients: 5e-2 });
        self.check_in(DType::F64, train, &Tolerance { outputs: 5e-6, gradients: 1e-5 });
    }

    fn check_in(&self, dtype: DType, train: bool, tolerance: &Tolerance) {
        let Subject { network, params, images, labels } = self.subject(dtype);
        let outputs = |golden: &Value, train: bool, worst: &mut Worst| {
            let features = network.forward_features(&images, train).unwrap();
            worst.see("features", &features, &golden["features"]);
            let pre_logits = network.pre_logits(&features, train).unwrap();
            worst.see("pre_logits", &pre_logits, &golden["pre_logits"]);
            let logits = network.classify(&pre_logits, train).unwrap();
            worst.see("logits", &logits, &golden["logits"]);
            logits
        };
        let n_params: usize = params.trainable().iter().map(|var| var.elem_count()).sum();
        assert_eq!(n_params as u64, self.golden["n_params"].as_u64().unwrap());

        let mut worst = Worst::default();
        outputs(&self.golden["inference"], false, &mut worst);
        worst.check("inference", tolerance.outputs);

        let mut worst = Worst::default();
        let logits = match train {
            true => outputs(&self.golden["train"], true, &mut worst),
            false => network.forward_t(&images, false).unwrap(),
        };
        for (name, golden) in self.golden["statistics"].as_object().unwrap() {
            worst.see(name, params.get(name).unwrap().as_tensor(), golden);
        }
        let loss = firstsight_ops::softmax_cross_entropy(&logits, &labels).unwrap();
        let found = loss.to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap();
        worst.note("loss", (found / self.golden["loss"].as_f64().unwrap() - 1.0).abs());
        worst.check("training", tolerance.outputs);

        let mut worst = Worst::default();
        let grads = loss.backward().unwrap();
        let goldens = self.golden["grads"].as_object().unwrap();
        let norm = |golden: &Value| golden["norm"].as_f64().unwrap();
        let largest = goldens.values().map(norm).fold(0.0, f64::max);
        for (name, var) in params.named() {
            let Some(golden) = goldens.get(&name) else {
                assert!(is_buffer(&name), "{name} has no golden gradient");
                continue;
            };
            let grad = grads.get(&var).unwrap();
            if norm(golden) > 1e-9 * largest {
                worst.see(&name, grad, golden);
            } else {
                // A shift that the next normalization takes away again has no effect.
                worst.note(&name, norm_of(grad) / largest);
            }
        }
        worst.check("gradients", tolerance.gradients);
    }
}

#[test]
fn mobilenet_v2_is_timms() {
    let config = MobileNetV2Config::TIMM;
    Case::new("timm mobilenetv2_100", mobilenet_v2(config)).check(true);
}

#[test]
fn a_narrow_mobilenet_v2_of_output_stride_16_is_timms() {
    let config = MobileNetV2Config { width: 0.5, output_stride: 16, ..MobileNetV2Config::TIMM };
    Case::new("timm mobilenetv2_050, output stride 16", mobilenet_v2(config)).check(true);
}

#[test]
fn a_wide_mobilenet_v2_of_output_stride_8_is_timms() {
    let config = MobileNetV2Config { width: 1.4, output_stride: 8, ..MobileNetV2Config::TIMM };
    Case::new("timm mobilenetv2_140, output stride 8", mobilenet_v2(config)).check(false);
}

#[test]
fn xception_is_timms() {
    Case::new("timm legacy_xception", xception(XceptionConfig::TIMM)).check(true);
}

#[test]
fn alexnet_is_torchvisions() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let case = Case::new("torchvision alexnet", alexnet(AlexNetConfig::Torchvision));
    // No value is so near a corner that its gradients jump.
    case.check_in(DType::F32, false, &Tolerance { outputs: 1e-5, gradients: 1e-5 });
}

#[test]
fn mobilenet_v2_is_kerass() {
    let case = Case::new("keras MobileNetV2", mobilenet_v2(MobileNetV2Config::KERAS));
    case.check(true);
}

#[test]
fn a_narrow_mobilenet_v2_on_odd_sizes_is_kerass() {
    let config = MobileNetV2Config { width: 0.35, framework: Framework::Keras, ..MobileNetV2Config::TIMM };
    Case::new("keras MobileNetV2, alpha 0.35", mobilenet_v2(config)).check(true);
}

#[test]
fn xception_is_kerass() {
    Case::new("keras Xception", xception(XceptionConfig::KERAS)).check(true);
}

/// Keras's own list of layers: names, classes, shapes and parameters.
#[test]
fn the_summary_in_kerass_style_is_kerass() {
    let cases = [
        ("keras MobileNetV2", mobilenet_v2(MobileNetV2Config::KERAS)),
        ("keras Xception", xception(XceptionConfig::KERAS)),
    ];
    for (name, build) in cases {
        let case = Case::new(name, build);
        let summary = case.subject(DType::F32).network.summary_as(Style::Keras);
        // The lecture's Keras had the padding of the first convolution as a layer, and called the input otherwise.
        let listed = |name: &str| !["input_1", "Conv1_pad"].contains(&name);
        let mut ours: Vec<(String, String, Vec<usize>, usize)> = summary
            .rows
            .iter()
            .filter(|row| listed(&row.name))
            .map(|row| {
                (row.name.clone(), row.kind.to_owned(), row.output.channels_last(), row.params + row.buffers)
            })
            .collect();
        let number = |v: &Value| v.as_u64().unwrap() as usize;
        let mut keras: Vec<(String, String, Vec<usize>, usize)> = case.golden["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let text = |v: &Value| v.as_str().unwrap().to_owned();
                let shape = row[2].as_array().unwrap().iter().map(number).collect();
                (text(&row[0]), text(&row[1]), shape, number(&row[3]))
            })
            .collect();
        keras.retain(|row| row.1 != "InputLayer");
        ours.sort();
        keras.sort();
        assert_eq!(ours, keras, "{name}");
    }
}
