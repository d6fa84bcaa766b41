//! The networks against the tables that the lecture prints, and what happens to what doesn't fit.

use candle_core::{DType, Device, ModuleT as _, Tensor};
use firstsight_models::graph::Op;
use firstsight_models::networks::{
    ALEXNET, AlexNetConfig, CONVNEXTS, ConvNeXt, ConvNeXtConfig, ConvNeXtSize, LENET5, LOGISTIC,
    LeNet5Config, LeNetOutput, LeNetPooling, MOBILENET_V2, MobileNetV2Config, RESNET_SMALL, ResNet,
    ResNetConfig, SMALL_CNN, SWINS, SmallResNet, SmallResNetConfig, Swin, SwinConfig, SwinSize, VITS, Vit,
    VitConfig, VitSize, XCEPTION, Xception, XceptionConfig,
};
use firstsight_models::summary::{Style, Trace};
use firstsight_models::{
    Error, Framework, ImageClassifier, Init, InputShape, LayerSpec, Linear, ModelInfo, Network, Params,
    Summary, registry,
};
use firstsight_ops::Activation;

const LECTURE_RGB: InputShape = InputShape::Map { channels: 3, height: 80, width: 60 };
const LECTURE: InputShape = InputShape::Map { channels: 1, height: 80, width: 60 };

fn network(kind: &'static ModelInfo, seed: u64) -> (ImageClassifier, Params) {
    let params = Params::seeded(seed, &Device::Cpu);
    (ImageClassifier::new(kind, LECTURE, 55, Init::Keras, &params).unwrap(), params)
}

fn rows(summary: &Summary) -> Vec<(&str, &str, Vec<usize>, usize)> {
    summary.rows.iter().map(|r| (r.name.as_str(), r.kind, r.output.channels_last(), r.params)).collect()
}

#[test]
fn logistic_regression_has_the_rows_that_the_lecture_prints() {
    let summary = network(&LOGISTIC, 1).0.summary();
    assert_eq!(
        rows(&summary),
        [
            ("flatten", "Flatten", vec![4800], 0),
            ("rescaling", "Rescaling", vec![4800], 0),
            ("dense", "Dense", vec![55], 264_055),
        ]
    );
    assert_eq!(summary.total_params(), 264_055);
}

#[test]
fn the_small_cnn_has_the_rows_that_the_lecture_prints() {
    let summary = network(&SMALL_CNN, 1).0.summary();
    assert_eq!(
        rows(&summary),
        [
            ("rescaling_1", "Rescaling", vec![80, 60, 1], 0),
            ("conv1", "Conv2D", vec![80, 60, 16], 160),
            ("pool1", "MaxPooling2D", vec![40, 30, 16], 0),
            ("conv2", "Conv2D", vec![40, 30, 32], 4640),
            ("pool2", "MaxPooling2D", vec![20, 15, 32], 0),
            ("conv3", "Conv2D", vec![20, 15, 64], 18_496),
            ("pool3", "MaxPooling2D", vec![5, 3, 64], 0),
            ("flatten_1", "Flatten", vec![960], 0),
            ("dense_1", "Dense", vec![64], 61_504),
            ("dense_2", "Dense", vec![55], 3575),
        ]
    );
    assert_eq!(summary.total_params(), 88_375);
}

/// A variant of a network, small enough to run in a test.
#[derive(Debug, Clone)]
enum Variant {
    Usual(&'static ModelInfo),
    LeNet5(LeNet5Config),
    MobileNetV2(MobileNetV2Config),
    Xception(XceptionConfig),
    SmallResNet(SmallResNetConfig),
    Vit(VitConfig),
    Swin(SwinConfig),
    ConvNeXt(ConvNeXtConfig),
}

impl Variant {
    fn info(&self) -> &'static ModelInfo {
        match self {
            Self::Usual(info) => info,
            Self::LeNet5(_) => &LENET5,
            Self::MobileNetV2(_) => &MOBILENET_V2,
            Self::Xception(_) => &XCEPTION,
            Self::SmallResNet(_) => &RESNET_SMALL,
            Self::Vit(_) => &VITS[0],
            Self::Swin(_) => &SWINS[0],
            Self::ConvNeXt(_) => &CONVNEXTS[0],
        }
    }

