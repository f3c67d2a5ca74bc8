"""Tests of the truncated SVD against LAPACK's: stacks of any shape, rank and conditioning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg

from tensorconv.arrays import Array
from tensorconv.errors import RankError
from tensorconv.linalg import balanced_svd, singular_values, truncated_svd
from tensorconv.linalg.svd import leading_eigenvectors

U = 2.0**-53

# square, wide, tall, stacks, one row, one column; the small side beyond 64 takes the matrices one by one
SHAPES: list[tuple[int, ...]] = [
    (5, 5), (4, 9), (9, 4), (3, 6, 4), (2, 3, 4, 7), (1, 6), (6, 1), (1, 1), (3, 1, 1), (70, 80), (90, 66), (2, 65, 70),
]  # fmt: skip


def matrices(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def with_singular_values(values: list[float], shape: tuple[int, int], seed: int = 0) -> Array:
    """Return a matrix of these singular values and random singular vectors."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.standard_normal((n, len(values))))[0] for n in shape)
    matrix: Array = (u * values) @ v.T
    return matrix


def product(u: Array, s: Array, vh: Array) -> Array:
    found: Array = u @ (s[..., None] * vh)
    return found


def assert_orthonormal(columns: Array, tolerance: float) -> None:
    gram = np.swapaxes(columns, -1, -2) @ columns
    assert np.abs(gram - np.eye(columns.shape[-1])).max() <= tolerance


def norm(array: Array) -> Any:
    return np.linalg.norm(array, axis=(-2, -1))


def test_a_stack_in_parts_is_the_stack_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # parts of 1 to 3 matrices; some are well conditioned, one is zero, one of rank one, and the last one is tiny
    stack = matrices((7, 4, 6))
    stack[2], stack[4], stack[6] = 0, np.outer(stack[4, :, 0], stack[4, 0]), 1e-100 * stack[6]
    whole = truncated_svd(stack, 3, refine=False)
    for entries in (1, 48, 80):
        monkeypatch.setattr("tensorconv.linalg.svd.PART", entries)
        for given in (stack, np.swapaxes(stack, 1, 2)):
            u, s, vh = truncated_svd(given, 3, refine=False)
            assert s == pytest.approx(whole[1], rel=1e-12, abs=1e-7 * s[4, 0])  # s[4, 1:] are rounding of a square
            expected = product(*whole) if given is stack else np.swapaxes(product(*whole), 1, 2)
            scales = np.maximum(norm(expected)[:, None, None], 1e-300)
            assert np.abs((product(u, s, vh) - expected) / scales).max() <= 1e-13


@pytest.mark.parametrize("shape", SHAPES)
def test_all_triplets_are_lapacks(shape: tuple[int, ...]) -> None:
    a = matrices(shape)
    before = a.tobytes()
    u, s, vh = truncated_svd(a)
    n = min(shape[-2:])
    assert (u.shape, s.shape, vh.shape) == ((*shape[:-1], n), (*shape[:-2], n), (*shape[:-2], n, shape[-1]))
    expected = np.linalg.svd(a, compute_uv=False)
    # each method's backward error: a small multiple of the size times u, relative to the largest singular value; a
    # value s from the Gram matrix is blurred by a further s_max / s
    tolerance = 8 * max(shape[-2:]) * U * expected.max(-1, keepdims=True)
    assert (np.abs(s - expected) <= tolerance).all()
    assert (np.diff(s, axis=-1) <= 0).all()
    assert (norm(product(u, s, vh) - a) <= 8 * max(shape[-2:]) * U * norm(a)).all()
    share = float((expected / expected.max(-1, keepdims=True)).min())
    assert_orthonormal(u, 8 * max(shape[-2:]) * U / share)
    assert_orthonormal(np.swapaxes(vh, -1, -2), 8 * max(shape[-2:]) * U / share)
    assert a.tobytes() == before


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (4, 7, 5), (70, 75)])
@pytest.mark.parametrize("refine", [False, True])
def test_truncation_is_the_best_of_its_rank(shape: tuple[int, ...], refine: bool) -> None:
    a = matrices(shape)
    values = np.linalg.svd(a, compute_uv=False)
    for rank in (1, 3, min(shape[-2:]) - 1):
        u, s, vh = truncated_svd(a, rank, refine=refine)
        assert (u.shape[-1], s.shape[-1], vh.shape[-2]) == (rank,) * 3
        tail = np.sqrt((values[..., rank:] ** 2).sum(-1))  # Eckart and Young
        assert norm(product(u, s, vh) - a) == pytest.approx(tail, rel=1e-12)


