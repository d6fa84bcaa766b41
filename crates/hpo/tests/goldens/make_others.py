"""Numbers and files of NumPy and Optuna 4.8.0 for the tests beside this folder.

python make_others.py writes random_state.json, grid.json, liar.json, pruners.json, hyperband.json, journal.log, study.db,
foreign.db and studies.json.
"""

import itertools
import json
import math
import pathlib
import sqlite3
import warnings

import numpy as np
import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
HERE = pathlib.Path(__file__).parent


def write(name, value):
    (HERE / name).write_text(json.dumps(value, indent=1) + "\n")


def random_state():
    out = {}
    for seed in (0, 1, 123, 2**32 - 1):
        r = np.random.RandomState(seed)
        draws = {"random_sample": r.random_sample(3).tolist(), "uniform": [r.uniform(-2.5, 7.0) for _ in range(3)]}
        draws["randint"] = [int(r.randint(0, 1000)) for _ in range(5)]
        draws["randint_wide"] = [int(r.randint(0, 2**40)) for _ in range(3)]
        draws["choice"] = r.choice(4, size=6, p=[0.1, 0.2, 0.3, 0.4]).tolist()
        draws["permutation"] = r.permutation(9).tolist()
        draws["standard_normal"] = r.standard_normal(5).tolist()
        out[str(seed)] = draws
    write("random_state.json", out)


def grid():
    space = {"b": [1, 2, 3], "a": ["x", "y"], "c": [0.5, None]}
    study = optuna.create_study(sampler=optuna.samplers.GridSampler(space, seed=5))

    def objective(trial):
        for name, values in space.items():
            trial.suggest_categorical(name, values)
        return 0.0

    study.optimize(objective, n_trials=100)
    write("grid.json", [t.params for t in study.trials])


def liar():
    """Batches of trials that are asked for before any of them is told about."""
    out = []
    for multivariate in (False, True):
        sampler = optuna.samplers.TPESampler(seed=3, constant_liar=True, multivariate=multivariate)
        study = optuna.create_study(sampler=sampler)
        batches = []
        for _ in range(8):
            trials = [study.ask() for _ in range(4)]
            xs = [t.suggest_float("x", -5, 5) for t in trials]
            ns = [t.suggest_int("n", 1, 8) for t in trials]
            for t, x, n in zip(trials, xs, ns):
                study.tell(t, (x - 1) ** 2 + abs(n - 3))
            batches.append([xs, ns])
        out.append({"multivariate": multivariate, "batches": batches})
    write("liar.json", out)


PRUNERS = {
    "median": lambda: optuna.pruners.MedianPruner(),
    "median-warm": lambda: optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=3, interval_steps=4, n_min_trials=3),
    "percentile": lambda: optuna.pruners.PercentilePruner(25.0, n_startup_trials=3),
    "threshold": lambda: optuna.pruners.ThresholdPruner(lower=0.2, upper=2.6, n_warmup_steps=2, interval_steps=2),
    "patient": lambda: optuna.pruners.PatientPruner(optuna.pruners.MedianPruner(n_startup_trials=1), patience=2, min_delta=0.05),
    "patient-alone": lambda: optuna.pruners.PatientPruner(None, patience=3),
    "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(),
    "halving-two": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=2, min_early_stopping_rate=1, bootstrap_count=3),
    "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=27, reduction_factor=3),
    "hyperband-auto": lambda: optuna.pruners.HyperbandPruner(min_resource=2, reduction_factor=2),
    "nop": lambda: optuna.pruners.NopPruner(),
}