    fn build(&self, input: InputShape, init: Init, params: &Params) -> Result<ImageClassifier, Error> {
        let (info, vb) = (self.info(), params.builder_for(init));
        let head = (info.head)(10);
        match self {
            Self::Usual(info) => ImageClassifier::new(info, input, 10, init, params),
            Self::LeNet5(config) => ImageClassifier::from_table(info, &config.table(10), input, init, params),
            Self::MobileNetV2(config) => {
                let network = config.network(init, &vb)?;
                ImageClassifier::from_network(info, network, head, input, init, params)
            }
            Self::Xception(config) => {
                let network = Xception::new(config, init, &vb)?;
                ImageClassifier::from_network(info, network, head, input, init, params)
            }
            Self::SmallResNet(config) => {
                let network = SmallResNet::new(config, init, &vb)?;
                ImageClassifier::from_network(info, network, head, input, init, params)
            }
            Self::Vit(config) => {
                let (_, height, width) = input.map()?;
                let network = Vit::new(config, (height, width), init, &vb)?;
                ImageClassifier::from_network(info, network, head, input, init, params)
            }
            Self::Swin(config) => {
                let (_, height, width) = input.map()?;
                let network = Swin::new(config, (height, width), init, &vb)?;
                ImageClassifier::from_network(info, network, head, input, init, params)
            }
            Self::ConvNeXt(config) => {
                let network = ConvNeXt::new(config, init, &vb)?;
                ImageClassifier::from_network(info, network, head, input, init, params)
            }
        }
    }
}

/// Every network.
fn each() -> Vec<(Variant, InputShape)> {
    let map = |channels, side| InputShape::Map { channels, height: side, width: side };
    let dino = VitConfig { patch: 16, depth: 2, ..VitConfig::dino_v2(VitSize::Small, 4) };
    let (swin, v2) = (SwinConfig::of(SwinSize::Tiny), ConvNeXtConfig::v2(ConvNeXtSize::Tiny));
    let small = MobileNetV2Config { width: 0.25, ..MobileNetV2Config::TIMM };
    vec![
        (Variant::Usual(&LOGISTIC), LECTURE),
        (Variant::Usual(&SMALL_CNN), LECTURE),
        (Variant::LeNet5(LeNet5Config::DENSE), map(1, 32)),
        (Variant::LeNet5(LeNet5Config::PAPER), map(1, 32)),
        (Variant::MobileNetV2(small.clone()), map(3, 64)),
        (Variant::MobileNetV2(MobileNetV2Config { framework: Framework::Keras, ..small }), map(3, 64)),
        (Variant::Xception(XceptionConfig { divisor: 8, ..XceptionConfig::TIMM }), map(3, 40)),
        (Variant::Xception(XceptionConfig { divisor: 8, ..XceptionConfig::KERAS }), map(3, 41)),
        (Variant::SmallResNet(SmallResNetConfig::of(1)), map(3, 16)),
        (Variant::SmallResNet(SmallResNetConfig { residual: false, ..SmallResNetConfig::of(2) }), map(3, 15)),
        (Variant::Usual(registry::find("resnet18d").unwrap()), map(3, 33)),
        (Variant::Usual(registry::find("mobilenetv3_small_050").unwrap()), map(3, 40)),
        (Variant::Usual(registry::find("tf_efficientnetv2_b0").unwrap()), map(3, 35)),
        (Variant::Vit(VitConfig { width: 24, depth: 2, ..VitConfig::of(VitSize::Tiny) }), map(3, 48)),
        (Variant::Vit(VitConfig { width: 24, drop_path: 0.5, ..dino }), map(3, 32)),
        (Variant::Swin(SwinConfig { width: 12, depths: [2; 4], drop_path: 0.5, ..swin }), map(3, 100)),
        (
            Variant::ConvNeXt(ConvNeXtConfig { width: 8, ..ConvNeXtConfig::of(ConvNeXtSize::Atto) }),
            map(3, 40),
        ),
        (Variant::ConvNeXt(ConvNeXtConfig { width: 8, depths: [1; 4], drop_path: 0.5, ..v2 }), map(3, 33)),
    ]
}

fn build(variant: &Variant, input: InputShape, seed: u64) -> (ImageClassifier, Params) {
    let params = Params::seeded(seed, &Device::Cpu);
    (variant.build(input, variant.info().init, &params).unwrap(), params)
}

fn batch(input: InputShape) -> Tensor {
    let [height, width, channels] = input.channels_last()[..] else { panic!("{input:?}") };
    let n = 2 * input.count();
    let values: Vec<f32> = (0..n).map(|i| ((i * i) % 251) as f32 / 251.0).collect();
    Tensor::from_vec(values, (2, channels, height, width), &Device::Cpu).unwrap()
}

