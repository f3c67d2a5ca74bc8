"""Tests of the CP decomposition: exact recovery, true residuals, repeatable bits, and TensorLy's conventions."""

from __future__ import annotations

import itertools
import math
import re
import sys
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


def sweep_rounding(found: CPDecomposition, tensor: Array) -> float:
    """Return how far the squared relative errors of a history may be off, by the roundings of the large products.

    They are sums of inner products of the terms with the tensor and with one another, as large as their norms are.
    """
    magnitude = (1 + float(np.sum(found.weights)) / float(np.linalg.norm(tensor))) ** 2
    return 16 * magnitude * (2.0**-24 if tensor.dtype == np.float32 else U)


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
    tolerance = sweep_rounding(found, tensor)
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


# ---- several starts

HARD: list[tuple[tuple[int, ...], int, float]] = [  # starts end in different places
    ((6, 5, 4), 4, 0.0), ((5, 5, 5), 6, 0.0), ((6, 5, 4, 3), 8, 0.5), ((8, 7, 3), 6, 0.3), ((4, 4, 3, 3), 5, 0.1),
]  # fmt: skip


def test_the_best_of_four_starts_is_no_worse_than_the_middle_of_single_ones() -> None:
    won, ratios = 0, list[float]()
    for (sizes, rank, noise), seed in itertools.product(HARD, range(8)):
        tensor = low_rank(sizes, rank, seed, noise)
        four = cp_als(tensor, rank, rng=seed, n_starts=4, n_iter_max=120).relative_error
        single = [cp_als(tensor, rank, rng=1000 + 10 * seed + k, n_iter_max=120).relative_error for k in range(3)]
        won += bool(four <= np.median(single) * (1 + 1e-4))  # many end in the same place, to the tolerance
        ratios.append(math.log(four / float(np.median(single))))
    # a start that is no better than any other wins half of the 40 times: 30 or more in one of a thousand tries
    assert won >= 30
    assert np.mean(ratios) < 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_several_starts_repeat_their_bits(dtype: str) -> None:
    tensor = low_rank((12, 10, 3, 3), 5, noise=0.4).astype(dtype)
    state = global_state()
    first = cp_als(tensor, 5, rng=3, n_starts=4)
    assert bits(first) == bits(cp_als(tensor, 5, rng=3, n_starts=4))
    assert bits(first) == bits(cp_als(tensor, 5, rng=np.random.default_rng(3), n_starts=4))
    assert bits(first) != bits(cp_als(tensor, 5, rng=4, n_starts=4))
    assert global_state() == state


def test_the_start_that_leads_after_a_round_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["tensorconv.linalg.cp"]
    tensor, original = low_rank((12, 10, 3, 3), 5, noise=0.4), module.sweeps
    calls: list[tuple[int, float]] = []

    def recorded(problem: Any, factors: list[Array], most: int, *rest: Any) -> Any:
        found = original(problem, factors, most, *rest)
        calls.append((most, found[1][-1]))
        return found

    monkeypatch.setattr(module, "sweeps", recorded)
    found = cp_als(tensor, 5, n_starts=4, tol=-1.0)  # never stalled
    assert [most for most, _ in calls] == [30] * 6 + [140]
    first, second = sorted(error for _, error in calls[:4])[:2]
    # the better two of four go on, the best of them first, then the better of those
    # and sweeps do not make them worse, but for the roundings of squares
    assert calls[4][1] ** 2 <= first**2 + 64 * U
    assert calls[5][1] ** 2 <= second**2 + 64 * U
    assert found.history[29] in (first, second)
    assert found.history[59] == min(calls[4][1], calls[5][1])
    assert found.history[-1] == calls[6][1]


@pytest.mark.parametrize("n_starts", [1, 2, 3, 4, 16, 100])
@pytest.mark.parametrize("n_iter_max", [1, 2, 3, 7, 25])
def test_sweeps_that_led_to_the_result_are_counted_and_no_more_than_allowed(n_starts: int, n_iter_max: int) -> None:
    tensor = low_rank((6, 5, 4), 3, noise=0.4)
    found = cp_als(tensor, 3, n_starts=n_starts, n_iter_max=n_iter_max, tol=-1.0)  # never stalled
    assert (found.n_iter, len(found.history)) == (n_iter_max, n_iter_max)
    assert found.relative_error**2 <= found.history[-1] ** 2 + sweep_rounding(found, tensor)


def test_starts_that_meet_the_target_end_the_screening() -> None:
    tensor = low_rank((9, 8, 3, 3), 4, noise=0.1)
    target = 1.5 * cp_als(tensor, 4).relative_error
    found = cp_als(tensor, 4, n_starts=4, target=target)
    assert found.converged
    assert found.relative_error <= target
    assert all(error > target for error in found.history[:-1])  # it did not go on to a second round
    assert found.n_iter <= 30


