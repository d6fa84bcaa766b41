//! Trials of an earlier study, taken over by a new one.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use firstsight_hpo::{FrozenTrial, Recast, Storage, Study, TrialState};
use serde_json::Value;

use super::{
    Args, SamplerName,
    settings::Settings,
    space::{Space, plain},
};

/// Attributes of a trial that was taken over: the name of its study, and its number there.
const STUDY: &str = "from_study";
const NUMBER: &str = "from_trial";

/// Adds the trials of the study `from` that have a value and whose settings are part of this search, unless they are there
/// already, and says which.
pub(super) fn take_over(
    study: &Study,
    storage: Arc<dyn Storage>,
    from: &str,
    old: &Settings,
    args: &Args,
    space: &Space,
) -> Result<()> {
    // Nothing is drawn from this study.
    let earlier = Study::builder(from).seed(0).shared_storage(storage).load()?;
    let there = study.trials()?;
    let known: BTreeSet<u64> = there
        .iter()
        .filter(|trial| trial.user_attrs.get(STUDY).and_then(Value::as_str) == Some(from))
        .filter_map(|trial| trial.user_attrs.get(NUMBER)?.as_u64())
        .collect();
    let (mut taken, mut left_out) = (Vec::new(), Vec::new());
    for trial in earlier.trials()?.iter().filter(|trial| !known.contains(&(trial.number as u64))) {
        match adapted(trial, from, old, args, space) {
            Ok(adapted) => {
                study.add_trial(&adapted).with_context(|| format!("trial {} of {from}", trial.number))?;
                taken.push(trial.number.to_string());
            }
            Err(reason) => left_out.push(format!("{} ({reason})", trial.number)),
        }
    }
    let use_of_them = match args.sampler {
        SamplerName::Tpe => "TPE learns from them",
        SamplerName::Nsga2 => "NSGA-II has those of its own generations as parents",
        SamplerName::Random => "the random sampler does not look at them",
    };
    if !taken.is_empty() {
        log!("taken over from {from}: trials {}; {use_of_them}", taken.join(", "));
    }
    if !left_out.is_empty() {
        log!("left out: trials {}", left_out.join(", "));
    }
    Ok(())
}

/// The trial under this search's space, or why it is no part of it.
fn adapted(
    trial: &FrozenTrial,
    from: &str,
    old: &Settings,
    args: &Args,
    space: &Space,
) -> Result<FrozenTrial, String> {
    if !matches!(trial.state, TrialState::Complete | TrialState::Pruned) {
        return Err(trial.state.to_string());
    }
    let mut values = trial.params_json();
    let name = if args.is_fine_tuning() { "backbone" } else { "model" };
    // A search with one model alone doesn't name it.
    if let ([only], false) = (&old.models[..], values.contains_key(name)) {
        values.insert(name.to_owned(), Value::String(only.clone()));
    }
    let model = values.get(name).unwrap_or(&Value::Null);
    if !space.stated.choices(name).is_some_and(|searched| searched.contains(model)) {
        return Err(format!("its {name} {} is not searched", plain(model)));
    }
    let mut recast = Recast::new(values);
    space.settings(&mut recast).map_err(|error| error.to_string())?;
    let mut user_attrs = trial.user_attrs.clone();
    user_attrs.insert(STUDY.to_owned(), from.into());
    user_attrs.insert(NUMBER.to_owned(), trial.number.into());
    Ok(FrozenTrial { params: recast.into_params(), user_attrs, ..trial.clone() })
}
