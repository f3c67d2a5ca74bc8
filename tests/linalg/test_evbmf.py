"""EVBMF: ranks of low-rank matrices in noise, the free energy by its definition, both orientations, every scale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from tensorconv.errors import KernelError
from tensorconv.linalg import evbmf, posterior_spectrum

EPS = float(np.finfo(np.float64).eps)


def noisy(shape: tuple[int, int], rank: int, noise: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return a matrix of this rank, entries of variance 4 * rank, plus noise of this deviation."""
    rng = np.random.default_rng(seed)
    signal = 2 * rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
    return signal + noise * rng.standard_normal(shape)


def component(value: float, n_short: int, n_long: int, variance: float) -> tuple[float, float]:
    """Return a component's least free energy (doubled) and its posterior singular value, by a numerical minimum.

    The factors have posterior means a, b and variances A per entry of the longer, B of the shorter. With u = M A / a^2,
    v = L B / b^2 and p = a b, and the prior variances at their own minimum, twice the free energy is
    ``M log(1 + 1/u) + L log(1 + 1/v) + (-2 p s + p^2 (1 + u) (1 + v)) / variance``; 0 without the component.
    """

    def energy(logs: np.ndarray) -> float:
        u, v = np.exp(np.minimum(logs, 300.0))
        fit = value**2 / variance / ((1 + u) * (1 + v))
        return float(n_long * np.log1p(1 / u) + n_short * np.log1p(1 / v) - fit)

    options = {"xatol": 1e-10, "fatol": 1e-12, "maxiter": 4000, "maxfev": 4000}
    starts = [(-1.0, -1.0), (-4.0, -4.0), (-8.0, -6.0)]
    found = [scipy.optimize.minimize(energy, s, method="Nelder-Mead", options=options) for s in starts]
    best = min(found, key=lambda result: result.fun)
    if best.fun >= 0:
        return 0.0, 0.0
    u, v = np.exp(best.x)
    return float(best.fun), float(value / ((1 + u) * (1 + v)))


def free_energy(values: np.ndarray, n_short: int, n_long: int, variances: np.ndarray) -> np.ndarray:
    """Return twice the free energy over M for every variance, by the functions psi of the paper's Theorem."""
    alpha = n_short / n_long
    x = values[:, None] ** 2 / (n_long * variances)
    root = np.sqrt(np.maximum((x - (1 + alpha)) ** 2 - 4 * alpha, 0))
    exists = x > (1 + math.sqrt(alpha)) ** 2
    tau = np.where(exists, (x - (1 + alpha) + root) / 2, 1.0)
    # as x = (1 + tau) (1 + alpha / tau), x - tau is this; it would cancel for large x
    kept = 1 + alpha + alpha / tau + np.log(tau + 1) + alpha * np.log(tau / alpha + 1)
    total: np.ndarray = np.sum(np.where(exists, np.minimum(x, kept), x), axis=0)
    return total + n_short * np.log(variances)


@pytest.mark.parametrize(("shape", "rank"), [((60, 200), 5), ((200, 60), 5), ((50, 50), 3), ((10, 1000), 4)])
@pytest.mark.parametrize("noise", [1e-6, 0.1, 1.0])
def test_rank_and_noise_are_recovered(shape: tuple[int, int], rank: int, noise: float) -> None:
    for seed in range(5):
        found = evbmf(noisy(shape, rank, noise, seed), None)
        assert found.rank == rank
        # the variance of a variance from n numbers is 2 / n of it; what the signal hides is put at its mean
        deviations = abs(found.noise_variance / noise**2 - 1) / math.sqrt(2 / math.prod(shape))
        assert deviations < 8 + rank * sum(shape) / math.sqrt(2 * math.prod(shape))


@pytest.mark.parametrize("shape", [(40, 40), (30, 90), (100, 20), (9, 64), (2, 5), (1, 8)])
def test_pure_noise_has_rank_zero(shape: tuple[int, int]) -> None:
    for seed in range(10):
        found = evbmf(noisy(shape, 0, 3.0, seed))
        assert found.rank == 0
        assert found.left.shape == (shape[0], 0)
        assert found.right.shape == (0, shape[1])
        assert found.singular_values.shape == (0,)
        assert found.noise_variance == pytest.approx(np.mean(noisy(shape, 0, 3.0, seed) ** 2), rel=1e-12)


