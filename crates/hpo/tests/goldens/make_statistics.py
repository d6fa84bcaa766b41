"""What Optuna 4.8.0's TPE finds in 100 trials, seed by seed; and its fANOVA importances.

python make_statistics.py writes statistics.json and importance.json. It takes some minutes.
"""

import json
import math
import pathlib
import warnings

import numpy as np
import optuna

warnings.simplefilter("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)
HERE = pathlib.Path(__file__).parent

A = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
P = [
    [1312, 1696, 5569, 124, 8283, 5886],
    [2329, 4135, 8307, 3736, 1004, 9991],
    [2348, 1451, 3522, 2883, 3047, 6650],
    [4047, 8828, 8732, 5743, 1091, 381],
]


def branin(t, _):
    x, y = t.suggest_float("x", -5, 10), t.suggest_float("y", 0, 15)
    b, c = 5.1 / (4 * math.pi**2), 5 / math.pi
    return (y - b * x * x + c * x - 6) ** 2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def hartmann6(t, _):
    x = [t.suggest_float(f"x{i}", 0, 1) for i in range(6)]
    alpha = [1.0, 1.2, 3.0, 3.2]
    inner = [sum(A[i][j] * (x[j] - P[i][j] * 1e-4) ** 2 for j in range(6)) for i in range(4)]
    return -sum(alpha[i] * math.exp(-inner[i]) for i in range(4))


def rosenbrock4(t, _):
    x = [t.suggest_float(f"x{i}", -2, 2) for i in range(4)]
    return sum(100 * (x[i + 1] - x[i] * x[i]) ** 2 + (1 - x[i]) ** 2 for i in range(3))


def conditional(t, _):
    rate = t.suggest_float("rate", 1e-5, 1.0, log=True)
    value = abs(math.log10(rate) + 3)
    if t.suggest_categorical("kind", ["tree", "line", "flat"]) == "tree":
        depth = t.suggest_int("depth", 1, 12)
        return value + abs(depth - 7) / 5 + t.suggest_float("leaf", 0, 1) ** 2
    return value + 1 + abs(t.suggest_float("slope", -3, 3) - 1)


def noisy(t, rng):
    x = [t.suggest_float(f"x{i}", -5, 5) for i in range(3)]
    return sum(v * v for v in x) + 2 * rng.uniform(-1, 1)


def best(objective, sampler, seed):
    rng = np.random.RandomState(seed + 1000)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: objective(t, rng), n_trials=100)
    return study.best_value


def statistics():
    out = {}
    for f in (branin, hartmann6, rosenbrock4, conditional, noisy):
        out[f.__name__] = [best(f, optuna.samplers.TPESampler(seed=s), s) for s in range(50)]
    (HERE / "statistics.json").write_text(json.dumps(out, indent=1) + "\n")


def importance():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))

    def objective(t):
        a, b = t.suggest_float("a", 0, 1), t.suggest_float("b", 1e-3, 1, log=True)
        n = t.suggest_int("n", 1, 8)
        c = t.suggest_categorical("c", ["x", "y", "z"])
        return 4 * a * a + b + 0.2 * n + (1.0 if c == "y" else 0.0)

    study.optimize(objective, n_trials=120)
    shares = {}
    for seed in range(5):
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
        for name, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items():
            shares.setdefault(name, []).append(share)
    (HERE / "importance.json").write_text(json.dumps(shares, indent=1) + "\n")


importance()
statistics()
