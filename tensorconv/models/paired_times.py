"""Times of two things run in pairs, and their ratio with an interval that assumes no distribution."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tensorconv.errors import ModelError

FEWEST_PAIRS = 7  # the least odd number whose order statistics enclose the median in 95 % of all cases


@dataclass(frozen=True)
class Ratio:
    """How long one thing takes over how long another takes, from paired runs.

    Parameters
    ----------
    median : float
        Median of the pairs' ratios; below 1 where the second is faster.
    low, high : float
        Ends of an interval that holds the true median in at least 95 % of all cases, whatever the distribution.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> Ratio:
        """Return the ratio of paired times, with the interval between two order statistics.

        The number of n ratios below the true median is binomial (n, 1/2); the j-th smallest and the j-th largest, for
        the largest j with ``P(Bin(n, 1/2) < j) <= 0.025``, enclose it (David and Nagaraja, "Order Statistics", 2003,
        section 7.1).

        Parameters
        ----------
        pairs : sequence of (float, float)
            Seconds of the first and of the second, run one right after the other.

        Returns
        -------
        Ratio
            Second over first.

        Raises
        ------
        ModelError
            If there are fewer than 7 pairs.
        """
        n = len(pairs)
        if n < FEWEST_PAIRS:
            raise ModelError(f"pairs must be at least {FEWEST_PAIRS} for an interval of 95 %, got {n}; time more")
        ratios = sorted(second / first for first, second in pairs)
        j, tail = 0, 2.0**-n
        while tail <= 0.025:  # P(Bin < j + 1)
            j += 1
            tail += math.comb(n, j) * 2.0**-n
        return cls(statistics.median(ratios), ratios[j - 1], ratios[n - j])

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def run_pairs(
    first: Callable[[], Any], second: Callable[[], Any], n_pairs: int, repeats: tuple[int, int] = (1, 1)
) -> list[tuple[float, float]]:
    """Time two functions in pairs, one right after the other, the order changing from pair to pair.

    Parameters
    ----------
    first, second : callable
        What to run.
    n_pairs : int
        How often.
    repeats : (int, int)
        How many runs of each make one time, for runs too short to be timed alone.

    Returns
    -------
    list of (float, float)
        Seconds per run of the first and of the second.
    """
    pairs = []
    for i in range(n_pairs):
        if i % 2:
            after = seconds_of(second, repeats[1])
            pairs.append((seconds_of(first, repeats[0]), after))
        else:
            before = seconds_of(first, repeats[0])
            pairs.append((before, seconds_of(second, repeats[1])))
    return pairs


def seconds_of(run: Callable[[], Any], repeats: int = 1) -> float:
    """Return how long a function takes.

    Parameters
    ----------
    run : callable
        What to run.
    repeats : int
        How many runs to time together.

    Returns
    -------
    float
        Seconds per run.
    """
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats
