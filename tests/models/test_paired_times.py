"""Ratios of paired times: their intervals against the binomial law, and the order of the runs."""

from __future__ import annotations

import time
from math import comb

import numpy as np
import pytest

from tensorconv.errors import ModelError
from tensorconv.models.paired_times import Ratio, run_pairs, seconds_of


def test_the_interval_is_the_narrowest_that_holds_the_median_in_95_percent() -> None:
    for n in range(7, 60):
        ratio = Ratio.of([(1.0, float(i)) for i in range(1, n + 1)])
        j = int(ratio.low)
        assert ratio.high == n + 1 - j
        assert ratio.median == (n + 1) / 2
        outside = [2 * sum(comb(n, i) for i in range(k)) / 2**n for k in (j, j + 1)]
        assert outside[0] <= 0.05 < outside[1]


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    rng, n, trials = np.random.default_rng(5), 15, 2000
    drawn = np.exp(rng.standard_normal((trials, n)) * 3)  # skewed: the median is 1, the mean far away
    covered = sum(r.low <= 1 <= r.high for r in (Ratio.of([(1.0, float(x)) for x in row]) for row in drawn))
    truth = 1 - 2 * sum(comb(n, i) for i in range(4)) / 2**n  # the fourth of 15 from either end
    deviation = (truth * (1 - truth) / trials) ** 0.5
    assert abs(covered / trials - truth) < 4 * deviation


def test_one_slow_pair_moves_nothing() -> None:
    pairs = [(1.0, 0.5)] * 14
    assert Ratio.of([*pairs, (1.0, 1e6)]) == Ratio.of([*pairs, (1e6, 1.0)]) == Ratio(0.5, 0.5, 0.5)


def test_a_ratio_reads_as_an_interval() -> None:
    assert str(Ratio(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"


def test_too_few_pairs_have_no_interval() -> None:
    with pytest.raises(ModelError, match="pairs must be at least 7 for an interval of 95 %, got 6; time more"):
        Ratio.of([(1.0, 1.0)] * 6)


def test_the_order_changes_from_pair_to_pair() -> None:
    ran: list[str] = []
    pairs = run_pairs(lambda: ran.append("a"), lambda: ran.append("b"), 3, repeats=(1, 2))
    assert ran == ["a", "b", "b", "b", "b", "a", "a", "b", "b"]
    assert len(pairs) == 3


def test_times_stand_in_the_order_of_the_functions() -> None:
    for first, second in run_pairs(lambda: time.sleep(0.02), lambda: None, 4):
        assert first >= 0.02 > second


def test_repeats_are_timed_together() -> None:
    naps = iter((0.03, 0.0, 0.0))
    assert seconds_of(lambda: time.sleep(next(naps)), repeats=3) >= 0.01
    assert next(naps, None) is None
