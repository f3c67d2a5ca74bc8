"""Tests of sparse and binary dictionaries: never above their starts, falling, exact where theory says so."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tensorconv.arrays import Array
from tensorconv.errors import KernelError, RankError
from tensorconv.linalg import Dictionary, binary_dictionary, sparse_dictionary

U = 2.0**-53
Fit = Callable[..., Dictionary]
# blocks, rows of each, width; atoms; entries per block
CASES = [
    ((8, 9, 6), 4, 12), ((8, 9, 6), 6, 20), ((8, 9, 6), 6, 1), ((8, 9, 6), 20, 40), ((8, 9, 6), 71, 30),
    ((5, 3, 40), 10, 8), ((5, 3, 40), 15, 4), ((1, 4, 6), 3, 5), ((7, 1, 5), 4, 2), ((6, 5, 1), 1, 2),
    ((6, 4, 1), 3, 5),
]  # fmt: skip
every_case = pytest.mark.parametrize(("sizes", "n_atoms", "n_nonzero"), CASES, ids=str)
both = pytest.mark.parametrize("fit", [sparse_dictionary, binary_dictionary])


def correlated(sizes: tuple[int, ...], seed: int = 0) -> Array:
    """Return blocks whose columns are of falling weight, in a basis of their own."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((sizes[2], sizes[2])))[0]
    return np.asarray(rng.standard_normal(sizes) * 0.8 ** np.arange(sizes[2]) @ basis)


def error_of(blocks: Array, coefficients: Array, atoms: Array) -> float:
    return float(np.linalg.norm(blocks - np.einsum("okt,ti->oki", coefficients, atoms)) / np.linalg.norm(blocks))


def slack(blocks: Array, n_atoms: int) -> float:
    """Return what sums over atoms and over all entries can change a relative error by, twice."""
    return 8 * (n_atoms + sum(blocks.shape)) * U


def thresholded(blocks: Array, n_atoms: int, n_nonzero: int) -> tuple[Array, Array]:
    """Return the truncated SVD with the largest coefficients of every block, entry by entry."""
    vh = np.linalg.svd(blocks.reshape(-1, blocks.shape[2]), full_matrices=False)[2][:n_atoms]
    coefficients = blocks @ vh.T
    for block in coefficients:
        flat = block.ravel()
        flat[np.argsort(np.abs(flat))[:-n_nonzero]] = 0
        block[:] = flat.reshape(block.shape)
    return coefficients, vh


@every_case
def test_sparse_is_never_above_the_thresholded_svd(sizes: tuple[int, ...], n_atoms: int, n_nonzero: int) -> None:
    blocks = correlated(sizes)
    found = sparse_dictionary(blocks, n_atoms, n_nonzero)
    assert found.errors[0] <= error_of(blocks, *thresholded(blocks, n_atoms, n_nonzero)) + slack(blocks, n_atoms)


@every_case
def test_binary_is_never_above_the_signs_of_the_thresholded_svd(
    sizes: tuple[int, ...], n_atoms: int, n_nonzero: int
) -> None:
    blocks = correlated(sizes)
    found = binary_dictionary(blocks, n_atoms, n_nonzero)
    coefficients, vh = thresholded(blocks, n_atoms, n_nonzero)
    if n_atoms <= len(vh):  # more atoms share the entries with the first ones
        signs = np.sign(coefficients)
        sums = signs @ vh
        scales = [np.vdot(s, block) / (np.vdot(s, s) or 1) for s, block in zip(sums, blocks, strict=True)]
        start = error_of(blocks, np.array(scales)[:, None, None] * signs, vh)
        assert found.errors[0] <= start + slack(blocks, n_atoms)


@both
@every_case
def test_errors_are_true_and_fall(fit: Fit, sizes: tuple[int, ...], n_atoms: int, n_nonzero: int) -> None:
    blocks = correlated(sizes)
    found = fit(blocks, n_atoms, n_nonzero)
    assert found.coefficients.shape == (*sizes[:2], n_atoms)
    assert found.atoms.shape == (n_atoms, sizes[2])
    assert np.all(np.diff(found.errors) < 0)
    assert found.errors[-1] == pytest.approx(
        error_of(blocks, found.coefficients, found.atoms), abs=slack(blocks, n_atoms)
    )
    assert np.count_nonzero(found.coefficients, axis=(1, 2)).max() <= n_nonzero
    if fit is binary_dictionary:
        for block in np.abs(found.coefficients):
            assert np.unique(block[block > 0]).size <= 1


@pytest.mark.parametrize("seed", range(4))
def test_turning_and_renewing_supports_find_what_thresholding_does_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    planted = np.where(rng.random((40, 9, 12)) < 0.15, rng.standard_normal((40, 9, 12)), 0)
    blocks = planted @ atoms
    n_nonzero = int(np.count_nonzero(planted, axis=(1, 2)).max())
    start = error_of(blocks, *thresholded(blocks, 12, n_nonzero))
    found = sparse_dictionary(blocks, 12, n_nonzero)
    assert start > 0.3
    assert found.errors[0] < start / 2  # turned
    assert found.errors[-1] < start / 6


@pytest.mark.parametrize("n_atoms", [1, 3, 6])
def test_all_entries_are_the_truncated_svd(n_atoms: int) -> None:
    blocks = correlated((8, 9, 6))
    values = np.linalg.svd(blocks.reshape(-1, 6), compute_uv=False)
    expected = math.sqrt(np.sum(values[n_atoms:] ** 2) / np.sum(values**2))
    found = sparse_dictionary(blocks, n_atoms, 9 * n_atoms)
    assert len(found.errors) == 1
    assert found.errors[0] == pytest.approx(expected, abs=slack(blocks, n_atoms))


