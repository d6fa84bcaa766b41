//! Files that are no weights, or another network's, or made to do harm: each is an error that names the file, and the
//! variables stay as they were.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use firstsight_models::networks::{LOGISTIC, SMALL_CNN, XCEPTION};
use firstsight_models::{
    Error, ImageClassifier, Init, InputShape, Params, SaveDtype, WeightsHeader, registry,
};

const INPUT: InputShape = InputShape::Map { channels: 1, height: 2, width: 2 };

fn params(seed: u64) -> Params {
    let params = Params::seeded(seed, &Device::Cpu);
    ImageClassifier::new(&LOGISTIC, INPUT, 3, Init::Keras, &params).unwrap();
    params
}

/// A file of `header`, whose length may be said to be another, and `n` bytes.
fn file(folder: &Path, header: &str, length: Option<u64>, n: usize) -> PathBuf {
    let path = folder.join("weights.safetensors");
    let mut bytes = length.unwrap_or(header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0; n]);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The two tensors of the network: 12 weights and 3 biases.
fn header(weight: &str, bias: &str) -> String {
    format!(r#"{{"__metadata__":{{"format":"pt"}},"dense.weight":{weight},"dense.bias":{bias}}}"#)
}

fn entry(dtype: &str, shape: &str, from: i64, to: i64) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

fn sound() -> (String, String) {
    (entry("F32", "[3,4]", 12, 60), entry("F32", "[3]", 0, 12))
}

fn values(params: &Params) -> Vec<Vec<f32>> {
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    params.named().iter().map(|(_, var)| flat(var.as_tensor())).collect()
}

/// Asserts that `path` is refused by a message that names it and says each of `words`.
fn refused(path: &Path, words: &[&str]) -> Error {
    let params = params(1);
    let before = values(&params);
    let error = params.load(path).unwrap_err();
    let said = error.to_string();
    for word in words.iter().chain(&["weights.safetensors"]) {
        assert!(said.contains(word), "should say {word:?}: {said}");
    }
    assert_eq!(values(&params), before, "{said}");
    error
}

#[test]
fn a_sound_file_is_read() {
    assert_eq!(params(1).names(), ["dense.bias", "dense.weight"]);
    let folder = tempfile::tempdir().unwrap();
    let (weight, bias) = sound();
    let path = file(folder.path(), &header(&weight, &bias), None, 60);
    let params = params(1);
    params.load(&path).unwrap();
    assert!(values(&params).iter().flatten().all(|v| *v == 0.0));
    let read = WeightsHeader::read(&path).unwrap();
    assert_eq!(read.get("dense.weight").unwrap().shape, [3, 4]);
    assert!(read.get("dense").is_none());
}

#[test]
fn half_precision_is_read_and_whole_numbers_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path =
        file(folder.path(), &header(&entry("BF16", "[3,4]", 0, 24), &entry("F16", "[3]", 24, 30)), None, 30);
    params(1).load(&path).unwrap();
    let path =
        file(folder.path(), &header(&entry("I32", "[3,4]", 0, 48), &entry("F32", "[3]", 48, 60)), None, 60);
    refused(&path, &["dense.weight", "I32", "expected F32"]);
}

#[test]
fn weights_are_saved_in_half_as_many_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.safetensors");
    for (dtype, name, precision) in
        [(SaveDtype::Float16, "F16", 1.0 / 2048.0), (SaveDtype::BFloat16, "BF16", 1.0 / 256.0)]
    {
        let saved = params(1);
        let before = values(&saved);
        saved.save_as(&path, dtype).unwrap();
        assert_eq!(values(&saved), before, "saving changes nothing");
        let header = WeightsHeader::read(&path).unwrap();
        assert!(saved.names().iter().all(|tensor| header.get(tensor).unwrap().dtype == name));
        let read = params(2);
        read.load(&path).unwrap();
        let pairs = values(&read).concat().into_iter().zip(before.concat());
        assert!(pairs.clone().all(|(a, b)| (a - b).abs() <= precision * b.abs()), "{dtype}");
        assert!(pairs.clone().any(|(a, b)| a != b), "{dtype}");
        saved.round_to(dtype).unwrap();
        assert_eq!(values(&saved), values(&read));
        assert_eq!(dtype.name().parse(), Ok(dtype));
    }
    params(1).save_as(&path, SaveDtype::Float32).unwrap();
    let whole = std::fs::read(&path).unwrap();
    params(1).save(&path).unwrap();
    assert!(whole == std::fs::read(&path).unwrap());
}