#[test]
fn the_tensors_that_exist_are_those_that_the_summary_counts() {
    for (config, input) in each() {
        let (network, params) = build(&config, input, 1);
        let count = |vars: Vec<candle_core::Var>| vars.iter().map(|var| var.elem_count()).sum::<usize>();
        let summary = network.summary();
        assert_eq!(count(params.trainable()), summary.total_params(), "{config:?}");
        assert_eq!(count(params.vars(|_| true)), summary.total_params() + summary.buffers(), "{config:?}");
        for style in [Style::Keras, Style::Timm] {
            let other = network.summary_as(style);
            assert_eq!(other.total_params(), summary.total_params(), "{config:?} {style:?}");
            assert_eq!(other.buffers(), summary.buffers(), "{config:?} {style:?}");
            assert_eq!(other.multiply_adds(), summary.multiply_adds(), "{config:?} {style:?}");
        }
    }
}

#[test]
fn parts_make_the_whole_and_shapes_are_those_of_the_summary() {
    for (config, input) in each() {
        let (network, _) = build(&config, input, 3);
        let x = batch(input);
        let maps = network.forward_features(&x, false).unwrap();
        let features = network.pre_logits(&maps, false).unwrap();
        assert_eq!(features.dims(), [2, network.n_features()], "{config:?}");
        let logits = network.forward_t(&x, false).unwrap();
        assert_eq!(logits.dims(), [2, 10], "{config:?}");
        let whole = logits.to_vec2::<f32>().unwrap();
        assert_eq!(network.classify(&features, false).unwrap().to_vec2::<f32>().unwrap(), whole);
        assert_eq!(network.forward_head(&maps, false).unwrap().to_vec2::<f32>().unwrap(), whole);
        let backbone = network.backbone().forward_t(&x, false).unwrap();
        assert_eq!(backbone.to_vec2::<f32>().unwrap(), features.to_vec2::<f32>().unwrap());
        assert!(whole.iter().flatten().all(|v| v.is_finite()), "{config:?}");

        let summary = network.summary();
        for (name, output) in network.intermediates(&x).unwrap() {
            // A block's row is its last one.
            let row = summary
                .rows
                .iter()
                .rfind(|row| row.name == name || row.name.starts_with(&format!("{name}.")));
            let row = row.unwrap_or_else(|| panic!("{config:?}: {name} is in no row"));
            let expected = match row.output {
                InputShape::Map { channels, height, width } => vec![2, channels, height, width],
                InputShape::Tokens { n_tokens, channels } => vec![2, n_tokens, channels],
                InputShape::Features(n) => vec![2, n],
            };
            assert_eq!(output.dims(), expected, "{config:?} {name}");
        }
    }
}

#[test]
fn every_trainable_variable_gets_a_gradient_and_training_moves_the_statistics() {
    for (config, input) in each() {
        let (network, params) = build(&config, input, 4);
        let logits = network.forward_t(&batch(input), true).unwrap();
        let labels = Tensor::new(&[3u32, 7], &Device::Cpu).unwrap();
        let grads = firstsight_ops::softmax_cross_entropy(&logits, &labels).unwrap().backward().unwrap();
        for (name, var) in params.named() {
            if !firstsight_models::is_buffer(&name) {
                let grad = grads.get(&var).unwrap_or_else(|| panic!("{config:?}: no gradient for {name}"));
                assert_eq!(grad.dims(), var.dims(), "{config:?} {name}");
            } else if name.ends_with("running_mean") {
                let moved = var.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(moved > 0.0, "{config:?}: {name} did not move");
            }
        }
    }
}

#[test]
fn every_variable_is_in_one_block() {
    for (config, input) in each() {
        let (network, params) = build(&config, input, 4);
        let blocks = network.blocks();
        for name in params.names() {
            let holding: Vec<&str> =
                blocks.iter().filter(|block| block.holds(&name)).map(|block| block.name.as_str()).collect();
            assert_eq!(holding.len(), 1, "{config:?}: {name} is in {holding:?}");
        }
    }
}

#[test]
fn a_dense_layer_has_as_many_inputs_and_outputs_as_it_was_made_for() {
    let params = Params::zeros(&Device::Cpu);
    let layer = Linear::new(5, 3, Activation::Identity, Init::Keras, &params.builder()).unwrap();
    assert_eq!((layer.n_in(), layer.n_out(), layer.n_params()), (5, 3, 18));
}

#[test]
fn the_graph_has_the_activations_of_the_layers() {
    let trace = network(&SMALL_CNN, 1).0.trace();
    let activated: Vec<&str> = trace
        .nodes()
        .iter()
        .filter(|node| matches!(node.op, Op::Activation(Activation::Relu)))
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(activated, ["conv1.act", "conv2.act", "conv3.act", "dense_1.act"]);
}

#[test]
fn shortcuts_change_where_the_maps_do() {
    let input = InputShape::Map { channels: 3, height: 32, width: 32 };
    let trace = build(&Variant::SmallResNet(SmallResNetConfig::of(2)), input, 1).0.trace();
    let padded: Vec<(usize, usize)> = trace
        .nodes()
        .iter()
        .filter_map(|node| match node.op {
            Op::PadChannels { before, after } => Some((before, after)),
            _ => None,
        })
        .collect();
    assert_eq!(padded, [(8, 8), (16, 16)]);
    assert_eq!(trace.nodes().iter().filter(|node| node.name.ends_with(".shortcut")).count(), 2);
}

#[test]
fn windows_have_as_many_places_in_the_graph_as_tokens_were_taken_to() {
    let config = SwinConfig { width: 12, depths: [2; 4], ..SwinConfig::of(SwinSize::Tiny) };
    let input = InputShape::Map { channels: 3, height: 100, width: 100 };
    let trace = build(&Variant::Swin(config), input, 1).0.trace();
    let (mut taken, mut n_blocks) = (0, 0);
    for node in trace.nodes() {
        match &node.op {
            Op::ToWindows { tokens, .. } => taken = tokens.elem_count(),
            Op::FromWindows { n_places, .. } => {
                assert_eq!(*n_places, taken, "{}", node.name);
                n_blocks += 1;
            }
            _ => {}
        }
    }
    assert_eq!(n_blocks, 8);
    let merged = trace.entries().iter().filter(|entry| entry.name.ends_with(".downsample.merge"));
    let shapes: Vec<Vec<usize>> = merged.map(|entry| entry.output.channels_last()).collect();
    assert_eq!(shapes, [[13, 13, 48], [7, 7, 96], [4, 4, 192]]);
}

#[test]
fn patches_divide_the_input() {
    for (name, side) in [
        ("vit_tiny_patch16_224", 40),
        ("vit_small_patch14_dinov2", 224 + 7),
        ("swin_tiny_patch4_window7_224", 62),
    ] {
        let (info, params) = (registry::find(name).unwrap(), Params::zeros(&Device::Cpu));
        let input = InputShape::Map { channels: 3, height: 224, width: side };
        let said = ImageClassifier::new(info, input, 3, info.init, &params).unwrap_err().to_string();
        let multiple = info.input_multiple;
        assert!(said.contains(&format!("224x{side}: {multiple} must divide both sides")), "{said}");
    }
}

#[test]
fn every_family_takes_images_of_one_channel() {
    for name in [
        "mobilenetv2_050",
        "mobilenetv3_small_050",
        "tf_efficientnetv2_b0",
        "efficientnet_b0",
        "resnet18d",
        "legacy_xception",
        "vit_tiny_patch16_224",
        "vit_small_patch14_dinov2",
        "swin_tiny_patch4_window7_224",
        "convnext_atto",
    ] {
        let info = registry::find(name).unwrap();
        let count = |channels: usize| {
            let params = Params::zeros(&Device::Cpu);
            let input = InputShape::Map { channels, height: 224, width: 224 };
            ImageClassifier::new(info, input, 3, info.init, &params).unwrap();
            params.trainable().iter().map(|var| var.elem_count()).sum::<usize>()
        };
        // The first layer alone depends on them.
        let (one, two, three) = (count(1), count(2), count(3));
        assert!(one < two && two - one == three - two, "{name}: {one}, {two}, {three}");
    }
}

#[test]
fn a_new_head_is_drawn_where_the_network_was_not() {
    let input = InputShape::Map { channels: 3, height: 64, width: 64 };
    let heads = [true, false].map(|drawn| {
        let params = Params::seeded(5, &Device::Cpu);
        let params = if drawn { params } else { params.undrawn() };
        let mut network = ImageClassifier::new(&RESNET_SMALL, input, 10, Init::Kaiming, &params).unwrap();
        let sum = |name: &str| {
            params.get(name).unwrap().abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()
        };
        assert_eq!(sum("conv1.weight") > 0.0, drawn);
        network.reset_classifier(3).unwrap();
        params.get("fc.weight").unwrap().to_vec2::<f32>().unwrap()
    });
    assert_eq!(heads[0], heads[1]);
    assert!(heads[0].iter().flatten().any(|weight| *weight != 0.0));
}

