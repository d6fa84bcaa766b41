//! Weights as people have them: under others' names, in other types and formats, in parts, or broken.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, ModuleT as _, Tensor};
use firstsight_models::networks::{
    ALEXNET, CONVNEXTS, CONVNEXTS_V2, ConvNeXt, ConvNeXtConfig, ConvNeXtSize, DINOS_V2, LOGISTIC,
    MOBILENET_V2, RESNET_SMALL, SWINS, Swin, SwinConfig, SwinSize, VITS, Vit, VitConfig, VitSize,
};
use firstsight_models::{
    Error, ImageClassifier, Init, InputShape, ModelInfo, Params, WeightsHeader, registry,
};
use serde_json::Value;

use crate::common::{CLASSES, Worst, images, number, value};

const COLOR: InputShape = InputShape::Map { channels: 3, height: 32, width: 32 };
const GRAY: InputShape = InputShape::Map { channels: 1, height: 32, width: 32 };

fn network(info: &'static ModelInfo, input: InputShape, seed: u64) -> ImageClassifier {
    let params = Params::seeded(seed, &Device::Cpu);
    ImageClassifier::new(info, input, 3, info.init, &params).unwrap()
}

fn tensors(network: &ImageClassifier) -> BTreeMap<String, Tensor> {
    network.named_vars().into_iter().map(|(name, var)| (name, var.as_tensor().copy().unwrap())).collect()
}

fn write(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    let tensors: Vec<(&String, &Tensor)> = tensors.iter().collect();
    let bytes = safetensors::serialize(tensors, None).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn renamed(tensors: &BTreeMap<String, Tensor>, rename: impl Fn(&str) -> String) -> BTreeMap<String, Tensor> {
    tensors.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn same(network: &ImageClassifier, tensors: &BTreeMap<String, Tensor>) {
    for (name, var) in network.named_vars() {
        assert_eq!(flat(var.as_tensor()), flat(&tensors[&name]), "{name}");
    }
}

/// torchvision's name of a variable of MobileNetV2, as torchvision's module tree gives it.
fn torchvision_name(ours: &str) -> String {
    let parts: Vec<&str> = ours.split('.').collect();
    let (layer, variable) = (parts[..parts.len() - 1].join("."), parts[parts.len() - 1]);
    let place = match layer.as_str() {
        "conv_stem" => "features.0.0".to_owned(),
        "bn1" => "features.0.1".to_owned(),
        "conv_head" => "features.18.0".to_owned(),
        "bn2" => "features.18.1".to_owned(),
        "classifier" => "classifier.1".to_owned(),
        _ => {
            let (stage, i): (usize, usize) = (parts[1].parse().unwrap(), parts[2].parse().unwrap());
            let before: usize = [1, 2, 3, 4, 3, 3, 1][..stage].iter().sum();
            let inner = match (stage, parts[3]) {
                (0, "conv_dw") | (1.., "conv_pw") => "0.0",
                (_, "bn1") => "0.1",
                (0, "conv_pw") => "1",
                (0, "bn2") => "2",
                (_, "conv_dw") => "1.0",
                (_, "bn2") => "1.1",
                (_, "conv_pwl") => "2",
                _ => "3",
            };
            format!("features.{}.conv.{inner}", before + i + 1)
        }
    };
    format!("{place}.{variable}")
}

#[test]
fn a_prefix_that_all_names_share_is_taken_off_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let saved = tensors(&network(&MOBILENET_V2, COLOR, 1));
    for prefix in ["module.", "timm_model.", "model.", "backbone.", "_orig_mod.", "module.model.", "a.b.c."] {
        let mut there = renamed(&saved, |name| format!("{prefix}{name}"));
        there.insert("n_averaged".to_owned(), Tensor::new(&[7i64], &Device::Cpu).unwrap());
        there.insert(format!("{prefix}bn1.num_batches_tracked"), Tensor::new(&[7i64], &Device::Cpu).unwrap());
        write(&path, &there);
        let network = network(&MOBILENET_V2, COLOR, 2);
        let renaming = network.load(&path).unwrap();
        assert_eq!(renaming.prefix, prefix);
        assert!(renaming.to_string().contains(&format!("`{prefix}`")), "{renaming}");
        same(&network, &saved);
    }
    // A prefix of some alone, or beside others' names, is no prefix.
    let mut there = renamed(&saved, |name| format!("module.{name}"));
    there.insert("criterion.weight".to_owned(), there["module.classifier.bias"].clone());
    write(&path, &there);
    let said = network(&MOBILENET_V2, COLOR, 2).load(&path).unwrap_err().to_string();
    assert!(said.contains("another network's weights") && said.contains("criterion.weight"), "{said}");
    // One tensor is missing behind the prefix: the message speaks of that one.
    let mut there = renamed(&saved, |name| format!("module.{name}"));
    there.remove("module.bn1.bias");
    write(&path, &there);
    let said = network(&MOBILENET_V2, COLOR, 2).load(&path).unwrap_err().to_string();
    assert!(said.contains("1 missing (first: bn1.bias)") && said.contains("`module.`"), "{said}");
    assert!(!said.contains("unexpected"), "{said}");
}

#[test]
fn torchvisions_mobilenet_v2_is_the_same_network() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let saved = tensors(&network(&MOBILENET_V2, COLOR, 1));
    for prefix in ["", "module."] {
        let there = renamed(&saved, |name| format!("{prefix}{}", torchvision_name(name)));
        assert_eq!(there.len(), saved.len());
        write(&path, &there);
        let network = network(&MOBILENET_V2, COLOR, 2);
        let renaming = network.load(&path).unwrap();
        assert_eq!(renaming.other.map(|other| other.library), Some("torchvision"));
        assert_eq!(renaming.prefix, prefix);
        same(&network, &saved);
    }
}

