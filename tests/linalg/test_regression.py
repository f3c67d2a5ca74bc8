"""Reduced-rank regression: the optimum by an independent route, its certificate, bad conditioning, ridge."""

import numpy as np
import pytest

from tensorconv.errors import KernelError, RankError
from tensorconv.linalg import reduced_rank_regression


def samples(cond: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return targets (6, 200), inputs (8, 200) of this condition, and a basis (200, 8) of the inputs' rows."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((200, 8)))[0]
    mixing = np.linalg.qr(rng.standard_normal((8, 8)))[0] * np.logspace(0, -np.log10(cond), 8)
    return rng.standard_normal((6, 8)) @ basis.T + 0.01 * rng.standard_normal((6, 200)), mixing @ basis.T, basis


@pytest.mark.parametrize("cond", [1.0, 1e6, 1e10])
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_optimum_and_its_certificate(cond: float, rank: int) -> None:
    z, y, basis = samples(cond)
    left, right, error = reduced_rank_regression(z, y, rank)
    onto = z @ basis  # the targets in the basis that the inputs were made from: no inverse is involved
    tail = np.linalg.svd(onto, compute_uv=False)[rank:]
    optimum = np.hypot(np.linalg.norm(z - onto @ basis.T), np.linalg.norm(tail))
    assert abs(error - optimum) <= 1e-6 * optimum
    assert abs(np.linalg.norm(z - left @ (right @ y)) - optimum) <= 1e-6 * optimum
    np.testing.assert_allclose(np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=1), rtol=1e-12)


def test_small_errors_are_not_lost_in_cancellation() -> None:
    _, y, _ = samples(10.0)
    z = np.random.default_rng(1).standard_normal((6, 8)) @ y
    z += 1e-10 * np.linalg.norm(z) / np.sqrt(z.size) * np.random.default_rng(2).standard_normal(z.shape)
    left, right, error = reduced_rank_regression(z, y, 6)
    assert 0.5e-10 < error / np.linalg.norm(z) < 2e-10
    assert abs(np.linalg.norm(z - left @ (right @ y)) / error - 1) < 1e-3


def test_rank_deficient_inputs() -> None:
    z, y, _ = samples(1.0)
    y[5:] = y[:3] + y[2:5]
    left, right, error = reduced_rank_regression(z, y, 6)
    full = z @ np.linalg.pinv(y)
    assert abs(error - np.linalg.norm(z - full @ y)) <= 1e-10 * error
    np.testing.assert_allclose(left @ right, full, atol=1e-10)


def test_few_samples_and_zero_inputs() -> None:
    z, y, _ = samples(1.0)
    assert reduced_rank_regression(z[:, :3], y[:, :3], 3)[2] <= 1e-13 * np.linalg.norm(z)  # three samples fit exactly
    left, right, error = reduced_rank_regression(z, np.zeros_like(y), 2)
    assert not left.any()
    assert not right.any()
    assert error == np.linalg.norm(z)


def test_ridge_is_the_penalised_optimum() -> None:
    z, y, _ = samples(1e3)
    left, right, error = reduced_rank_regression(z, y, 6, ridge=0.5)
    closed = z @ y.T @ np.linalg.inv(y @ y.T + 0.5 * np.eye(8))
    np.testing.assert_allclose(left @ right, closed, atol=1e-10)
    objective = np.linalg.norm(z - closed @ y) ** 2 + 0.5 * np.linalg.norm(closed) ** 2
    assert abs(error**2 - objective) <= 1e-12 * objective


def test_refusals() -> None:
    z, y, _ = samples(1.0)
    with pytest.raises(RankError, match=r"rank must be between 1 and 6 = min\(n, c\) for these samples, got 7"):
        reduced_rank_regression(z, y, 7)
    with pytest.raises(KernelError, match=r"one column per sample, got \(6, 200\) and \(8, 100\)"):
        reduced_rank_regression(z, y[:, :100], 2)
    with pytest.raises(KernelError, match=r"ridge must be at least 0, got -1"):
        reduced_rank_regression(z, y, 2, ridge=-1)
