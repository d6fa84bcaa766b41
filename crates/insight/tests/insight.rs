//! Gradients of the input against finite differences, Grad-CAM against PyTorch (goldens/grad_cam.py), images that
//! excite their channels.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::Init as Distribution;
use firstsight_insight::{
    Error, FeatureVisConfig, ImageParam, InputFormat, Parametrization, ShiftZoom, activation, grad_cam,
    layers, total_variation, visualize_features,
};
use firstsight_models::networks::{MOBILENET_V2, SMALL_CNN};
use firstsight_models::{ImageClassifier, Init, InputShape, ModelInfo, Params, registry};
use firstsight_train::gradient;
use serde_json::Value;

const F64: DType = DType::F64;

/// The script's `pattern`.
fn pattern(n: usize, k: u64) -> impl Iterator<Item = f64> {
    const M: u64 = 1 << 32;
    (0..n as u64).map(move |i| {
        let h = i.wrapping_mul(2_654_435_761).wrapping_add(k * 40_503) % M;
        let h = (h ^ (h >> 15)).wrapping_mul(2_246_822_519) % M;
        h as f64 / M as f64
    })
}

/// The script's `value`.
fn value(name: &str, shape: &[usize], k: u64) -> Vec<f64> {
    let n = shape.iter().product();
    if name.ends_with("running_var") || (name.ends_with("weight") && shape.len() == 1) {
        return pattern(n, k).map(|u| 0.5 + u).collect();
    }
    let scale = match shape.len() {
        1 => 0.2,
        _ => (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt(),
    };
    pattern(n, k).map(|u| (2.0 * u - 1.0) * scale).collect()
}

fn tensor(values: impl Iterator<Item = f64>, shape: &[usize], dtype: DType) -> Tensor {
    Tensor::from_vec(values.collect::<Vec<_>>(), shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// A frozen network with the script's weights.
fn network(
    kind: &'static ModelInfo,
    shape: (usize, usize, usize),
    n_classes: usize,
    dtype: DType,
) -> ImageClassifier {
    let (channels, height, width) = shape;
    let input = InputShape::Map { channels, height, width };
    let build = |params: &Params| ImageClassifier::new(kind, input, n_classes, Init::Keras, params).unwrap();
    let plain = Params::seeded(0, &Device::Cpu);
    build(&plain);
    let params = Params::seeded(0, &Device::Cpu);
    for (k, (name, var)) in plain.named().into_iter().enumerate() {
        params.builder_dtype(dtype).get_with_hints(var.dims(), &name, Distribution::Const(0.0)).unwrap();
        let values = value(&name, var.dims(), k as u64).into_iter();
        params.get(&name).unwrap().set(&tensor(values, var.dims(), dtype)).unwrap();
    }
    build(&params.frozen(|_| true))
}

fn scalar(tensor: &Tensor) -> f64 {
    tensor.to_dtype(F64).unwrap().to_scalar().unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn farthest(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Asserts that the gradient of `function` at `x` is that of central differences at some points.
fn check_gradient(
    function: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
    x: &Tensor,
    step: f64,
    tolerance: f64,
) {
    let (_, derivative) = gradient(&function, x).unwrap();
    let derivative = values(&derivative);
    let largest = derivative.iter().fold(0.0, |m: f64, s| m.max(s.abs()));
    assert!(largest > 0.0, "no gradient arrives");
    let at = values(x);
    for i in (0..at.len()).step_by(at.len() / 13 + 1) {
        let moved = |by: f64| {
            let mut there = at.clone();
            there[i] += by;
            scalar(&function(&tensor(there.into_iter(), x.dims(), F64)).unwrap())
        };
        let expected = (moved(step) - moved(-step)) / (2.0 * step);
        let off = (derivative[i] - expected).abs() / largest;
        assert!(off < tolerance, "place {i}: {} against {expected}", derivative[i]);
    }
}

#[test]
fn gradients_of_the_input_are_those_of_finite_differences() {
    for (kind, shape, layer) in [
        (&SMALL_CNN, (1, 32, 24), "conv3"),
        (&SMALL_CNN, (1, 32, 24), "dense_2"),
        (&MOBILENET_V2, (3, 32, 32), "blocks.3.1"),
        (&MOBILENET_V2, (3, 32, 32), "classifier"),
    ] {
        let network = network(kind, shape, 5, F64);
        let (c, h, w) = shape;
        let x = tensor(pattern(c * h * w, 3000), &[1, c, h, w], F64);
        let middle = |x: &Tensor| {
            let output = activation(&network, x, layer).map_err(candle_core::Error::wrap)?;
            output.narrow(1, 2, 1)?.sqr()?.mean_all()
        };
        check_gradient(middle, &x, 1e-6, 1e-5);
    }
}

#[test]
fn an_image_has_the_gradient_of_finite_differences() {
    for parametrization in [Parametrization::Pixels, Parametrization::Fourier { decay: 1.0 }] {
        let param = ImageParam::new(parametrization, (7, 6), F64, &Device::Cpu).unwrap();
        let parameters = tensor(pattern(3 * 7 * 6, 9).map(|u| 2.0 * u - 1.0), &[1, 3, 7, 6], F64);
        let target = tensor(pattern(3 * 7 * 6, 10), &[1, 3, 7, 6], F64);
        check_gradient(|p| param.image(p)?.sub(&target)?.sqr()?.sum_all(), &parameters, 1e-5, 1e-7);
    }
}

#[test]
fn parameters_and_pictures_lead_to_each_other() {
    for (channels, size) in [(1, (8, 8)), (3, (9, 6)), (3, (1, 5)), (2, (4, 7))] {
        for parametrization in [
            Parametrization::Pixels,
            Parametrization::Fourier { decay: 1.0 },
            Parametrization::Fourier { decay: 0.0 },
        ] {
            let param = ImageParam::new(parametrization, size, F64, &Device::Cpu).unwrap();
            let n = 2 * channels * size.0 * size.1;
            let shape = [2, channels, size.0, size.1];
            let picture = tensor(pattern(n, 11).map(|u| 0.05 + 0.9 * u), &shape, F64);
            let parameters = param.parameters(&picture).unwrap();
            assert!(farthest(&param.image(&parameters).unwrap(), &picture) < 1e-12, "{parametrization:?}");
            let parameters = tensor(pattern(n, 12).map(|u| u - 0.5), &shape, F64);
            let back = param.parameters(&param.image(&parameters).unwrap()).unwrap();
            assert!(farthest(&back, &parameters) < 1e-10, "{parametrization:?}");
        }
    }
}

/// A wave of three cycles across has one parameter, and its strength falls with its frequency.
#[test]
fn the_parameters_are_frequencies() {
    let param = ImageParam::new(Parametrization::Fourier { decay: 1.0 }, (8, 16), F64, &Device::Cpu).unwrap();
    let wave = |cycles: f64, sine: bool| {
        let one = move |i: usize| {
            let angle = std::f64::consts::TAU * cycles * (i % 16) as f64 / 16.0;
            // The logit of the picture is the wave.
            1.0 / (1.0 + (-if sine { angle.sin() } else { angle.cos() }).exp())
        };
        param.parameters(&tensor((0..128).map(one), &[1, 1, 8, 16], F64)).unwrap()
    };
    let mut strengths = Vec::new();
    for (cycles, sine, place) in [(1.0, false, 1), (1.0, true, 2), (3.0, false, 5), (3.0, true, 6)] {
        let found = values(&wave(cycles, sine));
        let strength = found[place];
        for (i, other) in found.iter().enumerate() {
            assert!(i == place || other.abs() < 1e-9 * strength, "{cycles} {sine}: {other} at {i}");
        }
        strengths.push(strength);
    }
    assert!((strengths[0] - strengths[1]).abs() < 1e-9 && (strengths[2] - strengths[3]).abs() < 1e-9);
    assert!((strengths[2] / strengths[0] - 3.0).abs() < 1e-9, "{strengths:?}");
}

#[test]
fn total_variation_and_its_gradient() {
    let image =
        Tensor::new(&[[[[0f64, 2.0], [1.0, 5.0]]], [[[7.0, 7.0], [7.0, 7.0]]]], &Device::Cpu).unwrap();
    let found = values(&total_variation(&image).unwrap());
    // √(2² + 1²), √(0² + 3²), √(4² + 0²), 0.
    let expected = [(5f64.sqrt() + 3.0 + 4.0 + 1e-3) / 4.0, 1e-3];
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    let noise = tensor(pattern(2 * 3 * 5 * 4, 20), &[2, 3, 5, 4], F64);
    check_gradient(|x| total_variation(x)?.sum_all(), &noise, 1e-6, 1e-6);
}

#[test]
fn a_transform_shifts_and_zooms() {
    let image = tensor((0..35).map(f64::from), &[1, 1, 5, 7], F64);
    let still = ShiftZoom { shift: (0.0, 0.0), zoom: 1.0 };
    assert!(farthest(&still.apply(&image).unwrap(), &image) < 1e-12);
    // One down and two to the right; the edge goes on.
    let moved = ShiftZoom { shift: (1.0, 2.0), zoom: 1.0 }.apply(&image).unwrap();
    let moved: Vec<Vec<f64>> = moved.reshape((5, 7)).unwrap().to_vec2().unwrap();
    assert_eq!(moved[0], [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(moved[4], [21.0, 21.0, 21.0, 22.0, 23.0, 24.0, 25.0]);
    // Twice as large: the center stays, and the step from pixel to pixel is halved.
    let zoomed = ShiftZoom { shift: (0.0, 0.0), zoom: 2.0 }.apply(&image).unwrap();
    let zoomed: Vec<Vec<f64>> = zoomed.reshape((5, 7)).unwrap().to_vec2().unwrap();
    assert_eq!((zoomed[2][3], zoomed[2][4], zoomed[3][3]), (17.0, 17.5, 20.5));
    let transform = ShiftZoom { shift: (0.3, -1.2), zoom: 0.8 };
    check_gradient(|x| transform.apply(x)?.sqr()?.sum_all(), &image, 1e-4, 1e-7);
}

#[test]
fn grad_cam_is_pytorchs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/grad_cam.json");
    let goldens: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let small = tensor(pattern(2 * 32 * 24, 7000).map(|u| 255.0 * u), &[2, 1, 32, 24], F64);
    let photo = tensor(pattern(2 * 3 * 64 * 48, 8000).map(|u| 2.0 * u - 1.0), &[2, 3, 64, 48], F64);
    for (kind, shape, n_classes, images) in
        [(&SMALL_CNN, (1, 32, 24), 5, small), (&MOBILENET_V2, (3, 64, 48), 10, photo)]
    {
        let golden = &goldens[kind.name];
        let numbers =
            |v: &Value| v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
        let classes: Vec<usize> = numbers(&golden["classes"]).iter().map(|c| *c as usize).collect();
        // In float32 rounding carries values over the corners of MobileNetV2's many ReLUs, and gradients jump.
        let rounded = if kind == &SMALL_CNN { 1e-5 } else { 0.1 };
        for (dtype, tolerance) in [(F64, 1e-6), (DType::F32, rounded)] {
            let network = network(kind, shape, n_classes, dtype);
            let images = images.to_dtype(dtype).unwrap();
            for (layer, expected) in golden["layers"].as_object().unwrap() {
                let found = grad_cam(&network, &images, &classes, layer).unwrap();
                let shape: Vec<usize> = numbers(&expected["shape"]).iter().map(|n| *n as usize).collect();
                let expected = tensor(numbers(&expected["values"]).into_iter(), &shape, F64);
                let largest = values(&expected).into_iter().fold(0.0, f64::max);
                assert!(largest > 0.0);
                let off = farthest(&found, &expected) / largest;
                println!("{kind}, {layer}, {dtype:?}: {off:.1e} off");
                assert!(off < tolerance, "{kind}, {layer}, {dtype:?}: {off:.1e} off");
            }
        }
    }
}

fn settings(parametrization: Parametrization, total_variation: f64) -> FeatureVisConfig {
    FeatureVisConfig {
        steps: 60,
        lr: 0.05,
        parametrization,
        jitter: 2.0,
        zoom: (0.9, 1.1),
        total_variation,
        noise: 0.3,
        seed: 4,
    }
}

fn bytes(height: usize, width: usize) -> InputFormat {
    InputFormat { height, width, mean: vec![0.0], std: vec![1.0 / 255.0], device: Device::Cpu }
}

#[test]
fn ascent_raises_the_activation() {
    let small = network(&SMALL_CNN, (1, 32, 24), 5, DType::F32);
    let mobile = network(&MOBILENET_V2, (3, 48, 48), 10, DType::F32);
    let imagenet = InputFormat {
        height: 48,
        width: 48,
        mean: vec![0.485, 0.456, 0.406],
        std: vec![0.229, 0.224, 0.225],
        device: Device::Cpu,
    };
    let fourier = Parametrization::Fourier { decay: 1.0 };
    // A network of random weights answers chaotically to what is moved, and to long steps.
    let still = FeatureVisConfig { lr: 0.01, jitter: 0.0, zoom: (1.0, 1.0), ..settings(fourier, 0.0) };
    for (network, pixels, layer, channels, settings) in [
        (&small, bytes(32, 24), "conv1", vec![0, 3], settings(fourier, 0.0)),
        (&small, bytes(32, 24), "conv3", vec![1, 8, 40], settings(Parametrization::Pixels, 0.1)),
        (&small, bytes(32, 24), "dense_2", vec![2], settings(fourier, 0.0)),
        (&mobile, imagenet.clone(), "blocks.1.1", vec![5], settings(fourier, 0.1)),
        (&mobile, imagenet, "classifier", vec![0, 9], still),
    ] {
        let mut steps = 0;
        let drawn = visualize_features(network, &pixels, layer, &channels, &settings, &mut |_, _| {
            steps += 1;
            true
        })
        .unwrap();
        assert_eq!(steps, 60);
        for (vision, channel) in drawn.iter().zip(&channels) {
            let (start, reached) = (vision.initial_activation, vision.activation);
            assert_eq!(vision.channel, *channel);
            assert!(
                reached > start + 0.2 * start.abs() && reached > start + 0.005,
                "{layer} {channel}: {start} to {reached}"
            );
            assert!(values(&vision.image).iter().all(|v| (0.0..=1.0).contains(v)));
        }
        // The images do not depend on each other.
        let alone =
            visualize_features(network, &pixels, layer, &channels[..1], &settings, &mut |_, _| true).unwrap();
        assert!(farthest(&alone[0].image, &drawn[0].image) < 1e-3, "{layer}");
    }
}

#[test]
fn total_variation_smooths_and_a_visualization_may_end_early() {
    let small = network(&SMALL_CNN, (1, 32, 24), 5, DType::F32);
    let draw = |total_variation: f64| {
        let settings = settings(Parametrization::Pixels, total_variation);
        let vision =
            visualize_features(&small, &bytes(32, 24), "conv2", &[3], &settings, &mut |_, _| true).unwrap();
        scalar(&total_variation_of(&vision[0].image))
    };
    let (rough, smooth) = (draw(0.0), draw(20.0));
    assert!(smooth < 0.5 * rough, "{smooth} against {rough}");
    let none = visualize_features(
        &small,
        &bytes(32, 24),
        "conv2",
        &[3],
        &settings(Parametrization::Pixels, 0.0),
        &mut |_, _| false,
    );
    let none = none.unwrap();
    assert!((none[0].activation - none[0].initial_activation).abs() < 1e-6);
}

fn total_variation_of(picture: &Tensor) -> Tensor {
    total_variation(&picture.unsqueeze(0).unwrap()).unwrap().squeeze(0).unwrap()
}

#[test]
fn errors_name_what_is_wrong() {
    let small = network(&SMALL_CNN, (1, 32, 24), 5, DType::F32);
    let images = tensor(pattern(32 * 24, 1), &[1, 1, 32, 24], DType::F32);
    let names: Vec<String> = layers(&small, &images).unwrap().into_iter().map(|layer| layer.name).collect();
    assert_eq!(names[1..3], ["conv1", "pool1"]);
    assert_eq!(names.last().unwrap(), "dense_2");
    assert_eq!(layers(&small, &images).unwrap()[1].n_channels(), 16);

    let fourier = settings(Parametrization::Fourier { decay: 1.0 }, 0.0);
    let draw = |layer: &str, channel: usize, settings: &FeatureVisConfig| {
        visualize_features(&small, &bytes(32, 24), layer, &[channel], settings, &mut |_, _| true).unwrap_err()
    };
    let said = draw("conv9", 0, &fourier).to_string();
    assert!(said.contains("conv9") && said.contains("conv1") && said.contains("dense_2"), "{said}");
    let said = draw("conv1", 16, &fourier).to_string();
    assert!(said.contains("conv1") && said.contains("16") && said.contains("0 to 15"), "{said}");
    for settings in [
        FeatureVisConfig { lr: 0.0, ..fourier.clone() },
        FeatureVisConfig { zoom: (1.2, 1.1), ..fourier.clone() },
        FeatureVisConfig { noise: 0.0, ..fourier.clone() },
        FeatureVisConfig { jitter: -1.0, ..fourier.clone() },
        FeatureVisConfig { total_variation: f64::NAN, ..fourier.clone() },
    ] {
        assert!(matches!(draw("conv1", 0, &settings), Error::Setting { .. }));
    }
    let said = activation(&small, &images, "bn1").unwrap_err().to_string();
    assert!(said.contains("bn1") && said.contains("conv1"), "{said}");
    let cam = |classes: &[usize], layer: &str| grad_cam(&small, &images, classes, layer).unwrap_err();
    assert!(matches!(cam(&[5], "conv3"), Error::Channel { n_channels: 5, .. }));
    assert!(matches!(cam(&[1], "dense_1"), Error::NoMaps { .. }));
    assert!(matches!(cam(&[1, 2], "conv3"), Error::Setting { .. }));
}

/// The tokens of patches are maps; after the last block they have no effect on the class token.
#[test]
fn transformers_have_maps_and_evidence() {
    let build = |name: &str| {
        let (info, params) =
            (registry::find(name).unwrap(), Params::seeded(3, &Device::Cpu).frozen(|_| true));
        let input = InputShape::Map { channels: 3, height: 64, width: 96 };
        ImageClassifier::new(info, input, 5, Init::Keras, &params).unwrap()
    };
    let images = tensor(pattern(2 * 3 * 64 * 96, 1), &[2, 3, 64, 96], DType::F32);
    let strength = |network: &ImageClassifier, layer: &str| {
        let maps = grad_cam(network, &images, &[1, 4], layer).unwrap();
        (maps.dims().to_vec(), maps.sum_all().unwrap().to_scalar::<f32>().unwrap())
    };

    let vit = build("vit_tiny_patch16_224");
    let found = layers(&vit, &images).unwrap();
    let block = found.iter().find(|layer| layer.name == "blocks.3").unwrap();
    assert_eq!(block.output, InputShape::Map { channels: 192, height: 4, width: 6 });
    assert_eq!(activation(&vit, &images, "norm").unwrap().dims(), [2, 192, 4, 6]);
    assert_eq!(activation(&vit, &images, "class_token").unwrap().dims(), [2, 192]);
    let (dims, sum) = strength(&vit, "blocks.10");
    assert_eq!(dims, [2, 4, 6]);
    assert!(sum > 0.0);
    assert_eq!(strength(&vit, "blocks.11"), (vec![2, 4, 6], 0.0));

    let (dims, sum) = strength(&build("swin_tiny_patch4_window7_224"), "layers.2.blocks.5");
    assert_eq!(dims, [2, 4, 6]);
    assert!(sum > 0.0);
}
