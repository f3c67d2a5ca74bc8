"""Tests of seriation: shuffled Toeplitz matrices are recovered, and no other order of one side is better."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from tensorconv.arrays import Array
from tensorconv.errors import KernelError
from tensorconv.linalg import ToeplitzBand, ToeplitzSeriation, toeplitz_seriation

U64 = 2.0**-53
# out-channels, in-channels, kernels, taps: one kernel and several, bands narrower than the stride's multiple or not,
# bands that hold every entry, and more or fewer rows than columns
SHUFFLED = [
    (16, 16, 1, 3),
    (48, 48, 1, 8),
    (64, 64, 1, 9),
    (40, 40, 1, 79),
    (40, 40, 1, 60),
    (24, 24, 4, 4),
    (64, 64, 4, 6),
    (64, 64, 4, 12),
    (64, 64, 8, 32),
    (128, 64, 2, 9),
    (64, 128, 2, 16),
    (32, 64, 1, 9),
    (256, 256, 1, 31),
    (256, 256, 4, 32),
]


def band(n_out: int, n_in: int, n_kernels: int, length: int) -> ToeplitzBand:
    stride = n_kernels * n_in // n_out
    return ToeplitzBand(n_kernels, n_out // n_kernels, n_in, length, stride, (length - stride) // 2)


def shuffled(one: ToeplitzBand, seed: int = 0, tail: tuple[int, ...] = (), noise: float = 0.0) -> Array:
    rng = np.random.default_rng(seed)
    matrix = one.matrix(rng.standard_normal((one.n_kernels, one.length, *tail)))
    matrix = matrix + noise * rng.standard_normal(matrix.shape)
    return matrix[rng.permutation(matrix.shape[0])][:, rng.permutation(matrix.shape[1])]


def check(matrix: Array, one: ToeplitzBand, found: ToeplitzSeriation) -> None:
    """The orders are orders, the kernels are the averages, the error is the distance."""
    assert sorted(found.rows) == list(range(matrix.shape[0]))
    assert sorted(found.columns) == list(range(matrix.shape[1]))
    ordered = matrix[found.rows][:, found.columns]
    assert np.array_equal(found.kernels, one.projection(ordered))
    assert found.relative_error == one.relative_error(ordered, found.kernels)


@pytest.mark.parametrize("sizes", SHUFFLED)
def test_a_shuffled_toeplitz_matrix_is_recovered(sizes: tuple[int, int, int, int]) -> None:
    one = band(*sizes)
    matrix = shuffled(one)
    found = toeplitz_seriation(matrix, one)
    check(matrix, one, found)
    assert found.relative_error == 0  # equal entries have exactly their value as their mean


@pytest.mark.parametrize("sizes", [(64, 128, 2, 16), (12, 24, 3, 8), (64, 64, 4, 8)])
def test_recovery_is_no_luck(sizes: tuple[int, int, int, int]) -> None:
    one = band(*sizes)
    errors = [toeplitz_seriation(shuffled(one, seed), one).relative_error for seed in range(16)]
    assert errors == [0] * 16


@pytest.mark.parametrize("sizes", [(20, 20, 1, 5), (24, 24, 4, 12)])
def test_a_shuffled_toeplitz_matrix_of_arrays_is_recovered(sizes: tuple[int, int, int, int]) -> None:
    one = band(*sizes)
    matrix = shuffled(one, tail=(3, 2))
    found = toeplitz_seriation(matrix, one)
    check(matrix, one, found)
    assert found.relative_error == 0


@pytest.mark.parametrize("sizes", [(64, 64, 1, 9), (128, 128, 1, 15)])
def test_noise_is_seen_through(sizes: tuple[int, int, int, int]) -> None:
    one = band(*sizes)
    rng = np.random.default_rng(0)
    matrix = one.matrix(rng.standard_normal((one.n_kernels, one.length))) + 0.02 * rng.standard_normal(sizes[:2])
    true = one.relative_error(matrix, one.projection(matrix))
    found = toeplitz_seriation(matrix[rng.permutation(sizes[0])][:, rng.permutation(sizes[1])], one)
    assert found.relative_error <= true  # the best orders fit the noise as well


def test_no_order_of_columns_or_of_rows_is_better() -> None:
    one = ToeplitzBand(1, 6, 6, 3, low=1)
    matrix = np.random.default_rng(3).standard_normal((6, 6))
    found = toeplitz_seriation(matrix, one)
    check(matrix, one, found)
    toeplitz, ordered = one.matrix(found.kernels), matrix[found.rows][:, found.columns]
    # the search stops where a step gains less than 1e-12 of the energy
    reached = np.sum((toeplitz - ordered) ** 2) - 1e-12 * np.sum(matrix**2)
    for order in itertools.permutations(range(6)):
        assert np.sum((toeplitz - ordered[:, order]) ** 2) >= reached
        assert np.sum((toeplitz - ordered[list(order)]) ** 2) >= reached


def test_the_error_falls_with_more_search_and_from_the_order_as_it_is() -> None:
    one, totals = band(16, 16, 2, 8), np.zeros(3)
    for seed in range(6):
        matrix = np.random.default_rng(seed).standard_normal((16, 16))
        errors = [toeplitz_seriation(matrix, one, n_perturbations=n).relative_error for n in (0, 8, 64)]
        assert one.relative_error(matrix, one.projection(matrix)) > errors[0] >= errors[1] >= errors[2]
        totals += errors
    assert totals[0] > totals[2]


def test_the_same_seed_gives_the_same_on_any_number_of_threads() -> None:
    one = band(64, 64, 4, 12)
    matrix = np.random.default_rng(5).standard_normal((64, 64))
    before = str(np.random.get_state(legacy=False))  # noqa: NPY002 - it is the one that must not be touched
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            results.append(toeplitz_seriation(matrix, one, n_perturbations=4, rng=7))
    assert before == str(np.random.get_state(legacy=False))  # noqa: NPY002
    assert np.array_equal(results[0].rows, results[1].rows)
    assert np.array_equal(results[0].columns, results[1].columns)
    assert results[0].kernels.tobytes() == results[1].kernels.tobytes()


def test_edges() -> None:
    one = band(8, 8, 1, 3)
    found = toeplitz_seriation(np.zeros((8, 8)), one)
    assert (found.relative_error, found.rows.tolist()) == (0.0, list(range(8)))
    matrix = shuffled(one)
    huge = toeplitz_seriation(matrix * 2.0**900, one)
    assert np.array_equal(huge.kernels, toeplitz_seriation(matrix, one).kernels * 2.0**900)
    assert huge.relative_error == 0
    sparse = np.zeros((8, 8))
    sparse[2, 5] = 1.0  # all else is disconnected
    assert toeplitz_seriation(sparse, ToeplitzBand(1, 8, 8, 15, low=7)).relative_error == 0
    with pytest.raises(KernelError, match=r"matrix must have shape \(8, 8\)"):
        toeplitz_seriation(np.ones((8, 9)), one)
