"""A choice within a budget of MACs that saves time, too."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from tensorconv.allocation import Option, allocate
from tensorconv.errors import RankError
from tensorconv.models.candidates import Candidate

if TYPE_CHECKING:
    from tensorconv.models.choosing import Curve

Picks = list[Candidate | None]
NEAR = 1.3  # times the least error at no more MACs: what is timed
SCALES = tuple(i / 10 for i in range(1, 11))  # shares of the time in a cost that mixes MACs and time
LIMITS = (1.0, 0.95, 0.9)  # of the mixed cost: a choice may meet the mixture and not its parts
PARTS = tuple(i / 20 for i in range(20, 12, -1))  # of the efficiency asked for
UNIT = 10**9


def quicker(curves: Sequence[Curve], picks: Picks, *, budget: float, efficiency: float) -> Picks:
    """Return a choice that takes no larger a share of the time than the budget allows of the MACs, but for a factor.

    Constraints on MACs and on time imply any mixture of the two. For several mixtures, and some that are tighter, the
    choice of least error is an integer program; of those choices that meet both, the one of least error is taken.
    Where none is as fast, a little less is asked for.

    Parameters
    ----------
    curves : sequence of Curve
        The convolutions with their candidates, if they have any; those near the least error are timed.
    picks : list of Candidate or None
        The choice of least error within the MACs, None for a layer as it is.
    budget : float
        Largest share of the MACs.
    efficiency : float
        The factor: least speed-up times the budget.

    Returns
    -------
    list of Candidate or None
        The new choice; the given one where it is fast enough, or where none is.
    """
    if not efficiency:
        return picks
    total, total_macs = sum(curve.seconds for curve in curves), sum(curve.before.macs for curve in curves)

    def shares(chosen: Picks) -> tuple[float, float]:
        """Return shares of the MACs and of the time."""
        both = list(zip(curves, chosen, strict=True))
        macs = sum((pick or curve.before).macs for curve, pick in both)
        time = sum(curve.seconds * _ratio(curve.current(pick) if pick else curve.before) for curve, pick in both)
        return macs / total_macs, time / total

    _, time = shares(picks) if total and total_macs else (1.0, 0.0)
    if time * efficiency <= budget:
        return picks
    for curve in curves:
        curve.time_front(NEAR)
    found = [picks]
    for scale, limit in itertools.product(SCALES, LIMITS):
        worth = (1 - scale) / (budget * total_macs), scale * efficiency / (budget * total)

        def mixed(macs: int, time: float, worth: tuple[float, float] = worth) -> int:
            return round(UNIT * (worth[0] * macs + worth[1] * time))

        options = [
            [
                Option(mixed(one.macs, curve.seconds * _ratio(one)), curve.weight * one.error**2, label)
                for label, one in [(None, curve.before), *((one, one) for one in curve.open if one.ratio)]
            ]
            for curve in curves
        ]
        with suppress(RankError):  # not even the cheapest
            chosen = allocate(options, round(limit * UNIT))
            found.append([row[i].label for row, i in zip(options, chosen, strict=True)])

    def error(chosen: Picks) -> float:
        return sum(curve.weight * pick.error**2 for curve, pick in zip(curves, chosen, strict=True) if pick)

    met = [(*shares(chosen), chosen) for chosen in found]
    for part in PARTS:
        fast = [chosen for macs, time, chosen in met if macs <= budget and time * part * efficiency <= budget]
        if fast:
            return min(fast, key=error)
    return picks


def _ratio(one: Candidate) -> float:
    return 1.0 if one.ratio is None else one.ratio[0]