#[test]
fn weights_that_a_type_does_not_hold_are_named_and_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.safetensors");
    let large = params(1);
    let set = |name: &str, value: f32| {
        let var = large.get(name).unwrap();
        var.set(&Tensor::full(value, var.shape(), &Device::Cpu).unwrap()).unwrap();
    };
    set("dense.weight", 65504.0);
    large.save_as(&path, SaveDtype::Float16).unwrap();
    set("dense.weight", -70000.0);
    let before = values(&large);
    let file = std::fs::read(&path).unwrap();
    for error in [large.save_as(&path, SaveDtype::Float16), large.round_to(SaveDtype::Float16)] {
        let said = error.unwrap_err().to_string();
        let words = ["dense.weight", "7e4", "float16", "65504"];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    assert_eq!(values(&large), before);
    assert!(file == std::fs::read(&path).unwrap());
    large.save_as(&path, SaveDtype::BFloat16).unwrap();
    set("dense.bias", f32::MAX);
    let said = large.save_as(&path, SaveDtype::BFloat16).unwrap_err().to_string();
    assert!(said.contains("dense.bias") && said.contains("bfloat16"), "{said}");
}

#[test]
fn a_truncated_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (weight, bias) = sound();
    let path = file(folder.path(), &header(&weight, &bias), None, 60);
    let whole = std::fs::read(&path).unwrap();
    for keep in 0..whole.len() {
        std::fs::write(&path, &whole[..keep]).unwrap();
        let error = refused(&path, &[]);
        let known = matches!(error, Error::Foreign { .. }) && keep == 0;
        assert!(known || matches!(error, Error::WeightsHeader { .. }), "{keep} bytes: {error}");
    }
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    refused(&path, &["60 bytes", "59 follow", "truncated"]);
    std::fs::write(&path, &whole[..5]).unwrap();
    refused(&path, &["5 bytes"]);
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(refused(&path, &[]), Error::Io { .. }));
}

/// What is wrong, the header, the length that is written before it, the bytes behind it, and what the error says.
type Case<'a> = (&'a str, String, Option<u64>, usize, &'a [&'a str]);