#[test]
fn a_new_head_leaves_the_backbone() {
    let (config, input) = each().swap_remove(4);
    let (mut network, params) = build(&config, input, 5);
    let x = batch(input);
    let features = |network: &ImageClassifier| {
        network.backbone().forward_t(&x, false).unwrap().to_vec2::<f32>().unwrap()
    };
    let before = features(&network);
    network.reset_classifier(2).unwrap();
    assert_eq!(before, features(&network));
    assert_eq!((network.n_classes(), network.head_name()), (2, "classifier"));
    assert_eq!(network.forward_t(&x, false).unwrap().dims(), [2, 2]);
    assert_eq!(params.get("classifier.weight").unwrap().dims(), [2, 1280]);
    assert_eq!(network.summary().rows.last().unwrap().params, 2562);
}

#[test]
fn a_new_head_that_cannot_be_made_leaves_the_old_one() {
    let (config, input) = each().swap_remove(4);
    let (mut network, params) = build(&config, input, 5);
    let (x, names) = (batch(input), params.names());
    let logits = |network: &ImageClassifier| network.forward_t(&x, false).unwrap().to_vec2::<f32>().unwrap();
    let before = logits(&network);
    assert!(network.reset_classifier(300_000).unwrap_err().to_string().contains("more than"));
    let said = network.reset_classifier(0).unwrap_err().to_string();
    assert!(said.contains("at least 1 class") && said.contains("backbone()"), "{said}");
    assert_eq!(params.names(), names);
    assert_eq!(logits(&network), before);
}

/// A network whose layers cannot be listed.
#[derive(Debug)]
struct Secretive;

impl Network for Secretive {
    fn n_features(&self) -> usize {
        3
    }

    fn forward_features(&self, xs: &Tensor, _: bool) -> candle_core::Result<Tensor> {
        Ok(xs.clone())
    }

    fn pre_logits(&self, features: &Tensor, _: bool) -> candle_core::Result<Tensor> {
        firstsight_ops::global_avg_pool2d(features)
    }

    fn describe(&self, _: &mut Trace) -> candle_core::Result<()> {
        candle_core::bail!("it does not say")
    }
}

#[test]
fn a_network_that_cannot_describe_itself_is_refused() {
    let params = Params::seeded(1, &Device::Cpu);
    let (input, head) = (InputShape::Map { channels: 3, height: 8, width: 8 }, LayerSpec::dense("fc", 2));
    let classifier =
        ImageClassifier::from_network(&RESNET_SMALL, Secretive, head, input, Init::Kaiming, &params);
    assert!(classifier.unwrap_err().to_string().contains("it does not say"));
}

