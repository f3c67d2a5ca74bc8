"""Tests of sequences in bands: bit for bit what layers one after another give, and only where they pay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.convolution import fused, plans
from tensorconv.convolution.fused import Fused

pytestmark = pytest.mark.skipif(not plans.is_fast(), reason="the fast paths are turned off or unknown here")
Layers = list[tuple[tuple[int, ...], dict[str, Any]]]
# name: (layers, input size)
SEQUENCES: dict[str, tuple[Layers, tuple[int, ...]]] = {
    "depthwise, pointwise": (
        [((6, 1, 3, 3), {"padding": 1, "groups": 6, "stride": (2, 1)}), ((9, 6, 1, 1), {"stride": (1, 2)})],
        (31, 17),
    ),
    "pointwise, depthwise, pointwise": (
        [((12, 5, 1, 1), {}), ((12, 1, 3, 3), {"padding": 1, "groups": 12}), ((5, 12, 1, 1), {})],
        (37, 19),
    ),
    "inverted residual": (
        [((12, 5, 1, 1), {}), ((12, 1, 5, 5), {"padding": 2, "groups": 12, "stride": 2}), ((5, 12, 1, 1), {})],
        (37, 19),
    ),
    "separable": ([((4, 5, 7, 1), {"padding": (3, 0)}), ((6, 4, 1, 7), {"padding": (0, 3)})], (29, 12)),
    "one axis, dilated": ([((4, 3, 3), {"padding": 2, "dilation": 2}), ((5, 4, 4), {"padding": (2,)})], (83,)),
    "three axes": ([((4, 3, 3, 1, 1), {}), ((5, 4, 2, 3, 3), {"padding": 1, "stride": 2})], (23, 6, 7)),
    "asymmetric": (
        [((4, 3, 3, 3), {"padding": ((3, -2), (0, 4))}), ((5, 4, 2, 2), {"padding": ((-1, 3), (2, 0)), "stride": 3})],
        (33, 9),
    ),
    "far padding": ([((4, 3, 2, 2), {"padding": 9}), ((5, 4, 2, 2), {"padding": 9})], (4, 5)),
}


def sequence_of(name: str) -> tuple[tc.ConvSequence, np.ndarray]:
    layers, size = SEQUENCES[name]
    rng = np.random.default_rng(0)
    biases = [None] * (len(layers) - 1) + [rng.standard_normal(layers[-1][0][0])]
    made = zip(layers, biases, strict=True)
    steps = [tc.ConvLayer.of(rng.standard_normal(shape), bias, **rest) for (shape, rest), bias in made]
    return tc.ConvSequence(steps), rng.standard_normal((2, steps[0].in_channels, *size))


def banded(monkeypatch: pytest.MonkeyPatch, band_bytes: int) -> None:
    monkeypatch.setattr(fused, "WORTH_BYTES", 0)
    monkeypatch.setattr(fused, "BAND_BYTES", band_bytes)
    monkeypatch.setattr(fused, "RECOMPUTED", 100)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("band_bytes", [1, 5000])
@pytest.mark.parametrize("name", SEQUENCES)
def test_bands_give_the_bits_of_layers(name: str, band_bytes: int, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, x = sequence_of(name)
    x = x.astype(dtype)
    expected = x
    for layer in steps.layers:
        expected = tc.convolve(expected, layer)
    banded(monkeypatch, band_bytes)
    prepared = tc.prepare(steps, x.shape[2:], dtype)
    if band_bytes == 1:
        assert [type(step.path) for step in prepared.steps] == [Fused]  # type: ignore[attr-defined]
        assert len(prepared.steps[0].path.bands) > 1  # type: ignore[attr-defined]
    for number in ("1", "3"):
        monkeypatch.setenv("TENSORCONV_NUM_THREADS", number)
        assert np.array_equal(prepared(x), expected)


@pytest.mark.parametrize("name", ["inverted residual", "asymmetric"])
def test_every_number_is_looked_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, x = sequence_of(name)
    banded(monkeypatch, 1)
    prepared = tc.prepare(steps, x.shape[2:])
    for row in range(x.shape[2]):
        broken = x.copy()
        broken[row % 2, -1, row, row % x.shape[3]] = np.inf
        with pytest.raises(tc.errors.KernelError, match="x must hold finite numbers only"):
            prepared(broken)


def test_bands_are_for_large_things_between_only() -> None:
    def n_steps(channels: int, size: int) -> int:
        layers = [((channels, channels, 3, 1), {"padding": (1, 0)}), ((channels, channels, 1, 1), {})]
        made = [tc.ConvLayer.of(np.ones(shape, "float32"), **attributes) for shape, attributes in layers]
        return len(tc.prepare(tc.ConvSequence(made), (size, size), "float32").steps)

    assert n_steps(64, 112) == 1
    assert n_steps(64, 56) == 2  # what lies between stays in the cache
    assert n_steps(512, 56) == 2  # bands would read the weights again