def test_the_posterior_is_closer_to_the_truth_than_the_truncated_svd() -> None:
    truth, matrix = noisy((40, 100), 4, 0.0), noisy((40, 100), 4, 8.0)
    found = evbmf(matrix)
    u, s, vh = np.linalg.svd(matrix, full_matrices=False)
    k = found.rank
    assert 1 <= k <= 4
    assert (found.singular_values < s[:k]).all()
    np.testing.assert_allclose(found.left.T @ found.left, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(found.right @ found.right.T, np.eye(k), atol=1e-12)
    mean, cut = found.left * found.singular_values @ found.right, u[:, :k] * s[:k] @ vh[:k]
    assert np.linalg.norm(mean - truth) < np.linalg.norm(cut - truth)


@pytest.mark.parametrize(("n_short", "n_long"), [(7, 7), (5, 20), (3, 300)])
@pytest.mark.parametrize("excess", [0.5, 0.9, 0.99, 1.01, 1.1, 2.0, 100.0])
def test_a_component_minimizes_the_free_energy_of_the_model(n_short: int, n_long: int, excess: float) -> None:
    alpha, variance = n_short / n_long, 0.7
    tau = scipy.optimize.brentq(lambda t: math.log1p(t) + alpha * math.log1p(t / alpha) - t, alpha**0.5, 9.0)
    value = math.sqrt(n_long * variance * (1 + tau) * (1 + alpha / tau) * excess)
    energy, expected = component(value, n_short, n_long, variance)
    posterior, reported = posterior_spectrum(np.array([value]), (n_short, n_long), variance)
    assert reported == variance
    assert (energy < 0) == (excess > 1)
    assert posterior.tolist() == pytest.approx([expected] if excess > 1 else [], rel=1e-6)


SPECTRA = {
    "noise": np.linalg.svd(noisy((20, 30), 0), compute_uv=False),
    "low rank": np.linalg.svd(noisy((20, 30), 3), compute_uv=False),
    "hardly any noise": np.linalg.svd(noisy((20, 30), 6, 1e-5), compute_uv=False),
    "full rank": np.linalg.svd(noisy((20, 30), 20, 0.0), compute_uv=False),
    "steady fall": 0.7 ** np.arange(20),
    "steps": np.repeat([1.0, 0.1, 0.01, 0.001], 5),
    "long steps": np.repeat([1.0, 1e-3, 1e-6, 1e-9], 5),
    "one tail": 1.0 / np.arange(1, 21),
}


@pytest.mark.parametrize("n_long", [20, 30, 500])
@pytest.mark.parametrize("name", SPECTRA)
def test_no_noise_variance_has_less_free_energy(name: str, n_long: int) -> None:
    values = SPECTRA[name]
    _, variance = posterior_spectrum(values, (20, n_long))
    grid = np.geomspace(1e-25, 10, 20_001) * np.sum(values**2) / (20 * n_long)
    least = free_energy(values, 20, n_long, grid).min()
    (found,) = free_energy(values, 20, n_long, np.array([variance]))
    assert found <= least + 1e-12 * abs(least)
    nearby = free_energy(values, 20, n_long, variance * np.array([1 - 1e-4, 1 + 1e-4]))
    assert (nearby > found).all()


@given(st.lists(st.floats(-8, 0), min_size=1, max_size=12), st.integers(0, 40))
def test_no_noise_variance_has_less_free_energy_for_any_spectrum(logs: list[float], longer: int) -> None:
    values, n = np.sort(10.0 ** np.array(logs))[::-1], len(logs)
    posterior, variance = posterior_spectrum(values, (n, n + longer))
    grid = np.geomspace(1e-20, 10, 2001) * np.sum(values**2) / (n * (n + longer))
    least = free_energy(values, n, n + longer, grid).min()
    (found,) = free_energy(values, n, n + longer, np.array([variance]))
    assert found <= least + 1e-12 * abs(least)
    assert len(posterior) < n / (1 + n / (n + longer))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("factor", "known"),
    [(1e-200, None), (1e-30, None), (1e30, None), (1e200, None), (1.0, None), (1e-100, 0.02), (1e100, 0.02)],
)
def test_scale_and_orientation_do_not_matter(factor: float, known: float | None, transposed: bool) -> None:
    matrix = noisy((24, 36), 3, 0.1)
    plain = evbmf(matrix, known)
    scaled = factor * (matrix.T if transposed else matrix)
    found = evbmf(scaled, None if known is None else known * factor**2)
    assert found.rank == plain.rank == 3
    np.testing.assert_allclose(found.singular_values / factor, plain.singular_values, rtol=1e-12)
    mean = (plain.left * plain.singular_values) @ plain.right
    np.testing.assert_allclose(
        (found.left * (found.singular_values / factor)) @ found.right, mean.T if transposed else mean, atol=1e-12
    )


