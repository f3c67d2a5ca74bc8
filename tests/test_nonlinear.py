"""Fits after an activation: against the plain alternation, the linear optimum, and a map that is hidden from it."""

from __future__ import annotations

import numpy as np
import pytest

from tensorconv.activations import Activation
from tensorconv.arrays import Array
from tensorconv.errors import KernelError, RankError
from tensorconv.linalg import reduced_rank_regression
from tensorconv.nonlinear import NonlinearRegression, nonlinear_regression

RELU = Activation.relu()
ACTIVATIONS = {
    "relu": RELU,
    "leaky": Activation.leaky_relu(0.1),
    "clipped": Activation.clipped_relu(0.5),
    "leaky and clipped": Activation(slope=0.2, cap=1.0),
    "none": Activation(slope=1.0),
}
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())


def skewed(n: int, n_samples: int, seed: int) -> Array:
    """Return correlated responses of which five in six are negative, each channel's mean one deviation below 0."""
    mixing = np.random.default_rng(0).standard_normal((n, n)) / np.sqrt(np.arange(1, n + 1))
    samples = np.random.default_rng(seed).standard_normal((n, n_samples))
    return np.asarray(mixing @ samples - np.linalg.norm(mixing, axis=1)[:, None])


def error_of(fit: NonlinearRegression, targets: Array, inputs: Array, activation: Activation) -> float:
    response = fit.left @ fit.right @ inputs + fit.bias[:, None]
    wanted = activation(targets)
    return float(np.linalg.norm(wanted - activation(response)) / np.linalg.norm(wanted))


def plain_alternation(
    targets: Array, inputs: Array, rank: int, activation: Activation, schedule: list[float]
) -> list[float]:
    """Return the errors of the linear map and of every iterate, each regression from scratch."""
    centred, wanted, z, errors = inputs - inputs.mean(axis=1)[:, None], activation(targets), targets, []
    for weight in [*schedule, 0.0]:
        mean = z.mean(axis=1)[:, None]
        left, right, _ = reduced_rank_regression(z - mean, centred, rank)
        response = left @ (right @ centred) + mean
        errors.append(float(np.linalg.norm(wanted - activation(response)) / np.linalg.norm(wanted)))
        if weight:
            z = activation.auxiliary(wanted, response, weight)
    return errors


@each_activation
def test_it_is_the_plain_alternation(activation: Activation) -> None:
    targets = skewed(8, 300, 1)
    inputs = np.vstack([targets[:5], np.tanh(targets)])
    errors = plain_alternation(targets, inputs, 3, activation, [0.01] * 4 + [1.0] * 3)
    fit = nonlinear_regression(targets, inputs, 3, activation, schedule=((0.01, 4), (1.0, 3)))
    # a chain of seven regressions, each backward stable with inputs of condition below 1e3
    assert abs(fit.linear_error - errors[0]) <= 1e-10
    assert abs(fit.error - min(errors)) <= 1e-10
    assert abs(fit.error - error_of(fit, targets, inputs, activation)) <= 1e-12
    np.testing.assert_allclose(np.linalg.norm(fit.left, axis=0), np.linalg.norm(fit.right, axis=1), rtol=1e-12)


def test_the_best_iterate_is_kept_though_it_is_not_the_last() -> None:
    x = np.random.default_rng(3).standard_normal((4, 30))
    errors = plain_alternation(x, x, 2, RELU, [0.01] * 20 + [1.0] * 20)
    assert min(errors) < errors[-1] - 5e-4
    fit = nonlinear_regression(x, x, 2, RELU, schedule=((0.01, 20), (1.0, 20)))
    assert abs(fit.error - min(errors)) <= 1e-10


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_an_offset_is_the_bias_own_matter(offset: float) -> None:
    x = skewed(8, 300, 1)
    fit = nonlinear_regression(x + offset, x + 2 * offset, 3, ACTIVATIONS["none"], schedule=((1.0, 1),))
    optimum = np.linalg.norm(np.linalg.svd(x - x.mean(axis=1)[:, None], compute_uv=False)[3:])
    # samples rounded to eps times the offset change the distance by less, many times eps for the sums
    assert abs(fit.error * np.linalg.norm(x + offset) - optimum) <= (1e-14 * offset + 1e-13) * optimum


def test_without_an_activation_it_is_the_linear_optimum() -> None:
    x = skewed(8, 300, 1)
    fit = nonlinear_regression(x, x, 3, ACTIVATIONS["none"], schedule=((1.0, 3),))
    tail = np.linalg.svd(x - x.mean(axis=1)[:, None], compute_uv=False)[3:]
    optimum = np.linalg.norm(tail) / np.linalg.norm(x)  # Eckart and Young
    assert abs(fit.error - optimum) <= 1e-12
    assert abs(fit.linear_error - optimum) <= 1e-12


