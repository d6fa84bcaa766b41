"""The numbers of src/math/exp.rs, and numpy_exp.json: what NumPy gives for some arguments.

python fit_exp.py needs NumPy on x86-64 with AVX-512, and takes a few minutes. The table is mathematics. The
coefficients are fitted to NumPy's results as they were measured: least squares on the difference from a polynomial's
results, over and over, one coefficient after another being rounded for good.
"""

import json
import math
import pathlib
from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np

getcontext().prec = 60
TERMS = 6
SAMPLES = 3_000_000
END = math.log(2) / 16  # Below it, exp(r) is the polynomial alone: 1 + r p(r).


def two_sum(a, b):
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def halves(a):
    scaled = a * 134217729.0
    high = scaled - (scaled - a)
    return high, a - high


def fma(a, b, c):
    """a b + c, rounded once."""
    product = a * b
    (a1, a2), (b1, b2) = halves(a), halves(b)
    missing = ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2
    total, rest = two_sum(product, c)
    return total + (rest + missing)


def exp(c, r):
    """exp(r) by a polynomial, in the order of operations of exp.rs."""
    r2 = r * r
    p = fma(r2, fma(c[5], r, c[4]), fma(c[3], r, c[2]))
    p = fma(r2, p, fma(c[1], r, c[0]))
    return 1.0 + p * r


def fit():
    r = np.random.RandomState(5).uniform(0, END, SAMPLES)
    measured = np.exp(r)
    basis, triangle = np.linalg.qr(np.stack([(r / END) ** (k + 1) for k in range(TERMS)], 1))
    least, best = 1.0, [1 / math.factorial(k + 1) for k in range(TERMS)]
    for rounded in range(TERMS):
        c = best
        for _ in range(30):
            differs = measured - exp(c, r)
            share = np.mean(differs != 0)
            if share < least:
                least, best = share, c
            if share == 0:
                return best
            step = np.linalg.lstsq(triangle[:, rounded:], basis.T @ differs, rcond=None)[0]
            moved = [
                float(Fraction(c[k]) + Fraction(float(s)) / Fraction(END) ** (k + 1))
                for k, s in zip(range(rounded, TERMS), step)
            ]
            c = c[:rounded] + moved
        print(f"{rounded} coefficients rounded: {least:.2g} of the results differ", flush=True)
    return best


def bits(x):
    digits = f"{np.float64(x).view(np.uint64):016x}"
    return "0x" + "_".join(digits[i : i + 4] for i in range(0, 16, 4))


for j in range(16):
    exact = Decimal(2) ** (Decimal(j) / 16)
    high = float(exact)
    print(f"2^({j}/16): {bits(high)}, and the rest, relative: {bits(float(exact / Decimal(high) - 1))}")
coefficients = fit()
print("coefficients, lowest power first:", [bits(c) for c in coefficients])
others = np.random.RandomState(6).uniform(0, END, 10_000_000)
print("of ten million other results differ", np.count_nonzero(exp(coefficients, others) != np.exp(others)))

r = np.random.RandomState(7)
x = np.concatenate([-r.exponential(20, 1500), r.uniform(-1, 1, 1500), r.uniform(-700, 700, 1000)])
golden = {"x": x.tolist(), "exp": np.exp(x).tolist()}
(pathlib.Path(__file__).parent / "numpy_exp.json").write_text(json.dumps(golden) + "\n")
