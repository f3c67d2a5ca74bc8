"""Choosing: one candidate per convolution of a network, within a budget, and only what is measured to be faster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from typing import Protocol

from tensorconv.allocation import Option, allocate
from tensorconv.errors import ModelError, RankError
from tensorconv.layers import ConvLayer, ConvSequence
from tensorconv.models.candidates import Candidate, cost, dense
from tensorconv.models.network import Site
from tensorconv.models.paired_times import Ratio
from tensorconv.models.plan import PlannedLayer
from tensorconv.models.quicker import quicker
from tensorconv.models.settings import Settings


class Clock(Protocol):
    """Measures what a sequence takes beside the layer it replaces."""

    def ratio(self, layer: ConvLayer, sequence: ConvSequence, input_size: Sequence[int]) -> Ratio:
        """Return the time of a sequence over that of the layer it replaces.

        Parameters
        ----------
        layer : ConvLayer
            What is replaced.
        sequence : ConvSequence
            What replaces it.
        input_size : sequence of int
            Spatial size of the input.

        Returns
        -------
        Ratio
            Below 1 where the sequence is faster.
        """

    def seconds(self, layer: ConvLayer, input_size: Sequence[int]) -> float:
        """Return the time of a layer.

        Parameters
        ----------
        layer : ConvLayer
            The layer.
        input_size : sequence of int
            Spatial size of the input.

        Returns
        -------
        float
            Seconds.
        """


class Curve:
    """The candidates of one convolution that are still in question.

    Parameters
    ----------
    site : Site
        The convolution.
    found : sequence of Candidate
        Its candidates.
    weight : float
        How much its squared error counts.
    settings : Settings
        What was asked.
    clock : Clock
        What measures them.
    """

    def __init__(
        self, site: Site, found: Sequence[Candidate], weight: float, settings: Settings, clock: Clock | None
    ) -> None:
        self.site, self.settings, self.clock, self.weight = site, settings, clock, weight
        self.before = dense(site)
        self.found = tuple(found)
        self.open = [one for one in found if settings.error is None or one.error <= settings.error]
        self.reason = "nothing cheaper was found" if not found else "nothing cheaper meets the error"
        self.slow: list[Candidate] = []
        if settings.of == "latency" and clock is not None:
            if not settings.faster:
                self.open = [self.timed(one) for one in self.open]
            for one in tuple(self.open):
                if settings.faster and one in self.open:
                    self.is_slow(one)

    @cached_property
    def seconds(self) -> float:
        """Time of the layer as it is, at all its uses; 0 without a clock."""
        if self.clock is None:
            return 0.0
        return sum(self.clock.seconds(self.site.layer, size) for size in self.site.input_sizes)

    def timed(self, one: Candidate) -> Candidate:
        """Return a candidate with its measured time.

        Parameters
        ----------
        one : Candidate
            The candidate.

        Returns
        -------
        Candidate
            The same, timed if there is a clock.
        """
        if one.ratio is not None or self.clock is None:
            return one
        sequence = one.sequence(self.site.layer, self.settings.seed)
        found = self.clock.ratio(self.site.layer, sequence, self.site.input_sizes[0])
        return replace(one, ratio=(found.median, found.low, found.high))

    def cost(self, one: Candidate) -> int:
        """Return what counts of a candidate.

        Parameters
        ----------
        one : Candidate
            The candidate.

        Returns
        -------
        int
            Its cost, in nanoseconds where that is latency.
        """
        if self.settings.of != "latency":
            return cost(one, self.settings.of)
        return round(self.seconds * (one.ratio or (1.0,))[0] * 1e9)

    @property
    def options(self) -> list[Option]:
        """The layer as it is, and all candidates."""
        as_it_is = Option(self.cost(self.before), 0.0)
        return [as_it_is, *(Option(self.cost(one), self.weight * one.error**2, one) for one in self.open)]

    def is_slow(self, one: Candidate) -> bool:
        """Time a candidate; one that is not faster leaves, and with it all dearer ones of its kind.

        Parameters
        ----------
        one : Candidate
            The candidate.

        Returns
        -------
        bool
            Whether it has left.
        """
        timed = self.timed(one)
        self.open[self.open.index(one)] = timed
        if timed.ratio is None or timed.ratio[2] < 1:
            return False
        self.slow.append(timed)
        kind = (timed.method, timed.options)
        self.open = [other for other in self.open if (other.method, other.options) != kind or other.macs < timed.macs]
        return True

    def current(self, one: Candidate) -> Candidate:
        """Return a candidate with what was measured of it since.

        Parameters
        ----------
        one : Candidate
            The candidate.

        Returns
        -------
        Candidate
            The same, timed if it was or is not in question any more.
        """
        return next((other for other in self.open if replace(other, ratio=one.ratio) == one), None) or self.timed(one)

    def time_front(self, near: float) -> None:
        """Time the candidates whose error is not far above the least at no more MACs; those that are slow leave.

        Parameters
        ----------
        near : float
            How many times the least error.
        """
        least = math.inf
        for one in sorted(self.open, key=lambda one: (one.macs, one.error)):
            least = min(least, one.error)
            if one.error <= near * least and one in self.open:
                self.is_slow(one)

    def planned(self, choice: Candidate | None) -> PlannedLayer:
        """Return what the layer is to become; where it is left alone, with the reason.

        Parameters
        ----------
        choice : Candidate or None
            What was chosen.

        Returns
        -------
        PlannedLayer
            The choice.
        """
        note = ""
        if choice is None:
            note = self.reason if not self.open and not self.slow else "its error would cost more than it saves"
            if self.slow and (not self.open or self.settings.error is not None):
                fastest = min(one.ratio[0] for one in self.slow if one.ratio)
                note = f"would not get faster: {len(self.slow)} measured, the fastest takes {fastest:.0%} of the time"
        else:
            choice = self.current(choice)
        timed = {replace(one, ratio=None): one for one in (*self.open, *self.slow)}
        looked_at = tuple(timed.get(one, one) for one in self.found)
        return PlannedLayer(self.site.name, str(self.site.layer), self.before, choice, note, looked_at, self.weight)


def choose(curves: Sequence[Curve], others: Sequence[Site], settings: Settings) -> Mapping[str, PlannedLayer]:
    """Choose one candidate per convolution.

    With a budget, the choice of least total error is an integer program (:func:`tensorconv.allocate`); with an error,
    every layer takes the cheapest that meets it. What is chosen is timed; what is not faster leaves, and the choice is
    made again. A choice within a budget of MACs that saves too little time gives way to one that saves more.

    Parameters
    ----------
    curves : sequence of Curve
        The convolutions with their candidates; these are changed.
    others : sequence of Site
        Convolutions that stay as they are, whose cost counts.
    settings : Settings
        What was asked.

    Returns
    -------
    mapping of str to PlannedLayer
        Name to choice, for those with candidates.

    Raises
    ------
    ModelError
        If the budget cannot be met.
    """
    clock = next((curve.clock for curve in curves if curve.clock), None)
    whole = [*curves, *(Curve(site, (), 1.0, settings, clock) for site in others)]
    while True:
        picks = _allocated(whole, settings) if settings.error is None else [_cheapest(curve) for curve in whole]
        chosen = [(curve, pick) for curve, pick in zip(whole, picks, strict=True) if pick is not None]
        slow = [curve for curve, pick in chosen if settings.faster and curve.is_slow(pick)]
        if not slow:
            if settings.budget is not None and settings.of == "macs" and settings.faster:
                limits = {"budget": settings.budget, "efficiency": settings.efficiency}
                picks = quicker(whole, picks, **limits)
            return {curve.site.name: curve.planned(pick) for curve, pick in zip(curves, picks, strict=False)}


def _cheapest(curve: Curve) -> Candidate | None:
    label: Candidate | None = min(curve.options, key=lambda option: (option.cost, option.error)).label
    return label


def _allocated(curves: Sequence[Curve], settings: Settings) -> list[Candidate | None]:
    options = [curve.options for curve in curves]
    total = sum(int(row[0].cost) for row in options)
    limit = int(Fraction(repr(settings.budget or 0.0)) * total)  # the decimal that was written: 0.29 * 100 < 29
    least = sum(int(min(option.cost for option in row)) for row in options)
    if least > limit:
        share = -(-least * 1000 // total) / 1000 if total else 1.0
        slow = sum(bool(curve.slow) for curve in curves)
        cure = "ask for at least that, look at more layers, or offer smaller shares or a smaller multiple"
        if slow:
            cure += f"; {slow} layers have candidates that are not measured to be faster, which faster=False admits"
        raise ModelError(f"budget={settings.budget:g} of {settings.of} cannot be met: {share:g} is the least; {cure}")
    try:
        chosen = allocate(options, limit)
    except RankError as error:
        raise ModelError(f"budget={settings.budget:g} cannot be shared: {error}") from error
    return [row[i].label for row, i in zip(options, chosen, strict=True)]
