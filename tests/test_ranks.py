"""Tests of the rank rules, and of the searches with attempts made up for them: right ranks, few attempts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tensorconv import ranks
from tensorconv.arrays import Array
from tensorconv.errors import RankError

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


@pytest.mark.parametrize("share", [0, -0.1, 1.0001, math.nan])
def test_shares_out_of_range_are_refused(share: float) -> None:
    with pytest.raises(RankError, match=f"share must be above 0 and at most 1, got {share}; 0.95 keeps 95 %"):
        ranks.energy(share)


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


class Attempts:
    """A made-up error per rank that remembers where it was asked."""

    def __init__(self, error_at: Callable[[int], float]) -> None:
        self.error_at = error_at
        self.asked: list[int] = []

    def __call__(self, rank: int) -> float:
        self.asked.append(rank)
        return self.error_at(rank)


def falling(maximum: int) -> Array:
    """Return errors that fall from 1 at rank 0 to 0 at the largest rank."""
    return np.sqrt(1 - np.arange(maximum + 1) / maximum)


def smallest(errors: Array, error: float) -> int:
    return next(rank for rank in range(1, len(errors)) if errors[rank] <= error)


@given(st.integers(1, 200), st.floats(0, 1), st.sampled_from([0.0, 1e-12, 1e-6, 1e-3, 0.05]), st.integers(0, 99))
@example(200, 0.0, 0.0, 0)
@example(1, 1.0, 0.0, 0)
def test_the_first_rank_that_meets_the_error_is_found(maximum: int, error: float, noise: float, seed: int) -> None:
    predicted = falling(maximum)
    true = predicted + np.random.default_rng(seed).uniform(-0.9, 0.9, maximum + 1) * noise
    true[-1] = 0  # so that every error can be met
    attempts = Attempts(lambda rank: float(true[rank]))
    found = ranks.first_meeting(attempts, error, predicted, maximum, noise=noise)
    assert true[found] <= error
    assert found == 1 or true[found - 1] > error
    assert len(attempts.asked) <= 40
    if noise <= 1e-3:  # then the noise is below the steps of the prediction, and the true errors fall as well
        assert found == smallest(true, error)
    if noise == 0:
        assert attempts.asked == [found]


def test_every_rank_of_a_spectrum_is_found_at_its_own_error() -> None:
    predicted = falling(30)
    for rank in range(1, 31):
        for error in (predicted[rank], predicted[rank] * (1 + 1e-10), predicted[rank] * (1 + 1e-5)):
            attempts = Attempts(lambda r: float(predicted[r]))
            for noise in (0.0, 1e-9, 1e-4):
                assert ranks.first_meeting(attempts, float(error), predicted, 30, noise=noise) == rank


def test_a_first_rank_far_above_the_prediction_is_still_found() -> None:
    predicted = falling(64)
    attempts = Attempts(lambda rank: 0.05 if rank >= 40 else 0.95)
    assert ranks.first_meeting(attempts, 0.9, predicted, 64) == 40
    assert len(attempts.asked) <= 12  # up in steps that double, back by bisection


def test_an_error_that_the_largest_rank_misses_is_refused() -> None:
    text = r"error=0.001 cannot be met: the best attained is 0.01, at rank 8; ask for a larger error, or try another"
    with pytest.raises(RankError, match=text):
        ranks.first_meeting(lambda _: 0.01, 0.001, falling(8), 8)
    with pytest.raises(RankError, match="error=0 cannot be met: the best attained is 3e-08, at rank 8"):
        ranks.first_meeting(lambda _: 3e-8, 0.0, falling(8), 8)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300), st.booleans(), st.booleans())
def test_bisection_finds_a_rank_close_to_the_smallest(
    maximum: int, first: int, low: int, bounded: bool, precise: bool
) -> None:
    first = min(first, maximum)
    low = min(low, first)
    attempts = Attempts(lambda rank: 0.1 if rank >= first else 0.3)
    found = ranks.bisect_meeting(attempts, 0.2, low, maximum, bounded=bounded, precise=precise)
    assert first <= found <= maximum
    assert found - first <= (0 if precise else found // 32)  # about 3 %, and nothing below rank 32
    assert all(low <= rank <= maximum for rank in attempts.asked)
    assert len(attempts.asked) <= 26
    if bounded:
        assert attempts.asked[0] == maximum


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.booleans())
def test_bisection_returns_a_rank_that_meets_the_error_whatever_the_attempts_say(
    meets: list[bool], bounded: bool
) -> None:
    errors = [0.1 if good else 0.3 for good in meets]
    maximum = len(errors)
    attempts = Attempts(lambda rank: errors[rank - 1])
    try:
        found = ranks.bisect_meeting(attempts, 0.2, 1, maximum, bounded=bounded)
    except RankError:
        assert not meets[-1]  # refused only after the largest rank was seen to fail
        assert attempts.asked.count(maximum) >= 1
    else:
        assert meets[found - 1]
        assert found in attempts.asked


@pytest.mark.parametrize("bounded", [False, True])
def test_a_bisection_that_cannot_succeed_is_refused(bounded: bool) -> None:
    text = "error=0.2 cannot be met: the best attained is 0.25, at rank 50; ask for a larger error"
    with pytest.raises(RankError, match=text):
        ranks.bisect_meeting(lambda rank: 0.25 + 0.01 * (50 - rank), 0.2, 3, 50, bounded=bounded)
    with pytest.raises(RankError, match=r"error=0.2 cannot be met: the best attained is 0.1, at rank 5"):
        ranks.bisect_meeting(lambda _: 0.1, 0.2, 6, 5, bounded=bounded)


@given(st.integers(0, 1000), st.integers(1, 1000))
@example(0, 1)
@example(1, 1)
def test_the_largest_affordable_rank_is_found_by_bisection(limit: int, maximum: int) -> None:
    asked: list[int] = []

    def affordable(rank: int) -> bool:
        asked.append(rank)
        return rank <= limit

    assert ranks.largest_affordable(affordable, maximum) == min(limit, maximum)
    assert all(1 <= rank <= maximum for rank in asked)
    assert len(asked) <= math.ceil(math.log2(maximum + 1))
