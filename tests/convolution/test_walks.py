"""Tests of the fast paths of convolutions: by panels and by rows, each on every geometry, and what memory they take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convolution.random_layers import convolutions, whole_numbers
from hypothesis import HealthCheck, given, settings
from oracles import reference_convolution

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.certificates import rounding_bound
from tensorconv.convolution import plans, walks
from tensorconv.convolution.dense import Dense
from tensorconv.convolution.rows import BLOCKS, Rows

pytestmark = pytest.mark.skipif(not plans.is_fast(), reason="the fast paths are turned off or unknown here")
ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = {Dense: 1, Rows: 10**6}  # what NARROW has to be for the path to take every layer
any_layer = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def assert_exact(layer: tc.ConvLayer, x: Array) -> None:
    """Compare with the oracle on integers, where every order of summation is exact."""
    expected = reference_convolution(x, layer.kernel, layer.geometry, layer.bias)
    for dtype in ("float32", "float64"):
        assert np.array_equal(tc.prepare(layer, x.shape[2:], dtype)(x.astype(dtype)), expected)


@given(case=convolutions(max_ndim=4))
@any_layer
def test_panels_take_any_layer(case: tuple[tc.ConvLayer, Array], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "NARROW", EVERYTHING[Dense])
    assert_exact(*case)


@given(case=convolutions(max_ndim=4))
@any_layer
def test_rows_take_any_layer(case: tuple[tc.ConvLayer, Array], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "NARROW", EVERYTHING[Rows])
    assert_exact(*case)


# name: (kernel shape, input size, attributes): tiles and rows that end inside vectors, blocks of channels not full,
# several passes over the rows of a panel, several tiles per pass over the weights
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "many vectors": ((17, 3, 3, 3), (23, 29), {"padding": 1}),
    "one long row": ((9, 5, 7), (401,), {"padding": 3}),
    "narrow rows": ((8, 4, 3, 3), (40, 3), {"padding": 1}),
    "rows of one": ((8, 4, 3, 1), (90, 1), {"padding": (1, 0)}),
    "pointwise": ((12, 70, 1, 1), (21, 13), {}),
    "pointwise, shifted": ((12, 7, 1, 1), (21, 13), {"padding": ((1, -1), (-1, 1))}),
    "many rows of a panel": ((10, 40, 3, 3), (9, 11), {"padding": 1}),
    "heavy weights": ((264, 130, 3, 3), (15, 14), {"padding": 1}),
    "one left over": ((67, 20, 3, 3), (7, 7), {"padding": 1}),
    "four left over": ((130, 20, 3, 3), (14, 14), {"padding": 1, "groups": 2}),
    "two left over of two rows": ((64, 3, 2, 2), (67, 2), {"padding": (0, 1)}),
    "left over, heavy weights": ((264, 130, 3, 3), (7, 7), {"padding": 1}),
    "left over, transposed": ((67, 20, 4, 4), (7, 7), {"padding": 1, "stride": 2, "transposed": True}),
    "left over, pointwise": ((67, 20, 1, 1), (17, 17), {}),
    "stride 2": ((10, 6, 3, 3), (37, 41), {"padding": 1, "stride": 2}),
    "stride 3": ((10, 6, 3, 3), (37, 41), {"padding": 1, "stride": 3}),
    "strides 1 and 2": ((10, 6, 3, 3), (19, 41), {"padding": 1, "stride": (1, 2)}),
    "three axes, partly valid": ((10, 3, 3, 3, 3), (9, 11, 19), {"padding": (1, 0, 1)}),
    "grouped": ((24, 5, 3, 3), (17, 21), {"padding": 1, "groups": 3}),
    "transposed": ((12, 10, 4, 4), (17, 13), {"padding": 1, "stride": 2, "transposed": True}),
    "transposed, dilated": ((12, 10, 3, 4), (17, 13), {"dilation": (2, 3), "stride": (3, 2), "transposed": True}),
}
for k, s in BLOCKS:
    for n in (k, 9, 14, 35):
        attributes = {"padding": k // 2, "stride": s, "groups": 5}
        SIZES[f"depthwise {k}x{k} stride {s}, {n}"] = ((10, 1, k, k), (n, n + 1), attributes)
        SIZES[f"depthwise {k}x{k} stride {s}, {n}, far"] = (
            (5, 1, k, k),
            (n, n),
            {**attributes, "padding": ((k, 0), (1, k))},
        )


@pytest.mark.parametrize("path", EVERYTHING)
@pytest.mark.parametrize("name", SIZES)
def test_sizes_beyond_one_tile(name: str, path: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "NARROW", EVERYTHING[path])
    shape, size, attributes = SIZES[name]
    rng = np.random.default_rng(0)
    layer = tc.ConvLayer.of(whole_numbers(shape, rng), whole_numbers(shape[:1], rng), **attributes)
    assert_exact(layer, whole_numbers((2, layer.in_channels, *size), rng))


@pytest.mark.parametrize("path", EVERYTHING)
@pytest.mark.parametrize("name", ["many vectors", "heavy weights", "transposed"])
def test_float32_is_within_the_bound(name: str, path: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "NARROW", EVERYTHING[path])
    shape, size, attributes = SIZES[name]
    rng = np.random.default_rng(0)
    layer = tc.ConvLayer.of(rng.standard_normal(shape).astype("float32"), rng.standard_normal(shape[0]), **attributes)
    x = rng.standard_normal((1, layer.in_channels, *size)).astype("float32")
    y, expected = tc.convolve(x, layer), reference_convolution(x, layer.kernel, layer.geometry, layer.bias)
    assert (np.abs(y - expected) <= rounding_bound(x, layer) + rounding_bound(x.astype("float64"), layer)).all()


@pytest.mark.parametrize(
    "name", ["heavy weights", "grouped", "transposed", "left over, heavy weights", "depthwise 3x3 stride 1, 35"]
)
def test_bits_do_not_depend_on_threads_or_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape, size, attributes = SIZES[name]
    rng = np.random.default_rng(0)
    layer = tc.ConvLayer.of(rng.standard_normal(shape).astype("float32"), **attributes)
    x = rng.standard_normal((9, layer.in_channels, *size)).astype("float32")
    outputs = set()
    for number in ("1", "2", "5"):
        monkeypatch.setenv("TENSORCONV_NUM_THREADS", number)
        outputs.add(tc.convolve(x, layer).tobytes())
    outputs.add(b"".join(tc.convolve(x[i : i + 1], layer).tobytes() for i in range(len(x))))
    assert len(outputs) == 1


MEMORY = """
import resource, sys
import numpy as np
import tensorconv as tc
shape, attributes, size = {shape}, {attributes}, {size}
layer = tc.ConvLayer.of(np.ones(shape, "float32"), **attributes)
small = np.ones((1, layer.in_channels, 20, 20), "float32")
tc.convolve(small, layer)
prepared = tc.prepare(layer, (size, size), "float32")
x = np.ones((1, layer.in_channels, size, size), "float32")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
y = prepared(x)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, y.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in kilobytes on Linux only")
@pytest.mark.parametrize("name", ["many vectors", "pointwise", "stride 2", "transposed", "depthwise 5x5 stride 2, 35"])
def test_the_workspace_is_four_megabytes_per_thread_at_most(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORCONV_NUM_THREADS", "2")
    shape, _, attributes = SIZES[name]
    program = MEMORY.format(shape=shape, attributes=attributes, size=1000)
    command = [sys.executable, "-c", program]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300).stdout
    taken, of_output = map(int, out.split())
    assert taken <= of_output + 2 * 4 * 2**20
