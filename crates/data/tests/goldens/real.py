"""Says what Pillow makes of folders of real images, for tests/it/real.rs.

    pip install pillow==13.0.0 numpy==2.4.6 safetensors
    python real.py DATASETS OUT.safetensors

DATASETS holds CASIA-Dataset/{Train,Test}/<class>/<image>.png and hymenoptera/{train,val}/{ants,bees}/<photo>.jpg.
Each name in OUT is a path in DATASETS, then L/80x60 (Lanczos; every 100th character) or RGB (every 10th photo) or
RGB/224x224 (bicubic). Nothing of it belongs into the repository.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

datasets, out = Path(sys.argv[1]), sys.argv[2]
goldens = {}
for path in sorted(datasets.glob("CASIA-Dataset/*/*/*.png"))[::100]:
    image = Image.open(path).convert("L").resize((60, 80), Image.Resampling.LANCZOS)
    goldens[f"{path.relative_to(datasets)}/L/80x60"] = np.array(image)
for path in sorted(datasets.glob("hymenoptera/*/*/*.jpg"))[::10]:
    image = Image.open(path).convert("RGB")
    goldens[f"{path.relative_to(datasets)}/RGB"] = np.array(image)
    goldens[f"{path.relative_to(datasets)}/RGB/224x224"] = np.array(image.resize((224, 224), Image.Resampling.BICUBIC))
save_file(goldens, out)
print(len(goldens), "images")
