"""Makes an ONNX file of `firstsight export --calibration` one of int8: python quantize_onnx.py FILE OUT."""
import sys
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Photos(CalibrationDataReader):
    def __init__(self, path):
        self.batches = iter(np.array_split(np.load(path), 10))

    def get_next(self):
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch}


if len(sys.argv) != 3:
    sys.exit(__doc__)
source, out = map(Path, sys.argv[1:])
photos = Photos(source.with_suffix(".calibration.npy"))
prepared = out.with_suffix(".prepared.onnx")
quant_pre_process(source, prepared)
quantize_static(
    prepared, out, photos,
    quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
)
prepared.unlink()
