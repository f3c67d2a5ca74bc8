"""One call of every public entry, small and the same on every call, each giving the bytes of its result."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cases
import numpy as np

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.export import files
from tensorconv.factorizations import Factorization

Call = Callable[[], bytes]
SHAPE = (4, 2, 3, 2)


@functools.cache
def layer() -> tc.ConvLayer:
    """Return the layer of all calls: float32, two groups, unequal axes, small enough to be called a thousand times."""
    rng = np.random.default_rng(0)
    kernel, bias = rng.standard_normal(SHAPE, np.float32), rng.standard_normal(SHAPE[0], np.float32)
    return tc.ConvLayer.of(kernel, bias, groups=2, stride=(1, 2), padding=1)


@functools.cache
def data() -> Array:
    """Return data for it."""
    return np.random.default_rng(0).standard_normal((2, layer().in_channels, 7, 8)).astype("float32")


@functools.cache
def statistics() -> tc.PatchStatistics:
    """Return the statistics of the data."""
    found = tc.PatchStatistics(layer())
    found.update(data())
    return found


@functools.cache
def fitted() -> Factorization:
    """Return a factorization to verify and to export."""
    return tc.svd(layer(), 2)


def bits(f: Factorization) -> bytes:
    """Return all bytes of a factorization, its kernel among them."""
    arrays = (*f.factors.values(), f.kernel)
    return f"{f.method} {f.rank} {f.relative_error!r}".encode() + b"".join(array.tobytes() for array in arrays)


def _factorized(method: str, options: dict[str, Any], request: dict[str, Any]) -> bytes:
    return bits(tc.methods()[method](layer(), **request, **options))


def _saved(suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"f{suffix}"
        tc.save(path, fitted())
        return b"".join(one.kernel.tobytes() for one in tc.load(path).convolutions)


def _statistics() -> bytes:
    found = tc.PatchStatistics(layer())
    found.update(data())
    return (found + statistics()).covariance.tobytes()


def _torch() -> bytes:
    state = tc.export.dump(fitted(), "torch").state_dict()
    return b"".join(value.numpy().tobytes() for value in state.values())


def calls() -> dict[str, Call]:
    """Return the calls by name."""
    found: dict[str, Call] = {}
    for method, options in cases.variants(layer()):
        label = " ".join([method, *(f"{key}={value}" for key, value in options.items())])
        rank = 1 if method == "cp" else cases.middle(layer(), method, options)  # its sweeps at others take long
        found[label] = functools.partial(_factorized, method, options, {"rank": rank})
    found |= {
        "factorize error=0.6": lambda: bits(tc.factorize(layer(), error=0.6)),
        "svd statistics": lambda: bits(tc.svd(layer(), 2, statistics=statistics())),
        "cp statistics": lambda: bits(tc.cp(layer(), 2, statistics=statistics())),
        "convolve": lambda: tc.convolve(data(), layer()).tobytes(),
        "convolve a sequence": lambda: tc.convolve(data(), fitted()).tobytes(),
        "prepare": lambda: tc.prepare(layer(), (7, 8), "float32")(data()).tobytes(),
        "compose": lambda: tc.compose(fitted().sequence).kernel.tobytes(),
        "verify": lambda: json.dumps(tc.verify(layer(), fitted(), data()).to_dict()).encode(),
        "statistics": _statistics,
        "error_curve": lambda: str(tc.error_curve(layer(), methods=["svd"])).encode(),
        "initialize": lambda: bits(tc.initialize(SHAPE, layer().geometry, "svd", 2, rng=0)),
        "export onnx": lambda: tc.export.dump(fitted(), "onnx").SerializeToString(),
        "export torch": _torch,
    }
    return found | {f"save and load {suffix}": functools.partial(_saved, suffix) for suffix in files.SUFFIXES}
