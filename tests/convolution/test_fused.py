"""Tests of sequences in bands: bit for bit what layers one after another give, and only where they pay."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.convolution import fused, plans
from tensorconv.convolution.expanded import Expanded
from tensorconv.convolution.fused import Fused

ROOT = Path(__file__).parents[2]
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


def anew(steps: tc.ConvSequence) -> tc.ConvSequence:
    """Return the same layers, of which no plans are kept."""
    return tc.ConvSequence([dataclasses.replace(layer) for layer in steps.layers])


def largest_between(path: Fused) -> int:
    """Return how many numbers lie between two layers, in the buffers or in a thread's plane."""
    planes = [plan.n_between for band in path.bands for plan in band.plans if isinstance(plan, Expanded)]
    return max(path.n_between, *planes, 0)


def banded(monkeypatch: pytest.MonkeyPatch, buffer_bytes: int) -> None:
    monkeypatch.setattr(fused, "BUFFER_BYTES", buffer_bytes)
    monkeypatch.setattr(fused, "RECOMPUTED", 100)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("part", [1, 2, 2.7])
@pytest.mark.parametrize("name", SEQUENCES)
def test_bands_give_the_bits_of_layers(name: str, part: float, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, x = sequence_of(name)
    x = x.astype(dtype)
    expected = x
    for layer in steps.layers:
        expected = tc.convolve(expected, layer)
    (whole,) = tc.prepare(steps, x.shape[2:], dtype).steps
    n_bytes = int(largest_between(whole.path) * x.itemsize / part)  # type: ignore[attr-defined]
    banded(monkeypatch, n_bytes)
    (prepared,) = tc.prepare(anew(steps), x.shape[2:], dtype).steps
    path = prepared.path  # type: ignore[attr-defined]
    assert isinstance(path, Fused)
    assert largest_between(path) * x.itemsize <= n_bytes
    assert (len(path.bands) > 1) == (part > 1)
    for number in ("1", "3"):
        monkeypatch.setenv("TENSORCONV_NUM_THREADS", number)
        assert np.array_equal(prepared(x), expected)


@pytest.mark.parametrize("name", ["inverted residual", "asymmetric"])
def test_every_number_is_looked_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, x = sequence_of(name)
    banded(monkeypatch, 4000)
    prepared = tc.prepare(steps, x.shape[2:])
    for row in range(x.shape[2]):
        broken = x.copy()
        broken[row % 2, -1, row, row % x.shape[3]] = np.inf
        with pytest.raises(tc.errors.KernelError, match="x must hold finite numbers only"):
            prepared(broken)


def test_bands_are_for_large_things_between_only() -> None:
    def n_bands(channels: int, size: int) -> list[int]:
        layers = [((channels, channels, 3, 1), {"padding": (1, 0)}), ((channels, channels, 1, 1), {})]
        made = [tc.ConvLayer.of(np.ones(shape, "float32"), **attributes) for shape, attributes in layers]
        steps = tc.prepare(tc.ConvSequence(made), (size, size), "float32").steps
        return [len(getattr(step.path, "bands", [0])) for step in steps]  # type: ignore[attr-defined]

    assert n_bands(64, 56) == [1]  # what lies between fits the buffers
    assert n_bands(64, 112) == [2]
    assert n_bands(512, 56) == [1, 1]  # bands would read the weights again: one layer after the other


def test_images_share_the_buffers_as_far_as_these_hold_them(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, _ = sequence_of("separable")
    x = np.random.default_rng(1).standard_normal((7, 5, 29, 12))
    expected = np.concatenate([tc.convolve(image[None], steps) for image in x])
    banded(monkeypatch, 3 * 4 * 29 * 12 * 8)  # three images of what lies between
    assert np.array_equal(tc.prepare(anew(steps), (29, 12))(x), expected)


MEMORY = """
import resource
import numpy as np
import tensorconv as tc

def steps_of(size):
    shapes = [((144, 24, 1, 1), {}), ((144, 1, 3, 3), dict(padding=1, groups=144)), ((24, 144, 1, 1), {})]
    steps = tc.ConvSequence([tc.ConvLayer.of(np.ones(shape, "float32"), **rest) for shape, rest in shapes])
    return tc.prepare(steps, (size, size), "float32"), np.ones((1, 24, size, size), "float32")

prepared, x = steps_of(20)
prepared(x)
prepared, x = steps_of(200)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
y = prepared(x)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, y.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in kilobytes on Linux only")
def test_what_lies_between_takes_a_few_megabytes_however_large_it_is() -> None:
    command = [sys.executable, "-c", MEMORY]
    environment = {**os.environ, "TENSORCONV_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=300)
    taken, of_output = map(int, done.stdout.split())
    assert taken <= of_output + 4 * 2**20  # while 23 MB lie between two layers
