"""The demo: a small trained network, compressed layer by layer, checked, and run before and after."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import MissingFrameworkError
from tensorconv.export.files import save, write_whole
from tensorconv.factorizations import Factorization, factorize
from tensorconv.models import FoundLayer, read_layers
from tensorconv.verdict import Report
from tensorconv.verification import verify

NETWORK = Path(__file__).with_name("network.onnx")
IMAGES = Path(__file__).with_name("images.npz")
N_RESULTS = 6  # five convolutions, and the network as a whole
_BATCH = 250


@dataclass(frozen=True)
class CompressedLayer:
    """One convolution of the demo's network.

    Parameters
    ----------
    found : FoundLayer
        The convolution, with the size of its input.
    factorization : Factorization
        What takes its place; method "dense" where nothing cheaper meets the error.
    report : Report
        The check of the one against the other.
    path : Path or None
        Where the factors were saved; None where the layer stays dense.
    """

    found: FoundLayer
    factorization: Factorization
    report: Report
    path: Path | None


@dataclass(frozen=True)
class CompressedNetwork:
    """The whole network, before and after.

    Parameters
    ----------
    macs : (int, int)
        Multiply-accumulates of all convolutions per image.
    n_parameters : (int, int)
        Stored entries of all convolutions.
    accuracy : (float, float)
        Share of the images that ONNX Runtime classifies rightly.
    n_images : int
        Number of images.
    path : Path
        Where the compressed network was saved.
    """

    macs: tuple[int, int]
    n_parameters: tuple[int, int]
    accuracy: tuple[float, float]
    n_images: int
    path: Path


def run(
    folder: str | PathLike[str] = "tensorconv-demo", *, error: float = 0.15
) -> Iterator[CompressedLayer | CompressedNetwork]:
    """Compress the demo's network; needs no connection.

    Parameters
    ----------
    folder : path-like
        Where the factors (one .safetensors per layer) and the network (.onnx) are saved; made if missing.
    error : float
        Largest relative error of each kernel.

    Yields
    ------
    CompressedLayer
        Each convolution in order, as soon as it is done.
    CompressedNetwork
        The whole, at last.

    Raises
    ------
    MissingFrameworkError
        If onnx, onnxruntime or safetensors are not installed.
    """
    for package in ("onnx", "onnxruntime", "safetensors"):
        try:
            importlib.import_module(package)
        except ImportError as missing:
            raise MissingFrameworkError(f"the demo needs {package}: pip install 'tensorconv[cli]'") from missing
    from tensorconv.demo.splice import splice

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    done = []
    for found in read_layers(NETWORK):
        layer = found.layer
        f = factorize(layer, error=error, input_size=found.input_size)
        path = None if f.method == "dense" else target / f"{layer.name}.safetensors"
        if path is not None:
            save(path, f)
        done.append(CompressedLayer(found, f, verify(layer, f, input_size=found.input_size), path))
        yield done[-1]
    onnx = importlib.import_module("onnx")
    before = onnx.load(str(NETWORK))
    after = splice(before, {layer.found.layer.name: layer.factorization.sequence for layer in done if layer.path})
    content = after.SerializeToString()
    network = target / "network.onnx"
    write_whole(network, content)
    images, labels = _test_images()
    yield CompressedNetwork(
        _sums([layer.report.macs for layer in done]),
        _sums([layer.report.n_parameters for layer in done]),
        (_accuracy(before.SerializeToString(), images, labels), _accuracy(content, images, labels)),
        len(labels),
        network,
    )


def _test_images() -> tuple[Array, Array]:
    """Return the images (n, 1, 28, 28) in [-1, 1], as the network was trained on, and their labels."""
    with np.load(IMAGES, allow_pickle=False) as arrays:
        return arrays["images"][:, None].astype(np.float32) / np.float32(127.5) - 1, arrays["labels"]


def _accuracy(network: bytes, images: Array, labels: Array) -> float:
    """Return the share of images that a network classifies rightly."""
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(network, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    batches = [session.run(None, {name: images[i : i + _BATCH]})[0] for i in range(0, len(images), _BATCH)]
    return float(np.mean(np.concatenate(batches).argmax(axis=1) == labels))


def _sums(pairs: list[tuple[int, int]]) -> tuple[int, int]:
    return sum(before for before, _ in pairs), sum(after for _, after in pairs)