#[test]
fn settings_that_no_network_has_are_refused() {
    let params = Params::seeded(1, &Device::Cpu);
    let vb = params.builder();
    let init = Init::Transformer;
    let vit = |config| Vit::new(&config, (32, 32), init, &vb).map(drop);
    let swin = |config| Swin::new(&config, (32, 32), init, &vb).map(drop);
    let resnet = |config| ResNet::new(&config, Init::Kaiming, &vb).map(drop);
    let (of_vit, of_swin) = (VitConfig::of(VitSize::Tiny), SwinConfig::of(SwinSize::Tiny));
    let of_resnet = ResNetConfig::RESNET50;
    let input = InputShape::Map { channels: 3, height: 32, width: 32 };
    let refused = [
        (vit(VitConfig { heads: 0, ..of_vit }), "0 heads, 192 features"),
        (vit(VitConfig { heads: 5, ..of_vit }), "5 heads, 192 features"),
        (vit(VitConfig { patch: 0, ..of_vit }), "at least 1 pixel"),
        (swin(SwinConfig { window: 0, ..of_swin }), "at least 1 token"),
        (swin(SwinConfig { heads: 0, ..of_swin }), "0 heads, 96 features"),
        (swin(SwinConfig { heads: 5, ..of_swin }), "5 heads, 96 features"),
        (resnet(ResNetConfig { groups: 0, ..of_resnet }), "0 groups of 64 channels"),
        (resnet(ResNetConfig { group_width: 0, ..of_resnet }), "1 groups of 0 channels"),
        (ImageClassifier::new(&RESNET_SMALL, input, 0, Init::Kaiming, &params).map(drop), "at least 1 class"),
    ];
    for (result, expected) in refused {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Setting { .. }) && error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn published_counts_come_out() {
    let params = Params::seeded(0, &Device::Cpu);
    let mobilenet = MobileNetV2Config::TIMM.network(Init::Kaiming, &params.builder()).unwrap();
    let xception = Params::seeded(0, &Device::Cpu);
    let xception = Xception::new(&XceptionConfig::TIMM, Init::Kaiming, &xception.builder()).unwrap();
    let count = |describe: &dyn Fn(&mut Trace), side: usize| {
        let mut trace = Trace::new(InputShape::Map { channels: 3, height: side, width: side });
        describe(&mut trace);
        let layers = || trace.entries().iter();
        (layers().map(|e| e.params).sum::<usize>(), layers().map(|e| e.multiply_adds).sum::<u64>())
    };
    // A head of 1000 classes is 1,281,000 of the one and 2,049,000 of the other.
    let (params, multiply_adds) = count(&|trace| mobilenet.describe(trace).unwrap(), 224);
    assert_eq!(params + 1_281_000, 3_504_872);
    assert_eq!(multiply_adds + 1_280_000, 300_774_272);
    let (params, multiply_adds) = count(&|trace| xception.describe(trace).unwrap(), 299);
    assert_eq!(params + 2_049_000, 22_855_952);
    assert_eq!(multiply_adds + 2_048_000, 8_357_403_496);
}

#[test]
fn alexnets_have_the_lectures_and_torchvisions_counts() {
    let network = |config: AlexNetConfig, side| {
        let params = Params::seeded(1, &Device::Cpu);
        let input = InputShape::Map { channels: 3, height: side, width: side };
        ImageClassifier::from_table(&ALEXNET, &config.table(1000), input, Init::Krizhevsky, &params).unwrap()
    };
    let summary = network(AlexNetConfig::Lecture, 227).summary();
    let sizes: Vec<Vec<usize>> = summary.rows[1..9].iter().map(|row| row.output.channels_last()).collect();
    assert_eq!(
        sizes,
        [
            [55, 55, 96],
            [27, 27, 96],
            [27, 27, 256],
            [13, 13, 256],
            [13, 13, 384],
            [13, 13, 384],
            [13, 13, 256],
            [6, 6, 256]
        ]
    );
    assert_eq!(summary.total_params(), 62_378_344);
    let summary = network(AlexNetConfig::Torchvision, 224).summary();
    assert_eq!((summary.total_params(), summary.multiply_adds()), (61_100_840, 714_188_480));
}

#[test]
fn lenet5_has_the_papers_shapes_and_the_counts_of_its_variants() {
    let count = |pooling, output| {
        let config = Variant::LeNet5(LeNet5Config { pooling, output });
        build(&config, InputShape::Map { channels: 1, height: 32, width: 32 }, 1).0.summary()
    };
    let summary = count(LeNetPooling::Average, LeNetOutput::Dense);
    assert_eq!(
        rows(&summary),
        [
            ("rescaling", "Rescaling", vec![32, 32, 1], 0),
            ("c1", "Conv2D", vec![28, 28, 6], 156),
            ("s2", "AveragePooling2D", vec![14, 14, 6], 0),
            ("c3", "Conv2D", vec![10, 10, 16], 2416),
            ("s4", "AveragePooling2D", vec![5, 5, 16], 0),
            ("c5", "Conv2D", vec![1, 1, 120], 48_120),
            ("flatten", "Flatten", vec![120], 0),
            ("f6", "Dense", vec![84], 10_164),
            ("output", "Dense", vec![10], 850),
        ]
    );
    assert_eq!(summary.total_params(), 61_706);
    assert_eq!(count(LeNetPooling::Trainable, LeNetOutput::Dense).total_params(), 61_750);
    assert_eq!(count(LeNetPooling::Average, LeNetOutput::Rbf).total_params(), 60_856);
    assert_eq!(count(LeNetPooling::Trainable, LeNetOutput::Rbf).total_params(), 60_900);
}

#[test]
fn residual_and_plain_networks_have_the_same_parameters() {
    let count = |residual| {
        let config = Variant::SmallResNet(SmallResNetConfig { residual, ..SmallResNetConfig::of(3) });
        build(&config, InputShape::Map { channels: 3, height: 32, width: 32 }, 1).0.summary().total_params()
    };
    assert_eq!((count(true), count(false)), (269_722, 269_722));
}

#[test]
fn the_output_stride_dilates_in_place_of_striding() {
    let input = InputShape::Map { channels: 3, height: 64, width: 64 };
    for (output_stride, side) in [(32, 2), (16, 4), (8, 8), (4, 16), (2, 32)] {
        let config = MobileNetV2Config { output_stride, width: 0.25, ..MobileNetV2Config::TIMM };
        let (network, _) = build(&Variant::MobileNetV2(config), input, 1);
        assert_eq!(network.forward_features(&batch(input), false).unwrap().dims(), [2, 1280, side, side]);
    }
}

#[test]
fn the_same_seed_makes_the_same_network() {
    let x = Tensor::arange(0f32, 4800.0, &Device::Cpu).unwrap().reshape((1, 1, 80, 60)).unwrap();
    let logits = |seed| {
        let (network, _) = network(&SMALL_CNN, seed);
        network.forward_t(&x, false).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(logits(5), logits(5));
    assert_ne!(logits(5), logits(6));
}

#[test]
fn the_fused_pass_gives_what_the_layers_give_one_by_one() {
    let x = Tensor::ones((2, 1, 80, 60), DType::F32, &Device::Cpu).unwrap();
    let (network, _) = network(&SMALL_CNN, 9);
    let features = network.backbone().forward_t(&x, false).unwrap();
    let last = network.intermediates(&x).unwrap().pop().unwrap();
    assert_eq!(last.0, "dense_1");
    let difference =
        (last.1 - features).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(difference < 1e-4, "the fused pass differs from the layers one by one by {difference}");
}

#[test]
fn a_frozen_network_over_existing_variables_records_nothing_and_gives_the_same() {
    let (cnn, params) = network(&SMALL_CNN, 3);
    let input = cnn.input();
    let frozen = ImageClassifier::new(&SMALL_CNN, input, 55, Init::Keras, &params.frozen(|_| true)).unwrap();
    let xs = batch(input);
    let (ours, theirs) = (cnn.forward_t(&xs, false).unwrap(), frozen.forward_t(&xs, false).unwrap());
    assert!(ours.track_op() && !theirs.track_op());
    assert_eq!(ours.to_vec2::<f32>().unwrap(), theirs.to_vec2::<f32>().unwrap());
}

#[test]
fn a_missing_batch_axis_is_named() {
    let (network, _) = network(&SMALL_CNN, 1);
    let x = Tensor::zeros((1, 80, 60), DType::F32, &Device::Cpu).unwrap();
    let error = network.forward_t(&x, false).unwrap_err().to_string();
    assert!(error.contains("(B, 1, 80, 60)") && error.contains("unsqueeze(0)"), "{error}");
    let (network, _) = build(&Variant::SmallResNet(SmallResNetConfig::of(1)), LECTURE_RGB, 1);
    let x = Tensor::zeros((3, 80, 60), DType::F32, &Device::Cpu).unwrap();
    let error = network.forward_t(&x, false).unwrap_err().to_string();
    assert!(error.contains("(B, 3, H, W)") && error.contains("unsqueeze(0)"), "{error}");
}

#[test]
fn weights_come_back_from_a_file_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (_, saved) = network(&LOGISTIC, 1);
    saved.save(&path).unwrap();
    let (_, loaded) = network(&LOGISTIC, 2);
    loaded.load(&path).unwrap();
    let bytes = |p: &Params| p.get("dense.weight").unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(bytes(&saved), bytes(&loaded));
}

#[test]
fn another_networks_weights_are_refused_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    network(&LOGISTIC, 1).1.save(&path).unwrap();
    let (_, params) = network(&SMALL_CNN, 2);
    let before = params.get("conv1.weight").unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let error = params.load(&path).unwrap_err();
    let Error::Mismatch(mismatch) = &error else { panic!("{error}") };
    assert_eq!(mismatch.missing[0], "conv1.bias");
    assert_eq!(mismatch.unexpected, ["dense.bias", "dense.weight"]);
    let text = error.to_string();
    assert!(
        text.contains("model.safetensors") && text.contains("conv1.bias") && text.contains("dense.bias"),
        "{text}"
    );
    assert_eq!(before, params.get("conv1.weight").unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap());
}

