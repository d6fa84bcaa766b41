"""python share_study.py ADDRESS STUDY NOTES TRIALS works on a study with others until it has that many trials, and notes in a
file the number of each trial that it begins."""

import os
import sys
import time
import warnings

import optuna

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
address, name, notes, n = sys.argv[1:]
storage = optuna.storages.RDBStorage(address, heartbeat_interval=8)
sampler = optuna.samplers.TPESampler(seed=os.getpid(), constant_liar=True)
study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)


def objective(trial):
    with open(notes, "a") as file:
        file.write(f"{trial.number} {os.getpid()}\n")
    trial.set_user_attr("python", True)
    x, n = trial.suggest_float("x", -5, 5), trial.suggest_int("n", 1, 9)
    for step in range(3):
        time.sleep(0.03)
        trial.report(x * (step + 1), step)
    return (x - 1) ** 2 + n


def room():
    """Whether a trial waits, or the study has fewer than were asked for. Optuna counts and adds in two steps, so two of its
    workers may add one more than that."""
    trials = study.get_trials(deepcopy=False)
    return len(trials) < int(n) or any(t.state == optuna.trial.TrialState.WAITING for t in trials)


while room():
    study.optimize(objective, n_trials=1)
