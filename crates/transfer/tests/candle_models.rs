//! candle-transformers' networks as backbones, against timm's from the same weights and images
//! (goldens/candle_models.py); and a last layer trained on what they make of images.

use std::path::Path;

use candle_core::{Device, ModuleT as _, Tensor};
use firstsight_data::{ImageDataset, Interpolation, Normalize};
use firstsight_models::{ImageClassifier, InputShape, Params, is_buffer, registry};
use firstsight_transfer::candle_models::{self, CandleBackbone, CandleModel, MOBILENETS_V4};
use firstsight_transfer::{Error, FeatureConfig, FeatureView, Head, HeadConfig, features};
use serde_json::Value;

/// Networks with more values than this are not built: their tables are those of smaller ones, only wider or deeper.
const LARGEST: u64 = 30_000_000;

fn goldens() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/candle_models.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn model(golden: &Value) -> CandleModel {
    golden["architecture"].as_str().unwrap().parse().unwrap()
}

/// The script's `fnv1a`.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

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
fn value(name: &str, shape: &[usize]) -> Tensor {
    let rank = shape.len();
    let (scale, offset) = if name.ends_with("running_var") || (name.ends_with("weight") && rank == 1) {
        (1.0, 0.5)
    } else if rank == 1 {
        (0.4, -0.2)
    } else {
        let fan_in: usize = shape[1..].iter().product();
        let largest = (3.0 / fan_in as f64).sqrt();
        (2.0 * largest, -largest)
    };
    let values = pattern(shape.iter().product(), fnv1a(name) % 65_536).map(|u| (offset + scale * u) as f32);
    Tensor::from_iter(values, &Device::Cpu).unwrap().reshape(shape).unwrap()
}

/// A backbone with the script's weights.
fn backbone(model: CandleModel) -> (CandleBackbone, Params) {
    let params = Params::seeded(0, &Device::Cpu);
    CandleBackbone::new(model, &params).unwrap();
    for (name, var) in params.named() {
        var.set(&value(&name, var.dims())).unwrap();
    }
    // Batch norm copies frozen statistics.
    let frozen = params.frozen(|_| true);
    (CandleBackbone::new(model, &frozen).unwrap(), params)
}

fn images(side: usize) -> Tensor {
    let values = pattern(3 * side * side, 5000).map(|u| (1.5 * (2.0 * u - 1.0)) as f32);
    Tensor::from_iter(values, &Device::Cpu).unwrap().reshape((1, 3, side, side)).unwrap()
}

#[test]
fn features_are_timms() {
    for golden in goldens()["features"].as_array().unwrap() {
        let model = model(golden);
        let number = |key: &str| golden[key].as_f64().unwrap();
        let found = backbone(model).0.forward_t(&images(number("side") as usize), false).unwrap();
        let found: Vec<f64> =
            found.squeeze(0).unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect();
        assert_eq!(found.len(), number("n_features") as usize, "{model}");
        let largest = number("largest");
        let kept = found.iter().step_by(number("every") as usize);
        let expected = golden["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap());
        let worst = kept.zip(expected).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f64::max);
        let norm = found.iter().map(|v| v * v).sum::<f64>().sqrt();
        let off = (norm / number("norm") - 1.0).abs();
        println!("{model} at {}: {worst:.1e} of the largest feature, the norm by {off:.1e}", number("side"));
        assert!(worst < 1e-5 && off < 1e-5, "{model}: {worst} and {off}");
    }
}

#[test]
fn names_shapes_and_inputs_are_timms() {
    let goldens = goldens();
    let goldens = goldens["names"].as_array().unwrap();
    let known: Vec<CandleModel> = CandleModel::all().collect();
    assert_eq!(known, goldens.iter().map(model).collect::<Vec<_>>());
    for golden in goldens {
        let model = model(golden);
        assert_eq!(model.repository(), golden["repository"].as_str().unwrap());
        assert_eq!(model.license().to_lowercase(), golden["license"].as_str().unwrap());
        let input = model.input();
        let numbers = |of: &[f32]| of.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let stated = &golden["input"];
        assert_eq!(input.input_size, (3, stated[0].as_u64().unwrap() as usize, input.input_size.1));
        assert_eq!((input.interpolation, stated[1].as_str()), (Interpolation::Bicubic, Some("bicubic")));
        assert_eq!(Some(input.crop_pct), stated[2].as_f64());
        for (ours, theirs) in [(&input.mean, &stated[3]), (&input.std, &stated[4])] {
            for (a, b) in numbers(ours).iter().zip(theirs.as_array().unwrap()) {
                assert!((a - b.as_f64().unwrap()).abs() < 1e-6, "{model}");
            }
        }
        if golden["values"].as_u64().unwrap() > LARGEST {
            continue;
        }
        let params = Params::seeded(0, &Device::Cpu);
        CandleBackbone::new(model, &params).unwrap();
        let text: Vec<String> = params
            .named()
            .iter()
            .map(|(name, var)| {
                let sides: Vec<String> = var.dims().iter().map(usize::to_string).collect();
                format!("{name} {}", sides.join("x"))
            })
            .collect();
        assert_eq!(text.len() as u64, golden["tensors"].as_u64().unwrap(), "{model}: {text:#?}");
        assert_eq!(format!("{:016x}", fnv1a(&text.join("\n"))), golden["hash"].as_str().unwrap(), "{model}");
    }
}

