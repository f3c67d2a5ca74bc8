"""Tests of depthwise layers computed on the way into a pointwise one: bit for bit what one after the other gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.convolution import dense, plans
from tensorconv.convolution.dense import Dense
from tensorconv.convolution.fused import Fused

pytestmark = pytest.mark.skipif(not plans.is_fast(), reason="the fast paths are turned off or unknown here")
# name: (depthwise kernel and geometry, out-channels, batch and input size)
PAIRS: dict[str, tuple[tuple[int, ...], dict[str, Any], int, tuple[int, ...]]] = {
    "3x3": ((6, 1, 3, 3), {"padding": 1}, 9, (2, 31, 17)),
    "one axis": ((5, 1, 7), {"padding": 3}, 16, (1, 101)),
    "dilated, of even size": ((7, 1, 4, 3), {"padding": ((3, 3), (2, 2)), "dilation": 2}, 8, (1, 10, 9)),
    "three axes": ((4, 1, 3, 1, 3), {"padding": (1, 0, 1)}, 5, (2, 5, 4, 6)),
    "another size of the first axis": ((3, 1, 3, 3), {"padding": ((4, -1), (1, 1))}, 4, (1, 20, 7)),
    "many channels": ((300, 1, 3, 3), {"padding": 1}, 70, (1, 7, 7)),
    "many out-channels": ((9, 1, 5, 5), {"padding": 2}, 300, (1, 14, 14)),
    "large": ((8, 1, 3, 3), {"padding": 1}, 24, (1, 80, 70)),
}


def pair_of(name: str, dtype: str) -> tuple[tc.ConvSequence, np.ndarray]:
    shape, geometry, n_out, (batch, *size) = PAIRS[name]
    rng = np.random.default_rng(0)
    first = tc.ConvLayer.of(rng.standard_normal(shape).astype(dtype), groups=shape[0], **geometry)
    mixing = rng.standard_normal((n_out, shape[0], *[1] * len(size))).astype(dtype)
    second = tc.ConvLayer.of(mixing, rng.standard_normal(n_out).astype(dtype))
    return tc.ConvSequence([first, second]), rng.standard_normal((batch, shape[0], *size)).astype(dtype)


def paths(sequence: tc.ConvSequence, x: np.ndarray) -> list[Any]:
    """Return how each layer, or pair of layers, is run; what lies between is small here: one band for all."""
    found = [step.path for step in tc.prepare(sequence, x.shape[2:], x.dtype).steps]  # type: ignore[attr-defined]
    return [plan for path in found for plan in (path.bands[0].plans if isinstance(path, Fused) else [path])]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("keeps_tables", [True, False])
@pytest.mark.parametrize("name", PAIRS)
def test_the_bits_are_those_of_layers(
    name: str, keeps_tables: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not keeps_tables:
        monkeypatch.setattr(dense, "TABLE_BYTES", 0)
    sequence, x = pair_of(name, dtype)
    (path,) = paths(sequence, x)
    assert isinstance(path, Dense)
    assert len(path.blend.weights) == x.shape[1]
    expected = x
    for layer in sequence.layers:
        expected = tc.convolve(expected, layer)
    for number in ("1", "3"):
        monkeypatch.setenv("TENSORCONV_NUM_THREADS", number)
        assert np.array_equal(tc.convolve(x, sequence), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_found(value: float) -> None:
    sequence, x = pair_of("3x3", "float32")
    for index in ((0, 0, 0, 0), (1, 5, 30, 16), (0, 3, 15, 7)):
        broken = x.copy()
        broken[index] = value
        with pytest.raises(tc.errors.KernelError, match="x must hold finite numbers only"):
            tc.convolve(broken, sequence)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"stride": 2, "padding": 1}, {}),
        ({"padding": 0}, {}),
        ({"padding": 1}, {"stride": 2}),
        ({"padding": 1}, {"padding": 1}),
        ({"padding": 1}, {"groups": 2}),
    ],
)
def test_other_pairs_stay_two_layers(first: dict[str, Any], second: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    layers = [
        tc.ConvLayer.of(rng.standard_normal((8, 1, 3, 3)), groups=8, **first),
        tc.ConvLayer.of(rng.standard_normal((8, 8 // second.get("groups", 1), 1, 1)), **second),
    ]
    x = rng.standard_normal((1, 8, 9, 9))
    sequence = tc.ConvSequence(layers)
    assert len(paths(sequence, x)) == 2
    assert np.array_equal(tc.convolve(x, sequence), tc.convolve(tc.convolve(x, layers[0]), layers[1]))


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_pairs_of_one_axis_with_strides_stay_two_layers(stride: int) -> None:
    rng = np.random.default_rng(0)
    layers = [
        tc.ConvLayer.of(rng.standard_normal((8, 1, 3)), groups=8, stride=stride, padding=1),
        tc.ConvLayer.of(rng.standard_normal((8, 8, 1))),
    ]
    x = rng.standard_normal((1, 8, 50))
    sequence = tc.ConvSequence(layers)
    assert len(paths(sequence, x)) == 2
    assert np.array_equal(tc.convolve(x, sequence), tc.convolve(tc.convolve(x, layers[0]), layers[1]))


def test_a_pair_is_found_among_other_layers() -> None:
    rng = np.random.default_rng(0)
    shapes = [((6, 3, 3, 3), {}), ((6, 1, 3, 3), {"padding": 1, "groups": 6}), ((5, 6, 1, 1), {}), ((4, 5, 3, 3), {})]
    layers = [tc.ConvLayer.of(rng.standard_normal(shape), **rest) for shape, rest in shapes]
    x = rng.standard_normal((2, 3, 12, 11))
    expected = x
    for layer in layers:
        expected = tc.convolve(expected, layer)
    sequence = tc.ConvSequence(layers)
    assert len(paths(sequence, x)) == 3
    assert np.array_equal(tc.convolve(x, sequence), expected)
