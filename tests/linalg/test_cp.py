"""Tests of the CP decomposition: exact recovery, true residuals, repeatable bits, and TensorLy's conventions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import tensorly
from tensorly.decomposition import parafac

from tensorconv.arrays import Array
from tensorconv.errors import RankError
from tensorconv.linalg import CPDecomposition, cp_als

U = 2.0**-53


def random_factors(sizes: tuple[int, ...], rank: int, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((size, rank)) for size in sizes]


def summed(factors: list[Array], weights: Array | None = None) -> Array:
    """Return the sum of the rank-one terms."""
    terms: Array = np.ones(factors[0].shape[1]) if weights is None else weights
    for factor in factors:
        terms = terms[..., None, :] * factor if terms.ndim > 1 else terms * factor
    total: Array = terms.sum(-1)
    return total


def low_rank(sizes: tuple[int, ...], rank: int, seed: int = 0, noise: float = 0.0) -> Array:
    """Return a tensor of norm 1 and of this rank, plus noise of this norm."""
    tensor = summed(random_factors(sizes, rank, seed))
    other = np.random.default_rng(1000 + seed).standard_normal(sizes)
    sum_of_both: Array = tensor / np.linalg.norm(tensor) + noise * other / np.linalg.norm(other)
    return sum_of_both


def residual(tensor: Array, found: CPDecomposition) -> float:
    """Return the relative residual, computed from the entries."""
    weights, factors = found
    return float(np.linalg.norm(tensor - summed(factors, weights)) / np.linalg.norm(tensor))


def assert_conventional(found: CPDecomposition, sizes: tuple[int, ...], rank: int) -> None:
    weights, factors = found
    assert weights.shape == (rank,)
    assert [factor.shape for factor in factors] == [(size, rank) for size in sizes]
    assert (np.diff(weights) <= 0).all()
    assert (weights >= 0).all()
    for factor in factors:
        assert np.linalg.norm(factor, axis=0)[weights > 0] == pytest.approx(1, rel=1e-14 * math.prod(factor.shape))


EXACT: list[tuple[tuple[int, ...], int]] = [
    ((9, 7), 3), ((6, 5, 4), 1), ((6, 5, 4), 3), ((5, 4, 3, 3), 3), ((4, 3, 3, 2, 2), 2), ((8, 7, 6), 5),
    ((3, 3, 3), 4), ((4, 1, 3), 2), ((1, 1, 1, 1), 1), ((1, 5, 1, 4, 1), 3),
]  # fmt: skip


@pytest.mark.parametrize(("sizes", "rank"), EXACT)
@pytest.mark.parametrize("seed", [0, 1])
def test_tensors_of_low_rank_are_recovered(sizes: tuple[int, ...], rank: int, seed: int) -> None:
    tensor = low_rank(sizes, rank, seed)
    found = cp_als(tensor, rank, rng=seed + 7, n_iter_max=2000, tol=1e-9)
    # the squared error that sweeps are judged by is known to a few u: its root to the root of that
    assert found.relative_error <= math.sqrt(64 * U)
    assert found.converged
    assert_conventional(found, sizes, rank)


@pytest.mark.parametrize(("sizes", "rank"), [((9, 7), 3), ((8, 6, 5), 4), ((7, 6, 3, 3), 5), ((4, 3, 3, 2, 2), 6)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_error_is_the_true_residual_and_never_grows(sizes: tuple[int, ...], rank: int, dtype: str) -> None:
    tensor = low_rank(sizes, rank, noise=0.5).astype(dtype)
    found = cp_als(tensor, rank, n_iter_max=60, tol=0)
    assert found.relative_error == pytest.approx(residual(tensor.astype("float64"), found), rel=1e-12)
    squares = np.square(found.history)
    # a squared error is a difference of sums of the norm's size: known to the roundings of the large products
    tolerance = 64 * (2.0**-24 if dtype == "float32" else U)
    assert (np.diff(squares) <= tolerance).all()
    # a sweep may end by an extrapolation that lowers the error once more
    assert found.relative_error**2 <= squares[-1] + tolerance
    if found.converged:
        assert abs(found.relative_error**2 - squares[-1]) <= tolerance
    assert found.n_iter == len(found.history) <= 60
    assert_conventional(found, sizes, rank)


@pytest.mark.parametrize(("sizes", "rank"), [((3, 4), 6), ((3, 2, 3), 9), ((2, 3, 2, 2), 10)])
def test_ranks_may_exceed_every_size(sizes: tuple[int, ...], rank: int) -> None:
    tensor = np.random.default_rng(0).standard_normal(sizes)
    found = cp_als(tensor, rank, n_iter_max=500)
    assert_conventional(found, sizes, rank)
    assert found.relative_error == pytest.approx(residual(tensor, found), rel=1e-6, abs=1e-14)
    assert found.relative_error <= 1e-6
    assert all(np.isfinite(part).all() for part in (found.weights, *found.factors))


def test_more_terms_than_the_tensor_has_do_no_harm() -> None:
    tensor = low_rank((6, 5, 4), 2)
    found = cp_als(tensor, 5, n_iter_max=500)
    assert found.relative_error <= math.sqrt(64 * U)
    assert all(np.isfinite(part).all() for part in (found.weights, *found.factors))


def test_a_matrix_is_found_as_well_as_by_its_svd() -> None:
    matrix = np.random.default_rng(0).standard_normal((9, 7))
    values = np.linalg.svd(matrix, compute_uv=False)
    found = cp_als(matrix, 3, n_iter_max=1000, tol=1e-12)
    best = np.linalg.norm(values[3:]) / np.linalg.norm(values)
    assert best * (1 - 1e-12) <= found.relative_error <= best * (1 + 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_zero_tensor_is_zero(dtype: str) -> None:
    found = cp_als(np.zeros((4, 3, 2), dtype), 2)
    assert (found.relative_error, found.n_iter, found.converged) == (0.0, 0, True)
    assert not found.weights.any()
    assert [factor.shape for factor in found.factors] == [(4, 2), (3, 2), (2, 2)]
    assert not summed(found.factors, found.weights).any()


@pytest.mark.parametrize("power", [-600, -150, 150, 600])
def test_the_unit_of_the_tensor_does_not_matter(power: int) -> None:
    tensor, unit = low_rank((6, 5, 4), 3, noise=0.3), 2.0**power  # scaling by it is exact, its square may not be
    found, expected = cp_als(unit * tensor, 3), cp_als(tensor, 3)
    assert found.history == expected.history
    assert found.relative_error == expected.relative_error
    assert np.array_equal(found.weights / unit, expected.weights)
    for factor, other in zip(found.factors, expected.factors, strict=True):
        assert np.array_equal(factor, other)


def bits(found: CPDecomposition) -> bytes:
    return b"".join(part.tobytes() for part in (found.weights, *found.factors, np.array(found.history)))


def global_state() -> tuple[bytes, int]:
    """Return the state of numpy's global generator, which must not be drawn from."""
    state = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    return state["key"].tobytes(), state["pos"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_seed_gives_the_same_bits_and_numpys_global_generator_is_left_alone(dtype: str) -> None:
    tensor = low_rank((20, 18, 3, 3), 6, noise=0.4).astype(dtype)
    state = global_state()
    first = cp_als(tensor, 6, rng=3)
    assert bits(first) == bits(cp_als(tensor, 6, rng=3)) == bits(cp_als(tensor, 6, rng=np.random.default_rng(3)))
    assert bits(first) != bits(cp_als(tensor, 6, rng=4))
    assert global_state() == state


def test_float32_tensors_give_float64_factors_close_to_those_of_float64() -> None:
    tensor = low_rank((9, 8, 3, 3), 4, noise=0.2)
    wide, narrow = cp_als(tensor, 4), cp_als(tensor.astype("float32"), 4)
    assert {part.dtype for part in (narrow.weights, *narrow.factors)} == {np.dtype("float64")}
    assert narrow.relative_error == pytest.approx(wide.relative_error, rel=1e-5)


def test_the_order_of_the_modes_does_not_matter_for_the_error() -> None:
    tensor = low_rank((7, 6, 3, 2), 3, noise=0.1)
    errors = []
    for order in itertools.permutations(range(4)):
        found = cp_als(np.transpose(tensor, order), 3, n_iter_max=500, tol=1e-8)
        assert_conventional(found, tuple(tensor.shape[mode] for mode in order), 3)
        errors.append(found.relative_error)
    assert max(errors) <= 1.001 * min(errors)


def test_a_start_is_started_from() -> None:
    factors = random_factors((6, 5, 4), 3, 0)
    kept = [factor.copy() for factor in factors]
    found = cp_als(summed(factors), 3, start=factors)
    assert found.n_iter <= 11  # no improvement is to be seen within the window
    assert found.relative_error <= 1e-12
    assert all(np.array_equal(factor, copy) for factor, copy in zip(factors, kept, strict=True))
    # the start decides, not the seed
    noisy = low_rank((6, 5, 4), 3, noise=0.3)
    assert bits(cp_als(noisy, 3, start=factors, rng=0)) == bits(cp_als(noisy, 3, start=factors, rng=1))


@pytest.mark.parametrize("power", [-20, 20])
def test_the_scale_of_a_start_does_not_matter(power: int) -> None:
    tensor, factors = low_rank((6, 5, 4), 3, noise=0.3), random_factors((6, 5, 4), 3, 1)
    scaled = [factors[0] * 2.0**power, factors[1], factors[2] * 4.0**power]
    assert cp_als(tensor, 3, start=scaled).relative_error == pytest.approx(
        cp_als(tensor, 3, start=factors).relative_error, rel=1e-3
    )


def test_sweeps_stop_once_the_target_is_met() -> None:
    tensor = low_rank((9, 8, 3, 3), 4, noise=0.1)
    full = cp_als(tensor, 4, tol=0, n_iter_max=100)
    target = (full.history[0] + full.history[-1]) / 2
    found = cp_als(tensor, 4, tol=0, n_iter_max=100, target=target)
    assert found.converged
    assert found.relative_error <= target
    assert found.n_iter < full.n_iter
    assert all(error > 0.999 * target for error in found.history[:-1])
    assert found.history == full.history[: found.n_iter]


def test_it_says_whether_it_converged() -> None:
    tensor = low_rank((9, 8, 3, 3), 4, noise=0.1)
    found = cp_als(tensor, 4, n_iter_max=500)
    assert (found.converged, found.n_iter) == (True, len(found.history))
    assert found.n_iter < 500
    assert found.history[-11] - found.history[-1] <= 1e-5 * found.history[-1]  # the tolerance, over ten sweeps
    short = cp_als(tensor, 4, n_iter_max=3)
    assert (short.converged, short.n_iter) == (False, 3)
    assert short.history == found.history[:3]


def test_it_unpacks_in_tensorlys_convention() -> None:
    tensor = low_rank((6, 5, 4, 3), 3, noise=0.2)
    found = cp_als(tensor, 3)
    weights, factors = found
    assert weights is found.weights
    assert factors is found.factors
    dense = tensorly.cp_to_tensor((weights, factors))
    # two sums of three products of four factors each, of terms no larger than the sum of weights
    assert np.abs(dense - summed(factors, weights)).max() <= 16 * U * weights.sum()
    assert np.linalg.norm(dense - tensor) / np.linalg.norm(tensor) == pytest.approx(found.relative_error, rel=1e-12)


@pytest.mark.parametrize("noise", [0.1, 0.5])
@pytest.mark.parametrize(("sizes", "rank"), [((12, 10, 3, 3), 5), ((16, 9, 5), 6), ((6, 5, 4, 3, 2), 3)])
def test_errors_are_no_worse_than_tensorlys_from_the_same_start(
    sizes: tuple[int, ...], rank: int, noise: float
) -> None:
    ratios = []
    for seed in range(7):
        tensor, start = low_rank(sizes, rank, seed, noise), random_factors(sizes, rank, 100 + seed)
        theirs: Any = parafac(tensor, rank, init=(np.ones(rank), [f.copy() for f in start]), n_iter_max=200, tol=1e-9)
        error = np.linalg.norm(tensorly.cp_to_tensor(theirs) - tensor) / np.linalg.norm(tensor)
        ratios.append(cp_als(tensor, rank, start=start).relative_error / error)
    # from one start the two may end in different local minima, either way; in the middle they may not
    assert np.median(ratios) <= 1.01


@pytest.mark.parametrize(("rank", "shape"), [(0, (3, 3)), (-1, (3, 3)), (2, (3,))])
def test_ranks_and_orders_out_of_range_are_refused(rank: int, shape: tuple[int, ...]) -> None:
    text = f"rank must be at least 1 and the tensor of order 2 or more, got rank={rank}, shape "
    with pytest.raises(RankError, match=text):
        cp_als(np.ones(shape), rank)


def test_the_input_is_left_alone() -> None:
    tensor = low_rank((6, 5, 4), 3, noise=0.3)
    before = tensor.tobytes()
    tensor.flags.writeable = False
    cp_als(tensor, 3)
    cp_als(tensor.transpose(2, 0, 1), 3)
    assert tensor.tobytes() == before


def test_the_history_is_kept_out_of_the_printed_form() -> None:
    text = repr(cp_als(low_rank((6, 5, 4), 3, noise=0.3), 3))
    assert "relative_error" in text
    assert "history" not in text
