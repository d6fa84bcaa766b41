"""scikit-learn's classification report, SciPy's Wilson intervals, and temperatures by SciPy's bounded search. Writes figures.json.

    pip install scikit-learn scipy
    python figures.py
"""

import json
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, classification_report, confusion_matrix

RNG = np.random.default_rng(11)


def case(n, k, scale, absent=()):
    """Logits that know the label a little, `scale` times as sure as they should be."""
    labels = RNG.choice([c for c in range(k) if c not in absent], n)
    logits = scale * (RNG.standard_normal((n, k)) + 1.5 * np.eye(k)[labels])
    p = softmax(logits, axis=1).astype(np.float32)
    guesses = p.argmax(1)
    report = classification_report(labels, guesses, output_dict=True, zero_division=0)
    z = np.log(p.astype(np.float64))

    def loss(log_t):
        return -log_softmax(z / np.exp(log_t), axis=1)[np.arange(n), labels].mean()

    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10})
    return {
        "probabilities": [float(x) for x in p.ravel()],
        "labels": labels.tolist(),
        "n_classes": k,
        "confusion": confusion_matrix(labels, guesses, labels=range(k)).ravel().tolist(),
        "classes": [report.get(str(c)) for c in range(k)],
        "macro": report["macro avg"],
        "accuracy": report["accuracy"],
        "balanced_accuracy": balanced_accuracy_score(labels, guesses),
        "cross_entropy": loss(0.0),
        "temperature": float(np.exp(best.x)),
        "cross_entropy_at_temperature": float(best.fun),
    }


def wilson(right, n):
    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return {"right": right, "n": n, "low": float(interval.low), "high": float(interval.high)}


counts = [(0, 1), (1, 1), (3, 4), (38, 40), (144, 153), (7, 1000), (9999, 10000)]
golden = {
    "cases": [case(60, 3, 1.0), case(80, 5, 3.0, absent=(1, 4)), case(40, 2, 0.3), case(300, 12, 5.0)],
    "wilson": [wilson(*c) for c in counts],
}
# One line for each case.
sections = [f'"{name}": [\n' + ",\n".join(map(json.dumps, cases)) + "\n]" for name, cases in golden.items()]
Path(__file__).with_name("figures.json").write_text("{\n" + ",\n".join(sections) + "\n}\n")
