//! The networks against the tables that the lecture prints, and what happens to what doesn't fit.

use candle_core::{DType, Device, ModuleT as _, Tensor};
use firstsight_models::{Dims, Error, ImageClassifier, ModelKind, Params, Scheme, Summary};

const LECTURE: Dims = Dims::Map { channels: 1, height: 80, width: 60 };

fn network(kind: ModelKind, seed: u64) -> (ImageClassifier, Params) {
    let params = Params::seeded(seed, &Device::Cpu);
    (ImageClassifier::new(kind, LECTURE, 55, Scheme::Keras, &params).unwrap(), params)
}

fn rows(summary: &Summary) -> Vec<(&str, &str, Vec<usize>, usize)> {
    let row = |r: &firstsight_models::Row| (r.output.channels_last(), r.params);
    summary.rows.iter().map(|r| (r.name.as_str(), r.kind.as_str(), row(r).0, row(r).1)).collect()
}

#[test]
fn logistic_regression_has_the_rows_that_the_lecture_prints() {
    let summary = network(ModelKind::Logistic, 1).0.summary();
    assert_eq!(
        rows(&summary),
        [
            ("flatten", "Flatten", vec![4800], 0),
            ("rescaling", "Rescaling", vec![4800], 0),
            ("dense", "Dense", vec![55], 264_055),
        ]
    );
    assert_eq!((summary.total_params(), summary.trainable_params()), (264_055, 264_055));
}

#[test]
fn the_small_cnn_has_the_rows_that_the_lecture_prints() {
    let summary = network(ModelKind::SmallCnn, 1).0.summary();
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

#[test]
fn the_parameters_that_exist_are_those_that_the_summary_counts() {
    for kind in ModelKind::ALL {
        let (network, params) = network(kind, 1);
        let n: usize = params.named().iter().map(|(_, var)| var.elem_count()).sum();
        assert_eq!(n, network.summary().total_params(), "{kind}");
    }
}

#[test]
fn the_same_seed_makes_the_same_network() {
    let x = Tensor::arange(0f32, 4800.0, &Device::Cpu).unwrap().reshape((1, 1, 80, 60)).unwrap();
    let logits = |seed| {
        let (network, _) = network(ModelKind::SmallCnn, seed);
        network.forward_t(&x, false).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(logits(5), logits(5));
    assert_ne!(logits(5), logits(6));
}

#[test]
fn features_and_head_make_the_whole() {
    let x = Tensor::ones((2, 1, 80, 60), DType::F32, &Device::Cpu).unwrap();
    let (network, _) = network(ModelKind::SmallCnn, 9);
    let features = network.forward_features(&x, false).unwrap();
    assert_eq!(features.dims(), [2, network.n_features()]);
    let parts = network.forward_head(&features, false).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(parts, network.forward_t(&x, false).unwrap().to_vec2::<f32>().unwrap());
    let last = network.intermediates(&x).unwrap().pop().unwrap();
    assert_eq!(last.0, "dense_1");
    let difference =
        (last.1 - features).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(difference < 1e-4, "the fused pass differs from the layers one by one by {difference}");
}

#[test]
fn a_missing_batch_axis_is_named() {
    let (network, _) = network(ModelKind::SmallCnn, 1);
    let x = Tensor::zeros((1, 80, 60), DType::F32, &Device::Cpu).unwrap();
    let error = network.forward_t(&x, false).unwrap_err().to_string();
    assert!(error.contains("(B, 1, 80, 60)") && error.contains("unsqueeze(0)"), "{error}");
}

#[test]
fn weights_come_back_from_a_file_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (_, saved) = network(ModelKind::Logistic, 1);
    saved.save(&path).unwrap();
    let (_, loaded) = network(ModelKind::Logistic, 2);
    loaded.load(&path).unwrap();
    let bytes = |p: &Params| p.get("dense.weight").unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(bytes(&saved), bytes(&loaded));
}

#[test]
fn another_networks_weights_are_refused_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    network(ModelKind::Logistic, 1).1.save(&path).unwrap();
    let (_, params) = network(ModelKind::SmallCnn, 2);
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
    network(ModelKind::Logistic, 1).1.save(&path).unwrap();
    let params = Params::seeded(1, &Device::Cpu);
    ImageClassifier::new(ModelKind::Logistic, LECTURE, 10, Scheme::Keras, &params).unwrap();
    let text = params.load(&path).unwrap_err().to_string();
    assert!(text.contains("dense.bias") && text.contains("[10]") && text.contains("[55]"), "{text}");
}

#[test]
fn damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (_, params) = network(ModelKind::Logistic, 1);
    let missing = folder.path().join("none.safetensors");
    assert!(params.load(&missing).unwrap_err().to_string().contains("none.safetensors"));
    let truncated = folder.path().join("cut.safetensors");
    params.save(&truncated).unwrap();
    let bytes = std::fs::read(&truncated).unwrap();
    std::fs::write(&truncated, &bytes[..bytes.len() / 2]).unwrap();
    let text = params.load(&truncated).unwrap_err().to_string();
    assert!(text.contains("cut.safetensors") && text.contains("not a readable safetensors file"), "{text}");
    let hostile = folder.path().join("hostile.safetensors");
    std::fs::write(&hostile, u64::MAX.to_le_bytes()).unwrap();
    assert!(params.load(&hostile).is_err());
}

#[test]
fn an_unknown_name_suggests_the_nearest() {
    let text = "smal-cnn".parse::<ModelKind>().unwrap_err().to_string();
    assert!(text.contains("did you mean 'small-cnn'?"), "{text}");
    let text = "q".parse::<ModelKind>().unwrap_err().to_string();
    assert!(!text.contains("did you mean") && text.contains("logistic, small-cnn"), "{text}");
}

#[test]
fn an_input_too_small_names_the_smallest() {
    let params = Params::seeded(1, &Device::Cpu);
    let build = |height, width| {
        let input = Dims::Map { channels: 1, height, width };
        ImageClassifier::new(ModelKind::SmallCnn, input, 10, Scheme::Keras, &params).map(|_| ())
    };
    let text = build(15, 80).unwrap_err().to_string();
    assert!(text.contains("15x80") && text.contains("16x16"), "{text}");
    build(16, 16).unwrap();
}
