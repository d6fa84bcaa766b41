//! Results and gradients against PyTorch in float64 (generator: tests/goldens/ops.py).

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device};
use serde::Deserialize;

use crate::cases::{Op, Path, Tensors, assert_near};

const GOLDENS: &[u8] = include_bytes!("../goldens/ops.safetensors");

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(flatten)]
    op: Op,
}

#[test]
fn results_and_gradients_are_those_of_pytorch() {
    let (_, metadata) = safetensors::SafeTensors::read_metadata(GOLDENS).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["cases"]).unwrap();
    let tensors = candle_core::safetensors::load_buffer(GOLDENS, &Device::Cpu).unwrap();
    let mut checked = HashMap::new();
    for Case { name, op } in &cases {
        let of_case: Tensors = tensors
            .iter()
            .filter_map(|(key, tensor)| {
                Some((key.strip_prefix(&format!("{name}."))?.to_owned(), tensor.clone()))
            })
            .collect();
        // Arguments are float32, results float64.
        let (inputs, outputs): (Tensors, Tensors) =
            of_case.into_iter().partition(|(_, tensor)| tensor.dtype() == DType::F32);
        for (dtype, path, tolerance) in [
            (DType::F32, Path::Dispatched, 1e-5),
            (DType::F32, Path::Reference, 1e-5),
            (DType::F64, Path::Dispatched, 1e-12),
            (DType::F64, Path::Reference, 1e-12),
        ] {
            let ours = op.run(&inputs, dtype, path).unwrap();
            assert_near(
                &ours,
                &outputs,
                &BTreeMap::new(),
                tolerance,
                &format!("case {name}, {dtype:?}, {path:?}, {op:?}"),
            );
        }
        *checked.entry(std::mem::discriminant(op)).or_insert(0) += 1;
    }
    assert_eq!(checked.len(), 25, "every op has its cases");
    assert!(cases.len() >= 100, "only {} cases", cases.len());
}