#[test]
fn a_file_of_timms_is_read_and_another_networks_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let model: CandleModel = "mobilenetv4_conv_small".parse().unwrap();
    let (expected, params) = backbone(model);
    // As timm's files have them: with the last layer and PyTorch's counters.
    let head = Params::seeded(0, &Device::Cpu);
    let vb = head.builder();
    for (name, shape) in [("classifier.weight", vec![7, 1280]), ("classifier.bias", vec![7])] {
        vb.get(shape, name).unwrap();
    }
    let named = [params.named(), head.named()].concat();
    let save = |named: &[(String, candle_core::Var)]| {
        let tensors = named.iter().map(|(name, var)| (name.as_str(), var.as_tensor()));
        let counter = Tensor::new(5u32, &Device::Cpu).unwrap();
        let all: Vec<(&str, &Tensor)> = tensors.chain([("bn1.num_batches_tracked", &counter)]).collect();
        std::fs::write(&path, safetensors::serialize(all, None).unwrap()).unwrap();
    };
    save(&named);
    let (loaded, of_file) = CandleBackbone::load(model, &path, &Device::Cpu).unwrap();
    let xs = images(64);
    let values = |backbone: &CandleBackbone| backbone.forward_t(&xs, true).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(values(&loaded), values(&expected));
    assert!(of_file.get("classifier.weight").is_none());
    let error =
        CandleBackbone::load("mobilenetv4_conv_medium".parse().unwrap(), &path, &Device::Cpu).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("model.safetensors") && said.contains("missing (first: "), "{said}");
    save(&named[1..]);
    let said = CandleBackbone::load(model, &path, &Device::Cpu).unwrap_err().to_string();
    assert!(said.contains(&named[0].0), "{said}");
}

/// Photos, so to speak: reddish and bluish noise.
fn photos(n: usize, side: usize) -> ImageDataset {
    let mut pixels = Vec::new();
    for i in 0..n {
        for (place, u) in pattern(side * side * 3, 100 + i as u64).enumerate() {
            let tinted = place % 3 == if i % 2 == 0 { 0 } else { 2 };
            pixels.push((u * 120.0) as u8 + if tinted { 100 } else { 0 });
        }
    }
    let labels = (0..n as u32).map(|i| i % 2).collect();
    let classes = vec!["red".to_owned(), "blue".to_owned()];
    ImageDataset::from_pixels(pixels, (side, side, 3), labels, classes).unwrap()
}

#[test]
fn a_last_layer_is_trained_on_features() {
    let images = photos(40, 32);
    let model: CandleModel = "mobilenetv4_conv_small".parse().unwrap();
    learns(&backbone(model).0, &images, model.input().mean, model.input().std);
}

#[test]
fn any_function_of_images_is_a_backbone() {
    let images = photos(40, 16);
    let colors = CandleBackbone::from_fn("mean color", 3, |xs| Ok(xs.clone()));
    learns(&colors, &images, vec![0.5; 3], vec![0.5; 3]);
    let tokens = CandleBackbone::from_fn("first row", 16, |xs| xs.mean(1));
    assert_eq!(tokens.forward_t(&self::images(16), false).unwrap().dims(), [1, 16]);
    let wrong = CandleBackbone::from_fn("wrong", 5, |xs| Ok(xs.clone()));
    let said = wrong.forward_t(&self::images(16), false).unwrap_err().to_string();
    assert!(said.contains("wrong: expected features [1, 5], found [1, 3]"), "{said}");
}