def test_a_noise_variance_beyond_float64_is_said_so() -> None:
    matrix = noisy((24, 36), 3, 0.1)
    assert evbmf(1e200 * matrix).noise_variance == math.inf
    assert evbmf(1e-200 * matrix).noise_variance == 0
    assert evbmf(1e100 * matrix).noise_variance == pytest.approx(1e200 * evbmf(matrix).noise_variance)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (16, 16)])
@pytest.mark.parametrize("rank", [1, 4, 7])
def test_a_matrix_without_noise_has_its_own_rank(shape: tuple[int, int], rank: int) -> None:
    matrix = noisy(shape, rank, 0.0)
    found = evbmf(matrix)
    assert found.rank == rank
    assert found.noise_variance <= (max(shape) * EPS * np.linalg.norm(matrix)) ** 2
    np.testing.assert_allclose(found.left * found.singular_values @ found.right, matrix, atol=1e-12)


def test_singular_values_of_a_gram_matrix_may_be_blurred() -> None:
    matrix = noisy((20, 30), 4, 0.0)
    values = np.linalg.svd(matrix, compute_uv=False)
    blurred = np.where(values > 1e-9, values, 1e-8 * values[0] * np.linspace(1, 0.1, 20))
    blurred[8:] = 0  # where squares came out negative
    assert len(posterior_spectrum(blurred, (20, 30))[0]) == 8  # taken at their word
    assert len(posterior_spectrum(blurred, (20, 30), blur=1e-7)[0]) == 4


def test_values_missing_and_values_too_many() -> None:
    values = np.linalg.svd(noisy((10, 30), 2, 0.01), compute_uv=False)
    posterior, variance = posterior_spectrum(values, (10, 30))
    same, again = posterior_spectrum(np.append(values, [1e-9, 0.0]), (30, 10))
    assert same.tolist() == posterior.tolist()
    assert again == variance
    few, _ = posterior_spectrum(values[:2], (10, 30))
    padded, _ = posterior_spectrum(np.append(values[:2], np.zeros(8)), (10, 30))
    assert few.tolist() == padded.tolist()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (4, 6)])
def test_zeros_have_rank_zero_and_no_noise(shape: tuple[int, int]) -> None:
    found = evbmf(np.zeros(shape))
    assert (found.rank, found.noise_variance) == (0, 0.0)
    assert evbmf(np.zeros(shape), 2.5).noise_variance == 2.5


def test_a_known_noise_variance_is_used_and_given_back() -> None:
    matrix = noisy((30, 50), 3, 0.5)
    found = evbmf(matrix, 0.25)
    assert (found.rank, found.noise_variance) == (3, 0.25)
    assert evbmf(matrix, 1e6).rank == 0
    assert evbmf(matrix, 0.0).rank == 30  # without noise all is signal
    assert evbmf(noisy((30, 50), 3, 0.0), 0).rank == 3  # but rounding is not
    assert evbmf(np.ones((1, 7)), 0.01).rank == 1  # one row tells nothing of noise, but may be told


WRONG: dict[str, tuple[Any, Any, str]] = {
    "vector": (np.ones(3), None, r"^matrix must have two axes, neither of them empty, got shape \(3,\)$"),
    "empty": (np.ones((0, 3)), None, r"^matrix must have two axes, neither of them empty, got shape \(0, 3\)$"),
    "nan": (
        np.full((2, 2), np.nan),
        None,
        "^matrix must hold finite numbers only, got NaN or inf; replace or leave them out first$",
    ),
    "negative": (np.eye(2), -1.0, "^noise_variance must be a finite number at least 0, got -1.0$"),
    "no number": (np.eye(2), math.nan, "^noise_variance must be a finite number at least 0, got nan$"),
    "infinite": (np.eye(2), math.inf, "^noise_variance must be a finite number at least 0, got inf$"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_refusals(wrong: str) -> None:
    matrix, noise_variance, message = WRONG[wrong]
    with pytest.raises(KernelError, match=message):
        evbmf(matrix, noise_variance)
