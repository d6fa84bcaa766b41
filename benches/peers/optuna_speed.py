"""The search of crates/hpo/benches/speed.rs in Optuna or, with --rustuna, in rustuna: python optuna_speed.py N [ADDRESS]
[--rustuna] [--two] prints the seconds, those of the processor, and the values of the first of the best trials; with --two
of two objectives."""

import math
import sys
import time
import warnings

warnings.simplefilter("ignore")
two = "--two" in sys.argv
if two:
    sys.argv.remove("--two")
if "--rustuna" in sys.argv:
    sys.argv.remove("--rustuna")
    import rustuna as library
else:
    import optuna as library

    library.logging.set_verbosity(library.logging.ERROR)


def objective(trial):
    value = 0.0
    for i in range(4):
        value += (trial.suggest_float(f"x{i}", -5, 5) - i) ** 2
    value += abs(math.log10(trial.suggest_float("lr", 1e-5, 1e-1, log=True)) + 3)
    value += trial.suggest_float("d", 0, 0.5, step=0.1)
    value += abs(trial.suggest_int("n", 1, 9) - 4)
    value += abs(trial.suggest_int("w", 8, 512, log=True) - 64) / 64
    value += len(trial.suggest_categorical("o", ["a", "bb", "ccc"]))
    value += trial.suggest_categorical("b", [True, False])
    return (value, (trial.params["x0"] - 3) ** 2) if two else value


n = int(sys.argv[1])
storage = sys.argv[2] if len(sys.argv) > 2 else None
study = library.create_study(sampler=library.samplers.TPESampler(seed=1), storage=storage,
                             **({"directions": ["minimize"] * 2} if two else {}))
start, cpu = time.perf_counter(), time.process_time()
study.optimize(objective, n_trials=n)
print(n, time.perf_counter() - start, time.process_time() - cpu, study.best_trials[0].values if two else study.best_trial.value)
