"""Tests of the rank rules."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tensorconv import ranks
from tensorconv.arrays import Array
from tensorconv.errors import RankError
from tensorconv.linalg import singular_values

SPECTRUM = np.array([[4.0, 2.0, 1.0, 0.5]])  # energies 16, 4, 1, 0.25: 21.25 in all


@pytest.mark.parametrize(
    ("share", "rank"),
    [(0.01, 1), (16 / 21.25, 1), (0.76, 2), (20 / 21.25, 2), (0.95, 3), (21 / 21.25, 3), (0.99, 4), (1.0, 4)],
)
def test_energy_keeps_the_smallest_rank_of_its_share(share: float, rank: int) -> None:
    assert ranks.energy(share)([SPECTRUM], (4,)) == (rank,)


def test_energy_sums_over_slices_and_decides_every_rank_by_itself() -> None:
    # energies of the two slices together: 25, 5; then 1, 0: a share of 0.9 is 27 of 30, or all of 1
    spectra = [np.array([[4.0, 2.0], [3.0, 1.0]]), np.array([[1.0, 0.0]])]
    assert ranks.energy(0.9)(spectra, (2, 2)) == (2, 1)
    assert ranks.energy(25 / 30)(spectra, (2, 2)) == (1, 1)


def test_energy_stays_in_the_range_of_useful_ranks() -> None:
    assert ranks.energy(1.0)([SPECTRUM], (3,)) == (3,)
    assert ranks.energy(0.5)([np.zeros((1, 4))], (4,)) == (1,)
    # trailing zeros are kept by no share
    assert ranks.energy(1.0)([np.array([[3.0, 2.0, 0.0]])], (3,)) == (2,)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8), st.floats(0.001, 1))
@example([1.0] * 8, 0.5)
@example([1.0] * 8, 1.0)
def test_energy_bounds_the_error_of_an_svd(values: list[float], share: float) -> None:
    spectrum = np.sort(np.array([values]))[:, ::-1]
    (rank,) = ranks.energy(share)([spectrum], (len(values),))
    lost = np.sum(spectrum[:, rank:] ** 2) / np.sum(spectrum**2)
    assert lost <= (1 - share) + 1e-11  # sums of up to 8 squares, and the rule's own allowance of 1e-12
    if rank > 1:
        assert np.sum(spectrum[:, rank - 1 :] ** 2) / np.sum(spectrum**2) >= (1 - share) - 1e-11


@pytest.mark.parametrize("rule", [ranks.energy, ranks.mean_energy])
@pytest.mark.parametrize("share", [0, -0.1, 1.0001, math.nan])
def test_shares_out_of_range_are_refused(rule: Any, share: float) -> None:
    with pytest.raises(RankError, match=f"share must be above 0 and at most 1, got {share}; 0.95 keeps 95 %"):
        rule(share)


# energies 9, 4, 3 of 16 and 0.02, 0.01, 0.01 of 0.04: shares .5625, .8125, 1 and .5, .75, 1; means .53125, .78125, 1
SLICES = np.sqrt(np.array([[9.0, 4.0, 3.0], [0.02, 0.01, 0.01]]))


@pytest.mark.parametrize(("share", "rank"), [(0.01, 1), (0.53, 1), (0.54, 2), (0.78, 2), (0.79, 3), (1.0, 3)])
def test_mean_energy_counts_every_slice_alike(share: float, rank: int) -> None:
    assert ranks.mean_energy(share)([SLICES], (3,)) == (rank,)


def test_mean_energy_is_not_the_energy_of_all_slices() -> None:
    assert ranks.energy(0.8)([SLICES], (3,)) == (2,)  # 13.03 of 16.04
    assert ranks.mean_energy(0.8)([SLICES], (3,)) == (3,)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8), st.floats(0.001, 1))
def test_mean_energy_of_one_matrix_is_its_energy(values: list[float], share: float) -> None:
    spectrum = np.sort(np.array([values]))[:, ::-1]
    shares = np.cumsum(spectrum[0] ** 2) / np.sum(spectrum**2)
    if np.abs(shares - share).min() > 1e-11:  # sums of 8 squares, and the rules' own allowance of 1e-12
        assert ranks.mean_energy(share)([spectrum], (8,)) == ranks.energy(share)([spectrum], (8,))


def test_mean_energy_of_zeros_and_of_huge_slices() -> None:
    assert ranks.mean_energy(0.9)([np.zeros((2, 3))], (3,)) == (1,)
    # a slice of zeros loses nothing: at rank 1 the mean is (1 + 0.5) / 2
    spectra = [np.array([[0.0, 0.0], [1e200, 1e200]])]
    assert ranks.mean_energy(0.75)(spectra, (2,)) == (1,)
    assert ranks.mean_energy(0.76)(spectra, (2,)) == (2,)
    assert ranks.mean_energy(1.0)([SLICES, SLICES], (2, 1)) == (2, 1)


def test_exact_counts_what_is_not_zero_up_to_rounding() -> None:
    slices = np.array([[4.0, 3e-6, 0.0, 0.0], [2.0, 1.0, 5e-6, 3e-6]])
    assert ranks.exact()([slices, slices[:1]], (4, 4)) == (3, 1)  # above 4e-6
    assert ranks.exact(1e-7)([slices], (4,)) == (4,)
    assert ranks.exact(1e-7)([slices], (3,)) == (3,)
    assert ranks.exact(0)([slices[:1]], (4,)) == (2,)
    assert ranks.exact()([np.zeros((2, 3))], (3,)) == (1,)


@pytest.mark.parametrize("tolerance", [-1e-9, 1, math.nan])
def test_tolerances_out_of_range_are_refused(tolerance: float) -> None:
    with pytest.raises(RankError, match=f"^tolerance must be from 0 to below 1, got {tolerance}; 1e-6 is above"):
        ranks.exact(tolerance)


class Spectra(list[Any]):
    """Singular values, with the sides of the matrices that they are of."""

    def __init__(self, *matrices: Any) -> None:
        super().__init__(np.linalg.svd(stack, compute_uv=False) for stack in matrices)
        self.shapes = [stack.shape[1:] for stack in matrices]


def noisy(*shape: int, rank: int) -> Array:
    """Return a stack of matrices of this rank, plus noise."""
    rng = np.random.default_rng(rank)
    low_rank = rng.standard_normal((*shape[:-1], rank)) @ rng.standard_normal((shape[0], rank, shape[-1]))
    return low_rank + 0.1 * rng.standard_normal(shape)


def test_evbmf_takes_the_largest_rank_of_the_slices_in_every_unfolding() -> None:
    mixed = np.concatenate([noisy(1, 20, 30, rank=rank) for rank in (2, 5, 0)])
    spectra = Spectra(mixed, noisy(2, 40, 15, rank=3))
    assert ranks.evbmf()(spectra, (20, 15)) == (5, 3)
    assert ranks.evbmf()(spectra, (4, 15)) == (4, 3)
    assert ranks.multiple(8, of=ranks.evbmf())(spectra, (20, 15)) == (8, 8)


def test_evbmf_sees_through_the_rounding_of_gram_matrices() -> None:
    stack = noisy(3, 60, 400, rank=4)
    stack -= 0.1 * np.random.default_rng(4).standard_normal(stack.shape)  # not the same noise: no rank is lost
    exact = np.einsum("gik,gkj->gij", noisy(3, 60, 4, rank=4), noisy(3, 4, 400, rank=4))
    spectra = Spectra(stack, exact)
    spectra[1] = singular_values(exact)
    assert ranks.evbmf()(spectra, (60, 60)) == (4, 4)


def test_evbmf_says_that_there_is_only_noise() -> None:
    cure = "no singular value stands out from noise; give an integer rank, error=, budget= or the rule ranks.energy"
    with pytest.raises(RankError, match=rf"^evbmf finds rank 0, in the 20 x 30 unfolding: {cure}\(0.9\)$"):
        ranks.evbmf()(Spectra(noisy(2, 20, 30, rank=0)), (20,))
    two = Spectra(noisy(1, 20, 30, rank=2), noisy(1, 8, 9, rank=0))
    with pytest.raises(RankError, match=rf"^evbmf finds rank 0 for rank 2 of 2, in the 8 x 9 unfolding: {cure}"):
        ranks.evbmf()(two, (20, 8))
    assert ranks.evbmf()(two, (20, 1)) == (2, 1)  # where there is no choice, nothing is found


def test_evbmf_needs_the_sides_of_the_unfoldings() -> None:
    message = (
        r"^the rule ranks.evbmf\(\) needs spectra with an attribute shapes, the two sides of every unfolding, got "
        "list; give the rule to a factorization, or call tc.linalg.evbmf on a matrix$"
    )
    with pytest.raises(RankError, match=message):
        ranks.evbmf()([SPECTRUM], (4,))


@pytest.mark.parametrize(
    ("factor", "of", "maximum", "expected"),
    [
        (8, 5, (64,), (8,)),
        (8, 8, (64,), (8,)),
        (8, 9, (64, 64), (16, 16)),
        (8, 60, (62,), (62,)),  # the largest useful rank, though no multiple
        (8, (3, 17), (64, 20), (8, 20)),
        (1, (3, 17), (64, 20), (3, 17)),
        (16, np.array([1, 33]), (64, 64), (16, 48)),
        (4, ranks.energy(0.9), (4,), (4,)),
    ],
)
def test_multiples_are_rounded_up_to(factor: int, of: Any, maximum: ranks.Rank, expected: ranks.Rank) -> None:
    assert ranks.multiple(factor, of=of)([SPECTRUM] * len(maximum), maximum) == expected


@pytest.mark.parametrize("factor", [0, -8])
def test_factors_below_1_are_refused(factor: int) -> None:
    with pytest.raises(RankError, match=f"factor must be at least 1, got {factor}"):
        ranks.multiple(factor, of=4)


def test_a_wrong_rank_to_round_is_refused() -> None:
    with pytest.raises(RankError, match=r"rank must be an integer or 2 integers, got \(1, 2, 3\)"):
        ranks.multiple(8, of=(1, 2, 3))([SPECTRUM] * 2, (4, 4))


@pytest.mark.parametrize(
    ("rank", "maximum", "expected"),
    [
        (3, (5, 9), (3, 3)),
        (7, (5, 9), (5, 7)),  # one for all is capped where it is still useful somewhere
        (9, (5, 9), (5, 9)),
        (10, (5, 9), (10, 10)),  # and left as it is, to be refused, where it is useful nowhere
        (np.int64(2), (5, 9), (2, 2)),
        ((7, 1), (5, 9), (7, 1)),
        ([2, 3], (5, 9), (2, 3)),
        (np.array([2, 3]), (5, 9), (2, 3)),
    ],
)
def test_one_rank_is_spread_over_all(rank: Any, maximum: ranks.Rank, expected: ranks.Rank) -> None:
    found = ranks.spread(rank, maximum)
    assert found == expected
    assert all(type(r) is int for r in found)


@pytest.mark.parametrize("rank", [(1,), (1, 2, 3), [], 2.0, "4", "12", True, None, (1.5, 2), (1, None), np.array(3.0)])
def test_what_is_no_rank_is_refused(rank: Any) -> None:
    with pytest.raises(RankError, match="rank must be an integer or 2 integers, got "):
        ranks.spread(rank, (5, 9))


def test_tail_energy_is_what_every_truncation_loses() -> None:
    assert ranks.tail_energy(SPECTRUM).tolist() == [21.25, 5.25, 1.25, 0.25, 0.0]
    spectrum = np.random.default_rng(0).uniform(size=(3, 6))
    found = ranks.tail_energy(spectrum)
    for rank in range(7):
        assert found[rank] == pytest.approx(np.sum(spectrum[:, rank:] ** 2), rel=1e-14)
    assert (np.diff(found) <= 0).all()