#[test]
fn a_head_of_another_size_is_named_with_both_shapes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    network(&LOGISTIC, 1).1.save(&path).unwrap();
    let params = Params::seeded(1, &Device::Cpu);
    ImageClassifier::new(&LOGISTIC, LECTURE, 10, Init::Keras, &params).unwrap();
    let text = params.load(&path).unwrap_err().to_string();
    assert!(text.contains("dense.bias") && text.contains("[10]") && text.contains("[55]"), "{text}");
}

#[test]
fn damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (_, params) = network(&LOGISTIC, 1);
    let missing = folder.path().join("none.safetensors");
    assert!(params.load(&missing).unwrap_err().to_string().contains("none.safetensors"));
    let truncated = folder.path().join("cut.safetensors");
    params.save(&truncated).unwrap();
    let bytes = std::fs::read(&truncated).unwrap();
    std::fs::write(&truncated, &bytes[..bytes.len() / 2]).unwrap();
    let text = params.load(&truncated).unwrap_err().to_string();
    assert!(text.contains("cut.safetensors") && text.contains("not a sound safetensors file"), "{text}");
    let hostile = folder.path().join("hostile.safetensors");
    std::fs::write(&hostile, u64::MAX.to_le_bytes()).unwrap();
    assert!(params.load(&hostile).is_err());
}