@pytest.mark.parametrize("seed", range(5))
@each_activation
def test_it_is_never_worse_than_the_linear_map(activation: Activation, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, c, n_samples = rng.integers(2, 9, 3)
    targets, inputs = rng.standard_normal((n, 5 * n_samples)), rng.standard_normal((c, 5 * n_samples))
    rank = int(rng.integers(1, min(n, c) + 1))
    for bias in (True, False):
        fit = nonlinear_regression(targets, inputs, rank, activation, bias=bias, schedule=((0.01, 5), (1.0, 5)))
        assert fit.error <= fit.linear_error
        assert bias or not fit.bias.any()


@pytest.mark.parametrize(("rank", "margin"), [(4, 0.94), (8, 0.96), (16, 0.985)])
def test_it_beats_the_linear_map_where_many_responses_are_negative(rank: int, margin: float) -> None:
    x, held_out = skewed(32, 6000, 1), skewed(32, 6000, 2)
    fit = nonlinear_regression(x, x, rank, RELU)
    assert fit.error <= margin * fit.linear_error  # seen: 0.928, 0.945, 0.974
    linear = nonlinear_regression(x, x, rank, RELU, schedule=())
    assert linear.error == fit.linear_error
    ratio = error_of(fit, held_out, held_out, RELU) / error_of(linear, held_out, held_out, RELU)
    assert ratio <= margin + 0.02  # seen: 0.927, 0.953, 0.994


def test_a_map_of_low_rank_is_found_though_negative_responses_hide_it() -> None:
    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((10, 2000))
    response = rng.standard_normal((12, 2)) @ rng.standard_normal((2, 10)) @ inputs + rng.standard_normal((12, 1))
    targets = np.where(response > 0, response, -np.abs(rng.normal(0, 5, response.shape)))
    fit = nonlinear_regression(targets, inputs, 2, RELU)
    assert fit.linear_error > 0.2
    assert fit.error < 0.05 * fit.linear_error  # seen: 0.023; it goes on falling with more iterations


def test_a_start_is_where_it_begins() -> None:
    x = skewed(12, 500, 1)
    first = nonlinear_regression(x, x, 3, RELU, schedule=((0.01, 10),))
    start = (first.left, first.right, first.bias)
    assert nonlinear_regression(x, x, 3, RELU, schedule=(), start=start).error == first.error < first.linear_error
    more = nonlinear_regression(x, x, 3, RELU, schedule=((1.0, 1),), start=start)
    both = nonlinear_regression(x, x, 3, RELU, schedule=((0.01, 10), (1.0, 1)))
    assert more.error < first.error
    assert more.linear_error == first.linear_error
    assert abs(more.error - both.error) <= 1e-12


def test_inputs_that_depend_on_one_another() -> None:
    x = skewed(6, 400, 1)
    doubled = nonlinear_regression(x, np.vstack([x, x, np.ones_like(x[:1])]), 3, RELU)
    assert abs(doubled.error - nonlinear_regression(x, x, 3, RELU).error) <= 1e-9
    constant = nonlinear_regression(x, np.ones_like(x), 3, RELU)
    assert not constant.left.any()
    assert constant.error <= constant.linear_error
    few = nonlinear_regression(x[:, :3], x[:, :3], 3, RELU)  # three samples fit exactly, up to some roundings
    assert few.error <= 1e-13


def test_the_arguments_are_left_alone_and_float32_is_as_good() -> None:
    x = skewed(6, 400, 1)
    kept = x.copy()
    fit = nonlinear_regression(x, x, 2, RELU)
    assert np.array_equal(x, kept)
    again = nonlinear_regression(x, x, 2, RELU)
    assert np.array_equal(fit.left, again.left)
    assert np.array_equal(fit.bias, again.bias)
    single = nonlinear_regression(x.astype(np.float32), x.astype(np.float32), 2, RELU)
    assert single.left.dtype == np.float64
    assert abs(single.error - fit.error) <= 1e-4  # 1e-7 in the data, some iterations later


def test_responses_that_are_all_cut_off() -> None:
    x = -1 - np.random.default_rng(0).random((4, 50))
    assert nonlinear_regression(x, x, 1, RELU).error == 0
    steep, line = np.where(np.arange(50) == 0, -1000.0, -1.0)[None], np.linspace(0, 1, 50)[None]
    linear = nonlinear_regression(steep, line, 1, RELU, schedule=())
    fit = nonlinear_regression(steep, line, 1, RELU)
    assert fit.linear_error == fit.error == np.inf  # the straight line through them crosses 0
    left_over, before = (np.linalg.norm(RELU(f.left @ f.right @ line + f.bias)) for f in (fit, linear))
    assert 0 < left_over < 0.5 * before


def test_refusals() -> None:
    x = np.random.default_rng(0).standard_normal((4, 50))
    with pytest.raises(KernelError, match=r"one column per sample, got \(4, 50\), \(4, 40\)"):
        nonlinear_regression(x, x[:, :40], 1, RELU)
    with pytest.raises(RankError, match=r"rank must be between 1 and 3 = min\(n, c\) for these samples, got 4"):
        nonlinear_regression(x, x[:3], 4, RELU)
    with pytest.raises(KernelError, match=r"start must be of shapes \(4, 1\), \(1, 4\) and \(4,\), got \[\(4, 2\)"):
        nonlinear_regression(x, x, 1, RELU, start=(x[:, :2], x[:1, :4], x[:, 0]))
