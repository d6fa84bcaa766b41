//! The ops on a GPU, if the crate is built for one:
//!
//! `cargo test --release -p firstsight-ops --features cuda --test ops accelerator`

use candle_core::Device;

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
    Some(device.unwrap())
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
