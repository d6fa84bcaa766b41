//! Every op with each instruction set that kernels are written for and the processor has.
//!
//! For memory checks, which are slow, `FIRSTSIGHT_CASES=4` draws four cases of each op instead of 60
//! and leaves out the sizes of real networks (tests/memory-checks.sh).

// The cases of the other tests, some of which are not used here.
#[allow(dead_code)]
#[path = "ops/cases.rs"]
mod cases;
#[allow(dead_code)]
#[path = "ops/generate.rs"]
mod generate;

use candle_core::{DType, Device, Tensor};
use firstsight_ops::{Activation, Instructions, PackedWeights, instructions, limit_instructions, linear};

#[test]
fn every_instruction_set_gives_the_results_of_the_reference() {
    let few: Option<usize> = std::env::var("FIRSTSIGHT_CASES").ok().map(|count| count.parse().unwrap());
    let mut checked = Vec::new();
    let packed = PackedWeights::default();
    // Whole numbers, whose sums are exact.
    let values = (0..50 * 64).map(|i| (i % 11) as f32);
    let xs = Tensor::ones((40, 64), DType::F32, &Device::Cpu).unwrap();
    let weight = Tensor::from_iter(values, &Device::Cpu).unwrap().reshape((50, 64)).unwrap();
    for most in [Instructions::Plain, Instructions::Avx2, Instructions::Avx512] {
        limit_instructions(most);
        if instructions() != most {
            eprintln!("skipped: this processor has no {most:?}");
            continue;
        }
        // Kept over the changes of instructions.
        let found = packed.infer(|| linear(&xs, &weight, None, Activation::Identity)).unwrap();
        let sums = weight.sum(1).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(found.get(39).unwrap().to_vec1::<f32>().unwrap(), sums, "{most:?}");
        for (op, strategy) in generate::all() {
            for (i, case) in generate::sample(strategy, few.unwrap_or(60)).into_iter().enumerate() {
                case.check_against_reference(&format!("{op} {i} with {most:?}: {:?}", case.op));
            }
        }
        if few.is_none() {
            for (name, case) in generate::real_sizes().unwrap() {
                case.check_against_reference(&format!("{name} with {most:?}"));
            }
        }
        checked.push(most);
    }
    eprintln!("checked: {checked:?}");
    assert!(checked.contains(&Instructions::Plain));
}
