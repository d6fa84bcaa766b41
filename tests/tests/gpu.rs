//! Networks and trainings on a GPU against those on the CPU, if the tests are built for one:
//!
//! `cargo test --release -p firstsight-tests --features cuda-kernels --test gpu -- --nocapture`
//!
//! With `FIRSTSIGHT_GPU=cpu` the CPU takes the GPU's part, which tests these tests.

use std::collections::HashSet;

use candle_core::{DType, Device, ModuleT as _, Tensor, Var};
use firstsight_models::networks::{LENET5, RESNET_SMALL, SMALL_CNN};
use firstsight_models::{ImageClassifier, Init, InputShape, ModelInfo, Params, registry};
use firstsight_train::{CrossEntropy, Loss as _, Optimizer, OptimizerConfig, backward_step};

const CLASSES: usize = 10;

fn device() -> Option<Device> {
    let device = match () {
        () if std::env::var_os("FIRSTSIGHT_GPU").is_some_and(|gpu| gpu == "cpu") => Ok(Device::Cpu),
        () if cfg!(feature = "cuda") => Device::new_cuda(0),
        () if cfg!(feature = "metal") => Device::new_metal(0),
        () => {
            eprintln!("skipped: built with neither cuda nor metal");
            return None;
        }
    };
    match device {
        Ok(device) => Some(device),
        Err(error) => {
            eprintln!("SKIPPED: THERE IS NO DEVICE: {error}");
            None
        }
    }
}

/// Images of bytes, (B, C, H, W), of noise with a band of rows where their class has it, and their labels.
fn batch(info: &ModelInfo, batch: usize, step: usize, device: &Device) -> (Tensor, Tensor) {
    let (channels, height, width) = info.usual_input;
    let label = |image: usize| (7 * image + 3 * step) % CLASSES;
    let byte = |i: usize| {
        let (image, row) = (i / (channels * height * width), i / width % height);
        let noise = (((i + 977 * step) as f64 * 0.618_033_988_749_895).fract() * 128.0) as f32;
        if row * CLASSES / height == label(image) { 255.0 - noise } else { noise }
    };
    let images = Tensor::from_iter((0..batch * channels * height * width).map(byte), device).unwrap();
    let labels = Tensor::from_iter((0..batch).map(|image| label(image) as u32), device).unwrap();
    (images.reshape((batch, channels, height, width)).unwrap(), labels)
}

fn network(info: &'static ModelInfo, device: &Device) -> (ImageClassifier, Params) {
    let (params, (channels, height, width)) = (Params::seeded(5, device), info.usual_input);
    let input = InputShape::Map { channels, height, width };
    (ImageClassifier::new(info, input, CLASSES, Init::PyTorch, &params).unwrap(), params)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

/// The length of the difference, relative to that of `expected`.
fn deviation(found: &[f32], expected: &[f32]) -> f64 {
    let length =
        |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let differences = &mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b));
    assert_eq!(found.len(), expected.len());
    length(differences) / length(&mut expected.iter().map(|b| f64::from(*b))).max(1e-12)
}

/// Features, logits, and the gradient of each variable, of two images, in inference mode: dropout's masks follow sums, which round
/// otherwise on another device.
fn outputs(info: &'static ModelInfo, device: &Device) -> Vec<(String, Vec<f32>)> {
    let ((network, params), (images, labels)) = (network(info, device), batch(info, 2, 0, device));
    let features = network.backbone().forward_t(&images, false).unwrap();
    let logits = network.forward_t(&images, false).unwrap();
    let grads = firstsight_ops::backward(&CrossEntropy.compute(&logits, &labels).unwrap()).unwrap();
    let mut all = vec![("features".to_owned(), values(&features)), ("logits".to_owned(), values(&logits))];
    let with_grads =
        params.named().into_iter().filter_map(|(name, var)| Some((name, values(grads.get(&var)?))));
    all.extend(with_grads);
    all
}

#[test]
fn a_network_of_each_family_gives_the_results_of_the_cpu() {
    let Some(device) = device() else { return };
    let mut families = HashSet::new();
    let networks = registry::all().into_iter().filter(|info| families.insert(info.family));
    for info in networks {
        let (expected, found) = (outputs(info, &Device::Cpu), outputs(info, &device));
        assert!(expected.len() > 3 && found.len() == expected.len(), "{}", info.name);
        let mut furthest = (0.0, "");
        for ((name, expected), (_, found)) in expected.iter().zip(&found) {
            let far = deviation(found, expected);
            assert!(far < 1e-3, "{}: {name} is {far:.1e} off", info.name);
            furthest = if far > furthest.0 { (far, name) } else { furthest };
        }
        println!("{}: at most {:.1e} off ({})", info.name, furthest.0, furthest.1);
    }
}

/// The losses of some steps of Adam, and the variables after them.
fn train(info: &'static ModelInfo, steps: usize, device: &Device) -> (Vec<f32>, Vec<(String, Var)>) {
    let (network, params) = network(info, device);
    let mut optimizer = Optimizer::new(OptimizerConfig::adam_keras(1e-3), params.trainable()).unwrap();
    let step = |step| {
        let (images, labels) = batch(info, 16, step % 4, device);
        let loss = CrossEntropy.compute(&network.forward_t(&images, true).unwrap(), &labels).unwrap();
        backward_step(&loss, &mut optimizer).unwrap();
        loss.to_scalar::<f32>().unwrap()
    };
    ((0..steps).map(step).collect(), params.named())
}

#[test]
fn losses_go_the_way_of_the_cpus() {
    const STEPS: usize = 24;
    let Some(device) = device() else { return };
    for info in [&SMALL_CNN, &LENET5, &RESNET_SMALL] {
        let ((expected, _), (found, _)) = (train(info, STEPS, &Device::Cpu), train(info, STEPS, &device));
        println!("{}: {expected:?} on the CPU, {found:?}", info.name);
        assert!(expected[STEPS - 1] < 0.9 * expected[0], "{}: nothing was learned: {expected:?}", info.name);
        for (found, expected) in found.iter().zip(&expected) {
            let near = (found - expected).abs() < 1e-2 * expected.max(0.3);
            assert!(near, "{}: {found} for {expected}", info.name);
        }
    }
}

#[test]
fn a_training_has_the_same_bits_again() {
    let Some(device) = device() else { return };
    if device.is_cuda() && !cfg!(feature = "cuda-kernels") {
        return eprintln!("skipped: the reference implementations promise no bits");
    }
    for info in [&SMALL_CNN, &RESNET_SMALL] {
        let (first, second) = (train(info, 4, &device).1, train(info, 4, &device).1);
        for ((name, first), (_, second)) in first.iter().zip(&second) {
            let bits = |var: &Var| values(var).into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(first), bits(second), "{}: {name}", info.name);
        }
    }
}

/// On the CPU the system ends such a program, so there is nothing to test.
#[test]
fn a_full_memory_is_an_error_and_work_goes_on() {
    let Some(device) = device().filter(|device| !device.is_cpu()) else { return };
    let error = Tensor::zeros((1 << 20, 1 << 20), DType::F32, &device).expect_err("four terabytes");
    println!("four terabytes: {error}");
    let sum = Tensor::ones(1000, DType::F32, &device).unwrap().sum_all().unwrap();
    assert_eq!(sum.to_scalar::<f32>().unwrap(), 1000.0);
}