@pytest.mark.parametrize("shape", [(7, 12), (12, 7), (70, 100)])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_rank_deficient_matrices(shape: tuple[int, int], rank: int) -> None:
    a = matrices((shape[0], 3)) @ matrices((3, shape[1]), 1)
    u, s, vh = truncated_svd(a, rank)
    assert_orthonormal(u, 1e-13)
    assert_orthonormal(vh.T, 1e-13)
    expected = np.linalg.svd(a, compute_uv=False)[:rank]
    assert np.abs(s - expected).max() <= 16 * max(shape) * U * expected[0]
    if rank >= 3:
        assert norm(product(u, s, vh) - a) <= 16 * max(shape) * U * norm(a)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (3, 4, 6), (66, 70)])
@pytest.mark.parametrize("refine", [False, True])
def test_zero_matrices(shape: tuple[int, ...], refine: bool) -> None:
    u, s, vh = truncated_svd(np.zeros(shape), 2, refine=refine)
    assert not s.any()
    assert not product(u, s, vh).any()
    if refine:
        assert_orthonormal(u, 1e-14)
        assert_orthonormal(np.swapaxes(vh, -1, -2), 1e-14)


GRADED = [1.0, 1e-3, 1e-6, 1e-8, 1e-10]


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (80, 90)])
def test_refinement_resolves_what_the_gram_matrix_blurs(shape: tuple[int, int]) -> None:
    a = with_singular_values(GRADED, shape)
    u, s, vh = truncated_svd(a, 5)
    assert np.abs(s - GRADED).max() <= 16 * max(shape) * U
    assert_orthonormal(u, 1e-13)
    assert_orthonormal(vh.T, 1e-13)
    # the last vector is known to about u / 1e-10, which the Gram matrix, whose last eigenvalue is 1e-20, cannot tell
    expected = np.linalg.svd(a)[2][4]
    assert abs(abs(vh[4] @ expected) - 1) <= 1e-10


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (80, 90)])
def test_without_refinement_the_product_is_still_exact_at_full_rank(shape: tuple[int, int]) -> None:
    values = GRADED if max(shape) < 10 else [10.0 ** (-10 * i / 79) for i in range(80)]
    a = with_singular_values(values, shape)
    u, s, vh = truncated_svd(a, refine=False)
    assert norm(product(u, s, vh) - a) <= 16 * max(shape) * U * norm(a)
    side = u if shape[0] < shape[1] else vh.T  # the eigenvectors of the small side's Gram matrix
    assert_orthonormal(side, 1e-13)


def test_a_stack_is_refined_where_it_must_be_and_is_its_matrices_one_by_one() -> None:
    stack = np.stack([with_singular_values(GRADED, (5, 8)), matrices((5, 8)), np.zeros((5, 8)), matrices((5, 8), 1)])
    together = truncated_svd(stack, 5)
    for i, a in enumerate(stack):
        for of_stack, alone in zip(together, truncated_svd(a, 5), strict=True):
            assert np.abs(of_stack[i] - alone).max() <= 1e-12
    assert_orthonormal(np.swapaxes(together[2], -1, -2), 1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_largest_entry_of_every_vector_of_the_smaller_side_is_positive(shape: tuple[int, ...]) -> None:
    def of_smaller_side(a: Array) -> Array:
        u, _, vh = truncated_svd(a)
        return u if shape[-2] <= shape[-1] else np.swapaxes(vh, -1, -2)

    a = matrices(shape, 5)
    vectors = of_smaller_side(a)
    peaks = np.take_along_axis(vectors, np.abs(vectors).argmax(-2)[..., None, :], axis=-2)
    assert (peaks > 0).all()
    # so the vectors of a and -a are the same on that side
    assert np.abs(of_smaller_side(-a) - vectors).max() <= 1e-12


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (4, 7, 5), (3, 70, 75)])
@pytest.mark.parametrize("refine", [False, True])
def test_balanced_factors_share_the_singular_values(shape: tuple[int, ...], refine: bool) -> None:
    a = matrices(shape)
    for rank in (1, 3, min(shape[-2:])):
        left, right = balanced_svd(a, rank, refine=refine)
        u, s, vh = truncated_svd(a, rank)
        assert norm(left @ right - product(u, s, vh)) == pytest.approx(0, abs=1e-12)
        for squares in ((left**2).sum(-2), (right**2).sum(-1)):
            assert squares == pytest.approx(s, rel=1e-9)


