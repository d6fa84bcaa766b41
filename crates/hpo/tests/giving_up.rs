//! Searches that cannot succeed end; those that can, go on.

use firstsight_hpo::{Error, Random, Stop, Study, StudyBuilder, Suggest, TrialState};

fn builder() -> StudyBuilder {
    Study::builder("x").sampler(Random::new(1)).give_up_after(3)
}

fn states(study: &Study) -> Vec<TrialState> {
    study.trials().unwrap().iter().map(|trial| trial.state).collect()
}

#[test]
fn failures_for_one_reason_end_a_run_without_a_value() {
    for workers in [1, 2] {
        let study = builder().create().unwrap();
        let error = study
            .optimize_parallel(workers, 50, |trial| {
                let x = trial.int("x", 1..=1000)?;
                Err::<f64, _>(Stop::failed(format!("a batch of {x} images does not fit")))
            })
            .unwrap_err();
        assert!(matches!(error, Error::GaveUp { failed: 3, .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("3 trials failed") && said.contains("images does not fit"), "{said}");
        assert!((3..=4).contains(&states(&study).len()), "{workers} workers");
        // The next run counts anew.
        assert!(study.optimize(2, |_| Err::<f64, _>(Stop::failed("no"))).is_ok());
    }
}

#[test]
fn values_that_are_no_numbers_count_as_failures() {
    let study = builder().create().unwrap();
    let error = study.optimize(10, |_| Ok(f64::NAN)).unwrap_err();
    assert!(error.to_string().contains("NaN"), "{error}");
    assert_eq!(states(&study), [TrialState::Failed; 3]);
}

#[test]
fn a_run_goes_on_after_a_value_or_with_other_reasons_or_unasked() {
    let study = builder().create().unwrap();
    study
        .optimize(10, |trial| match trial.number() {
            1 => Ok(0.5),
            _ => Err(Stop::failed("one reason")),
        })
        .unwrap();
    assert_eq!(states(&study).len(), 10);
    let study = builder().create().unwrap();
    study
        .optimize(6, |trial| Err::<f64, _>(Stop::failed(["one", "two", "three"][trial.number() % 3])))
        .unwrap();
    let unasked = Study::builder("x").sampler(Random::new(1)).create().unwrap();
    unasked.optimize(6, |_| Err::<f64, _>(Stop::failed("one reason"))).unwrap();
    assert_eq!(states(&unasked).len(), 6);
}
