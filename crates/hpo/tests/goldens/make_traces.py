"""Traces of Optuna's samplers: what they propose, told what.

python make_traces.py writes traces/*.json beside this file, in the form that examples/replay.rs reads, with Optuna 4.8.0 and
with 5.0.0. Those of 5.0.0 have names that begin with optuna5. The random sampler's are equal in both.
"""

import json
import pathlib
import warnings

import optuna
from optuna.trial import TrialState

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
OUT = pathlib.Path(__file__).parent / "traces"

MIXED = [
    {"name": "rate", "type": "float", "low": 1e-5, "high": 0.1, "log": True},
    {"name": "drop", "type": "float", "low": 0.0, "high": 0.55, "step": 0.1},
    {"name": "slope", "type": "float", "low": -1.0, "high": 1.0},
    {"name": "width", "type": "int", "low": 4, "high": 256, "log": True},
    {"name": "depth", "type": "int", "low": 1, "high": 6},
    {"name": "batch", "type": "int", "low": 16, "high": 130, "step": 16},
    {"name": "act", "type": "categorical", "choices": ["relu", "tanh", None, 1.5, True]},
    {"name": "fixed", "type": "int", "low": 3, "high": 3},
]
TREE = [
    {"name": "kind", "type": "categorical", "choices": ["tree", "line"]},
    {"name": "depth", "type": "int", "low": 1, "high": 9, "when": {"name": "kind", "equals": "tree"}},
    {"name": "leaf", "type": "float", "low": 0.0, "high": 1.0, "when": {"name": "depth", "at_least": 4}},
    {"name": "slope", "type": "float", "low": -2.0, "high": 2.0, "when": {"name": "kind", "equals": "line"}},
]


def ask(trial, space):
    params = {}
    for spec in space:
        when = spec.get("when")
        if when:
            if when["name"] not in params:
                continue
            value = params[when["name"]]
            if "equals" in when and value != when["equals"] or "at_least" in when and value < when["at_least"]:
                continue
        name, log = spec["name"], spec.get("log", False)
        if spec["type"] == "float":
            params[name] = trial.suggest_float(name, spec["low"], spec["high"], log=log, step=spec.get("step"))
        elif spec["type"] == "int":
            params[name] = trial.suggest_int(name, spec["low"], spec["high"], log=log, step=spec.get("step", 1))
        else:
            params[name] = trial.suggest_categorical(name, spec["choices"])
    return params


def merit(params):
    total = 0.0
    for i, (name, value) in enumerate(params.items()):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            total += abs(value - 0.3 * i) ** 0.5
        else:
            total += len(str(value)) % 3
    return total


def trace(name, sampler, space, n, direction="minimize"):
    kind = optuna.samplers.RandomSampler if sampler["kind"] == "random" else optuna.samplers.TPESampler
    args = {k: v for k, v in sampler.items() if k != "kind"}
    study = optuna.create_study(direction=direction, sampler=kind(**args))
    trials = []
    for i in range(n):
        trial = study.ask()
        params = ask(trial, space)
        told = {"params": params, "state": "complete", "value": merit(params), "intermediate": []}
        if i % 7 == 3:
            told.update(state="pruned", value=None)
            for step in range(i % 4):
                told["intermediate"].append([step, merit(params) + 1 / (step + 1)])
                trial.report(merit(params) + 1 / (step + 1), step)
            study.tell(trial, state=TrialState.PRUNED)
        elif i % 11 == 5:
            told.update(state="failed", value=None)
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, told["value"])
        trials.append(told)
    doc = {"optuna": optuna.__version__, "sampler": sampler, "direction": direction, "space": space}
    text = json.dumps(doc)[:-1] + ', "trials": [\n' + ",\n".join(json.dumps(t) for t in trials) + "]}\n"
    (OUT / f"{name}.json").write_text(text)


def main():
    five = optuna.__version__.startswith("5.")
    if five:
        trace("optuna5", {"kind": "tpe", "seed": 31}, MIXED, 90)
        trace("optuna5-tree", {"kind": "tpe", "seed": 32}, TREE, 80, "maximize")
        trace("optuna5-single", {"kind": "tpe", "seed": 33, "multivariate": False}, MIXED, 60)
        trace("optuna5-group", {"kind": "tpe", "seed": 34, "multivariate": True, "group": True}, TREE, 70)
    else:
        trace("random", {"kind": "random", "seed": 7}, MIXED, 40)
        trace("random-tree", {"kind": "random", "seed": 4294967295}, TREE, 40)
        trace("tpe", {"kind": "tpe", "seed": 11}, MIXED, 90)
    begin = "optuna5-tpe" if five else "tpe"
    trace(f"{begin}-maximize", {"kind": "tpe", "seed": 12}, MIXED, 60, "maximize")
    trace(f"{begin}-tree", {"kind": "tpe", "seed": 13}, TREE, 80)
    trace(f"{begin}-endpoints", {"kind": "tpe", "seed": 14, "consider_endpoints": True}, MIXED, 50)
    trace(f"{begin}-no-clip", {"kind": "tpe", "seed": 15, "consider_magic_clip": False, "prior_weight": 0.3}, MIXED, 50)
    trace(f"{begin}-few", {"kind": "tpe", "seed": 16, "n_startup_trials": 2, "n_ei_candidates": 5}, MIXED, 40)
    trace(f"{begin}-multivariate", {"kind": "tpe", "seed": 17, "multivariate": True}, MIXED, 60)
    trace(f"{begin}-multivariate-tree", {"kind": "tpe", "seed": 18, "multivariate": True}, TREE, 60)
    trace(f"{begin}-group", {"kind": "tpe", "seed": 19, "multivariate": True, "group": True}, TREE, 70)
    trace(f"{begin}-liar", {"kind": "tpe", "seed": 20, "constant_liar": True}, TREE, 50)


if __name__ == "__main__":
    main()