@pytest.mark.parametrize("rank", [0, -1, 4])
def test_ranks_out_of_range_are_refused(rank: int) -> None:
    with pytest.raises(RankError, match=rf"rank must be between 1 and 3 = min\(5, 3\), got {rank}"):
        truncated_svd(np.ones((2, 5, 3)), rank)


def test_narrow_types_are_computed_in_float64() -> None:
    a = matrices((4, 6)).astype("float32")
    for found, expected in zip(truncated_svd(a, 2), truncated_svd(a.astype("float64"), 2), strict=True):
        assert found.dtype == np.float64
        assert found.tobytes() == expected.tobytes()


def test_the_memory_order_changes_nothing_but_roundings() -> None:
    a = matrices((3, 5, 7))
    turned: Any = np.asfortranarray(a)
    for found, expected in zip(truncated_svd(turned), truncated_svd(a), strict=True):
        assert np.abs(found - expected).max() <= 1e-13


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_are_lapacks(shape: tuple[int, ...]) -> None:
    a = matrices(shape)
    expected = np.linalg.svd(a, compute_uv=False)
    found = singular_values(a)
    assert found.shape == expected.shape
    # squares are known to the largest square times a small multiple of u
    largest = expected.max(-1, keepdims=True)
    assert (np.abs(found**2 - expected**2) <= 8 * max(shape[-2:]) * U * largest**2).all()


def test_singular_values_below_the_noise_are_small_and_not_negative() -> None:
    found = singular_values(with_singular_values(GRADED, (5, 8)))
    assert found[:3] == pytest.approx(GRADED[:3], rel=1e-3)
    assert (found[3:] >= 0).all()
    assert (found[3:] <= 1e-7).all()
    assert not singular_values(np.zeros((3, 4, 5))).any()


@pytest.mark.parametrize("power", [-600, 600])
def test_the_unit_of_the_matrix_does_not_matter(power: int) -> None:
    unit = 2.0**power  # scaling by it is exact; its square is beyond the range
    a = matrices((4, 6))
    u, s, vh = truncated_svd(unit * a, 2)
    expected = truncated_svd(a, 2)
    assert s / unit == pytest.approx(expected[1], rel=1e-13)
    assert norm(product(u, s / unit, vh) - product(*expected)) <= 1e-12
    assert singular_values(unit * a) / unit == pytest.approx(singular_values(a), rel=1e-6)


def decaying(n: int, seed: int = 0) -> Array:
    """Return a symmetric matrix whose eigenvalues fall slowly, as those of trained kernels do."""
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    found: Array = (basis / (1 + np.arange(n))) @ basis.T
    return found


REPEATED = np.linalg.qr(np.random.default_rng(1).standard_normal((600, 600)))[0]


@pytest.mark.parametrize(
    "gram",
    [
        decaying(600),
        decaying(600) @ decaying(600),
        (REPEATED * np.where(np.arange(600) < 12, 2.0, 1.0)) @ REPEATED.T,  # eigenvalues that are twelve times there
        np.diag(np.where(np.arange(600) < 3, 1.0, 0.0)),  # fewer than are asked for
        np.zeros((600, 600)),
        np.eye(600),
    ],
    ids=["slow", "fast", "repeated", "deficient", "zero", "identity"],
)
@pytest.mark.parametrize("rank", [1, 5, 18])
def test_few_eigenvectors_of_large_matrices_are_as_good_as_lapacks(gram: Array, rank: int) -> None:
    vectors = leading_eigenvectors(gram.copy(), rank)
    assert_orthonormal(vectors, 1e-12)
    values = np.linalg.eigvalsh(gram)[::-1]
    captured = np.einsum("nr,nm,mr->", vectors, gram, vectors)
    # at most the settled share of what is left out, for every block that was not added, and rounding
    assert values[:rank].sum() - captured <= 1e-8 * values[rank:].sum() + 600 * U * values.sum()
    assert vectors.tobytes() == leading_eigenvectors(gram.copy(), rank).tobytes()


def test_a_large_matrix_of_low_rank_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: Any, **rest: Any) -> Any:
        raise NotImplementedError

    monkeypatch.setattr(scipy.linalg, "eigh", refused)
    leading_eigenvectors(decaying(600), 18)
    with pytest.raises(NotImplementedError):
        leading_eigenvectors(decaying(600), 19)