@both
def test_as_many_atoms_as_rows_are_the_rows(fit: Fit) -> None:
    blocks = correlated((3, 4, 5))
    for n_nonzero in (4, 30):
        found = fit(blocks, 12, n_nonzero)
        assert found.errors == (0.0,)
        assert np.array_equal(found.coefficients @ found.atoms, blocks)
    assert fit(blocks, 12, 3).errors[-1] > 0.1


@both
def test_a_start_is_taken_where_it_is_better(fit: Fit) -> None:
    rng = np.random.default_rng(3)
    signs = np.where(rng.random((10, 9, 7)) < 0.2, np.sign(rng.standard_normal((10, 9, 7))), 0.0)
    signs *= rng.uniform(1, 3, (10, 1, 1))
    atoms = rng.standard_normal((7, 8))
    planted, n_nonzero = Dictionary(signs, atoms, ()), int(np.count_nonzero(signs, axis=(1, 2)).max())
    blocks = signs @ atoms
    assert fit(blocks, 7, n_nonzero).errors[0] > 0.1
    assert fit(blocks, 7, n_nonzero, start=planted).errors[-1] <= 1e-12  # solved by normal equations, from 0
    for size, entries in ((7, n_nonzero - 3), (5, n_nonzero), (9, n_nonzero)):  # fewer entries, fewer and more atoms
        found = fit(blocks, size, entries, start=planted)
        assert found.atoms.shape == (size, 8)
        assert np.count_nonzero(found.coefficients, axis=(1, 2)).max() <= entries
        assert found.errors[0] <= fit(blocks, size, entries).errors[0]
    zero = Dictionary(np.zeros((10, 9, 7)), np.zeros((7, 8)), ())
    assert fit(blocks, 7, n_nonzero, start=zero).errors == fit(blocks, 7, n_nonzero).errors


@both
def test_a_target_stops_the_sweeps(fit: Fit) -> None:
    blocks = correlated((12, 9, 8))
    errors = fit(blocks, 5, 15).errors
    assert len(errors) > 4
    assert fit(blocks, 5, 15, target=errors[2]).errors == errors[:3]
    assert fit(blocks, 5, 15, target=1.0).errors == errors[:1]


@both
@pytest.mark.parametrize("power", [-700, -20, 20, 700])
def test_the_unit_of_the_blocks_does_not_matter(fit: Fit, power: int) -> None:
    blocks, unit = correlated((6, 5, 4)), 2.0**power  # scaling by it is exact, its square may not be
    found, expected = fit(unit * blocks, 3, 6), fit(blocks, 3, 6)
    assert found.errors == pytest.approx(expected.errors, rel=1e-10)
    product = found.coefficients @ found.atoms / unit
    assert product == pytest.approx(expected.coefficients @ expected.atoms, abs=1e-10)


@both
def test_zeros_stay_zeros(fit: Fit) -> None:
    found = fit(np.zeros((4, 3, 5)), 7, 6)
    assert found.errors == (0.0,)
    assert not (found.coefficients @ found.atoms).any()
    blocks = correlated((4, 3, 5))
    blocks[0] = 0
    blocks[2] = blocks[1]
    for n_atoms in (2, 7):
        found = fit(blocks, n_atoms, 4)
        assert np.isfinite(found.coefficients).all()
        assert np.isfinite(found.atoms).all()
        assert not (found.coefficients[0] @ found.atoms).any()


@both
def test_the_input_is_left_alone_and_the_bits_are_repeated(fit: Fit) -> None:
    blocks = correlated((6, 5, 4))
    before = blocks.tobytes()
    blocks.flags.writeable = False
    found, again = fit(blocks, 6, 7), fit(blocks, 6, 7)
    assert blocks.tobytes() == before
    assert found.coefficients.tobytes() == again.coefficients.tobytes()
    assert found.atoms.tobytes() == again.atoms.tobytes()
    assert found.errors == again.errors


REFUSALS: list[tuple[Any, int, int, type[Exception], str]] = [
    (np.ones((3, 2, 4)), 0, 1, RankError, "n_atoms must be between 1 and 6 = O*K for these blocks, got 0"),
    (np.ones((3, 2, 4)), 7, 1, RankError, "n_atoms must be between 1 and 6 = O*K for these blocks, got 7"),
    (np.ones((3, 2, 4)), 5, 0, RankError, "n_nonzero must be between 1 and 10 = K*n_atoms for these blocks, got 0"),
    (np.ones((3, 2, 4)), 5, 11, RankError, "n_nonzero must be between 1 and 10 = K*n_atoms for these blocks, got 11"),
    (np.ones((3, 2)), 1, 1, KernelError, "blocks must be of shape (O, K, I) and not empty, got shape (3, 2)"),
    (np.ones((3, 0, 2)), 1, 1, KernelError, "blocks must be of shape (O, K, I) and not empty, got shape (3, 0, 2)"),
]


@both
@pytest.mark.parametrize(("blocks", "n_atoms", "n_nonzero", "error", "message"), REFUSALS, ids=str)
def test_refusals(fit: Fit, blocks: Array, n_atoms: int, n_nonzero: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        fit(blocks, n_atoms, n_nonzero)
