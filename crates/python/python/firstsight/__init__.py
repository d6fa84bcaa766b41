"""Firstsight: image classification in Rust, from Python.

>>> import firstsight
>>> classifier = firstsight.Classifier("models/mine")
>>> classifier.predict(["ant.jpg"])[0]["predictions"][0]["label"]
'ants'
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Union

from . import _firstsight
from ._firstsight import FirstsightError, ImageError, RunError, __version__

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Classifier", "FirstsightError", "ImageError", "RunError", "__version__", "main"]

Image = Union[str, "os.PathLike[str]", "np.ndarray[Any, Any]"]


class Classifier:
    """The network of a run: what `train`, `fine-tune` or the page of `serve` has left in a folder.

    Work is done without Python's global lock, on the threads that RAYON_NUM_THREADS allows; calls from several threads
    wait for each other. Ctrl-C ends it after a batch.
    """

    def __init__(self, run: str | os.PathLike[str], *, device: str | None = None) -> None:
        """Opens a run. `device` is cpu, cuda, cuda:N or metal, as far as they are built in."""
        self._classifier = _firstsight.Classifier(os.fspath(run), device)

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of the network's outputs."""
        return self._classifier.labels

    @property
    def task(self) -> str:
        """single-label, multi-label or regression."""
        return self._classifier.task

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width of the network's input."""
        return self._classifier.input_size

    @property
    def temperature(self) -> float | None:
        """The temperature that calibrates the probabilities, where the run has one."""
        return self._classifier.temperature

    def predict(
        self, images: Image | Iterable[Image], *, top: int = 5, reject: float | None = None
    ) -> list[dict[str, Any]]:
        """What the network says of each image, as `firstsight predict --json` prints it.

        An image is a file, or an array of uint8: (H, W), (H, W, 1) or (H, W, 3) in RGB. One that cannot be read has
        "error" in place of "predictions". With `reject`, such as 0.95, "rejected" says whether it is none of the
        classes, where that share of images of the classes is to be accepted.
        """
        if top < 1:
            raise ValueError(f"top: expected at least 1, found {top}")
        return [json.loads(row) for row in self._classifier.predict(_inputs(images), top, reject)]

    def probabilities(self, images: Image | Iterable[Image]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The probabilities (N, K) of the K labels, or the numbers (N, 1), for N images: float32.

        They are calibrated where the run is. An image that cannot be read raises ImageError.
        """
        import numpy as np

        inputs = _inputs(images)
        values = np.frombuffer(self._classifier.probabilities(inputs), dtype=np.float32)
        return values.reshape(len(inputs), len(self.labels)).copy()


def _inputs(images: Image | Iterable[Image]) -> list[Any]:
    """Paths, and bytes with height, width and channels."""
    import numpy as np  # Here, so that the command starts without it.

    if isinstance(images, (str, os.PathLike)) or (isinstance(images, np.ndarray) and images.ndim in (2, 3)):
        images = [images]
    return [_input(image) for image in images]


def _input(image: Image) -> Any:
    import numpy as np

    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"an image: expected a path or an array, found {type(image).__name__}")
    if image.dtype != np.uint8:
        raise TypeError(f"an array: expected uint8, found {image.dtype}")
    pixels = image[:, :, None] if image.ndim == 2 else image
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise ValueError(f"an array: expected (H, W), (H, W, 1) or (H, W, 3), found {image.shape}")
    height, width, channels = pixels.shape
    return np.ascontiguousarray(pixels).tobytes(), height, width, channels


def main() -> None:
    """The command `firstsight`."""
    sys.exit(_firstsight.main(["firstsight", *sys.argv[1:]]))
