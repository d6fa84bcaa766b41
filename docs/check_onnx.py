"""Runs ONNX files of `firstsight export` on the images that they hold: python check_onnx.py FILE…"""
import base64, json, sys, zlib

import numpy as np
import onnxruntime

for path in sys.argv[1:]:
    session = onnxruntime.InferenceSession(path)
    check = json.loads(session.get_modelmeta().custom_metadata_map["self_check"])
    images = np.frombuffer(zlib.decompress(base64.b64decode(check["inputs"])), check["dtype"])
    (found,) = session.run(None, {session.get_inputs()[0].name: images.reshape(check["shape"])})
    difference = np.abs(found - check["outputs"]).max() / max(1, np.abs(check["outputs"]).max())
    assert difference <= 1e-4, f"{path}: the outputs differ by {difference:.1e}"
    print(f"{path}: within {difference:.1e}")