/// Extracts features, trains a last layer on 28 images, and expects it to know the other 12.
fn learns(backbone: &CandleBackbone, images: &ImageDataset, mean: Vec<f32>, std: Vec<f32>) {
    let extraction = FeatureConfig {
        normalize: Normalize { mean, std },
        views: &[FeatureView::Plain],
        batch_size: 8,
        communicator: &firstsight_train::Alone,
        identity: backbone.name().to_owned(),
    };
    let all = features(backbone, images, &extraction, None, &Device::Cpu, &mut |_, _| ()).unwrap();
    assert_eq!((all.n_images(), all.n_features()), (images.len(), backbone.n_features()));
    let part = |of: Vec<usize>| {
        let (rows, labels) = all.select(&of, 1).unwrap();
        firstsight_transfer::Features::new(&rows, labels, 2).unwrap()
    };
    let (train, test) = (part((0..28).collect()), part((28..40).collect()));
    let config = HeadConfig {
        penalties: vec![1e-3, 1e-1],
        folds: 3,
        steps: 60,
        batch_size: 32,
        lr: 0.02,
        balanced: false,
        seed: 1,
    };
    let head = Head::train(&train, &config, &mut |_, _| ()).unwrap();
    let (rows, _) = test.select(&(0..12).collect::<Vec<_>>(), 1).unwrap();
    let found: Vec<u32> = head.forward_t(&rows, false).unwrap().argmax(1).unwrap().to_vec1().unwrap();
    let right = found.iter().zip(test.labels.classes()).filter(|(a, b)| a == b).count();
    assert!(right >= 11, "{}: {right} of 12", backbone.name());
}

#[test]
fn what_is_frozen_records_no_graph() {
    let model: CandleModel = "mobilenetv4_conv_small".parse().unwrap();
    let (frozen, params) = backbone(model);
    let unfrozen = CandleBackbone::new(model, &params).unwrap();
    let xs = images(32);
    let gradients = |backbone: &CandleBackbone| {
        let loss = backbone.forward_t(&xs, true).unwrap().sqr().unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        let named = params.named();
        named.iter().filter(|(name, var)| !is_buffer(name) && gradients.get(var).is_some()).count()
    };
    assert_eq!((gradients(&frozen), gradients(&unfrozen)), (0, params.trainable().len()));
}

#[test]
fn an_unknown_name_lists_the_known() {
    match "resnet19".parse::<CandleModel>() {
        Err(Error::Setting { expected, found, .. }) => {
            assert!(
                found == "resnet19" && expected.contains("mobilenetv4_conv_small, mobilenetv4_conv_medium")
            );
        }
        other => panic!("{other:?}"),
    }
}

/// A registered network reads its weights after it is built, statistics included, and has its blocks and counts.
#[test]
fn registered_networks_are_networks_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    candle_models::register().unwrap();
    for (info, model) in MOBILENETS_V4.iter().zip(CandleModel::all()) {
        assert_eq!(info.name, model.architecture());
        assert_eq!(info.weights[0].repository, model.repository());
        assert_eq!((info.weights[0].input)(), model.input());
        assert_eq!(info.usual_input, model.input().input_size);
    }
    let info = registry::find("mobilenetv4_conv_small").unwrap();
    let input = InputShape::Map { channels: 3, height: 64, width: 64 };
    let (expected, params) = backbone(info.name.parse().unwrap());
    let head = Params::seeded(0, &Device::Cpu);
    for (name, shape) in [("classifier.weight", vec![5, 1280]), ("classifier.bias", vec![5])] {
        head.builder().get(shape, name).unwrap();
    }
    let named = [params.named(), head.named()].concat();
    let tensors = named.iter().map(|(name, var)| (name.as_str(), var.as_tensor()));
    std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    let want = expected.forward_t(&images(64), false).unwrap().to_vec2::<f32>().unwrap();
    let all = Params::seeded(7, &Device::Cpu);
    for params in [all.clone(), Params::seeded(7, &Device::Cpu).frozen(|_| true)] {
        let network = ImageClassifier::new(info, input, 5, info.init, &params).unwrap();
        network.load(&path).unwrap();
        let found = network.backbone().forward_t(&images(64), false).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(found, want);
        let count = |vars: Vec<candle_core::Var>| vars.iter().map(|var| var.elem_count()).sum::<usize>();
        assert_eq!(network.summary().total_params(), count(params.trainable()));
        for name in params.names() {
            let blocks = network.blocks();
            assert_eq!(blocks.iter().filter(|block| block.holds(&name)).count(), 1, "{name}");
        }
    }
    let gray = InputShape::Map { channels: 1, height: 64, width: 64 };
    let said = ImageClassifier::new(info, gray, 5, info.init, &all).unwrap_err().to_string();
    assert!(said.contains("3 channels, found 1"), "{said}");
}