/// `microsoft/resnet-50` and its like.
#[test]
fn transformers_resnets_are_the_same_networks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    for name in ["resnet18", "resnet50"] {
        let info = registry::find(name).unwrap();
        let saved = tensors(&network(info, COLOR, 1));
        let there = renamed(&saved, transformers_name);
        assert_eq!(there.len(), saved.len());
        assert!(there.keys().all(|key| key.starts_with("resnet.") || key.starts_with("classifier.1.")));
        write(&path, &there);
        let network = network(info, COLOR, 2);
        let renaming = network.load(&path).unwrap();
        assert_eq!(renaming.other.map(|other| other.library), Some("transformers"));
        same(&network, &saved);
    }
}

/// transformers' name of a tensor of ResNet, from timm's.
fn transformers_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let embedder = "resnet.embedder.embedder";
    match parts[..] {
        ["conv1", variable] => format!("{embedder}.convolution.{variable}"),
        ["bn1", variable] => format!("{embedder}.normalization.{variable}"),
        ["fc", variable] => format!("classifier.1.{variable}"),
        [stage, block, ref rest @ ..] => {
            let stage: usize = stage["layer".len()..].parse().unwrap();
            let place = format!("resnet.encoder.stages.{}.layers.{block}", stage - 1);
            match rest {
                ["downsample", "0", variable] => format!("{place}.shortcut.convolution.{variable}"),
                ["downsample", _, variable] => format!("{place}.shortcut.normalization.{variable}"),
                [layer, variable] => {
                    let number: usize = layer[layer.len() - 1..].parse().unwrap();
                    let kind = if layer.starts_with("conv") { "convolution" } else { "normalization" };
                    format!("{place}.layer.{}.{kind}.{variable}", number - 1)
                }
                _ => panic!("{name}"),
            }
        }
        _ => panic!("{name}"),
    }
}

