"""Tests of the sorted singular triplets of slices: exact at the largest rank, and an error that is known beforehand."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest

from tensorconv.arrays import Array
from tensorconv.errors import RankError
from tensorconv.linalg import slice_svd, slice_values

U = 2.0**-53
SIZES = [
    (7, 5), (5, 7), (4, 4), (1, 6), (1, 1), (5, 4, 3), (3, 4, 5), (3, 5, 4), (4, 4, 4), (3, 3, 2), (2, 3, 3),
    (1, 5, 4), (5, 1, 4), (1, 1, 3), (6, 5, 3, 2), (2, 6, 3, 5), (3, 3, 3, 3), (1, 4, 1, 3), (4, 3, 3, 2, 2),
    (2, 1, 5, 1, 3),
]  # fmt: skip


def gaussian(sizes: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(sizes)


def largest(sizes: tuple[int, ...]) -> int:
    return math.prod(sizes) // max(sizes)


def summed(weights: Array, factors: list[Array]) -> Array:
    """Return the sum of the rank-one terms."""
    total = np.zeros([len(factor) for factor in factors])
    for r, weight in enumerate(weights):
        term = np.asarray(weight)
        for factor in factors:
            term = np.multiply.outer(term, factor[:, r])
        total += term
    return total


def values_by_loops(tensor: Array) -> Array:
    """Return the singular values of every slice along the two largest modes, the first of equal ones, falling."""
    a, b = sorted(sorted(range(tensor.ndim), key=lambda mode: (-tensor.shape[mode], mode))[:2])
    rest = [mode for mode in range(tensor.ndim) if mode not in (a, b)]
    found: list[float] = []
    for index in itertools.product(*(range(tensor.shape[mode]) for mode in rest)):
        where: list[int | slice] = [slice(None)] * tensor.ndim
        for mode, position in zip(rest, index, strict=True):
            where[mode] = position
        found += np.linalg.svd(tensor[tuple(where)], compute_uv=False).tolist()
    return np.array(sorted(found, reverse=True))


def roundings(sizes: tuple[int, ...]) -> float:
    """Return how far a sum of squares of singular values, as a share of all, may be off.

    A Gram matrix and its eigenvalues are known to the sum of sizes times u of the slice's energy.
    """
    return 8 * sum(sizes) * U


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_all_triplets_are_exact(sizes: tuple[int, ...]) -> None:
    tensor, most = gaussian(sizes), largest(sizes)
    weights, factors = slice_svd(tensor, most)
    assert weights.shape == (most,)
    # a slice is a matrix times its projector, in sums over the smaller side, twice
    bound = 4 * sum(sizes) * U * float(np.linalg.norm(tensor))
    assert np.linalg.norm(summed(weights, factors) - tensor) <= bound


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_error_of_every_rank_is_the_energy_of_the_other_values(sizes: tuple[int, ...]) -> None:
    tensor, values = gaussian(sizes), values_by_loops(gaussian(sizes))
    energy = float(np.sum(tensor**2))
    assert len(values) == largest(sizes)
    for rank in range(1, len(values) + 1):
        weights, factors = slice_svd(tensor, rank)
        left = float(np.sum((tensor - summed(weights, factors)) ** 2)) / energy
        assert left == pytest.approx(float(np.sum(values[rank:] ** 2)) / energy, abs=roundings(sizes))
        assert np.sum(weights**2) == pytest.approx(np.sum(values[:rank] ** 2), abs=roundings(sizes) * energy)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_values_are_those_of_the_slices(sizes: tuple[int, ...]) -> None:
    tensor = gaussian(sizes)
    values, expected = slice_values(tensor), values_by_loops(tensor)
    assert values.shape == (largest(sizes),)
    assert (np.diff(values) <= 0).all()
    assert np.abs(values**2 - expected**2).max() <= roundings(sizes) * float(np.sum(tensor**2))
    assert np.abs(slice_svd(tensor, len(values))[0] ** 2 - expected**2).max() <= roundings(sizes) * np.sum(tensor**2)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_terms_have_falling_weights_and_unit_columns(sizes: tuple[int, ...]) -> None:
    for rank in {1, (1 + largest(sizes)) // 2, largest(sizes)}:
        weights, factors = slice_svd(gaussian(sizes), rank)
        assert [factor.shape for factor in factors] == [(size, rank) for size in sizes]
        assert {part.dtype for part in (weights, *factors)} == {np.dtype("float64")}
        assert (np.diff(weights) <= 0).all()
        assert (weights > 0).all()
        for factor in factors:
            assert np.linalg.norm(factor, axis=0) == pytest.approx(1, rel=8 * sum(sizes) * U)


@pytest.mark.parametrize("sizes", [(5, 4, 3), (2, 6, 3, 5), (3, 3, 3, 3)])
def test_terms_of_different_slices_are_orthogonal_and_their_small_factors_say_which(sizes: tuple[int, ...]) -> None:
    tensor = gaussian(sizes)
    weights, factors = slice_svd(tensor, largest(sizes))
    wide = sorted(range(len(sizes)), key=lambda mode: (-sizes[mode], mode))[:2]
    for mode, factor in enumerate(factors):
        if mode not in wide:
            assert set(np.unique(factor)) == {0.0, 1.0}
            assert (factor.sum(axis=0) == 1).all()
    gram = np.prod([factor.T @ factor for factor in factors], axis=0)
    assert np.abs(gram - np.eye(len(weights))).max() <= 1e-10  # vectors of values that are not far below the largest
    inner = np.array([np.vdot(tensor, summed(np.ones(1), [f[:, [r]] for f in factors])) for r in range(len(weights))])
    assert inner == pytest.approx(weights, abs=roundings(sizes) * float(np.linalg.norm(tensor)))


@pytest.mark.parametrize("sizes", [(5, 4), (5, 4, 3), (6, 5, 3, 2)])
def test_no_rank_is_better_than_its_unfoldings_allow(sizes: tuple[int, ...]) -> None:
    tensor = gaussian(sizes)
    values = slice_values(tensor)
    for rank in range(1, largest(sizes) + 1):
        left = float(np.sum(values[rank:] ** 2))
        for mode in range(len(sizes)):  # a sum of R terms has unfoldings of rank R, whose best error is known
            unfolding = np.moveaxis(tensor, mode, 0).reshape(sizes[mode], -1)
            least = float(np.sum(np.linalg.svd(unfolding, compute_uv=False)[rank:] ** 2))
            assert left >= least - roundings(sizes) * float(np.sum(tensor**2))


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_a_matrix_gives_its_svd(rank: int) -> None:
    matrix = gaussian((7, 5))
    u, s, vh = np.linalg.svd(matrix, full_matrices=False)
    weights, (left, right) = slice_svd(matrix, rank)
    bound = 64 * sum(matrix.shape) * U * s[0] / np.abs(np.diff(s)).min()  # of vectors: by the gap of their values
    assert weights == pytest.approx(s[:rank], rel=64 * sum(matrix.shape) * U * s[0] / s[-1])
    assert np.abs((left * weights) @ right.T - (u[:, :rank] * s[:rank]) @ vh[:rank]).max() <= bound * s[0]


def test_slices_of_few_values_leave_the_rank_to_others() -> None:
    tensor = np.zeros((5, 4, 3))
    tensor[:, :, 0] = np.outer(np.arange(1.0, 6), np.arange(1.0, 5))  # one value
    tensor[:, :, 2] = gaussian((5, 4)) / 8
    weights, (a, b, c) = slice_svd(tensor, 5)
    assert c[:, 0].tolist() == [1, 0, 0]
    assert c[:, 1:].tolist() == [[0] * 4, [0] * 4, [1] * 4]
    assert np.abs(summed(weights, [a, b, c]) - tensor).max() <= 4 * 12 * U * float(np.linalg.norm(tensor))


@pytest.mark.parametrize("rank", [1, 12])
def test_a_zero_tensor_has_no_weights(rank: int) -> None:
    weights, factors = slice_svd(np.zeros((5, 4, 3)), rank)
    assert not weights.any()
    assert [factor.shape for factor in factors] == [(5, rank), (4, rank), (3, rank)]
    assert all(np.isfinite(factor).all() for factor in factors)
    assert not slice_values(np.zeros((5, 4, 3))).any()


@pytest.mark.parametrize("power", [-900, -20, 20, 900])
def test_the_unit_of_the_tensor_does_not_matter(power: int) -> None:
    tensor, unit = gaussian((5, 4, 3)), 2.0**power  # scaling by it is exact, its square may not be
    (weights, factors), (expected, others) = slice_svd(unit * tensor, 7), slice_svd(tensor, 7)
    assert weights / unit == pytest.approx(expected, rel=1e-13)
    assert slice_values(unit * tensor) / unit == pytest.approx(slice_values(tensor), rel=1e-12)
    for factor, other in zip(factors, others, strict=True):
        assert factor == pytest.approx(other, abs=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_narrow_tensors_are_computed_in_float64(dtype: str) -> None:
    tensor = gaussian((5, 4, 3)).astype(dtype)
    (weights, factors), (expected, others) = slice_svd(tensor, 7), slice_svd(tensor.astype(np.float64), 7)
    assert weights.tobytes() == expected.tobytes()
    assert [factor.tobytes() for factor in factors] == [other.tobytes() for other in others]
    assert slice_values(tensor).tobytes() == slice_values(tensor.astype(np.float64)).tobytes()


@pytest.mark.parametrize("sizes", [(5, 4), (2, 6, 3, 5), (3, 3, 3)])
@pytest.mark.parametrize("wrong", ["0", "-1", "one more"])
def test_ranks_out_of_range_are_refused(sizes: tuple[int, ...], wrong: str) -> None:
    most = largest(sizes)
    rank = most + 1 if wrong == "one more" else int(wrong)
    text = f"rank must be between 1 and {most} = prod{sizes} / max{sizes}, got {rank}"
    with pytest.raises(RankError, match=f"^{re.escape(text)}$"):
        slice_svd(gaussian(sizes), rank)


def test_the_input_is_left_alone_and_the_bits_are_repeated() -> None:
    tensor = gaussian((5, 4, 3))
    before = tensor.tobytes()
    tensor.flags.writeable = False
    (weights, factors), (again, others) = slice_svd(tensor, 5), slice_svd(tensor, 5)
    slice_values(tensor)
    assert tensor.tobytes() == before
    assert weights.tobytes() == again.tobytes()
    assert [factor.tobytes() for factor in factors] == [other.tobytes() for other in others]
