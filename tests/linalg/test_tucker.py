"""Tests of the Tucker decompositions: errors by formula and by subtraction, and what HOOI gains."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorly

from tensorconv.arrays import Array
from tensorconv.errors import RankError
from tensorconv.linalg import hooi, hosvd, mode_product, multi_mode_product

U = 2.0**-53

CASES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((6, 5), (2, 2)),
    ((6, 5, 4), (3, 2, 2)),
    ((6, 5, 4), (6, 2, 1)),
    ((8, 7, 3, 3), (3, 4, 3, 3)),
    ((8, 7, 3, 3), (3, 4, 2, 1)),
    ((4, 1, 3, 2, 5), (2, 1, 2, 2, 3)),
    ((7,), (1,)),
]


def tensor(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def unfolding(array: Array, mode: int) -> Array:
    return np.moveaxis(array, mode, 0).reshape(array.shape[mode], -1)


def relative_error(array: Array, core: Array, factors: list[Array]) -> float:
    return float(np.linalg.norm(multi_mode_product(core, factors) - array) / np.linalg.norm(array))


def tail(array: Array, mode: int, rank: int) -> float:
    """Return the relative energy that the best projection of one mode must lose."""
    return float((np.linalg.svd(unfolding(array, mode), compute_uv=False)[rank:] ** 2).sum() / np.sum(array**2))


@pytest.mark.parametrize("decompose", [hosvd, hooi])
@pytest.mark.parametrize(("shape", "ranks"), CASES)
def test_factors_are_orthonormal_and_the_error_is_what_the_core_lacks(
    decompose: Callable[..., Any], shape: tuple[int, ...], ranks: tuple[int, ...]
) -> None:
    array = tensor(shape)
    core, factors = decompose(array, ranks)
    assert core.shape == ranks
    for factor, size, rank in zip(factors, shape, ranks, strict=True):
        assert factor.shape == (size, rank)
        assert np.abs(factor.T @ factor - np.eye(rank)).max() <= 1e-14 * size
    # the core is the projection of the tensor, so the error's square is what the core's norm lacks
    assert np.abs(core - multi_mode_product(array, [factor.T for factor in factors])).max() <= 1e-13
    lost = 1 - np.sum(core**2) / np.sum(array**2)
    error = relative_error(array, core, factors)
    assert error**2 == pytest.approx(lost, rel=1e-10, abs=1e-14)
    # no better than the best projection of any one mode, no worse than all of them together
    tails = [tail(array, mode, rank) for mode, rank in enumerate(ranks)]
    assert max(tails) * (1 - 1e-12) <= error**2 <= sum(tails) * (1 + 1e-12) + 1e-28  # (a few dozen u)^2


@pytest.mark.parametrize(("shape", "ranks"), CASES)
def test_sweeps_never_raise_the_error(shape: tuple[int, ...], ranks: tuple[int, ...]) -> None:
    array = tensor(shape, 1)
    errors = [relative_error(array, *hosvd(array, ranks))]
    errors += [relative_error(array, *hooi(array, ranks, n_iter=n)) for n in (0, 1, 2, 5)]
    assert errors[0] == errors[1]
    assert all(after <= before + 1e-14 for before, after in itertools.pairwise(errors))


def test_sweeps_gain_where_several_modes_are_truncated() -> None:
    array = tensor((8, 7, 6), 2)
    assert relative_error(array, *hooi(array, (2, 2, 2))) < relative_error(array, *hosvd(array, (2, 2, 2))) - 1e-3


def test_one_truncated_mode_is_the_truncated_svd() -> None:
    array = tensor((6, 5, 4))
    expected = math.sqrt(tail(array, 1, 2))
    for core, factors in (hosvd(array, (6, 2, 4)), hooi(array, (6, 2, 4))):
        assert relative_error(array, core, factors) == pytest.approx(expected, rel=1e-12)


def test_a_tensor_of_low_rank_is_found_exactly() -> None:
    array = multi_mode_product(tensor((2, 3, 2)), [tensor((n, r), n) for n, r in ((7, 2), (6, 3), (5, 2))])
    for decompose in (hosvd, hooi):
        assert relative_error(array, *decompose(array, (2, 3, 2))) <= 1e-14


def test_full_ranks_are_the_identity_without_a_copy() -> None:
    array = tensor((3, 4, 2))
    for core, factors in (hosvd(array, (3, 4, 2)), hooi(array, (3, 4, 2))):
        assert np.shares_memory(core, array)
        assert np.array_equal(core, array)
        assert all(np.array_equal(factor, np.eye(len(factor))) for factor in factors)


@pytest.mark.parametrize("shape", [(6, 5, 4), (4, 3, 3, 2), (5, 7)])
def test_a_rotated_core_is_all_orthogonal(shape: tuple[int, ...]) -> None:
    array = tensor(shape)
    ranks = tuple(min(n, math.prod(shape) // n) for n in shape)
    core, factors = hosvd(array, ranks, rotate=True)
    assert relative_error(array, core, factors) <= 1e-14
    for mode in range(array.ndim):
        gram = unfolding(core, mode) @ unfolding(core, mode).T
        assert np.abs(gram - np.diag(np.diag(gram))).max() <= 1e-13 * np.sum(array**2)
        assert (np.diff(np.diag(gram)) <= 0).all()
        values = np.linalg.svd(unfolding(array, mode), compute_uv=False)[: ranks[mode]]
        assert np.sqrt(np.diag(gram)) == pytest.approx(values, rel=1e-10)


def test_the_largest_entry_of_every_factor_column_is_positive() -> None:
    for _, factors in (hosvd(tensor((6, 5, 4)), (3, 2, 2)), hooi(tensor((6, 5, 4)), (3, 2, 2))):
        for factor in factors:
            assert (np.take_along_axis(factor, np.abs(factor).argmax(0)[None], 0) > 0).all()


def test_large_unfoldings_are_summed_in_parts() -> None:
    array = tensor((5, 6, 300, 50))  # 90,000 entries a slice of the first mode: a part holds fewer than all five
    core, factors = hosvd(array, (4, 2, 300, 50))
    assert core.shape == (4, 2, 300, 50)
    leading = np.linalg.svd(unfolding(array, 1), full_matrices=False)[0][:, :2]  # the mode that shrinks most is first
    assert np.linalg.norm(factors[1] @ factors[1].T - leading @ leading.T) <= 1e-12
    projected = mode_product(array, factors[1].T, 1)
    leading = np.linalg.svd(unfolding(projected, 0), full_matrices=False)[0][:, :4]
    assert np.linalg.norm(factors[0] @ factors[0].T - leading @ leading.T) <= 1e-12


def test_the_input_is_left_alone() -> None:
    array = tensor((6, 5, 4))
    before = array.tobytes()
    hosvd(array, (2, 2, 2))
    hosvd(array, (6, 5, 4), rotate=True)
    hooi(array, (2, 2, 2))
    assert array.tobytes() == before


def test_narrow_types_give_float64_factors_close_to_those_of_wide_ones() -> None:
    array = tensor((96, 80, 3)).astype("float32")
    for decompose in (hosvd, hooi):
        core, factors = decompose(array, (20, 10, 3))
        assert core.dtype == "float32"
        assert {factor.dtype for factor in factors} == {np.dtype("float64")}
        wide = decompose(array.astype("float64"), (20, 10, 3))
        # products are rounded to float32, each sum of at most 96 terms; sweeps stop at a relative change of 3e-5
        assert relative_error(array, core, factors) == pytest.approx(relative_error(array, *wide), rel=1e-4)
    for half in (array[:9, :8].astype("float16"), array[:9, :8].astype("float64")):
        assert hooi(half, (4, 3, 3))[0].dtype == "float64"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(96, 80, 3), (3, 70, 90), (80, 2, 100), (70, 80, 90)])
def test_iterated_modes_end_where_decomposed_ones_do(
    sizes: tuple[int, ...], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = tuple(min(n, 3 + n // 8) for n in sizes)
    array = multi_mode_product(tensor(ranks, 4), [tensor((n, r), n) for n, r in zip(sizes, ranks, strict=True)])
    array = (array / np.linalg.norm(array) + 0.5 * tensor(sizes, 5) / math.sqrt(math.prod(sizes))).astype(dtype)
    errors = []
    for largest in (32, 1000):  # the second decomposes every mode in every sweep
        monkeypatch.setattr(sys.modules["tensorconv.linalg.tucker"], "DECOMPOSED", largest)
        core, factors = hooi(array, ranks, n_iter=100, tol=1e-7)
        errors.append(relative_error(array, core, factors))
        for factor, rank in zip(factors, ranks, strict=True):
            # one pass of Cholesky QR in float64 squares the panel's condition, at most 1e4 here
            assert np.abs(factor.T @ factor - np.eye(rank)).max() <= (1e-12 if dtype == "float64" else 1e-8)
    assert errors[0] == pytest.approx(errors[1], rel=1e-5)


@pytest.mark.parametrize("power", [-100, -30, 30, 100])
def test_the_unit_of_float32_tensors_does_not_matter(power: int) -> None:
    array = tensor((80, 70, 3)).astype("float32")
    unit = np.float32(2.0**power)  # its square over- or underflows
    core, factors = hooi(unit * array, (9, 8, 3))
    error = relative_error(array, *hooi(array, (9, 8, 3)))
    assert relative_error(array.astype("float64"), core / float(unit), factors) == pytest.approx(error, rel=1e-4)


def test_panels_without_full_rank_still_give_a_basis() -> None:
    panel = np.outer(np.ones(9), np.arange(4.0))
    basis = sys.modules["tensorconv.linalg.tucker"]._orthonormal(panel, 2)
    assert np.abs(basis.T @ basis - np.eye(4)).max() <= 1e-14


@pytest.mark.parametrize("decompose", [hosvd, hooi])
@pytest.mark.parametrize("ranks", [(2, 2), (2, 2, 2, 2), (0, 2, 2), (2, 6, 2), (2, 2, -1)])
def test_wrong_ranks_are_refused(decompose: Callable[..., Any], ranks: tuple[int, ...]) -> None:
    text = rf"ranks must be one per mode, from 1 to its size in \(6, 5, 4\), got \({', '.join(map(str, ranks))}\)"
    with pytest.raises(RankError, match=text):
        decompose(tensor((6, 5, 4)), ranks)


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_a_mode_product_is_a_contraction_of_that_mode(mode: int) -> None:
    array = np.random.default_rng(0).integers(-9, 9, (3, 4, 2, 5)).astype(float)
    matrix = np.random.default_rng(1).integers(-9, 9, (6, array.shape[mode])).astype(float)
    expected = np.moveaxis(np.tensordot(matrix, array, axes=(1, mode)), 0, mode)
    assert np.array_equal(mode_product(array, matrix, mode), expected)  # integers: exact in any order


def test_products_in_all_modes_are_tensorlys_tucker_tensor() -> None:
    rng = np.random.default_rng(0)
    core = rng.integers(-9, 9, (2, 3, 1, 4)).astype(float)
    factors = [rng.integers(-9, 9, (n, r)).astype(float) for n, r in zip((5, 2, 3, 4), core.shape, strict=True)]
    product = multi_mode_product(core, factors)
    assert np.array_equal(product, tensorly.tucker_to_tensor((core, factors)))
    assert np.array_equal(product, np.einsum("abcd,ia,jb,kc,ld->ijkl", core, *factors))


@pytest.mark.parametrize("power", [-600, 600])
def test_the_unit_of_the_tensor_does_not_matter(power: int) -> None:
    array, unit = tensor((6, 5, 4)), 2.0**power  # scaling by it is exact; its square is beyond the range
    for decompose in (hosvd, hooi):
        core, factors = decompose(unit * array, (2, 2, 2))
        assert relative_error(array, core / unit, factors) == pytest.approx(
            relative_error(array, *decompose(array, (2, 2, 2))), rel=1e-12
        )