/// A network as small as goldens/names.py's of that name.
fn small(name: &str, size: (usize, usize)) -> ImageClassifier {
    let params = Params::zeros(&Device::Cpu);
    let (vb, init) = (params.builder(), Init::Transformer);
    let input = InputShape::Map { channels: 3, height: size.0, width: size.1 };
    let vit = |config: VitConfig| {
        let config = VitConfig { width: 48, depth: 2, heads: 3, ..config };
        Vit::new(&config, size, init, &vb).unwrap()
    };
    let convnext = |config: ConvNeXtConfig, conv_mlp: bool| {
        let config = ConvNeXtConfig { width: 8, depths: [1, 1, 2, 1], conv_mlp, ..config };
        ConvNeXt::new(&config, init, &vb).unwrap()
    };
    let build = |info: &'static ModelInfo| {
        let head = (info.head)(CLASSES);
        match name.split_once(' ').unwrap().1 {
            "ViT" => ImageClassifier::from_network(
                info,
                vit(VitConfig::of(VitSize::Tiny)),
                head,
                input,
                init,
                &params,
            ),
            "DINOv2" => {
                let network = vit(VitConfig::dino_v2(VitSize::Small, 0));
                ImageClassifier::from_network(info, network, head, input, init, &params)
            }
            "Swin" => {
                let config = SwinConfig { width: 12, depths: [1, 2, 1, 1], ..SwinConfig::of(SwinSize::Tiny) };
                let network = Swin::new(&config, size, init, &vb).unwrap();
                ImageClassifier::from_network(info, network, head, input, init, &params)
            }
            "ConvNeXt" => {
                let network = convnext(ConvNeXtConfig::of(ConvNeXtSize::Tiny), false);
                ImageClassifier::from_network(info, network, head, input, init, &params)
            }
            _ => {
                // Dense layers there are pointwise convolutions here.
                let network = convnext(ConvNeXtConfig::v2(ConvNeXtSize::Atto), true);
                ImageClassifier::from_network(info, network, head, input, init, &params)
            }
        }
        .unwrap()
    };
    match name.split_once(' ').unwrap().1 {
        "ViT" => build(&VITS[0]),
        "DINOv2" => build(&DINOS_V2[0]),
        "Swin" => build(&SWINS[0]),
        "ConvNeXt" => build(&CONVNEXTS[0]),
        _ => build(&CONVNEXTS_V2[0]),
    }
}

#[test]
fn networks_of_torchvision_and_transformers_are_read_and_compute_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/names.json");
    let goldens: Value = serde_json::from_str(&std::fs::read_to_string(goldens).unwrap()).unwrap();
    let number_of = |value: &Value| value.as_u64().unwrap() as usize;
    for (name, golden) in goldens["cases"].as_object().unwrap() {
        let mut tensors = BTreeMap::new();
        for (theirs, shape) in golden["tensors"].as_object().unwrap() {
            let shape: Vec<usize> = shape.as_array().unwrap().iter().map(number_of).collect();
            tensors.insert(theirs.clone(), value(theirs, &shape, number(theirs), 3.0, DType::F32));
        }
        write(&path, &tensors);
        let size = (number_of(&golden["size"][0]), number_of(&golden["size"][1]));
        let network = small(name, size);
        if name.ends_with("DINOv2") {
            // There is no last layer in the file.
            network.params().remove(|name| network.in_head(name));
        }
        let renaming = network.load(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(renaming.other.map(|other| other.library), name.split(' ').next(), "{name}");
        let images = images(2, size, DType::F32);
        let found = match name.ends_with("DINOv2") {
            true => network.backbone().forward_t(&images, false).unwrap(),
            false => network.forward_t(&images, false).unwrap(),
        };
        let mut worst = Worst::default();
        worst.see(name, &found, &golden["logits"]);
        // The ε of transformers' ViT is 1e-12, timm's 1e-6.
        worst.check(name, if name == "transformers ViT" { 1e-4 } else { 1e-5 });
    }
}

/// timm's resized positions, in goldens/positions.json.
fn resized(what: &str) -> Vec<Value> {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/positions.json");
    let goldens: Value = serde_json::from_str(&std::fs::read_to_string(goldens).unwrap()).unwrap();
    goldens[what].as_array().unwrap().clone()
}

fn pair(value: &Value) -> (usize, usize) {
    let number = |i: usize| value[i].as_u64().unwrap() as usize;
    (number(0), number(1))
}

