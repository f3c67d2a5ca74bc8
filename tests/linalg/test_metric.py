"""The metric SVD: orthonormality in the metrics, the best approximation in their norm, singular metrics."""

import numpy as np
import pytest

from tensorconv.errors import KernelError
from tensorconv.linalg import metric_svd

TOLERANCE = 1e-11  # float64 roundings of products of matrices of at most 9 rows and condition below 1e3


def metric(n: int, rank: int, seed: int) -> np.ndarray:
    half = np.random.default_rng(seed).standard_normal((n, rank))
    return half @ half.T


def test_orthonormal_and_exact() -> None:
    a, m, w = np.random.default_rng(0).standard_normal((5, 7)), metric(5, 9, 1), metric(7, 12, 2)
    u, s, vh = metric_svd(a, m, w)
    assert np.abs((u * s) @ vh - a).max() <= TOLERANCE
    assert np.abs(u.T @ m @ u - np.eye(5)).max() <= TOLERANCE
    assert np.abs(vh @ w @ vh.T - np.eye(5)).max() <= TOLERANCE
    assert (np.diff(s) <= 0).all()


def test_without_metrics_it_is_the_svd() -> None:
    a = np.random.default_rng(0).standard_normal((4, 6))
    np.testing.assert_allclose(metric_svd(a)[1], np.linalg.svd(a, compute_uv=False), rtol=1e-13)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_truncation_error_in_the_metric_is_the_tail_and_beats_others(rank: int) -> None:
    rng = np.random.default_rng(5)
    a, m, w = rng.standard_normal((5, 6)), metric(5, 8, 3), metric(6, 9, 4)
    u, s, vh = metric_svd(a, m, w)
    lost = a - (u[:, :rank] * s[:rank]) @ vh[:rank]
    squared = float(np.trace(m @ lost @ w @ lost.T))
    assert abs(squared - np.sum(s[rank:] ** 2)) <= TOLERANCE * np.sum(s**2)
    for _ in range(50):
        other = (u[:, :rank] + 0.05 * rng.standard_normal((5, rank))) * s[:rank] @ vh[:rank]
        assert np.trace(m @ (a - other) @ w @ (a - other).T) >= squared * (1 - 1e-12)


def test_singular_metrics_see_only_their_range() -> None:
    a, m, w = np.random.default_rng(0).standard_normal((5, 6)), metric(5, 2, 1), metric(6, 3, 2)
    u, s, vh = metric_svd(a, m, w)
    lost = a - (u * s) @ vh
    assert abs(np.trace(m @ lost @ w @ lost.T)) <= TOLERANCE * np.trace(m @ a @ w @ a.T)
    assert np.abs(u.T @ m @ u - np.eye(2)).max() <= TOLERANCE


def test_a_diagonal_may_be_given_as_a_vector() -> None:
    a, weights = np.random.default_rng(0).standard_normal((3, 4)), np.array([1.0, 4.0, 9.0])
    for ours, theirs in zip(metric_svd(a, weights), metric_svd(a, np.diag(weights)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_refusals() -> None:
    a = np.ones((2, 3))
    with pytest.raises(
        KernelError, match=r"row_metric must have shape \(2, 2\) or \(2,\) to fit the matrix, got \(3,\)"
    ):
        metric_svd(a, np.ones(3))
    with pytest.raises(KernelError, match=r"column_metric must be symmetric"):
        metric_svd(a, None, np.triu(np.ones((3, 3))))
    with pytest.raises(KernelError, match=r"row_metric must be positive semidefinite, got the eigenvalue -1"):
        metric_svd(a, np.array([1.0, -1.0]))
    with pytest.raises(KernelError, match=r"a must be a matrix, got shape \(2,\)"):
        metric_svd(np.ones(2))