def pruners():
    """Learning curves, each followed until the pruner stops it. The later ones have infinite values too."""
    out = []
    for infinite, names in ((0.0, PRUNERS), (0.1, [name for name in PRUNERS if name != "nop"])):
        for name, direction in itertools.product(names, ("minimize", "maximize")):
            make = PRUNERS[name]
            r = np.random.RandomState(len(name))
            study = optuna.create_study(direction=direction, pruner=make(), study_name=f"curves-{name}")
            trials = []
            for number in range(16 if infinite else 40):
                trial = study.ask()
                level, speed = r.uniform(0, 2), r.uniform(0.05, 1)
                reports, stopped = [], False
                for step in range(20 + number % 9):
                    value = level + math.exp(-speed * step) + 0.1 * r.standard_normal()
                    u = r.uniform()
                    if u < 0.02:
                        value = math.nan
                    elif u < 0.02 + infinite:
                        value = math.inf if number % 2 else -math.inf
                    if direction == "maximize":
                        value = -value
                    if step % 5 == 4 and number % 3 == 0:
                        continue  # some steps are never reported
                    trial.report(value, step)
                    stopped = bool(trial.should_prune())
                    reports.append([step, value if math.isfinite(value) else str(value)])
                    if stopped:
                        break
                trials.append({"reports": reports, "stopped": stopped})
                last = next((v for _, v in reversed(reports) if isinstance(v, float)), 0.0)
                study.tell(trial, state=TrialState.PRUNED) if stopped else study.tell(trial, last)
            out.append({"pruner": name, "direction": direction, "trials": trials})
    text = "[\n" + ",\n".join(json.dumps(o) for o in out) + "\n]\n"
    (HERE / "pruners.json").write_text(text)


def hyperband():
    """What TPE proposes where Hyperband stops trials, and the step at which it does."""
    out = []
    for args in ({}, {"multivariate": True}):
        pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3)
        sampler = optuna.samplers.TPESampler(seed=8, **args)
        study = optuna.create_study(sampler=sampler, pruner=pruner, study_name="brackets")
        trials = []
        for _ in range(50):
            trial = study.ask()
            x, n = trial.suggest_float("x", -5, 5), trial.suggest_int("n", 1, 8)
            value = (x - 1) ** 2 + abs(n - 3)
            for step in range(10):
                trial.report(value + 9 / (step + n), step)
                if trial.should_prune():
                    break
            pruned = step < 9
            study.tell(trial, state=TrialState.PRUNED) if pruned else study.tell(trial, value)
            trials.append([x, n, step])
        out.append({**args, "trials": trials})
    (HERE / "hyperband.json").write_text("[\n" + ",\n".join(json.dumps(o) for o in out) + "\n]\n")


def objective(trial):
    x = trial.suggest_float("x", 1e-3, 1.0, log=True)
    n = trial.suggest_int("n", 2, 10, step=2)
    c = trial.suggest_categorical("c", ["a", "é", None, 2, 0.5, True])
    trial.set_user_attr("note", {"list": [1, 2.5, None], "text": "ü \"quoted\""})
    for step in range(3):
        trial.report(math.nan if step == 1 else x * n / (step + 1), step)
    if trial.number == 2:
        raise optuna.TrialPruned()
    if trial.number == 3:
        raise ValueError("broken")
    if trial.number == 4:
        return math.inf
    return x * n + len(str(c))


def storages():
    for name in ("journal.log", "study.db"):
        (HERE / name).unlink(missing_ok=True)
    journal = optuna.storages.JournalStorage(JournalFileBackend(str(HERE / "journal.log")))
    out = {}
    for name, storage in (("journal.log", journal), ("study.db", f"sqlite:///{HERE / 'study.db'}")):
        other = optuna.create_study(storage=storage, study_name="other", direction="maximize")
        other.optimize(lambda t: t.suggest_float("y", 0, 1), n_trials=2)
        sampler = optuna.samplers.TPESampler(seed=1, n_startup_trials=3)
        study = optuna.create_study(storage=storage, study_name="näme", sampler=sampler)
        study.set_user_attr("author", "Optuna")
        study.enqueue_trial({"x": 0.25, "c": None})
        study.optimize(objective, n_trials=8, catch=(ValueError,))
        study.ask()
        study.enqueue_trial({"n": 4})
        out[name] = [
            {
                "state": t.state.name,
                "value": t.value if t.value is None or math.isfinite(t.value) else str(t.value),
                "params": t.params,
                "intermediate": {k: None if math.isnan(v) else v for k, v in t.intermediate_values.items()},
                "user_attrs": t.user_attrs,
                "system_attrs": t.system_attrs,
            }
            for t in study.trials
        ]
    write("studies.json", out)
    (HERE / "foreign.db").unlink(missing_ok=True)
    foreign = sqlite3.connect(HERE / "foreign.db")
    foreign.executescript("PRAGMA page_size = 512; CREATE TABLE t (a);")
    foreign.close()


random_state()
grid()
liar()
pruners()
hyperband()
storages()
