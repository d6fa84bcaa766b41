"""python read_study.py ADDRESS STUDY prints the trials that Optuna finds in a journal or database, as JSON."""

import json
import math
import sys
import warnings

import optuna
from optuna.storages.journal import JournalFileBackend

warnings.simplefilter("ignore")
address, name = sys.argv[1:]
storage = address if "://" in address else optuna.storages.JournalStorage(JournalFileBackend(address))
study = optuna.load_study(study_name=name, storage=storage)
number = lambda v: v if math.isfinite(v) else str(v)
best = [t.number for t in study.best_trials]
trials = [
    {
        "state": t.state.name,
        "value": None if not t.values else number(t.values[0]),
        "values": [number(v) for v in t.values or []],
        "best": best,
        "params": t.params,
        "intermediate": {k: None if math.isnan(v) else v for k, v in t.intermediate_values.items()},
        "user_attrs": t.user_attrs,
        "system_attrs": t.system_attrs,
    }
    for t in study.trials
]
assert all(t.datetime_start is not None for t in study.trials if t.state.name != "WAITING")
assert all(t.duration.total_seconds() >= 0 for t in study.trials if t.state.is_finished())
print(json.dumps(trials))