#[test]
fn position_embeddings_for_another_size_are_resized() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let build = |width, registers, size: (usize, usize)| {
        let params = Params::zeros(&Device::Cpu);
        let config = VitConfig { width, depth: 1, heads: 3, ..VitConfig::dino_v2(VitSize::Small, registers) };
        let network = Vit::new(&config, size, Init::Transformer, &params.builder()).unwrap();
        let input = InputShape::Map { channels: 3, height: size.0, width: size.1 };
        let (info, init) = (&DINOS_V2[0], Init::Transformer);
        ImageClassifier::from_network(info, network, (info.head)(3), input, init, &params).unwrap()
    };
    for golden in resized("cases") {
        let (from, to) = (pair(&golden["from"]), pair(&golden["to"]));
        let registers = golden["registers"].as_u64().unwrap() as usize;
        let size = |grid: (usize, usize)| (14 * grid.0, 14 * grid.1);
        let there = build(12, registers, size(from));
        let var = there.params().get("pos_embed").unwrap();
        let own = value("pos_embed", var.dims(), number("pos_embed"), 3.0, DType::F32);
        var.set(&own).unwrap();
        there.save(&path).unwrap();
        let here = build(12, registers, size(to));
        let positions = here.params().get("pos_embed").unwrap();
        let check = |said: Option<(usize, usize)>| {
            positions.set(&positions.zeros_like().unwrap()).unwrap();
            here.load_for_size(&path, said).unwrap();
            let mut worst = Worst::default();
            worst.see("pos_embed", positions.as_tensor(), &golden["pos_embed"]);
            worst.check(&format!("{from:?} to {to:?}"), 1e-6);
        };
        check(Some(size(from)));
        let as_many = from.0 * from.1 == to.0 * to.1;
        if from.0 == from.1 && !as_many {
            // Without the size, and with one that cannot be true.
            check(None);
            check(Some(size((from.0 + 1, from.1))));
        }
        if as_many {
            here.load(&path).unwrap();
            assert_eq!(flat(positions.as_tensor()), flat(&own), "they are taken for its own");
        }
    }
    // Embeddings of another width are no other size's, nor are other tokens.
    let refused = |network: &ImageClassifier| {
        let said = network.load(&path).unwrap_err().to_string();
        assert!(said.contains("of another shape"), "{said}");
    };
    refused(&build(24, 0, (28, 28)));
    for registers in [4, 5] {
        build(12, registers, (28, 28)).save(&path).unwrap();
        refused(&build(12, 2, (28, 28)));
    }
}

/// Windows of fewer tokens, where the image has no more.
#[test]
fn relative_positions_for_other_windows_are_resized() {
    const TABLE: &str = "layers.0.blocks.0.attn.relative_position_bias_table";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let build = |heads, tokens: (usize, usize)| {
        let params = Params::zeros(&Device::Cpu);
        let config = SwinConfig { width: 12, heads, depths: [1; 4], ..SwinConfig::of(SwinSize::Tiny) };
        let size = (4 * tokens.0, 4 * tokens.1);
        let network = Swin::new(&config, size, Init::Transformer, &params.builder()).unwrap();
        let input = InputShape::Map { channels: 3, height: size.0, width: size.1 };
        let (info, init) = (&SWINS[0], Init::Transformer);
        ImageClassifier::from_network(info, network, (info.head)(3), input, init, &params).unwrap()
    };
    for golden in resized("tables") {
        let (from, to) = (pair(&golden["from"]), pair(&golden["to"]));
        let there = build(3, from);
        let var = there.params().get(TABLE).unwrap();
        var.set(&value(TABLE, var.dims(), number(TABLE), 3.0, DType::F32)).unwrap();
        there.save(&path).unwrap();
        let here = build(3, to);
        for said in [Some((4 * from.0, 4 * from.1)), None] {
            if said.is_none() && from.0 != from.1 {
                continue;
            }
            here.load_for_size(&path, said).unwrap();
            let mut worst = Worst::default();
            worst.see(TABLE, here.params().get(TABLE).unwrap().as_tensor(), &golden["table"]);
            worst.check(&format!("windows of {from:?} to {to:?}"), 1e-6);
        }
    }
    let said = build(6, (7, 7)).load(&path).unwrap_err().to_string();
    assert!(said.contains("of another shape"), "{said}");
    // The last stages of a smaller image have smaller windows; the others have the same.
    let info = &SWINS[0];
    let of_side = |side| {
        let input = InputShape::Map { channels: 3, height: side, width: side };
        ImageClassifier::new(info, input, 2, info.init, &Params::zeros(&Device::Cpu)).unwrap()
    };
    of_side(224).save(&path).unwrap();
    of_side(192).load(&path).unwrap();
}

