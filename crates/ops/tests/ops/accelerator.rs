//! The ops on a GPU, if the crate is built for one:
//!
//! `cargo test --release -p firstsight-ops --features cuda-kernels --test ops accelerator -- --nocapture`
//!
//! With the feature `cuda` instead, the reference implementations run there.

use candle_core::{DType, Device};

use crate::cases::Path;
use crate::generate;

const CASES_PER_OP: usize = 60;

fn device() -> Option<Device> {
    let device = match () {
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

#[test]
fn every_op_gives_the_results_of_the_cpu() {
    let Some(device) = device() else { return };
    for (op, strategy) in generate::all() {
        for (i, case) in generate::sample(strategy, CASES_PER_OP).into_iter().enumerate() {
            case.check_on(&device, &format!("{op} {i}: {:?}", case.op));
        }
    }
}

#[test]
fn sizes_of_real_networks_give_the_results_of_the_cpu() {
    let Some(device) = device() else { return };
    for (name, case) in generate::real_sizes().unwrap() {
        case.check_on(&device, &name);
    }
}

/// Sums of our kernels have an order that depends on shapes alone.
#[test]
fn the_same_bits_again() {
    let Some(device) = device() else { return };
    if !cfg!(feature = "cuda-kernels") {
        return eprintln!("skipped: the reference implementations promise no bits");
    }
    for (op, strategy) in generate::all() {
        for (i, case) in generate::sample(strategy, CASES_PER_OP).into_iter().enumerate() {
            let run = || case.op.run_on(&device, &case.inputs, DType::F32, Path::Dispatched).unwrap();
            let (first, second) = (run(), run());
            for (name, x) in &first {
                let bits = |x: &candle_core::Tensor| {
                    let values = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                assert_eq!(bits(x), bits(&second[name]), "{op} {i}: {name}, {:?}", case.op);
            }
        }
    }
}
