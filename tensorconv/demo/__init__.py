"""The demo: a small trained network, compressed as a whole, checked, and run before and after."""

from __future__ import annotations

import importlib
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import MissingFrameworkError
from tensorconv.models.compressing import compress
from tensorconv.models.compression import Compression
from tensorconv.models.drift import Evaluate
from tensorconv.models.progress import Watch, unwatched

NETWORK = Path(__file__).with_name("network.onnx")
IMAGES = Path(__file__).with_name("images.npz")
METHODS = ("svd", "cp")
_BATCH = 250


def run(
    folder: str | PathLike[str] = "tensorconv-demo", *, budget: float = 0.25, jobs: int = 1, watch: Watch = unwatched
) -> Compression:
    """Compress the demo's network; needs no connection.

    Layers are fitted to the network's responses to images that it was trained on, without their labels; its accuracy
    is that on 1,000 others.

    Parameters
    ----------
    folder : path-like
        Where the network (network.onnx) and the plan (plan.json) are saved; made if missing.
    budget : float
        Largest share of the multiply-accumulates.
    jobs : int
        Number of processes.
    watch : callable
        Is told of the progress.

    Returns
    -------
    Compression
        The network, the plan, a proof for every layer, and the network before and after.

    Raises
    ------
    MissingFrameworkError
        If onnx or onnxruntime are not installed.
    """
    for package in ("onnx", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError as missing:
            raise MissingFrameworkError(f"the demo needs {package}: pip install 'tensorconv[cli]'") from missing
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    done = compress(
        NETWORK, budget=budget, data=images("calibration"), evaluate=accuracy(), methods=METHODS, jobs=jobs, watch=watch
    )
    done.save(target / "network.onnx")
    done.plan.save(target / "plan.json")
    return done


def images(name: str = "images") -> Array:
    """Return images that are shipped with the demo.

    Parameters
    ----------
    name : {"images", "calibration"}
        The first 1,000 test images, or the first 320 that the network was trained on.

    Returns
    -------
    ndarray, shape (n, 1, 28, 28)
        The images in [-1, 1], as the network takes them.
    """
    with np.load(IMAGES, allow_pickle=False) as arrays:
        return np.asarray(arrays[name][:, None].astype(np.float32) / np.float32(127.5) - 1)


def accuracy() -> Evaluate:
    """Return the evaluation of the demo: the percentage of the test images that a network classifies rightly.

    Returns
    -------
    callable
        Takes a function from a batch to outputs by name.
    """
    test = images()
    with np.load(IMAGES, allow_pickle=False) as arrays:
        labels = arrays["labels"]

    def evaluate(run: Any) -> float:
        batches = [run({"images": test[i : i + _BATCH]})["logits"] for i in range(0, len(test), _BATCH)]
        return float(100 * np.mean(np.concatenate(batches).argmax(axis=1) == labels))

    return evaluate
