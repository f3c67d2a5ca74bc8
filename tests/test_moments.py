"""Moments: the problem that fits minimise, the best bias, the error, and the shrinkage, from the samples themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tensorconv.arrays import Array
from tensorconv.moments import Moments, approximating_shrinkage, covariance_shrinkage

G, O, N, P = 2, 3, 5, 60  # noqa: E741 - the letters of the shapes
U = 2.0**-53
DIRECTIONS = {"regular": 5, "dependent": 3, "one": 1, "none": 0}  # that the samples spread over


def samples(kind: str = "regular", n_samples: int = P, seed: int = 0) -> tuple[Array, Array]:
    """Return patches (G, n, P) with means, and a kernel."""
    rng = np.random.default_rng(seed)
    rank = DIRECTIONS[kind]
    spread = rng.standard_normal((G, N, rank)) @ rng.standard_normal((G, rank, n_samples))
    return spread + 4 * rng.standard_normal((G, N, 1)), rng.standard_normal((G, O, N))


def wanted(patches: Array, kernel: Array, noise: float = 0.5) -> Array:
    rng = np.random.default_rng(1)
    y = kernel @ patches
    return np.asarray(1.3 * y + noise * rng.standard_normal(y.shape) + rng.standard_normal((G, O, 1)))


def moments(patches: Array, targets: Array, kernel: Array, shrinkage: float = 0.0, **changed: Any) -> Moments:
    """Return moments whose root is the centred samples themselves: every formula of theirs holds for any root."""
    n = patches.shape[2]
    mean, target_mean = patches.mean(axis=2), targets.mean(axis=2)
    rows = np.swapaxes(patches - mean[:, :, None], 1, 2) / np.sqrt(n)
    basis, root = np.linalg.qr(rows)
    centred = np.swapaxes(targets - target_mean[:, :, None], 1, 2) / np.sqrt(n)
    seen = np.swapaxes(basis, 1, 2) @ centred
    missed = np.sum((centred - basis @ seen) ** 2, axis=(1, 2))
    if changed.pop("own", False):  # without targets
        seen, missed = root @ np.swapaxes(kernel, 1, 2), np.zeros(G)
    return Moments(n, mean, root, target_mean, seen, missed, kernel, shrinkage)


@pytest.mark.parametrize("kind", DIRECTIONS)
def test_energy_bias_and_error_are_those_of_the_samples(kind: str) -> None:
    patches, kernel = samples(kind)
    z = wanted(patches, kernel)
    found = moments(patches, z, kernel)
    # sums of 60 squares and a QR of 60 rows, 5 columns: a few hundred roundings
    assert found.energy == pytest.approx(np.mean(np.sum(z**2, axis=(0, 1))), rel=1e-13)
    rng = np.random.default_rng(2)
    other, bias = rng.standard_normal((G, O, N)), rng.standard_normal((G, O))
    np.testing.assert_allclose(found.best_bias(other), (z - other @ patches).mean(axis=2), rtol=0, atol=1e-13)
    for b in (bias, found.best_bias(other)):
        measured = np.linalg.norm(z - other @ patches - b[:, :, None]) / np.linalg.norm(z)
        assert found.response_error(other, b) == pytest.approx(measured, rel=1e-12)
    assert found.response_error(other, found.best_bias(other)) <= found.response_error(other, bias)


@pytest.mark.parametrize("kind", DIRECTIONS)
@pytest.mark.parametrize("shrinkage", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("own", [False, True])
def test_the_problem_is_the_error_and_a_share_of_the_kernels_own(kind: str, shrinkage: float, own: bool) -> None:
    patches, kernel = samples(kind)
    z = kernel @ patches if own else wanted(patches, kernel)
    found = moments(patches, z, kernel, shrinkage, own=own)
    roots, targets = found.problem
    centred = patches - patches.mean(axis=2, keepdims=True)
    covariance = centred @ np.swapaxes(centred, 1, 2) / P
    scale = np.trace(covariance, axis1=1, axis2=2) / N
    expected = (1 - shrinkage) * covariance + shrinkage * scale[:, None, None] * np.eye(N)
    np.testing.assert_allclose(found.metrics, expected, atol=1e-12)
    np.testing.assert_allclose(np.swapaxes(roots, 1, 2) @ roots, expected, atol=1e-12)
    if own:
        np.testing.assert_array_equal(targets, kernel)

    def objective(other: Array) -> Array:
        lost = np.sum((z - z.mean(axis=2, keepdims=True) - other @ centred) ** 2, axis=(1, 2)) / P
        return np.asarray(
            (1 - shrinkage) * lost + shrinkage * scale * np.sum((other - kernel) ** 2, axis=(1, 2)), np.float64
        )

    rng = np.random.default_rng(3)
    others = [kernel + rng.standard_normal(kernel.shape) for _ in range(5)]
    distances = [np.sum(((targets - other) @ np.swapaxes(roots, 1, 2)) ** 2, axis=(1, 2)) for other in others]
    constants = np.stack([objective(other) - distance for other, distance in zip(others, distances, strict=True)])
    np.testing.assert_allclose(constants, np.broadcast_to(objective(targets), constants.shape), atol=1e-9)


def test_where_data_say_nothing_the_kernel_rules() -> None:
    patches, kernel = samples("dependent")
    targets = moments(patches, wanted(patches, kernel), kernel).problem[1]
    for g in range(G):
        unseen = np.linalg.svd(patches[g] - patches[g].mean(axis=1, keepdims=True))[0][:, 3:]
        np.testing.assert_allclose(targets[g] @ unseen, kernel[g] @ unseen, atol=1e-9)


@pytest.mark.parametrize("n_samples", [2, 4])
@pytest.mark.parametrize("shrinkage", [0.0, 0.3])
def test_fewer_samples_than_entries(n_samples: int, shrinkage: float) -> None:
    patches, kernel = samples(n_samples=n_samples)
    z = wanted(patches, kernel)
    found = moments(patches, z, kernel, shrinkage)
    roots, targets = found.problem
    assert roots.shape == (G, N, N)
    assert np.isfinite(roots).all()
    if shrinkage == 0:  # as many samples are fitted exactly
        assert found.response_error(targets, found.best_bias(targets)) <= 1e-12


def test_what_is_zero() -> None:
    patches, kernel = samples()
    zero = moments(patches, np.zeros((G, O, P)), kernel)
    assert zero.response_error(0 * kernel, np.zeros((G, O))) == 0
    assert zero.response_error(kernel, np.zeros((G, O))) == math.inf
    still = moments(np.ones((G, N, P)), np.ones((G, O, P)), kernel, 0.5)
    assert np.isfinite(still.problem[1]).all()


@pytest.mark.parametrize("power", [-140, -60, 60, 140])
def test_the_scale_of_the_data_does_not_matter(power: int) -> None:
    patches, kernel = samples()
    z = wanted(patches, kernel)
    scale = 10.0**power
    plain, scaled = moments(patches, z, kernel), moments(scale * patches, scale * z, kernel)
    bias = plain.best_bias(0.9 * kernel) + 1
    assert scaled.response_error(0.9 * kernel, scale * bias) == pytest.approx(
        plain.response_error(0.9 * kernel, bias), rel=1e-12
    )


@pytest.mark.parametrize("kind", ["regular", "dependent", "one"])
@pytest.mark.parametrize("shrinkage", [1e-6, 1e-3, 0.3])
def test_a_shrunk_covariance_is_solved_as_exactly_as_its_rows(kind: str, shrinkage: float) -> None:
    patches, kernel = samples(kind)
    found = moments(patches, wanted(patches, kernel), kernel, shrinkage)
    assert found.is_conditioned
    roots, targets = found._by_rows
    scale = float(np.abs(found.metrics).max())
    # a Cholesky and a QR decomposition of 5 columns: in the metric, 30 roundings times the root of the condition
    limit = 30 * N * U * math.sqrt(N / shrinkage) * math.sqrt(N * scale) * float(np.linalg.norm(targets))
    np.testing.assert_allclose(np.swapaxes(roots, 1, 2) @ roots, found.metrics, rtol=0, atol=100 * U * scale)
    assert np.linalg.norm((found.targets - targets) @ np.swapaxes(roots, 1, 2)) <= limit


# ---- shrinkage


def test_the_shrinkage_is_the_formula_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((1, 40, 6)) * np.arange(1.0, 7)
    s = root[0].T @ root[0]
    trace, squares, n, p = np.trace(s), np.trace(s @ s), 40.0, 6
    expected = ((1 - 2 / p) * squares + trace**2) / ((n + 1 - 2 / p) * (squares - trace**2 / p))  # eq. 23
    assert approximating_shrinkage(root, n) == pytest.approx(min(1.0, expected), rel=1e-12)
    for scale in (1e-150, 1e-90, 1e90, 1e150):
        assert approximating_shrinkage(scale * root, n) == pytest.approx(min(1.0, expected), rel=1e-12)
    few = root[:, :4]  # through the Gram matrix of the smaller side
    s = few[0].T @ few[0]
    trace, squares = np.trace(s), np.trace(s @ s)
    expected = ((1 - 2 / p) * squares + trace**2) / ((400 + 1 - 2 / p) * (squares - trace**2 / p))
    assert approximating_shrinkage(few, 400) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_the_shrinkage_of_a_covariance_is_that_of_its_root(scale: float) -> None:
    roots = np.random.default_rng(0).standard_normal((2, 40, 6)) * np.arange(1.0, 7) / 10
    covariances = scale * (np.swapaxes(roots, 1, 2) @ roots)
    assert covariance_shrinkage(covariances, 400) == pytest.approx(approximating_shrinkage(roots, 400), rel=1e-12)
    assert covariance_shrinkage(0 * covariances, 400) == approximating_shrinkage(0 * roots, 400) == 0


def test_the_shrinkage_nearly_minimises_the_distance_from_the_true_covariance() -> None:
    rng = np.random.default_rng(1)
    n, p = 30, 20
    mixing = np.linalg.qr(rng.standard_normal((p, p)))[0] * np.logspace(0, -1, p)
    truth = mixing @ mixing.T
    found, best = [], []
    for _ in range(60):
        rows = rng.standard_normal((n, p)) @ mixing.T / np.sqrt(n)
        s = rows.T @ rows

        def lost(share: float, s: Array = s) -> float:
            return float(np.sum(((1 - share) * s + share * np.trace(s) / p * np.eye(p) - truth) ** 2))

        found.append(lost(approximating_shrinkage(rows[None], n)))
        best.append(min(lost(share) for share in np.linspace(0, 1, 51)))
    assert np.mean(found) <= 1.1 * np.mean(best)  # measured: 1.06; without any shrinkage 1.44


def test_the_shrinkage_of_groups_is_the_largest() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((1, 40, 6)) * scales for scales in (np.ones(6), np.logspace(0, -3, 6))]
    each = [approximating_shrinkage(part, 50) for part in parts]
    assert approximating_shrinkage(np.concatenate(parts), 50) == max(each) > min(each)


@pytest.mark.parametrize(
    ("root", "expected"),
    [(np.eye(4)[None], 1.0), (np.zeros((1, 4, 4)), 0.0), (np.ones((1, 3, 1)), 0.0), (np.zeros((2, 0, 3)), 0.0)],
    ids=["round", "nothing", "one entry", "no rows"],
)
def test_the_shrinkage_at_the_edges(root: Array, expected: float) -> None:
    assert approximating_shrinkage(root, 10) == expected
