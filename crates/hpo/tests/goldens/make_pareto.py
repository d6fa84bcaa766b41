"""Non-dominated sorting, hypervolumes, subsets and weights by Optuna 4.8.0 and 5.0.0, and traces of studies of several objectives.

python make_pareto.py writes pareto.json (with 4.8.0, which has the weights) and traces/*many*.json beside this file. Names of traces
of 5.0.0 begin with optuna5. values.db, values.log: a study of three objectives in Optuna's storages (with 4.8.0).
"""

import json
import pathlib
import types
import warnings

import numpy as np
import optuna
from optuna._hypervolume import compute_hypervolume
from optuna._hypervolume.hssp import _solve_hssp
from optuna.samplers._tpe import sampler as tpe
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.study._multi_objective import _fast_non_domination_rank, _is_pareto_front
from optuna.trial import TrialState

from make_traces import MIXED, TREE, ask, merit

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
HERE = pathlib.Path(__file__).parent


def cases():
    rng = np.random.RandomState(5)
    out = []
    for case in range(60):
        m, n = [2, 2, 3, 4, 5][case % 5], rng.randint(2, 40)
        losses = rng.normal(size=(n, m)) if case % 3 else rng.randint(-2, 5, size=(n, m)).astype(float)
        if case % 4 == 1:
            losses[n // 2 :] = losses[: n - n // 2]  # Repetitions.
        if case == 7:
            losses[0, 0] = np.inf
        below = int(rng.randint(1, n))
        point = tpe._get_reference_point(losses)
        front = _is_pareto_front(losses, assume_unique_lexsorted=False)
        trials = [types.SimpleNamespace(values=list(row)) for row in losses]
        study = types.SimpleNamespace(directions=[StudyDirection.MINIMIZE] * m)
        with np.errstate(all="ignore"):
            weights = tpe._calculate_weights_below_for_multi_objective(study, trials, None)
            # A subset is chosen among the rows of one rank.
            best = losses[front]
            size = 1 + below % len(best)
            subset = _solve_hssp(best, np.arange(len(best)), size, tpe._get_reference_point(best))
            volume = compute_hypervolume(losses, point)
        number = lambda x: str(x) if np.isinf(x) else float(x)
        out.append({
            "losses": [[number(x) for x in row] for row in losses],
            "below": below,
            "ranks": _fast_non_domination_rank(losses, n_below=below).tolist(),
            "front": front.tolist(),
            "size": size,
            "subset": subset.tolist(),
            "volume": number(volume),
            "weights": weights.tolist(),
        })
    return out


def values(params, kind):
    """Several objectives that contradict each other; coarse ones have ties."""
    a, b = merit(params), sum(len(str(v)) for v in params.values()) / 7
    rate = params.get("rate", params.get("slope", params.get("leaf", 0.3)))
    c = (rate - 0.05) ** 2 - a / 5
    return {"two": [a, b], "coarse": [round(a), -round(b)], "three": [a, b, c], "four": [a, b, c, abs(a - 2 * b)]}[kind]


def trace(name, sampler, space, n, directions, kind):
    args = {k: v for k, v in sampler.items() if k != "kind"}
    kind_of = optuna.samplers.NSGAIISampler if sampler["kind"] == "nsga2" else optuna.samplers.TPESampler
    study = optuna.create_study(directions=directions, sampler=kind_of(**args))
    trials = []
    for i in range(n):
        trial = study.ask()
        params = ask(trial, space)
        told = {"params": params, "state": "complete", "values": values(params, kind)}
        if i % 11 == 5:
            told = {"params": params, "state": "failed"}
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, told["values"])
        trials.append(told)
    best = [t.number for t in study.best_trials]
    doc = {"optuna": optuna.__version__, "sampler": sampler, "directions": directions, "best": best, "space": space}
    text = json.dumps(doc)[:-1] + ', "trials": [\n' + ",\n".join(json.dumps(t) for t in trials) + "]}\n"
    (HERE / "traces" / f"{name}.json").write_text(text)


def stored():
    for name, storage in [
        ("values.db", optuna.storages.RDBStorage(f"sqlite:///{HERE / 'values.db'}")),
        ("values.log", optuna.storages.JournalStorage(JournalFileBackend(str(HERE / "values.log")))),
    ]:
        sampler = optuna.samplers.RandomSampler(seed=1)
        study = optuna.create_study(
            study_name="many", storage=storage, directions=["minimize", "maximize", "minimize"], sampler=sampler
        )
        for i in range(6):
            trial = study.ask()
            x = trial.suggest_float("x", 0, 1)
            study.tell(trial, [x, (1 - x) ** 2, float("inf") if i == 3 else -x]) if i != 4 else study.tell(trial, state=TrialState.FAIL)
        study.add_trial(optuna.trial.create_trial(values=[0.5, 0.5, 0.5], params={"x": 0.5}, distributions={"x": optuna.distributions.FloatDistribution(0, 1)}))


five = optuna.__version__.startswith("5.")
if not five:
    (HERE / "pareto.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases()) + "\n]\n")
    for name in ["values.db", "values.log"]:
        (HERE / name).unlink(missing_ok=True)
    stored()
begin = "optuna5-many" if five else "many"
MIN, MAX = "minimize", "maximize"
trace(begin, {"kind": "tpe", "seed": 41}, MIXED, 90, [MIN, MIN], "two")
trace(f"{begin}-coarse", {"kind": "tpe", "seed": 42}, MIXED, 70, [MIN, MAX], "coarse")
trace(f"{begin}-tree", {"kind": "tpe", "seed": 43}, TREE, 80, [MAX, MIN], "two")
trace(f"{begin}-three", {"kind": "tpe", "seed": 44}, MIXED, 80, [MIN, MAX, MIN], "three")
trace(f"{begin}-four", {"kind": "tpe", "seed": 45}, MIXED, 60, [MIN, MAX, MAX, MIN], "four")
trace(f"{begin}-multivariate", {"kind": "tpe", "seed": 46, "multivariate": True}, MIXED, 60, [MIN, MIN], "two")
trace(f"{begin}-group", {"kind": "tpe", "seed": 47, "multivariate": True, "group": True}, TREE, 70, [MIN, MIN], "two")
trace(f"{begin}-long", {"kind": "tpe", "seed": 48, "n_ei_candidates": 8}, TREE, 300, [MIN, MIN], "two")
begin = "optuna5-nsga2" if five else "nsga2"
trace(begin, {"kind": "nsga2", "seed": 51, "population_size": 12}, MIXED, 120, [MIN, MIN], "two")
trace(f"{begin}-tree", {"kind": "nsga2", "seed": 52, "population_size": 9, "swapping_prob": 0.3}, TREE, 90, [MAX, MIN], "coarse")
trace(
    f"{begin}-three",
    {"kind": "nsga2", "seed": 53, "population_size": 15, "crossover_prob": 0.5, "mutation_prob": 0.4},
    MIXED,
    120,
    [MIN, MAX, MIN],
    "three",
)
