//! Kernels against the reference implementations in float64, on generated shapes, the same in every
//! run.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::generate;

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn conv2d(case in generate::conv2d()) {
        case.check_against_reference("conv2d");
    }

    #[test]
    fn conv2d_max_pool(case in generate::conv2d_max_pool()) {
        case.check_against_reference("conv2d_max_pool");
    }

    #[test]
    fn conv2d_avg_pool(case in generate::conv2d_avg_pool()) {
        case.check_against_reference("conv2d_avg_pool");
    }

    #[test]
    fn conv2d_batch_norm(case in generate::conv2d_batch_norm()) {
        case.check_against_reference("conv2d_batch_norm");
    }

    #[test]
    fn conv_block(case in generate::conv_block()) {
        case.check_against_reference("conv_block");
    }

    #[test]
    fn batch_norm(case in generate::batch_norm()) {
        case.check_against_reference("batch_norm");
    }

    #[test]
    fn max_pool2d(case in generate::max_pool2d()) {
        case.check_against_reference("max_pool2d");
    }

    #[test]
    fn avg_pool2d(case in generate::avg_pool2d()) {
        case.check_against_reference("avg_pool2d");
    }

    #[test]
    fn global_avg_pool2d(case in generate::global_avg_pool2d()) {
        case.check_against_reference("global_avg_pool2d");
    }

    #[test]
    fn activate(case in generate::activate()) {
        case.check_against_reference("activate");
    }

    #[test]
    fn linear(case in generate::linear()) {
        case.check_against_reference("linear");
    }

    #[test]
    fn feed_forward(case in generate::feed_forward()) {
        case.check_against_reference("feed_forward");
    }

    #[test]
    fn layer_norm(case in generate::layer_norm()) {
        case.check_against_reference("layer_norm");
    }

    #[test]
    fn layer_norm_2d(case in generate::layer_norm_2d()) {
        case.check_against_reference("layer_norm_2d");
    }

    #[test]
    fn global_response_norm(case in generate::global_response_norm()) {
        case.check_against_reference("global_response_norm");
    }

    #[test]
    fn softmax(case in generate::softmax()) {
        case.check_against_reference("softmax");
    }

    #[test]
    fn attention(case in generate::attention()) {
        case.check_against_reference("attention");
    }

    #[test]
    fn self_attention(case in generate::self_attention()) {
        case.check_against_reference("self_attention");
    }

    #[test]
    fn scales(case in generate::scales()) {
        case.check_against_reference("scales");
    }

    #[test]
    fn softmax_cross_entropy(case in generate::softmax_cross_entropy()) {
        case.check_against_reference("softmax_cross_entropy");
    }

    #[test]
    fn soft_cross_entropy(case in generate::soft_cross_entropy()) {
        case.check_against_reference("soft_cross_entropy");
    }

    #[test]
    fn adam(case in generate::adam()) {
        case.check_against_reference("adam");
    }

    #[test]
    fn sgd(case in generate::sgd()) {
        case.check_against_reference("sgd");
    }
}

#[test]
fn sizes_of_real_networks() {
    for (name, case) in generate::real_sizes().unwrap() {
        case.check_against_reference(&name);
    }
}
