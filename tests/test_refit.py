"""Tests of fits behind an activation: closer there than a linear fit, judged on positions that were not fitted."""

from __future__ import annotations

import itertools

import cases
import contracts
import numpy as np
import pytest

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.errors import KernelError
from tensorconv.factorizations import Factorization
from tensorconv.patches import patches
from tensorconv.refit import SAMPLES, _draw, _patches_at, refitted_after


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


@pytest.mark.parametrize("case", cases.GEOMETRIES)
def test_patches_that_are_drawn_are_those_of_all_positions(case: str) -> None:
    layer = cases.layer(case)
    x = np.random.default_rng(0).standard_normal((3, layer.in_channels, *cases.input_size(layer)))
    every = patches(x, layer)
    n = every.shape[2] // 3
    chosen = np.array([0, n // 2, n - 1, n, 3 * n - 1])
    assert np.array_equal(_patches_at(x, layer, *np.divmod(chosen, n)), every[:, :, chosen])


@pytest.mark.parametrize("n_samples", [50, 10**6])
def test_positions_are_drawn_from_all_batches_as_if_they_were_one(n_samples: int) -> None:
    layer = cases.layer("grouped 2d")
    x = np.random.default_rng(0).standard_normal((40, layer.in_channels, *cases.input_size(layer)))
    y = tc.convolve(x, layer)
    parts = [slice(0, 1), slice(1, 30), slice(30, 40)]
    one, other = (
        _draw(layer, xs, ys, n_samples, np.random.default_rng(2))
        for xs, ys in (([x], [y]), ([x[p] for p in parts], [y[p] for p in parts]))
    )
    assert one.patches.tobytes() == other.patches.tobytes()
    assert one.targets.tobytes() == other.targets.tobytes()
    assert one.targets.shape[2] == min(n_samples, y[:, 0].size)
    kernel = layer.kernel.reshape(2, layer.out_channels // 2, -1)
    expected = kernel @ one.patches + np.reshape(layer.bias, (2, -1, 1))  # each target belongs to its patch
    np.testing.assert_allclose(one.targets, expected, rtol=0, atol=1e-13)  # 18 products of magnitude 1
    if n_samples < y[:, 0].size:
        assert len(np.unique(one.targets[0, 0])) == n_samples  # without replacement


def skewed(n: int, n_samples: int, seed: int) -> Array:
    """Return correlated samples (1, n, N), each channel's mean one deviation below 0."""
    mixing = np.random.default_rng(0).standard_normal((n, n)) / np.sqrt(np.arange(1, n + 1))
    samples = mixing @ np.random.default_rng(seed).standard_normal((n, n_samples))
    return np.asarray(samples - np.linalg.norm(mixing, axis=1)[:, None])[None]


@pytest.mark.parametrize("n_samples", [5, 12, 100, 200, 500])
@pytest.mark.parametrize("shrinkage", [None, 0.0])
def test_few_samples_do_no_harm(n_samples: int, shrinkage: float | None) -> None:
    """Rounds that are judged on what they are fitted to lose up to 11 % on other data here."""
    layer = tc.ConvLayer.of(np.eye(32)[:, :, None])
    x, other = skewed(32, n_samples, 1), skewed(32, 10_000, 2)
    linear = tc.svd(layer, 16, statistics=contracts.statistics_of(layer, x, shrinkage=shrinkage))
    bent = refitted_after(tc.Activation.relu(), linear, [x], [x], shrinkage=shrinkage)
    relu = tc.Activation.relu()
    # a fifth of the samples judges, so that it may err by about 1 / sqrt(N / 5) of the small differences between rounds
    assert after(relu, bent, layer, other) <= 1.01 * after(relu, linear, layer, other)


@pytest.mark.parametrize(
    "activation", [tc.Activation.relu(), tc.Activation.leaky_relu(0.1), tc.Activation.clipped_relu(1.0)]
)
def test_many_samples_gain_on_other_data(activation: tc.Activation) -> None:
    layer = tc.ConvLayer.of(np.eye(8)[:, :, None])
    x, other = (np.random.default_rng(seed).standard_normal((4, 8, 5000)) for seed in (6, 7))
    linear = tc.svd(layer, 2, statistics=contracts.statistics_of(layer, x))
    bent = refitted_after(activation, linear, list(x[:, None]), list(x[:, None]))
    assert after(activation, bent, layer, other) < 0.95 * after(
        activation, linear, layer, other
    )  # measured: 0.88 to 0.93


def test_the_best_round_is_returned_by_what_was_not_fitted() -> None:
    layer, x, linear = problem(8)
    relu, target = tc.Activation.relu(), tc.convolve(x, layer)
    drawn = _draw(layer, [x], [target], SAMPLES, np.random.default_rng(0))
    judge = drawn.part(np.arange(drawn.targets.shape[2]) % 5 == 4)
    paths = [refitted_after(relu, linear, [x], [target], schedule=[(0.01, count)], shrinkage=0.0) for count in range(7)]
    distances = [judge.distance(relu, f) for f in paths]
    assert paths[0] is linear
    assert all(later <= earlier for earlier, later in itertools.pairwise(distances))
    assert distances[-1] < distances[0]


@pytest.mark.parametrize("method", ["svd", "cp", "tucker", "depthwise_separable"])
def test_every_method_that_takes_statistics_can_be_bent(method: str) -> None:
    layer = cases.layer("unequal 2d")
    x = contracts.correlated_inputs(layer, n_images=60)
    target = tc.convolve(x, layer)
    start = tc.factorize(layer, method, rank=2, statistics=contracts.statistics_of(layer, x, target))
    relu = tc.Activation.relu()
    bent = refitted_after(relu, start, [x], [target])
    assert (bent.method, bent.rank, bent.scheme) == (start.method, start.rank, start.scheme)
    assert after(relu, bent, layer, x) <= 1.001 * after(relu, start, layer, x)
    # all positions are drawn: its response error is that of running it, before the activation
    measured = float(np.linalg.norm(tc.convolve(x, bent) - target) / np.linalg.norm(target))
    assert bent.response_error == pytest.approx(measured, rel=1e-10)
    assert bent.response_error >= start.response_error * (1 - 1e-3)


def test_the_same_seed_gives_the_same_bits_and_another_other_positions() -> None:
    layer, x, linear = problem(40)
    relu, target = tc.Activation.relu(), tc.convolve(x, layer)
    one, same, other = (
        refitted_after(relu, linear, [x], [target], n_samples=500, rng=seed).kernel.tobytes() for seed in (1, 1, 2)
    )
    assert one == same != other


def test_inputs_must_be_finite() -> None:
    layer, x, linear = problem(3)
    targets = tc.convolve(x, layer)
    x[0, 0, 0] = np.nan
    with pytest.raises(KernelError, match="finite"):
        refitted_after(tc.Activation.relu(), linear, [x], [targets])