#[test]
fn strangers_are_called_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let one = || Tensor::zeros((3, 4), DType::F32, &Device::Cpu).unwrap();
    for (info, tensor, word) in [
        (&ALEXNET, "classifier.6.weight", "torchvision's AlexNet"),
        (&RESNET_SMALL, "layer4.0.conv1.weight", "ResNet-18"),
        (&MOBILENET_V2, "mobilenet_v2.conv_stem.first_conv.convolution.weight", "transformers"),
        (registry::find("efficientnet_b5").unwrap(), "features.0.0.weight", "torchvision's"),
        (registry::find("tf_efficientnet_b0").unwrap(), "features.0.0.weight", "torchvision's"),
    ] {
        let both = BTreeMap::from([(tensor.to_owned(), one()), ("fc.bias".to_owned(), one())]);
        write(&path, &both);
        let input = InputShape::Map { channels: 3, height: 67, width: 67 };
        let said = network(info, input, 1).load(&path).unwrap_err().to_string();
        assert!(said.contains("another network's weights") && said.contains(word), "{said}");
    }
}

#[test]
fn values_that_are_no_numbers_are_refused_with_their_tensors_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let other = network(&LOGISTIC, COLOR, 2);
    let before = tensors(&other);
    let mut saved = tensors(&network(&LOGISTIC, COLOR, 1));
    saved.insert(
        "dense.bias".to_owned(),
        Tensor::new(&[f32::NAN, f32::NEG_INFINITY, 1.0], &Device::Cpu).unwrap(),
    );
    write(&path, &saved);
    let error = other.load(&path).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, Error::NotFinite(_)), "{said}");
    assert!(said.contains("w.safetensors") && said.contains("dense.bias holds 1 NaN and 1 Inf"), "{said}");
    same(&other, &before);
    // A number that only float64 holds.
    saved.insert("dense.bias".to_owned(), Tensor::new(&[1e300f64, 0.0, 0.0], &Device::Cpu).unwrap());
    write(&path, &saved);
    let said = other.load(&path).unwrap_err().to_string();
    assert!(said.contains("dense.bias holds 1 Inf"), "{said}");
    same(&other, &before);
}

#[test]
fn every_floating_point_type_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let saved = tensors(&network(&LOGISTIC, COLOR, 1));
    for (dtype, tolerance) in [(DType::F16, 1e-3), (DType::BF16, 1e-2), (DType::F64, 0.0)] {
        let there: BTreeMap<String, Tensor> =
            saved.iter().map(|(name, t)| (name.clone(), t.to_dtype(dtype).unwrap())).collect();
        write(&path, &there);
        let network = network(&LOGISTIC, COLOR, 2);
        network.load(&path).unwrap();
        for (name, value) in tensors(&network) {
            assert_eq!(value.dtype(), DType::F32);
            let far = flat(&value).iter().zip(flat(&saved[&name])).any(|(a, b)| (a - b).abs() > tolerance);
            assert!(!far, "{dtype:?}: {name}");
        }
    }
    let whole: BTreeMap<String, Tensor> =
        saved.iter().map(|(name, t)| (name.clone(), t.to_dtype(DType::U8).unwrap())).collect();
    write(&path, &whole);
    let said = network(&LOGISTIC, COLOR, 2).load(&path).unwrap_err().to_string();
    assert!(said.contains("no floating-point weights") && said.contains("found U8"), "{said}");
}

