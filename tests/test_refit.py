"""Tests of fits behind an activation: closer there than a linear fit, judged on positions that were not fitted."""

from __future__ import annotations

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.errors import KernelError
from tensorconv.factorizations import Factorization
from tensorconv.refit import refitted_after


def problem(n_images: int) -> tuple[tc.ConvLayer, Array, Factorization]:
    """Return a layer with mostly negative responses, data, and its best fit to the responses themselves."""
    rng = np.random.default_rng(4)
    layer = tc.ConvLayer.of(rng.standard_normal((12, 6, 3)), rng.standard_normal(12) - 4, padding=1)
    x = np.cumsum(rng.standard_normal((n_images, 6, 60)), axis=2) / 3
    statistics = tc.PatchStatistics(layer)
    statistics.update(x)
    return layer, x, tc.svd(layer, 4, statistics=statistics)


def after(activation: tc.Activation, found: object, layer: tc.ConvLayer, x: Array) -> float:
    wanted = activation(tc.convolve(x, layer))
    return float(np.linalg.norm(activation(tc.convolve(x, found)) - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize(
    "activation", [tc.Activation.relu(), tc.Activation.leaky_relu(0.1), tc.Activation.clipped_relu(3)]
)
def test_fits_are_closer_after_the_activation(activation: tc.Activation) -> None:
    layer, x, linear = problem(40)
    bent = refitted_after(
        activation, linear, [x[:20], x[20:]], [tc.convolve(x[:20], layer), tc.convolve(x[20:], layer)]
    )
    assert (bent.method, bent.rank) == (linear.method, linear.rank)
    assert after(activation, bent, layer, x) < 0.98 * after(activation, linear, layer, x)


def test_reconstruct_asks_for_it() -> None:
    layer, x, linear = problem(40)
    relu = tc.Activation.relu()
    plain, bent = (
        tc.reconstruct([layer, relu], x, choices=[linear], n_sweeps=1, nonlinear=flag).error for flag in (False, True)
    )
    assert bent < 0.97 * plain


def test_without_an_activation_nothing_is_gained_and_nothing_lost() -> None:
    layer, x, linear = problem(10)
    identity = tc.Activation(slope=1.0)
    found = refitted_after(identity, linear, [x], [tc.convolve(x, layer)])
    assert after(identity, found, layer, x) <= after(identity, linear, layer, x) * (1 + 1e-3)


def test_inputs_must_be_finite() -> None:
    layer, x, linear = problem(3)
    targets = tc.convolve(x, layer)
    x[0, 0, 0] = np.nan
    with pytest.raises(KernelError, match="finite"):
        refitted_after(tc.Activation.relu(), linear, [x], [targets])
