"""Tests of the error-preserving correction: smaller terms at a stated residual, so that rounding factors costs less."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq, minimize

from tensorconv.arrays import Array
from tensorconv.errors import RankError
from tensorconv.linalg import CPDecomposition, cp_als, cp_epc

U = 2.0**-53
HALF = 2.0**-11  # of float16
HALF_TINY = 2.0**-25  # half of its smallest subnormal number
SIZES = [(6, 5), (6, 5, 4), (4, 4, 4), (5, 4, 3, 2), (4, 3, 3, 2, 2)]
Pair = tuple[Array, list[Array]]


def summed(weights: Array, factors: list[Array]) -> Array:
    """Return the sum of the rank-one terms."""
    letters = "abcdefgh"[: len(factors)]
    operands = ",".join(f"{letter}r" for letter in letters)
    return np.asarray(np.einsum(f"r,{operands}->{letters}", weights, *factors, optimize=True))


def distance(tensor: Array, weights: Array, factors: list[Array]) -> float:
    """Return the relative residual, computed from the entries."""
    wide = tensor.astype(np.float64)
    return float(np.linalg.norm(wide - summed(weights, factors)) / np.linalg.norm(wide))


def squares(weights: Array, factors: list[Array]) -> float:
    """Return the sum of squared norms of the terms."""
    return float(np.sum((weights * np.prod([np.linalg.norm(f, axis=0) for f in factors], axis=0)) ** 2))


def rounding(found: CPDecomposition, tensor: Array) -> float:
    """Return by how much two computations of a relative residual may differ: by roundings of every term."""
    roundings = len(found.factors) + len(found.weights) + 8
    return 2 * roundings * U * float(np.sum(found.weights)) / float(np.linalg.norm(tensor.astype(np.float64)))


def border(sizes: tuple[int, ...], gap: float, seed: int = 0) -> tuple[Array, Pair]:
    """Return a sum of b's derivative, ``b@a@.. + a@b@.. + ..``, and its difference quotient: two terms of 1/gap each.

    The tensor is a limit of tensors of rank 2, and is better fitted the larger the two terms are.
    """
    rng = np.random.default_rng(seed)
    a, b = zip(*(np.linalg.qr(rng.standard_normal((size, 2)))[0].T for size in sizes), strict=True)
    tensor = np.zeros(sizes)
    for mode in range(len(sizes)):
        tensor += summed(np.ones(1), [(b if m == mode else a)[m][:, None] for m in range(len(sizes))])
    factors = [np.stack([x + gap * y, x], axis=1) for x, y in zip(a, b, strict=True)]
    return tensor, (np.array([1 / gap, -1 / gap]), factors)


def noisy(sizes: tuple[int, ...], rank: int, noise: float = 0.5, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    tensor = summed(np.ones(rank), [rng.standard_normal((size, rank)) for size in sizes])
    other = rng.standard_normal(sizes)
    return np.asarray(tensor / np.linalg.norm(tensor) + noise * other / np.linalg.norm(other))


def evenly(weights: Array, factors: list[Array]) -> list[Array]:
    """Return factors that share the weights evenly, as they would be stored."""
    share = np.abs(weights) ** (1 / len(factors))
    return [factors[0] * share * np.sign(weights), *(factor * share for factor in factors[1:])]


def in_half(factors: list[Array]) -> tuple[list[Array], float]:
    """Round factors to float16; return them, and a bound on what it does to the sum of terms.

    An entry x moves by at most u |x|, or by half of the smallest subnormal number, so a column of norm n and size s by
    u n + tiny sqrt(s); the change of a product of columns is at most the product of what they may grow to, less that
    of what they were.
    """
    norms = [np.linalg.norm(factor, axis=0) for factor in factors]
    grown = [(1 + HALF) * n + HALF_TINY * math.sqrt(len(f)) for n, f in zip(norms, factors, strict=True)]
    bound = float(np.sum(np.prod(grown, axis=0) - np.prod(norms, axis=0)))
    return [factor.astype(np.float16).astype(np.float64) for factor in factors], bound


def perturbed(tensor: Array, weights: Array, factors: list[Array], share: float) -> tuple[float, float]:
    """Return the root mean square change of the tensor, and of the residual, where entries change by a random share.

    To first order the changes of different entries are orthogonal in the mean: every factor of term r adds
    ``(share weight_r)^2``, in all ``share^2 n_modes sum_r weight_r^2``.
    """
    rng, stored, norm = np.random.default_rng(0), evenly(weights, factors), float(np.linalg.norm(tensor))
    plain, changes, residuals = summed(np.ones(len(weights)), stored), [], []
    for _ in range(40):
        moved = [f * (1 + share * rng.standard_normal(f.shape)) for f in stored]
        there = summed(np.ones(len(weights)), moved)
        changes.append(float(np.linalg.norm(there - plain)) / norm)
        residuals.append(float(np.linalg.norm(there - tensor)) / norm)
    return float(np.sqrt(np.mean(np.square(changes)))), float(np.sqrt(np.mean(np.square(residuals))))


@pytest.mark.parametrize("sizes", SIZES)
def test_float16_factors_of_degenerate_terms_no_longer_blow_up(sizes: tuple[int, ...]) -> None:
    tensor, (weights, factors) = border(sizes, 1e-3)
    norm = float(np.linalg.norm(tensor))
    rounded, bound = in_half(evenly(weights, factors))
    before = distance(tensor, np.ones(2), rounded)
    assert 0.08 < before <= 2e-3 + bound / norm  # of an error of 0.1 %: it is good in float64 only
    found = cp_epc(tensor, (weights, factors), error=0.03, n_iter_max=500)
    rounded, bound = in_half(evenly(*found))
    after = distance(tensor, np.ones(2), rounded)
    assert after <= 0.03 + bound / norm + rounding(found, tensor)
    # terms no larger than a few times the tensor: each of the factors costs a rounding
    assert bound / norm <= 10 * len(sizes) * HALF
    assert after < before / 2


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("share", [1e-3, 1e-5])
def test_perturbing_factors_costs_what_the_sum_of_squares_says(sizes: tuple[int, ...], share: float) -> None:
    tensor, (weights, factors) = border(sizes, 1e-2)
    start = distance(tensor, weights, factors)
    found = cp_epc(tensor, (weights, factors), error=5 * start, n_iter_max=200)
    changes = []
    for pair in ((weights, factors), (found.weights, found.factors)):
        expected = share * math.sqrt(len(sizes) * squares(*pair)) / float(np.linalg.norm(tensor))
        change, residual = perturbed(tensor, *pair, share)
        # the mean of 40 squares with a few degrees of freedom each is known to a factor of 2, five sigma
        assert expected / math.sqrt(2) <= change <= math.sqrt(2) * expected
        changes.append(change)
    assert changes[1] < changes[0] / 10
    assert residual <= 5 * start + changes[1] + rounding(found, tensor)


@pytest.mark.parametrize(("name", "rank"), [("hed_vgg16_b1c2_64x64_3x3", 32), ("hed_vgg16_b3c2_256x256_3x3", 64)])
def test_terms_of_trained_kernels_get_smaller(trained_kernels: Path, name: str, rank: int) -> None:
    with np.load(trained_kernels / f"{name}.npz") as arrays:
        tensor = arrays["weight"]
    fit = cp_als(tensor, rank)
    error = 1.01 * fit.relative_error
    found = cp_epc(tensor, fit, error=error)
    assert found.relative_error <= error + rounding(found, tensor)
    assert squares(*found) <= squares(*fit) / 4
    norm = float(np.linalg.norm(tensor.astype(np.float64)))
    residuals = []
    for decomposition in (fit, found):
        rounded, bound = in_half(evenly(*decomposition))
        lost = distance(tensor, np.ones(rank), rounded)
        assert lost <= decomposition.relative_error + bound / norm
        moved = [f * (1 + 2.0**-8 * np.random.default_rng(0).standard_normal(f.shape)) for f in rounded]
        residuals.append(distance(tensor, np.ones(rank), moved))
        # squares of the change add up to share^2 n_modes sum_r weight_r^2 in the mean of very many entries
        expected = 2.0**-8 * math.sqrt(4 * squares(*decomposition)) / norm
        assert residuals[-1] <= decomposition.relative_error + bound / norm + 1.5 * expected
    assert residuals[1] < residuals[0]


# ---- the constraint, and what is minimized

GAPS = [1e-1, 1e-2, 1e-3, 1e-5, 1e-7]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("sizes", SIZES)
def test_the_residual_stays_within_the_error_and_the_sum_of_squares_never_rises(
    sizes: tuple[int, ...], gap: float, dtype: str
) -> None:
    exact, pair = border(sizes, gap)
    tensor = exact.astype(dtype)
    noise = 32 * U / gap  # of the residual of terms of norm 1/gap
    start, before = distance(tensor, *pair) + noise, squares(*pair)
    for error in (None, start, 1.5 * start, 100 * start, 0.9):
        allowed = max(1.001 * start, 1e-6) if error is None else error
        found = cp_epc(tensor, pair, error=error, tol=0, n_iter_max=10)
        assert distance(tensor, *found) <= allowed + noise
        assert found.relative_error <= allowed + noise
        assert all(residual <= allowed for residual in found.history)
        assert squares(*found) <= before * (1 + 16 * U)  # products and roots of norms


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("factor", [None, 1.5])
def test_every_sweep_shrinks_the_sum_of_squares(sizes: tuple[int, ...], factor: float | None) -> None:
    tensor = noisy(sizes, 3)
    fit = cp_als(tensor, 3, n_iter_max=40)
    options: dict[str, Any] = {"error": factor and factor * fit.relative_error, "tol": 0}
    sums, history = [squares(*fit)], list[float]()
    for n in range(1, 8):
        found = cp_epc(tensor, fit, n_iter_max=n, **options)
        assert found.history[:-1] == history[: n - 1]  # one sweep more, and nothing else
        assert found.n_iter == len(found.history) <= n
        assert found.history[-1] == pytest.approx(found.relative_error, abs=rounding(found, tensor))
        if found.converged:
            assert sums[-1] * (1 - 1e-9) <= squares(*found)
            break
        history = found.history
        sums.append(squares(*found))
    assert len(sums) > 2
    assert (np.diff(sums) < 0).all()


@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-3])
def test_no_sweep_is_wasted_on_rounding(gap: float) -> None:
    for sizes in SIZES:
        tensor, pair = border(sizes, gap)
        start = distance(tensor, *pair)
        for factor in (1.001, 1.5):  # a residual that is above the error by a rounding would not count
            assert cp_epc(tensor, pair, error=factor * start, tol=0, n_iter_max=5).n_iter == 5


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("sizes", SIZES)
def test_sums_do_not_rise_where_there_is_no_slack(sizes: tuple[int, ...], seed: int) -> None:
    tensor = noisy(sizes, 3, seed=seed)
    fit = cp_als(tensor, 3, n_iter_max=30, tol=1e-9)
    sums = [squares(*fit)]
    for n in range(1, 30):
        found = cp_epc(tensor, fit, error=fit.relative_error, tol=0, n_iter_max=n)
        assert found.relative_error <= fit.relative_error + rounding(found, tensor)
        sums.append(squares(*found))
    assert (np.diff(sums) <= 16 * U * sums[0]).all()  # products and roots of norms


def test_the_slack_is_used_up() -> None:
    tensor = noisy((6, 5, 4), 3)
    fit = cp_als(tensor, 3)
    for error in (1.001, 1.1, 1.5):
        found = cp_epc(tensor, fit, error=error * fit.relative_error)
        # the ridge's logarithm is known to 1e-9, and the residual's cannot change faster than by that
        assert found.relative_error == pytest.approx(error * fit.relative_error, rel=1e-8)
    default = cp_epc(tensor, fit)
    assert default.relative_error == pytest.approx(1.001 * fit.relative_error, rel=1e-8)


def test_it_says_whether_it_converged() -> None:
    tensor = noisy((6, 5, 4), 3)
    fit = cp_als(tensor, 3)
    found = cp_epc(tensor, fit, error=1.5 * fit.relative_error, n_iter_max=200)
    assert (found.converged, found.n_iter) == (True, len(found.history))
    shorter = cp_epc(tensor, fit, error=1.5 * fit.relative_error, n_iter_max=found.n_iter - 1)
    assert not shorter.converged
    assert squares(*found) >= 0.999 * squares(*shorter)  # the tolerance, in a sweep
    assert cp_epc(tensor, fit, error=1.5 * fit.relative_error, n_iter_max=200, tol=1e-6).n_iter > found.n_iter


# ---- the optimum, by other routes


def last_updated(sizes: tuple[int, ...]) -> int:
    """Return the mode that a sweep ends with: the smallest, of two the larger."""
    return int(np.argmax(sizes) if len(sizes) == 2 else np.argmin(sizes))


def others(factors: list[Array], mode: int) -> Array:
    """Return the columnwise Kronecker product of all factors but one."""
    product = np.ones((1, factors[0].shape[1]))
    for index, factor in enumerate(factors):
        if index != mode:
            product = (product[:, None] * factor).reshape(-1, factor.shape[1])
    return product


@pytest.mark.parametrize("factor", [1.01, 1.3])
@pytest.mark.parametrize("sizes", [(6, 5), (4, 7), (6, 5, 4), (3, 6, 5), (5, 2, 4, 3), (3, 6, 2, 5, 4)])
def test_a_factor_is_the_smallest_that_a_search_over_ridges_finds(sizes: tuple[int, ...], factor: float) -> None:
    tensor, mode = noisy(sizes, 3), last_updated(sizes)
    fit = cp_als(tensor, 3)
    allowed = factor * fit.relative_error * float(np.linalg.norm(tensor))
    found = cp_epc(tensor, fit, error=factor * fit.relative_error, n_iter_max=1)
    wide, unfolding = others(found.factors, mode), np.moveaxis(tensor, mode, 0).reshape(sizes[mode], -1).T

    def solution(log_ridge: float) -> Array:
        root = math.exp(log_ridge / 2)  # least squares with rows of the ridge's root below: no normal equations
        rows, right = np.vstack([wide, root * np.eye(3)]), np.vstack([unfolding, np.zeros((3, sizes[mode]))])
        return np.asarray(np.linalg.lstsq(rows, right, rcond=None)[0])

    log_ridge = brentq(lambda x: float(np.linalg.norm(unfolding - wide @ solution(x))) - allowed, -20, 10)
    expected = float(np.sum(solution(log_ridge) ** 2))
    # both roots are known to 1e-9 at best, and the squares change no faster than the ridge
    assert squares(*found) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("sizes", [(3, 2), (3, 4, 2), (2, 3, 4, 5)])
def test_a_factor_is_the_smallest_that_a_general_optimizer_finds(sizes: tuple[int, ...]) -> None:
    tensor, mode = noisy(sizes, 2), last_updated(sizes)
    fit = cp_als(tensor, 2 if len(sizes) > 2 else 1)
    rank = len(fit.weights)
    error = 1.2 * fit.relative_error
    found = cp_epc(tensor, fit, error=error, n_iter_max=1)
    wide, unfolding = others(found.factors, mode), np.moveaxis(tensor, mode, 0).reshape(sizes[mode], -1).T
    most = error**2 * float(np.sum(tensor**2))
    constraint = {"type": "ineq", "fun": lambda x: most - np.sum((unfolding - wide @ x.reshape(rank, -1)) ** 2)}
    start = (fit.factors[mode] * fit.weights).T.ravel()
    best = minimize(lambda x: x @ x, start, constraints=constraint, method="SLSQP", options={"ftol": 1e-14})
    assert best.success
    # it may break the constraint by its tolerance, which buys less than the root of that
    assert squares(*found) == pytest.approx(best.fun, rel=1e-6)


@pytest.mark.parametrize("rank", [2, 4])
def test_terms_of_a_matrix_are_as_small_as_singular_values_allow(rank: int) -> None:
    matrix, share = np.random.default_rng(0).standard_normal((4, 6)), 0.5
    values = np.linalg.svd(matrix, compute_uv=False)
    norm = float(np.linalg.norm(values))
    # R terms of one matrix X have squares of ||X||_*^2 / R at least, with equality for a balanced rotation; of all X
    # of any rank within the residual, that of soft-thresholded singular values has the least ||X||_*
    threshold = brentq(lambda t: float(np.sum(np.minimum(values, t) ** 2)) - (share * norm) ** 2, 0, values[0])
    least = float(np.sum(np.maximum(values - threshold, 0))) ** 2 / rank
    fit = cp_als(matrix, rank, n_iter_max=500)
    assert fit.relative_error < share
    found = cp_epc(matrix, fit, error=share, n_iter_max=3000, tol=0)
    reached = squares(*found)
    assert reached >= least * (1 - 1e-9)
    if rank == 4:  # all singular values above the threshold have a term
        assert reached <= least * (1 + 1e-3)


def test_all_of_the_tensor_may_be_given_up() -> None:
    tensor = noisy((6, 5, 4), 3)
    for error in (1.0, 2.0):
        found = cp_epc(tensor, cp_als(tensor, 3), error=error)
        assert found.weights.max() <= 1e-6 * np.linalg.norm(tensor)  # the largest ridge is three million times the Gram
        assert found.relative_error <= error


# ---- exactness


@pytest.mark.parametrize(("sizes", "rank"), [((6, 5), 3), ((6, 5, 4), 3), ((5, 4, 3, 2), 3), ((4, 3, 3, 2, 2), 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_exact_decomposition_stays_so_to_a_millionth(sizes: tuple[int, ...], rank: int, dtype: str) -> None:
    # small integers: their products and sums are exact in float32 too
    factors = [np.round(2 * f) for f in np.random.default_rng(0).standard_normal((len(sizes), max(sizes), rank))]
    factors = [factor[:size] for factor, size in zip(factors, sizes, strict=True)]
    tensor = summed(np.ones(rank), factors).astype(dtype)
    found = cp_epc(tensor, (np.ones(rank), factors))
    assert found.relative_error <= 1e-6 + rounding(found, tensor)
    assert distance(tensor, *found) <= 1e-6 + rounding(found, tensor)
    assert squares(*found) <= squares(np.ones(rank), factors) * (1 + 16 * U)
    strict = cp_epc(tensor, (np.ones(rank), factors), error=1e-10)
    assert strict.relative_error <= 1e-10 + rounding(found, tensor)


def test_more_terms_than_the_tensor_has_are_shared_out() -> None:
    tensor = noisy((5, 4, 3), 2, noise=0)
    fit = cp_als(tensor, 16, n_iter_max=500)  # the Gram matrices are singular
    found = cp_epc(tensor, fit, error=1e-3)
    assert distance(tensor, *found) <= 1e-3
    # equal shares of the norm would be the least that any R terms of the tensor can have
    assert 1 / 16 * (1 - 2e-3) <= squares(*found) < squares(*fit)


# ---- conventions


def bits(found: CPDecomposition) -> bytes:
    return b"".join(part.tobytes() for part in (found.weights, *found.factors, np.array(found.history)))


@pytest.mark.parametrize("sizes", SIZES)
def test_the_result_is_conventional_and_repeatable(sizes: tuple[int, ...]) -> None:
    tensor = noisy(sizes, 3)
    fit = cp_als(tensor, 3)
    found = cp_epc(tensor, fit, error=1.2 * fit.relative_error)
    weights, factors = found
    assert isinstance(found, CPDecomposition)
    assert weights is found.weights
    assert factors is found.factors
    assert [factor.shape for factor in factors] == [(size, 3) for size in sizes]
    assert (np.diff(weights) <= 0).all()
    assert (weights > 0).all()
    for factor in factors:
        assert np.linalg.norm(factor, axis=0) == pytest.approx(1, rel=2 * math.prod(factor.shape) * U)
    assert found.relative_error == pytest.approx(distance(tensor, *found), abs=rounding(found, tensor))
    again = cp_epc(tensor, fit, error=1.2 * fit.relative_error)
    pair = cp_epc(tensor, (fit.weights, fit.factors), error=1.2 * fit.relative_error)
    assert bits(found) == bits(again) == bits(pair)


def test_weights_may_be_anywhere_and_of_any_sign() -> None:
    tensor = noisy((6, 5, 4), 3)
    fit = cp_als(tensor, 3)
    moved = [fit.factors[0], fit.factors[1] * -fit.weights, fit.factors[2] / 4]
    expected = cp_epc(tensor, fit, error=1.2 * fit.relative_error, n_iter_max=3)
    found = cp_epc(tensor, (np.full(3, -4.0), moved), error=1.2 * fit.relative_error, n_iter_max=3)
    # the same terms but for roundings, which the ridge's root passes on at its tolerance
    assert found.weights == pytest.approx(expected.weights, rel=1e-7)
    assert summed(*found) == pytest.approx(summed(*expected), abs=1e-7 * float(np.linalg.norm(tensor)))


def test_the_order_of_the_modes_does_not_matter() -> None:
    tensor = noisy((6, 5, 4, 3), 3)
    fit = cp_als(tensor, 3)
    expected = cp_epc(tensor, fit)
    for order in ((3, 2, 1, 0), (1, 3, 0, 2)):
        found = cp_epc(tensor.transpose(order), (fit.weights, [fit.factors[mode] for mode in order]))
        assert found.weights == pytest.approx(expected.weights, rel=1e-7)
        for mode, factor in zip(order, found.factors, strict=True):
            assert np.abs(factor) == pytest.approx(np.abs(expected.factors[mode]), abs=1e-6)


@pytest.mark.parametrize("power", [-900, -150, 150, 900])
def test_the_unit_of_the_tensor_does_not_matter(power: int) -> None:
    tensor, unit = noisy((6, 5, 4), 3), 2.0**power  # scaling by it is exact, its square may not be
    fit = cp_als(tensor, 3)
    found, expected = cp_epc(unit * tensor, (unit * fit.weights, fit.factors)), cp_epc(tensor, fit)
    assert found.history == expected.history
    assert found.relative_error == expected.relative_error
    assert np.array_equal(found.weights / unit, expected.weights)
    for factor, other in zip(found.factors, expected.factors, strict=True):
        assert np.array_equal(factor, other)


def test_float32_tensors_are_computed_in_float64() -> None:
    tensor = noisy((6, 5, 4), 3).astype(np.float32)
    fit = cp_als(tensor, 3)
    found = cp_epc(tensor, fit)
    assert bits(found) == bits(cp_epc(tensor.astype(np.float64), fit))
    assert {part.dtype for part in (found.weights, *found.factors)} == {np.dtype("float64")}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_zero_tensor_needs_no_terms(dtype: str) -> None:
    found = cp_epc(np.zeros((4, 3, 2), dtype), (np.ones(2), [np.ones((size, 2)) for size in (4, 3, 2)]))
    assert (found.relative_error, found.n_iter, found.converged) == (0.0, 0, True)
    assert not found.weights.any()
    assert [factor.shape for factor in found.factors] == [(4, 2), (3, 2), (2, 2)]


def test_terms_that_are_zero_stay_so() -> None:
    tensor = noisy((6, 5, 4), 3)
    none = cp_epc(tensor, (np.zeros(2), [np.ones((size, 2)) for size in tensor.shape]))
    assert none.relative_error == pytest.approx(1, rel=tensor.size * U)  # two sums of the same squares
    assert not none.weights.any()
    fit = cp_als(tensor, 2)
    expected = cp_epc(tensor, fit, n_iter_max=3)
    padded = [np.hstack([factor, np.ones((len(factor), 1))]) for factor in fit.factors]
    found = cp_epc(tensor, (np.append(fit.weights, 0.0), padded), error=1.001 * fit.relative_error, n_iter_max=3)
    assert np.isfinite(found.weights).all()
    assert squares(*found) <= squares(*expected) * (1 + 1e-6)  # one term more to share with


@pytest.mark.parametrize("wrong", [0.9, 0.0, -1.0, math.nan])
def test_errors_below_that_of_the_decomposition_are_refused(wrong: float) -> None:
    tensor = noisy((6, 5, 4), 3)
    fit = cp_als(tensor, 3)
    error = wrong * fit.relative_error if wrong > 0 else wrong
    text = (
        f"error must be at least that of the decomposition, {fit.relative_error:.6g}, got {error}; "
        "ask for a larger one, or fit longer first"
    )
    with pytest.raises(RankError, match=f"^{re.escape(text)}$"):
        cp_epc(tensor, fit, error=error)


def test_the_decompositions_own_error_may_be_asked_for() -> None:
    tensor = noisy((6, 5, 4), 3)
    for n_iter_max in (3, 300):
        fit = cp_als(tensor, 3, n_iter_max=n_iter_max)
        found = cp_epc(tensor, fit, error=fit.relative_error)
        assert found.relative_error <= fit.relative_error + rounding(found, tensor)
        assert squares(*found) <= squares(*fit) * (1 + 16 * U)


def test_the_input_is_left_alone() -> None:
    tensor = noisy((6, 5, 4), 3)
    fit = cp_als(tensor, 3)
    parts: list[Any] = [tensor, fit.weights, *fit.factors]
    before = [part.tobytes() for part in parts]
    for part in parts:
        part.flags.writeable = False
    cp_epc(tensor, fit)
    cp_epc(tensor.transpose(2, 0, 1), (fit.weights, [fit.factors[mode] for mode in (2, 0, 1)]))
    assert [part.tobytes() for part in parts] == before
