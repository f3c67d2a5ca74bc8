"""Tests of the searches for ranks, with attempts made up for them: right ranks, few attempts."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tensorconv import searches
from tensorconv.arrays import Array
from tensorconv.errors import RankError


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
    found = searches.first_meeting(attempts, error, predicted, maximum, noise=noise)
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
                assert searches.first_meeting(attempts, float(error), predicted, 30, noise=noise) == rank


def test_a_first_rank_far_above_the_prediction_is_still_found() -> None:
    predicted = falling(64)
    attempts = Attempts(lambda rank: 0.05 if rank >= 40 else 0.95)
    assert searches.first_meeting(attempts, 0.9, predicted, 64) == 40
    assert len(attempts.asked) <= 12  # up in steps that double, back by bisection


def test_an_error_that_the_largest_rank_misses_is_refused() -> None:
    text = r"error=0.001 cannot be met: the best attained is 0.01, at rank 8; ask for a larger error, or try another"
    with pytest.raises(RankError, match=text):
        searches.first_meeting(lambda _: 0.01, 0.001, falling(8), 8)
    with pytest.raises(RankError, match="error=0 cannot be met: the best attained is 3e-08, at rank 8"):
        searches.first_meeting(lambda _: 3e-8, 0.0, falling(8), 8)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300), st.booleans(), st.booleans())
def test_bisection_finds_a_rank_close_to_the_smallest(
    maximum: int, first: int, low: int, bounded: bool, precise: bool
) -> None:
    first = min(first, maximum)
    low = min(low, first)
    attempts = Attempts(lambda rank: 0.1 if rank >= first else 0.3)
    found = searches.bisect_meeting(attempts, 0.2, low, maximum, bounded=bounded, precise=precise)
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
        found = searches.bisect_meeting(attempts, 0.2, 1, maximum, bounded=bounded)
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
        searches.bisect_meeting(lambda rank: 0.25 + 0.01 * (50 - rank), 0.2, 3, 50, bounded=bounded)
    with pytest.raises(RankError, match=r"error=0.2 cannot be met: the best attained is 0.1, at rank 5"):
        searches.bisect_meeting(lambda _: 0.1, 0.2, 6, 5, bounded=bounded)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 400))
@example(1, 1, 1)
@example(400, 1, 400)
@example(400, 400, 1)
def test_the_smallest_rank_is_found_from_a_guess_on_either_side(maximum: int, first: int, guess: int) -> None:
    first, guess = min(first, maximum), min(guess, maximum)
    attempts = Attempts(lambda rank: 0.1 if rank >= first else 0.3)
    assert searches.nearest_meeting(attempts, 0.2, guess, maximum) == first
    assert all(1 <= rank <= maximum for rank in attempts.asked)
    assert len(attempts.asked) == len(set(attempts.asked))
    # steps double from an eighth of the guess on, and bisection halves the last: about twice the logarithm of the way
    assert len(attempts.asked) <= 4 + 2 * math.log2(1 + abs(first - guess) / max(1, guess // 8)) + math.log2(1 + guess)
    if first == guess:
        assert attempts.asked[:2] == [guess, *[guess - max(1, guess // 8)] * (guess > 1)]


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 60))
def test_a_guess_leads_to_a_rank_that_meets_the_error_whatever_the_attempts_say(meets: list[bool], guess: int) -> None:
    maximum = len(meets)
    attempts = Attempts(lambda rank: 0.1 if meets[rank - 1] else 0.3)
    found = 0
    with contextlib.suppress(RankError):
        found = searches.nearest_meeting(attempts, 0.2, min(guess, maximum), maximum)
    if not found:
        assert not meets[-1]
        assert maximum in attempts.asked
    else:
        assert meets[found - 1]
        assert found == [rank for rank in attempts.asked if meets[rank - 1]][-1]  # the latest, so it is still at hand
        assert found == 1 or not meets[found - 2]


@given(st.integers(0, 1000), st.integers(1, 1000))
@example(0, 1)
@example(1, 1)
def test_the_largest_affordable_rank_is_found_by_bisection(limit: int, maximum: int) -> None:
    asked: list[int] = []

    def affordable(rank: int) -> bool:
        asked.append(rank)
        return rank <= limit

    assert searches.largest_affordable(affordable, maximum) == min(limit, maximum)
    assert all(1 <= rank <= maximum for rank in asked)
    assert len(asked) <= math.ceil(math.log2(maximum + 1))
