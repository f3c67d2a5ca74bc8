"""Tests of inverted residuals in one go: bit for bit what one layer after the other gives, on any number of threads."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.convolution import plans, threads
from tensorconv.convolution.expanded import Expanded

pytestmark = pytest.mark.skipif(not plans.is_fast(), reason="the fast paths are turned off or unknown here")
# name: (in-, middle and out-channels, depthwise kernel and geometry, batch and input size)
BLOCKS: dict[str, tuple[tuple[int, int, int], tuple[int, ...], dict[str, Any], int, tuple[int, ...]]] = {
    "mobile": ((24, 72, 24), (3, 3), {"padding": 1}, 1, (29, 28)),
    "left over positions": ((16, 96, 80), (3, 3), {"padding": 1}, 2, (15, 15)),
    "one axis": ((5, 20, 7), (9,), {"padding": 4}, 3, (301,)),
    "three axes": ((6, 12, 5), (3, 1, 3), {"padding": (1, 0, 1)}, 1, (6, 7, 8)),
    "dilated": ((8, 16, 300), (3, 5), {"padding": ((2, 2), (4, 4)), "dilation": 2}, 1, (21, 19)),
    "another size of the first axis": ((7, 14, 8), (3, 3), {"padding": ((4, -1), (1, 1))}, 1, (20, 9)),
    "many in-channels": ((300, 20, 6), (3, 3), {"padding": 1}, 1, (12, 11)),
    "one tile": ((4, 8, 4), (3, 3), {"padding": 1}, 2, (4, 4)),
}


def block_of(name: str, dtype: str) -> tuple[tc.ConvSequence, np.ndarray]:
    (n_in, n_mid, n_out), kernel, geometry, batch, size = BLOCKS[name]
    rng = np.random.default_rng(0)
    ones = [1] * len(size)
    layers = [
        tc.ConvLayer.of(rng.standard_normal((n_mid, n_in, *ones)).astype(dtype)),
        tc.ConvLayer.of(rng.standard_normal((n_mid, 1, *kernel)).astype(dtype), groups=n_mid, **geometry),
        tc.ConvLayer.of(
            rng.standard_normal((n_out, n_mid, *ones)).astype(dtype), rng.standard_normal(n_out).astype(dtype)
        ),
    ]
    return tc.ConvSequence(layers), rng.standard_normal((batch, n_in, *size)).astype(dtype)


def prepared(monkeypatch: pytest.MonkeyPatch, steps: tc.ConvSequence, x: np.ndarray) -> tc.convolution.Prepared:
    """Plan anew, for threads however little there is to do."""
    monkeypatch.setattr(threads, "SMALL_WORK", 0)
    anew = tc.ConvSequence([dataclasses.replace(layer) for layer in steps.layers])
    plan = tc.prepare(anew, x.shape[2:], x.dtype)
    (path,) = plan.steps[0].path.bands[0].plans  # type: ignore[attr-defined]
    assert isinstance(path, Expanded)
    return plan


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", BLOCKS)
def test_the_bits_are_those_of_layers(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, x = block_of(name, dtype)
    expected = x
    for layer in steps.layers:
        expected = tc.convolve(expected, layer)
    plan = prepared(monkeypatch, steps, x)
    for number in ("1", "2", "5"):
        monkeypatch.setenv("TENSORCONV_NUM_THREADS", number)
        for _ in range(5):
            assert np.array_equal(plan(x), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["mobile", "another size of the first axis"])
def test_numbers_that_are_not_finite_are_found(name: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, x = block_of(name, "float32")
    plan = prepared(monkeypatch, steps, x)
    for row in range(x.shape[2]):
        broken = x.copy()
        broken[0, row % x.shape[1], row, row % x.shape[3]] = value
        with pytest.raises(tc.errors.KernelError, match="x must hold finite numbers only"):
            plan(broken)
