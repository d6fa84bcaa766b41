//! The same bits for any number of threads, and in every run.

use candle_core::DType;

use crate::cases::{Generated, Path, Tensors};
use crate::generate;

fn bits(case: &Generated) -> Vec<(String, Vec<u32>)> {
    let results: Tensors = case.op.run(&case.inputs, DType::F32, Path::Dispatched).unwrap();
    let bits = |t: &candle_core::Tensor| {
        t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    };
    results.iter().map(|(name, t)| (name.clone(), bits(t))).collect()
}

fn check(cases: impl IntoIterator<Item = (String, Generated)>) {
    let pools = [1, 2, 4].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap());
    for (name, case) in cases {
        let once = bits(&case);
        assert!(once == bits(&case), "{name}: a second run gives different bits");
        for pool in &pools {
            let n = pool.current_num_threads();
            assert!(once == pool.install(|| bits(&case)), "{name}: {n} threads give different bits");
        }
    }
}

#[test]
fn threads_and_runs_do_not_change_a_bit() {
    for (op, strategy) in generate::all() {
        let cases = generate::sample(strategy, 60).into_iter();
        check(cases.enumerate().map(|(i, case)| (format!("{op} {i}: {:?}", case.op), case)));
    }
}

#[test]
fn threads_and_runs_do_not_change_a_bit_in_sizes_of_real_networks() {
    check(generate::real_sizes().unwrap());
}
