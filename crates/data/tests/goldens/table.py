"""Writes a table with what scikit-learn's StandardScaler makes of it.

    pip install scikit-learn==1.9.1 numpy==2.4.6
    python table.py

table.csv: three columns, the last of equal values that no binary fraction holds. table.json: mean, scale, and the
standardized rows.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.preprocessing import StandardScaler

here = Path(__file__).parent
rng = np.random.RandomState(0)
table = np.c_[rng.standard_normal(50) * 3 + 1000, np.exp(rng.standard_normal(50)), np.full(50, 0.1)]
np.savetxt(here / "table.csv", table, fmt="%.17g", delimiter=",", header="far,skewed,constant", comments="")
scaler = StandardScaler().fit(table)
record = {"mean": scaler.mean_.tolist(), "scale": scaler.scale_.tolist(), "rows": scaler.transform(table).tolist()}
(here / "table.json").write_text(json.dumps(record) + "\n")
