"""Tests of the scatter of a stream: exact sums as the reference, any split, both forms, far means, few vectors."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tensorconv.arrays import Array
from tensorconv.scatter import Scatter

FORMS = [False, True]
U = 2.0**-53


def scatter_of(vectors: Array, *, square_root: bool, cuts: tuple[int, ...] = ()) -> Scatter:
    """Return the scatter of vectors (G, m, P), added in parts that end at the cuts."""
    found = Scatter.zeros(*vectors.shape[:2], square_root=square_root)
    for part in np.split(vectors, cuts, axis=2):
        found.add(slice(None), np.concatenate([part, np.full((*part.shape[:2], 1), np.nan)], axis=2))
    return found


def exact_covariance(vectors: Array) -> list[list[Fraction]]:
    """Return the covariance of vectors (m, P) without any rounding."""
    rows = [[Fraction(value) for value in row] for row in vectors.tolist()]
    zero = Fraction(0)
    means = [sum(row, zero) / len(row) for row in rows]
    centred = [[value - mean for value in row] for row, mean in zip(rows, means, strict=True)]
    return [[sum((a * b for a, b in zip(x, y, strict=True)), zero) / len(x) for y in centred] for x in centred]


@pytest.mark.parametrize("square_root", FORMS)
@pytest.mark.parametrize("shift", [0.0, 1e8, -1e15])
def test_mean_and_covariance_are_the_exact_ones(shift: float, square_root: bool) -> None:
    vectors = np.random.default_rng(0).standard_normal((2, 4, 60)) + shift
    found = scatter_of(vectors, square_root=square_root, cuts=(7, 20, 21))
    assert found.counts.tolist() == [60, 60]
    np.testing.assert_allclose(found.mean, vectors.mean(axis=2), atol=60 * U * max(1.0, shift))
    for g in range(2):
        expected = np.array(exact_covariance(vectors[g]), float)
        # sums of 60 products of numbers below 4, whatever the shift: means are relative to the first chunk's
        np.testing.assert_allclose(found.covariance()[g], expected, rtol=0, atol=60 * 4 * U * 16)


@pytest.mark.parametrize("square_root", FORMS)
def test_any_split_and_merge_is_the_same(square_root: bool) -> None:
    vectors = np.random.default_rng(1).standard_normal((3, 5, 200)) * np.arange(1.0, 6)[:, None] + 3
    whole = scatter_of(vectors, square_root=square_root)
    split = scatter_of(vectors, square_root=square_root, cuts=(1, 2, 3, 50, 199))
    merged = scatter_of(vectors[:, :, 150:], square_root=square_root)
    before = merged.matrix.copy()
    other = scatter_of(vectors[:, :, :150], square_root=square_root, cuts=(10,))
    other.merge(merged)
    np.testing.assert_array_equal(merged.matrix, before)
    for found in (split, other):
        assert found.counts.tolist() == whole.counts.tolist() == [200] * 3
        np.testing.assert_allclose(found.mean, whole.mean, atol=200 * U * np.abs(vectors).max())
        scale = float(np.abs(whole.covariance()).max())
        np.testing.assert_allclose(found.covariance(), whole.covariance(), atol=4 * 200 * U * scale)


@pytest.mark.parametrize("square_root", FORMS)
def test_groups_are_added_apart(square_root: bool) -> None:
    vectors = np.random.default_rng(2).standard_normal((3, 2, 20))
    found = Scatter.zeros(3, 2, square_root=square_root)
    for groups in (slice(0, 1), slice(1, 3)):
        for part in (vectors[groups, :, :9], vectors[groups, :, 9:]):
            found.add(groups, np.concatenate([part, part[:, :, :1]], axis=2))
    whole = scatter_of(vectors, square_root=square_root, cuts=(9,))
    np.testing.assert_allclose(found.mean, whole.mean, atol=20 * U)
    np.testing.assert_allclose(found.covariance(), whole.covariance(), atol=4 * 20 * U * 10)


def test_the_root_is_upper_triangular_and_never_squares() -> None:
    vectors = np.random.default_rng(3).standard_normal((1, 3, 30)) * np.array([1e-200, 1.0, 1e200])[:, None]
    r = scatter_of(vectors, square_root=True, cuts=(4,)).matrix[0]
    np.testing.assert_array_equal(r, np.triu(r))
    centred = vectors[0] - vectors[0].mean(axis=1, keepdims=True)
    expected = np.linalg.norm(centred / np.array([1e-200, 1.0, 1e200])[:, None], axis=1)
    norms = np.linalg.norm(r / np.array([1e-200, 1.0, 1e200]), axis=0)
    np.testing.assert_allclose(norms, expected, rtol=30 * 4 * U * 4)


@pytest.mark.parametrize("square_root", FORMS)
@pytest.mark.parametrize("count", [3, 100])  # fewer vectors than entries too
def test_regression_is_the_least_squares_map(count: int, square_root: bool) -> None:
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((2, 7, count)) + rng.standard_normal((2, 7, 1))
    found = scatter_of(vectors, square_root=square_root, cuts=(2,))
    root, seen, missed = found.regression(5)
    covariance = found.covariance()
    tolerance = 4 * count * 7 * U * float(np.abs(covariance).max())
    np.testing.assert_allclose(np.swapaxes(root, 1, 2) @ root, covariance[:, :5, :5], atol=tolerance)
    np.testing.assert_allclose(np.swapaxes(root, 1, 2) @ seen, covariance[:, :5, 5:], atol=tolerance)
    centred = vectors - vectors.mean(axis=2, keepdims=True)
    for g in range(2):
        x, z = centred[g, :5].T, centred[g, 5:].T
        some = rng.standard_normal((2, 5))
        direct = np.sum((z - x @ some.T) ** 2) / count
        assert np.sum((seen[g] - root[g] @ some.T) ** 2) + missed[g] == pytest.approx(direct, rel=1e-12)
        best = np.sum((z - x @ np.linalg.lstsq(x, z, rcond=None)[0]) ** 2) / count
        if not square_root or count > 7:  # of few vectors, a root's missed part may stand in rows of seen
            assert missed[g] == pytest.approx(best, rel=1e-11, abs=tolerance)


def test_directions_of_rounding_are_left_out() -> None:
    rng = np.random.default_rng(5)
    vectors = np.repeat(rng.standard_normal((1, 2, 50)), 3, axis=1)
    root, _, _ = scatter_of(vectors, square_root=False).regression(6)
    assert root.shape == (1, 2, 6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -0.7, 1e50 / 3])
@pytest.mark.parametrize("cuts", [(), (333,), (1, 100, 333, 1000)])
@pytest.mark.parametrize("square_root", FORMS)
def test_constants_have_no_variance(square_root: bool, cuts: tuple[int, ...], constant: float) -> None:
    vectors = np.full((2, 3, 1001), constant)
    parts = [scatter_of(vectors, square_root=square_root, cuts=cuts) for _ in range(2)]
    parts[0].merge(parts[1])
    for found in parts:  # differences from the first chunk's mean are a few of its last digits: no sum of them rounds
        np.testing.assert_allclose(found.mean, constant, rtol=64 * U)
        assert not found.matrix.any()
        root, seen, missed = found.regression(2)
        assert root.shape[::2] == (2, 2)
        assert not np.concatenate([root.ravel(), seen.ravel(), missed]).any()


@pytest.mark.parametrize("size", [3, 300])  # within a block of rows that are mirrored at a time, and beyond
def test_what_stands_below_the_diagonal_means_nothing(size: int) -> None:
    vectors = np.random.default_rng(6).standard_normal((2, size, 20))
    found = scatter_of(vectors, square_root=False, cuts=(5,))
    expected = found.covariance()
    np.testing.assert_array_equal(expected, np.swapaxes(expected, 1, 2))
    found.matrix[:, *np.tril_indices(size, -1)] = np.nan
    np.testing.assert_array_equal(found.covariance(), expected)
    np.testing.assert_array_equal(
        found.copy().regression(size)[0], scatter_of(vectors, square_root=False, cuts=(5,)).regression(size)[0]
    )