@pytest.mark.parametrize(("n_starts", "n_iter_max"), [(0, 200), (-1, 200), (1, 0), (4, -5)])
def test_no_start_and_no_sweep_are_refused(n_starts: int, n_iter_max: int) -> None:
    text = f"n_starts and n_iter_max must be at least 1, got n_starts={n_starts}, n_iter_max={n_iter_max}"
    with pytest.raises(RankError, match=f"^{re.escape(text)}$"):
        cp_als(np.ones((3, 3)), 1, n_starts=n_starts, n_iter_max=n_iter_max)


# ---- compression

COMPRESSIBLE: list[tuple[tuple[int, ...], int]] = [
    ((20, 18, 3, 3), 5), ((3, 20, 3, 18), 5), ((24, 16, 5), 6), ((16, 15), 4), ((14, 3, 2, 13, 2), 4)
]  # fmt: skip


@pytest.fixture
def compressing(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Compress small tensors too; return the list of the sizes of all cores, which grows."""
    module = sys.modules["tensorconv.linalg.cp"]
    original, sizes = module.Problem.compressed, list[tuple[int, ...]]()

    def recorded(problem: Any, rank: int) -> Any:
        found = original(problem, rank)
        sizes.append(found[0].sizes)
        return found

    monkeypatch.setattr(module.Problem, "compressed", recorded)
    monkeypatch.setattr(module, "COMPRESSED", 1)
    monkeypatch.setattr(module, "LONG", 4)
    return sizes


def assert_true(found: CPDecomposition, tensor: Array) -> None:
    """The last error of the history is that of the entries."""
    squared = residual(tensor.astype(np.float64), found) ** 2
    assert abs(found.history[-1] ** 2 - squared) <= sweep_rounding(found, tensor)


@pytest.mark.parametrize("n_starts", [1, 4])
@pytest.mark.parametrize(("sizes", "rank"), COMPRESSIBLE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_history_of_a_compressed_tensor_is_that_of_the_tensor(
    sizes: tuple[int, ...], rank: int, dtype: str, n_starts: int, compressing: list[tuple[int, ...]]
) -> None:
    tensor = low_rank(sizes, rank, noise=0.3).astype(dtype)
    options: dict[str, Any] = {"n_starts": n_starts, "n_iter_max": 48, "tol": 0}
    full = cp_als(tensor, rank, **options)
    _, _, *small = sorted(sizes, reverse=True)
    assert compressing == [(rank, rank, *small)]
    for k in (3, 7, 11):  # stopped after k sweeps of the core, by a target that is just met, and lifted
        target = full.history[k - 1] * (1 + 1e-6 if dtype == "float32" else 1 + 1e-12)
        found = cp_als(tensor, rank, target=target, **options)
        # others may screen less, or find the true error above the target, as terms of a matrix do that are turned
        if n_starts == 1 and dtype == "float64" and len(sizes) > 2:
            assert found.n_iter <= k
            assert found.history == full.history[: found.n_iter]
        assert_true(found, tensor)
    assert_true(full, tensor)
    assert_conventional(full, sizes, rank)


@pytest.mark.parametrize(("sizes", "rank"), COMPRESSIBLE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_core_holds_nearly_all_that_its_rank_can(sizes: tuple[int, ...], rank: int, dtype: str) -> None:
    tensor = low_rank(sizes, rank, noise=0.5).astype(dtype)
    problem, order, scale = sys.modules["tensorconv.linalg.cp"].arranged(tensor, np.dtype(dtype), 0.0)
    core, bases, lost = problem.compressed(rank)
    energy = float(np.sum(tensor.astype(np.float64) ** 2))
    tails = []
    for mode in order[:2]:
        unfolding = np.moveaxis(tensor, mode, 0).reshape(sizes[mode], -1).astype(np.float64)
        tails.append(float(np.sum(np.linalg.svd(unfolding, compute_uv=False)[rank:] ** 2)) / energy)
    # what is lost is the tail of the one unfolding, and of the other one's projection, which has no longer a tail
    tolerance = 4 * sum(sizes) * (2.0**-24 if dtype == "float32" else U)
    assert max(tails) - tolerance <= lost / problem.squared_norm <= sum(tails) + tolerance
    lifted = np.moveaxis(core.wide.reshape(len(core.wide), -1, core.sizes[1]), 1, 2)  # (rank, rank, rest)
    lifted = np.einsum("ai,bj,ijk->abk", *bases, lifted) * scale
    arranged = np.transpose(tensor, order).reshape(lifted.shape)
    assert np.sum((arranged - lifted) ** 2) / energy == pytest.approx(lost / problem.squared_norm, abs=tolerance)


@pytest.mark.parametrize("n_starts", [1, 4, 40])
@pytest.mark.parametrize("n_iter_max", [12, 25, 48])
def test_sweeps_of_a_compressed_tensor_count(
    n_starts: int, n_iter_max: int, compressing: list[tuple[int, ...]]
) -> None:
    tensor = low_rank((20, 18, 3, 3), 5, noise=0.4)
    found = cp_als(tensor, 5, n_starts=n_starts, n_iter_max=n_iter_max, tol=0)
    assert compressing
    assert found.n_iter == len(found.history) <= n_iter_max
    assert found.relative_error**2 <= found.history[-1] ** 2 + sweep_rounding(found, tensor)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("sizes", "rank"), COMPRESSIBLE)
def test_compressing_costs_no_accuracy(
    sizes: tuple[int, ...], rank: int, dtype: str, compressing: list[tuple[int, ...]]
) -> None:
    ratios = []
    for seed in range(5):
        tensor = low_rank(sizes, rank, seed, noise=0.2).astype(dtype)
        compressed = cp_als(tensor, rank, rng=seed).relative_error
        assert len(compressing) == seed + 1
        start = random_factors(sizes, rank, 100 + seed)  # which is swept as it is
        ratios.append(compressed / cp_als(tensor, rank, start=start).relative_error)
        assert len(compressing) == seed + 1
    # either may end in another local minimum; in the middle they may not
    assert np.median(ratios) <= 1.01


@pytest.mark.parametrize(("sizes", "rank"), COMPRESSIBLE)
def test_tensors_of_low_rank_are_recovered_from_their_core(
    sizes: tuple[int, ...], rank: int, compressing: list[tuple[int, ...]]
) -> None:
    tensor = low_rank(sizes, rank)
    found = cp_als(tensor, rank, n_iter_max=2000, tol=1e-9)
    assert compressing
    assert found.relative_error <= math.sqrt(64 * U)  # nothing is lost: see above
    assert found.relative_error == pytest.approx(residual(tensor, found), abs=64 * U)


def test_only_tensors_much_larger_than_the_rank_are_compressed(compressing: list[tuple[int, ...]]) -> None:
    cp_als(low_rank((16, 9, 3), 5, noise=0.3), 5, n_iter_max=8)  # 8 rank^2 = 200 > 144
    cp_als(low_rank((16, 15, 3), 5, noise=0.3), 5, n_iter_max=3)  # too few sweeps
    cp_als(low_rank((16, 15, 3), 5, noise=0.3), 5, n_iter_max=8, start=random_factors((16, 15, 3), 5, 0))
    assert not compressing
    cp_als(low_rank((16, 15, 3), 5, noise=0.3), 5, n_iter_max=8)
    assert compressing == [(5, 5, 3)]


# ---- targets


@pytest.mark.parametrize("n_starts", [1, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("core", [False, True])
def test_targets_are_met_by_the_true_residual(
    dtype: str, n_starts: int, core: bool, request: pytest.FixtureRequest
) -> None:
    if core:
        request.getfixturevalue("compressing")
    for (sizes, rank), seed in itertools.product(COMPRESSIBLE, range(2)):
        tensor = low_rank(sizes, rank, seed, noise=0.1).astype(dtype)
        reached = cp_als(tensor, rank, rng=seed, n_starts=n_starts).relative_error
        for share in (1.0001, 1.01, 1.2):
            found = cp_als(tensor, rank, rng=seed, n_starts=n_starts, target=share * reached)
            assert found.converged
            # of the same terms, normalized and summed in another order
            rounding = 4 * sum(sizes) * U * (1 + float(np.sum(found.weights)))
            assert found.relative_error <= share * reached * (1 + rounding)
            assert residual(tensor.astype("float64"), found) <= share * reached * (1 + rounding)


def test_sweeps_go_on_where_float32_products_met_the_target_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["tensorconv.linalg.cp"]
    tensor, off = low_rank((6, 5, 4, 3), 8, noise=0.5), 1e-3
    target, original, calls = 1.001 * cp_als(tensor, 8).relative_error, module.sweeps, list[float]()

    def too_good(problem: Any, factors: list[Array], most: int, tol: float, aim: float) -> Any:
        found, history, converged = original(problem, factors, most, tol, aim + off)
        calls.append(aim)
        return found, [error - off for error in history], converged

    monkeypatch.setattr(module, "sweeps", too_good)
    found = cp_als(tensor, 8, target=target)
    assert len(calls) > 1
    assert min(calls) < target - off  # as much lower as the error was off, and more
    assert found.relative_error <= target
    assert found.n_iter == len(found.history)


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


def test_a_start_of_another_rank_is_refused() -> None:
    with pytest.raises(RankError, match=r"^start must have one matrix \(size, 3\) per mode of \(6, 5, 4\)$"):
        cp_als(low_rank((6, 5, 4), 3), 3, start=random_factors((6, 5, 4), 2, 0))


def test_integers_and_lists_are_computed_in_float64() -> None:
    integers = np.random.default_rng(0).integers(2**30, 2**31 - 1, (4, 3, 3)).astype("int32")
    expected = cp_als(integers.astype("float64"), 2)
    assert bits(cp_als(integers, 2)) == bits(cp_als(integers.tolist(), 2)) == bits(expected)
