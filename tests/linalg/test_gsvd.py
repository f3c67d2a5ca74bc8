"""The paired GSVD: reconstruction and orthogonality on pairs of every shape, rank and scale."""

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.errors import KernelError
from tensorconv.linalg import gsvd

# A few dozen float64 roundings per entry of matrices of at most 12 rows; the bar that the library promises.
TOLERANCE = 1e-10

SHAPES = [(3, 5, 4), (5, 3, 4), (2, 2, 7), (9, 8, 3), (1, 1, 1), (1, 6, 6), (4, 4, 4), (2, 3, 5)]


def pair(m: int, p: int, n: int, rank: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((rank, n))
    return rng.standard_normal((m, rank)) @ shared, rng.standard_normal((p, rank)) @ shared


def assert_gsvd(a: np.ndarray, b: np.ndarray) -> tc.linalg.GSVD:
    g = gsvd(a, b)
    for whole, u, c in ((a, g.U, g.C), (b, g.V, g.S)):
        assert np.linalg.norm(u @ c @ g.X.T - whole) <= TOLERANCE * np.linalg.norm(whole)
        assert np.abs(u.T @ u - np.eye(len(u))).max() <= TOLERANCE
        assert (np.abs(c) > TOLERANCE).sum(axis=0).max(initial=0) <= 1  # generalized diagonal
        assert (np.abs(c) > TOLERANCE).sum(axis=1).max(initial=0) <= 1
    assert np.abs(g.C.T @ g.C + g.S.T @ g.S - np.eye(g.X.shape[1])).max() <= TOLERANCE
    return g


@pytest.mark.parametrize(("m", "p", "n"), SHAPES)
def test_full_rank_pairs(m: int, p: int, n: int) -> None:
    rng = np.random.default_rng(m * 100 + p * 10 + n)
    g = assert_gsvd(rng.standard_normal((m, n)), rng.standard_normal((p, n)))
    assert g.X.shape == (n, min(m + p, n))


@pytest.mark.parametrize(("m", "p", "n"), SHAPES)
def test_rank_deficient_pairs(m: int, p: int, n: int) -> None:
    rank = max(1, min(m + p, n) // 2)
    assert assert_gsvd(*pair(m, p, n, rank)).X.shape == (n, rank)


@pytest.mark.parametrize(("alpha", "beta"), [(1e8, 1.0), (1.0, 1e-9), (1e150, 1e-150), (1e-200, 1e-200)])
def test_badly_scaled_pairs(alpha: float, beta: float) -> None:
    a, b = pair(4, 5, 6, 6)
    g = gsvd(alpha * a, beta * b)
    assert np.linalg.norm((g.U @ g.C / alpha) @ g.X.T - a) <= TOLERANCE * np.linalg.norm(a)
    assert np.linalg.norm((g.V @ g.S / beta) @ g.X.T - b) <= TOLERANCE * np.linalg.norm(b)


def test_generalized_values_are_those_of_the_pencil() -> None:
    a, b = pair(6, 7, 4, 4, seed=3)
    g = gsvd(a, b)
    values = np.sort((g.C**2).sum(axis=0) / (g.S**2).sum(axis=0))
    wanted = np.sort(np.linalg.eigvals(np.linalg.solve(b.T @ b, a.T @ a)).real)
    np.testing.assert_allclose(values, wanted, rtol=1e-9)  # the pencil squares a condition of about 10


def test_one_zero_matrix() -> None:
    a, _ = pair(3, 2, 4, 2)
    g = assert_gsvd(a, np.zeros((2, 4)))
    assert np.abs(g.S).max() <= TOLERANCE


def test_refusals() -> None:
    with pytest.raises(KernelError, match=r"same number of columns, got \(2, 3\), \(2, 4\)"):
        gsvd(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(KernelError, match="must not both be zero"):
        gsvd(np.zeros((2, 3)), np.zeros((2, 3)))