#[test]
fn an_unknown_name_suggests_the_nearest() {
    let text = registry::find("smal-cnn").unwrap_err().to_string();
    assert!(text.contains("did you mean 'small-cnn'?"), "{text}");
    let text = registry::find("q").unwrap_err().to_string();
    assert!(!text.contains("did you mean") && text.contains("logistic, small-cnn"), "{text}");
}

#[test]
fn an_input_too_small_names_the_smallest() {
    for (config, _) in each() {
        let smallest = config.info().smallest_input;
        let try_side = |height, width| {
            let input = InputShape::Map { channels: config.info().usual_input.0, height, width };
            let network = config.build(input, Init::Keras, &Params::seeded(1, &Device::Cpu))?;
            network.forward_t(&batch(input), false)?;
            Ok::<(), Error>(())
        };
        try_side(smallest, smallest).unwrap_or_else(|e| panic!("{config:?}: {e}"));
        let text = try_side(smallest - 1, smallest + 9).unwrap_err().to_string();
        assert!(text.contains(&format!("{}x{}", smallest - 1, smallest + 9)), "{text}");
        assert!(text.contains(&format!("{smallest}x{smallest}")), "{text}");
    }
}

/// The list that `model.summary()` of the lecture's Keras prints without the top has 155 layers.
#[test]
fn mobilenet_v2_has_the_155_layers_that_keras_lists() {
    let params = Params::seeded(1, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 224, width: 224 };
    let network = ImageClassifier::new(&MOBILENET_V2, input, 2, Init::Keras, &params).unwrap();
    let summary = network.summary_as(Style::Keras).without_head();
    let count = |kind: &str| summary.rows.iter().filter(|row| row.kind == kind).count();
    let kinds = [
        ("InputLayer", 1),
        ("ZeroPadding2D", 5),
        ("Conv2D", 35),
        ("DepthwiseConv2D", 17),
        ("BatchNormalization", 52),
        ("ReLU", 35),
        ("Add", 10),
    ];
    for (kind, n) in kinds {
        assert_eq!(count(kind), n, "{kind}");
    }
    assert_eq!(summary.rows.len(), 155);
    // Keras's counts without the top: 2,257,984 in all, 34,112 of them running statistics.
    assert_eq!((summary.total_params() + summary.buffers(), summary.buffers()), (2_257_984, 34_112));
    let text = summary.to_string();
    assert!(text.contains("Non-trainable params: 34,112"), "{text}");
    assert!(text.contains("block_1_pad (ZeroPadding2D)"), "{text}");

    let Some(shared) = std::env::var_os("FIRSTSIGHT_SHARED") else {
        eprintln!("FIRSTSIGHT_SHARED is not set: the lecture's own list is not checked");
        return;
    };
    let golden = std::fs::read_to_string(std::path::Path::new(&shared).join("golden/lecture.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&golden).unwrap();
    let lecture: Vec<(&str, &str)> = golden["mobilenet_v2_layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row[0].as_str().unwrap(), row[1].as_str().unwrap()))
        .collect();
    let ours: Vec<(&str, &str)> = summary.rows.iter().map(|row| (row.name.as_str(), row.kind)).collect();
    assert_eq!(ours, lecture);
}

#[test]
fn summaries_count_work_memory_and_what_is_frozen() {
    let (network, _) = network(&SMALL_CNN, 1);
    let summary = network.summary();
    let conv1 = &summary.rows[1];
    assert_eq!((conv1.multiply_adds, conv1.output_bytes(), conv1.weight_bytes()), (691_200, 307_200, 640));
    // conv1, conv2 and conv3 at 80×60, 40×30 and 20×15; the dense layers.
    let by_hand = 691_200 + 1200 * 32 * 144 + 300 * 64 * 288 + 960 * 64 + 64 * 55;
    assert_eq!(summary.multiply_adds(), by_hand);
    assert_eq!(summary.weight_bytes(), 4 * 88_375);
    let frozen = summary.clone().freeze(|name| name.starts_with("conv"));
    assert_eq!((frozen.total_params(), frozen.trainable_params()), (88_375, 61_504 + 3575));
    let text = frozen.to_string();
    assert!(text.contains("parameters 88,375, trainable 65,079, frozen 23,296"), "{text}");
    assert_eq!(summary.without_head().rows.last().unwrap().name, "pool3");
    let text = network.summary_as(Style::Timm).to_string();
    assert!(text.contains("Linear") && text.contains("(16, 80, 60)"), "{text}");
}