#[test]
fn headers_that_lie_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (weight, bias) = sound();
    let good = header(&weight, &bias);
    let (f32x3, f32x12) =
        (|from, to| entry("F32", "[3]", from, to), |from, to| entry("F32", "[3,4]", from, to));
    let huge = entry("F32", "[9223372036854775807,9223372036854775807]", 12, 60);
    let many = entry("F32", "[1000000000,1000000000]", 12, 60);
    let twice = format!(r#"{{"dense.weight":{weight},"dense.bias":{bias},"dense.bias":{bias}}}"#);
    let cases: [Case<'_>; 18] = [
        ("longer than the file", good.clone(), Some(10_000), 60, &["10000", "truncated"]),
        ("of 2^64 - 1 bytes", good.clone(), Some(u64::MAX), 60, &["18446744073709551615"]),
        ("shorter than the JSON", good.clone(), Some(20), 60, &["header"]),
        ("of no bytes", String::new(), None, 0, &["header"]),
        ("no JSON", "these are no tensors".to_owned(), None, 60, &["header"]),
        ("a list", "[1, 2]".to_owned(), None, 60, &["an object from names to tensors"]),
        ("no text", "\u{0}\u{0}".to_owned(), None, 60, &["header"]),
        ("without a shape", header(r#"{"dtype":"F32","data_offsets":[12,60]}"#, &bias), None, 60, &["shape"]),
        ("overlapping", header(&f32x12(0, 48), &f32x3(36, 48)), None, 48, &["dense.bias", "overlaps"]),
        ("with a gap", header(&f32x12(16, 64), &f32x3(0, 12)), None, 64, &["dense.weight", "gap"]),
        ("beyond the end", header(&f32x12(1012, 1060), &f32x3(1000, 1012)), None, 60, &["gap"]),
        ("negative", header(&f32x12(-48, 0), &bias), None, 60, &["-48"]),
        ("backwards", header(&f32x12(60, 12), &bias), None, 60, &["dense.weight", "before its beginning"]),
        (
            "of another size",
            header(&f32x12(12, 56), &bias),
            None,
            56,
            &["dense.weight", "48 bytes, and has 44"],
        ),
        ("of a type nobody knows", header(&entry("F31", "[3,4]", 12, 60), &bias), None, 60, &["F31"]),
        ("larger than any file", header(&huge, &bias), None, 60, &["dense.weight", "larger than any file"]),
        ("of 4 exabytes", header(&many, &bias), None, 60, &["4000000000000000000 bytes, and has 48"]),
        ("with a name twice", twice, None, 60, &["dense.bias twice"]),
    ];
    for (what, header, length, n, words) in cases {
        let path = file(folder.path(), &header, length, n);
        let error = refused(&path, words);
        assert!(matches!(error, Error::WeightsHeader { .. }), "{what}: {error}");
    }
    let path = file(folder.path(), &good, None, 61);
    refused(&path, &["60 bytes", "61 follow", "no tensor"]);
}

/// A header of 200 MB in a file that has them, as a hole that takes no room on the disk.
#[test]
fn an_oversized_header_is_refused_unread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    std::fs::write(&path, 200_000_000u64.to_le_bytes()).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(300_000_000).unwrap();
    refused(&path, &["200000000", "100000000"]);
}

#[test]
fn another_networks_weights_name_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let other = Params::seeded(1, &Device::Cpu);
    ImageClassifier::new(
        &SMALL_CNN,
        InputShape::Map { channels: 1, height: 16, width: 16 },
        3,
        Init::Keras,
        &other,
    )
    .unwrap();
    other.save(&path).unwrap();
    let error = refused(
        &path,
        &["another network's weights", "2 missing (first: dense.bias)", "10 unexpected (first: conv1.bias)"],
    );
    let Error::Mismatch(mismatch) = error else { panic!("{error}") };
    assert_eq!((mismatch.missing.len(), mismatch.misshapen.len()), (2, 0));

    let xception = Params::seeded(1, &Device::Cpu);
    let input = InputShape::Map { channels: 3, height: 96, width: 96 };
    ImageClassifier::new(&XCEPTION, input, 3, Init::Keras, &xception).unwrap();
    let before =
        xception.get("conv1.weight").unwrap().as_tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let said = xception.load(&path).unwrap_err().to_string();
    for word in [
        "missing (first: block1.rep.0.conv1.weight)",
        "unexpected (first: conv1.bias)",
        "conv1.weight, expected",
    ] {
        assert!(said.contains(word), "should say {word:?}: {said}");
    }
    let after =
        xception.get("conv1.weight").unwrap().as_tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(before, after);
}

#[test]
fn an_input_that_a_network_cannot_take_names_the_smallest() {
    for kind in registry::all() {
        let smallest = kind.smallest_input;
        let build = |side: usize| {
            let params = Params::zeros(&Device::Cpu);
            let channels = kind.usual_input.0;
            let input = InputShape::Map { channels, height: side, width: side };
            ImageClassifier::new(kind, input, 3, kind.init, &params).map(|network| (network, channels))
        };
        let (network, channels) = build(smallest).unwrap();
        let xs = Tensor::zeros((1, channels, smallest, smallest), DType::F32, &Device::Cpu).unwrap();
        let logits = candle_core::ModuleT::forward_t(&network, &xs, false).unwrap();
        assert_eq!(logits.dims(), [1, 3], "{kind}");
        if smallest > 1 {
            let said = build(smallest - 1).unwrap_err().to_string();
            assert!(said.contains(&format!("{smallest}x{smallest}")) && said.contains(kind.name), "{said}");
        }
    }
}