/// The gray network of color weights sees a gray image as the color network sees it three times.
#[test]
fn color_weights_take_gray_images_by_the_sum_of_their_channels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let color = network(&MOBILENET_V2, COLOR, 1);
    write(&path, &tensors(&color));
    let gray = network(&MOBILENET_V2, GRAY, 2);
    let said = gray.load(&path).unwrap_err().to_string();
    assert!(said.contains("conv_stem.weight, expected [32, 1, 3, 3], found [32, 3, 3, 3]"), "{said}");
    gray.load_for_gray(&path, None).unwrap();
    let image = Tensor::rand(-1f32, 1.0, (2, 1, 32, 32), &Device::Cpu).unwrap();
    let colored = image.repeat((1, 3, 1, 1)).unwrap();
    let (a, b) = (gray.forward_t(&image, false).unwrap(), color.forward_t(&colored, false).unwrap());
    for (a, b) in flat(&a).iter().zip(flat(&b)) {
        assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} {b}");
    }
    // The other layers must still have their shapes.
    let mut wrong = tensors(&color);
    wrong.insert("classifier.bias".to_owned(), Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap());
    write(&path, &wrong);
    assert!(gray.load_for_gray(&path, None).unwrap_err().to_string().contains("classifier.bias"));
}

#[test]
fn weights_in_parts_are_read_by_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let saved = tensors(&network(&MOBILENET_V2, COLOR, 1));
    let index = folder.path().join("model.safetensors.index.json");
    let part = |i: usize| format!("model-0000{}-of-00002.safetensors", i % 2 + 1);
    let map: BTreeMap<&String, String> = saved.keys().enumerate().map(|(i, name)| (name, part(i))).collect();
    std::fs::write(&index, serde_json::json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
    for i in 0..2 {
        let half = saved.iter().enumerate().filter(|(at, _)| at % 2 == i);
        write(&folder.path().join(part(i)), &half.map(|(_, (name, t))| (name.clone(), t.clone())).collect());
    }
    assert_eq!(WeightsHeader::read(&index).unwrap().tensors.len(), saved.len());
    let network = network(&MOBILENET_V2, COLOR, 2);
    network.load(&index).unwrap();
    same(&network, &saved);
    std::fs::remove_file(folder.path().join(part(1))).unwrap();
    let said = network.load(&index).unwrap_err().to_string();
    assert!(said.contains("model-00002-of-00002.safetensors"), "{said}");
    for (text, word) in [
        (r#"{"weight_map": {"a": "../../etc/passwd"}}"#, "no file beside it"),
        (r#"{"weight_map": {}}"#, "no file"),
        ("<html>", "no index"),
    ] {
        std::fs::write(&index, text).unwrap();
        let said = network.load(&index).unwrap_err().to_string();
        assert!(said.contains(word) && said.contains("index.json"), "{said}");
    }
}

fn zip(names: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in names {
        bytes.extend(b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0");
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(name.as_bytes());
        bytes.push(b'x');
    }
    bytes
}

#[test]
fn other_formats_are_called_by_their_names_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 14184240\n";
    let mut legacy = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec();
    legacy.extend([0; 100]);
    let tar = [vec![b'a'; 257], b"ustar\x0000".to_vec(), vec![0; 300]].concat();
    let cases: [(&str, Vec<u8>, &[&str]); 24] = [
        ("model.safetensors", lfs.into(), &["Git LFS pointer", "git lfs pull"]),
        ("page.safetensors", "\n<!DOCTYPE html><html>404".into(), &["a web page", "/resolve/"]),
        ("login.safetensors", "\u{feff}<HTML><head>".into(), &["a web page"]),
        ("error.safetensors", r#" {"error": "Repository not found"}"#.into(), &["a JSON document"]),
        ("entry.safetensors", "Entry not found".into(), &["a text file"]),
        ("none.safetensors", Vec::new(), &["an empty file"]),
        (
            "pytorch_model.bin",
            zip(&["archive/data.pkl"]),
            &["PyTorch", "save_file", "pytorch_model.safetensors"],
        ),
        ("old.pth", legacy, &["PyTorch", "torch.load", "weights_only=True", "old.safetensors"]),
        ("plain.pkl", b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94.".to_vec(), &["a pickle"]),
        ("script.pt", zip(&["m/data.pkl", "m/constants.pkl"]), &["TorchScript", "state_dict()"]),
        ("model.keras", zip(&["metadata.json", "config.json", "model.weights.h5"]), &["Keras"]),
        ("model.h5", b"\x89HDF\r\n\x1a\n\0\0\0\0".to_vec(), &["Keras", "HDF5"]),
        ("model.npz", zip(&["conv.npy"]), &["NumPy"]),
        ("packed.zip", zip(&["model.safetensors"]), &["zip", "unzip"]),
        ("model.safetensors.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03abc".to_vec(), &["gzip", "gunzip"]),
        ("model.tar", tar, &["tar archive"]),
        ("model.onnx", b"\x08\x07\x12\x07pytorch\x1a\x052.0.1:".to_vec(), &["ONNX"]),
        ("model.tflite", b"\x1c\0\0\0TFL3\0\0\0\0".to_vec(), &["TensorFlow Lite"]),
        ("model.gguf", b"GGUF\x03\0\0\0\0\0\0\0".to_vec(), &["GGUF"]),
        ("model.safetensors.zst", b"\x28\xb5\x2f\xfd\0\0\0\0\0\0".to_vec(), &["zstd"]),
        ("model.safetensors.xz", b"\xfd7zXZ\0\0\x04\xe6\xd6".to_vec(), &["xz", "unxz"]),
        ("model.safetensors.bz2", b"BZh91AY&SY\0".to_vec(), &["bzip2", "bunzip2"]),
        ("model.7z", b"7z\xbc\xaf\x27\x1c\0\x04\0\0".to_vec(), &["7-Zip", "7z x"]),
        ("model.rar", b"Rar!\x1a\x07\0\xcf\x90\x73".to_vec(), &["RAR", "unrar x"]),
    ];
    for (name, bytes, words) in cases {
        let path: PathBuf = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = network(&LOGISTIC, COLOR, 1).load(&path).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, Error::Foreign(_)), "{said}");
        for word in words.iter().chain(&[name, "safetensors files alone"]) {
            assert!(said.contains(word), "should say {word:?}: {said}");
        }
    }
}

/// torchvision's own networks with random weights: the file is read, and the logits are torchvision's.
#[test]
#[ignore = "needs torchvision"]
fn the_installed_torchvisions_networks_are_the_same() {
    let Some(python) = std::env::var_os("FIRSTSIGHT_PYTHON") else {
        eprintln!("FIRSTSIGHT_PYTHON is not set: nothing is compared with torchvision");
        return;
    };
    // torchvision's name and timm's. Its MobileNetV3, EfficientNet-B5 to -B7 and V2 have another ε.
    let names = [
        ("mobilenet_v2", "mobilenetv2_100"),
        ("resnet18", "resnet18"),
        ("resnet50", "resnet50"),
        ("resnext50_32x4d", "resnext50_32x4d"),
        ("wide_resnet50_2", "wide_resnet50_2"),
        ("efficientnet_b0", "efficientnet_b0"),
        ("efficientnet_b1", "efficientnet_b1"),
        ("efficientnet_b4", "efficientnet_b4"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/torchvision_save.py");
    let theirs = names.map(|(theirs, _)| theirs);
    let ran =
        std::process::Command::new(python).arg(script).arg(folder.path()).args(theirs).status().unwrap();
    assert!(ran.success());
    for (theirs, ours) in names {
        let params = Params::zeros(&Device::Cpu);
        let input = InputShape::Map { channels: 3, height: 75, width: 64 };
        let info = registry::find(ours).unwrap();
        let network = ImageClassifier::new(info, input, 1000, info.init, &params).unwrap();
        network.load(&folder.path().join(format!("{theirs}.safetensors"))).unwrap();
        let outputs = folder.path().join(format!("{theirs}.outputs.safetensors"));
        let outputs = candle_core::safetensors::load(outputs, &Device::Cpu).unwrap();
        let logits = network.forward_t(&outputs["images"], false).unwrap();
        let norm = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
        let difference = norm(&(&logits - &outputs["logits"]).unwrap()) / norm(&outputs["logits"]);
        println!("{theirs}: {difference:.1e}");
        assert!(difference < 1e-5, "{theirs}: {difference}");
    }
}
