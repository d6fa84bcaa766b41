"""python work_on_study.py ADDRESS STUDY N runs N trials of a study that others work on too."""

import sys
import time
import warnings

import optuna
from optuna.storages.journal import JournalFileBackend

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
address, name, n = sys.argv[1:]
storage = address if "://" in address else optuna.storages.JournalStorage(JournalFileBackend(address))
study = optuna.load_study(study_name=name, storage=storage, sampler=optuna.samplers.TPESampler(seed=1))


def objective(trial):
    trial.set_user_attr("python", True)
    time.sleep(0.01)
    return trial.suggest_float("x", 0, 1)


study.optimize(objective, n_trials=int(n))
