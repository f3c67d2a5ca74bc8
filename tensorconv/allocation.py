"""Allocation: shares one budget over the layers of a network, exactly or by the greedy rule of falling eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from numbers import Rational
from typing import Any

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import KernelError, RankError

Number = int | float | Fraction
INT64 = 2**62  # sums of two stay inside int64
PAIRS = 2**23  # partial choices looked at together: about half a GB
ROUNDING = 1e-9  # far above the relative rounding of a sum of errors, all of one sign


@dataclass(frozen=True)
class Option:
    """One way to run one layer.

    Parameters
    ----------
    cost : int, float or Fraction
        What it costs, in the unit of the budget; taken exactly as given.
    error : float
        What it adds to the network's error, such as a squared response error; at least 0.
    label : object
        Anything the caller wants to find again, such as a rank or a factorization.

    Raises
    ------
    KernelError
        If the cost is not finite, or the error is negative or not finite.
    """

    cost: Number
    error: float
    label: Any = None

    def __post_init__(self) -> None:
        _exact("cost", self.cost)
        if not 0 <= self.error < math.inf:
            raise KernelError(f"error must be a finite number, at least 0, got {self.error}; square or clip it first")


def allocate(
    curves: Sequence[Sequence[Option]], budget: Number, *, weights: Sequence[float] | None = None
) -> tuple[int, ...]:
    """Choose one option per layer so that the total error is the least that a budget allows.

    Minimises ``sum_l weights[l] error[l, i_l]`` subject to ``sum_l cost[l, i_l] <= budget``: an integer program, the
    multiple-choice knapsack problem. It is solved exactly, by dynamic programming over the undominated partial choices
    less those that cannot win: what the layers to come add is bounded from below by their linear relaxation, the convex
    hulls of their curves (Dyer, Kayal and Walker, 1984; Pisinger, 1995). Costs are integers of one unit throughout.
    The time grows with the number of choices that nearly tie; 60 spectra of 100 ranks take a tenth of a second.

    Parameters
    ----------
    curves : sequence of sequence of Option
        The options of every layer, at least one; to leave a layer as it is is one of them, of error 0.
    budget : int, float or Fraction
        Largest total cost.
    weights : sequence of float, optional
        What a layer's error counts, at least 0; 1 where not given.

    Returns
    -------
    tuple of int
        The index of the option chosen in each layer; of options that are equally good, the cheapest.

    Raises
    ------
    RankError
        If the cheapest options together exceed the budget, or too many choices tie to be told apart.
    KernelError
        If a layer has no option, or the budget or a weight is not such a number.

    Examples
    --------
    >>> small = [Option(10, 0.0, "dense"), Option(4, 0.1, "rank 2"), Option(2, 0.4, "rank 1")]
    >>> large = [Option(90, 0.0, "dense"), Option(50, 0.2, "rank 5"), Option(30, 0.25, "rank 3")]
    >>> allocate([small, large], budget=40)
    (0, 2)
    >>> allocate([small, large], budget=54, weights=[1, 10])
    (1, 1)
    """
    limit = _exact("budget", budget)
    if weights is None:
        weights = [1.0] * len(curves)
    if len(weights) != len(curves) or not all(0 <= weight < math.inf for weight in weights):
        raise KernelError(f"weights must be {len(curves)} finite numbers, one per layer, at least 0, got {weights}")
    for i, curve in enumerate(curves):
        if not curve:
            raise KernelError(f"curves[{i}] must hold at least one option, such as the layer as it is")
    costs = [[_exact("cost", option.cost) for option in curve] for curve in curves]
    least = [min(row) for row in costs]
    room = limit - sum(least)
    if room < 0:
        raise RankError(_unaffordable(budget, sum(least, Fraction(0))))
    extra = [[cost - low for cost in row] for row, low in zip(costs, least, strict=True)]
    unit = math.lcm(*(cost.denominator for row in extra for cost in row))
    whole = [[int(cost * unit) for cost in row] for row in extra]
    most = math.floor(room * unit)
    kind = np.dtype(np.int64 if most * (len(curves) + 1) < INT64 else object)
    layers = [
        _Layer.of(row, [weight * option.error for option in curve], most, kind)
        for row, curve, weight in zip(whole, curves, weights, strict=True)
    ]
    return _best_choice(layers, most, kind)


@dataclass(frozen=True, eq=False)
class _Layer:
    """The options worth a look, by rising cost and falling error, and which of them are on the convex hull."""

    indices: list[int]
    costs: Array
    errors: Array
    hull: list[int]

    @classmethod
    def of(cls, costs: list[int], errors: list[float], most: int, kind: np.dtype[Any]) -> _Layer:
        indices: list[int] = []
        for i in sorted(range(len(costs)), key=lambda i: (costs[i], errors[i])):
            if costs[i] <= most and (not indices or errors[i] < errors[indices[-1]]):
                indices.append(i)
        hull: list[int] = []
        x, y = [costs[i] for i in indices], [errors[i] for i in indices]
        for j in range(len(indices)):
            while len(hull) > 1 and _rate(x, y, hull[-2], hull[-1]) <= _rate(x, y, hull[-1], j):
                hull.pop()
            hull.append(j)
        return cls(indices, np.array(x, dtype=kind), np.array(y, dtype=np.float64), hull)


def _rate(costs: Array | list[int], errors: Array | list[float], i: int, j: int) -> float:
    """Return the error saved per cost from one option to a dearer one."""
    return float((errors[i] - errors[j]) / (costs[j] - costs[i]))


class _Relaxation:
    """The least error of some layers as a convex function of cost, where options may be mixed."""

    def __init__(self, layers: Sequence[_Layer], kind: np.dtype[Any]) -> None:
        steps = [
            (_rate(layer.costs, layer.errors, i, j), layer.costs[j] - layer.costs[i], layer.errors[i] - layer.errors[j])
            for layer in layers
            for i, j in zip(layer.hull, layer.hull[1:], strict=False)
        ]
        steps.sort(key=lambda step: -step[0])
        self.rates = np.array([rate for rate, _, _ in steps] + [0.0])
        self.costs = np.array(list(accumulate((cost for _, cost, _ in steps), initial=0)), dtype=kind)
        lowest = sum(float(layer.errors[-1]) for layer in layers)  # summed from the low end, so that nothing cancels
        self.errors = np.array(list(accumulate((error for _, _, error in reversed(steps)), initial=lowest))[::-1])

    def bounds(self, room: Array) -> tuple[Array, Array]:
        """Return lower bounds of the error, and errors that are possible, for what is left to spend."""
        after = np.searchsorted(self.costs, room, side="right")
        end = np.minimum(after, len(self.costs) - 1)
        gap = np.maximum(self.costs[end] - room, 0).astype(np.float64)
        return self.errors[end] + self.rates[after - 1] * gap, self.errors[after - 1]


def _best_choice(layers: Sequence[_Layer], most: int, kind: np.dtype[Any]) -> tuple[int, ...]:
    order = sorted(range(len(layers)), key=lambda at: -layers[at].costs[-1])
    spent, error, possible = np.zeros(1, dtype=kind), np.zeros(1), math.inf
    trace: list[tuple[Array, Array]] = []
    for position, at in enumerate(order):
        layer = layers[at]
        if len(spent) * len(layer.costs) > PAIRS:
            raise RankError(
                f"budget leaves more than {PAIRS} partial choices that nearly tie; give costs in a coarser unit, "
                "such as whole millions, or fewer options per layer"
            )
        costs = (spent[:, None] + layer.costs).ravel()
        errors = (error[:, None] + layer.errors).ravel()
        chosen = np.flatnonzero(costs <= most)
        below, above = _Relaxation([layers[i] for i in order[position + 1 :]], kind).bounds(most - costs[chosen])
        possible = min(possible, float(np.min(errors[chosen] + above)))
        chosen = chosen[errors[chosen] + below <= possible * (1 + ROUNDING)]
        chosen = chosen[np.argsort(errors[chosen], kind="stable")]
        chosen = chosen[np.argsort(costs[chosen], kind="stable")]
        least = np.minimum.accumulate(errors[chosen])
        chosen = chosen[np.concatenate([[True], errors[chosen][1:] < least[:-1]])]
        spent, error = costs[chosen], errors[chosen]
        trace.append(np.divmod(chosen, len(layer.costs)))
    found = [0] * len(layers)
    state = len(spent) - 1  # the dearest of the undominated choices has the least error
    for at, (previous, option) in zip(reversed(order), reversed(trace), strict=True):
        found[at] = layers[at].indices[int(option[state])]
        state = int(previous[state])
    return tuple(found)


def allocate_greedy(spectra: Sequence[Array], costs: Sequence[Number], budget: Number) -> tuple[int, ...]:
    """Choose ranks by dropping, over all layers, the eigenvalue that matters least for what it costs.

    The rule of Zhang, Zou, He and Sun (2015, arXiv:1505.06798): a network's accuracy is taken to go with the product
    of the energies its layers keep, ``E = prod_l sum_{a <= d_l} sigma[l, a]``. From full rank on, the next eigenvalue
    to go is the one of the least ``(dE / E) / dC``, where ``dE / E = sigma[l, d_l] / sum_{a <= d_l} sigma[l, a]`` and
    ``dC`` is the cost of one rank, until the budget holds. Within a layer these ratios rise as eigenvalues go, so that
    sorting all of them once does it. No layer falls below rank 1; of equal ratios the first layer's goes first.

    Parameters
    ----------
    spectra : sequence of ndarray
        The falling eigenvalues of the covariance of each layer's responses.
    costs : sequence of int, float or Fraction
        What one rank of each layer costs, above 0, in the unit of the budget.
    budget : int, float or Fraction
        Largest total of cost times rank.

    Returns
    -------
    tuple of int
        The rank of each layer.

    Raises
    ------
    RankError
        If rank 1 everywhere exceeds the budget.
    KernelError
        If a spectrum is empty, negative, rising or not finite, or a cost is not above 0.

    Examples
    --------
    >>> allocate_greedy([np.array([4.0, 2.0, 2.0]), np.array([6.0, 3.0, 1.0])], costs=[1, 2], budget=6)
    (3, 1)
    """
    if len(spectra) != len(costs):
        raise KernelError(f"costs must be one per spectrum, {len(spectra)}, got {len(costs)}")
    limit, prices = _exact("budget", budget), [_exact(f"costs[{i}]", cost) for i, cost in enumerate(costs)]
    ratios, owners = [np.zeros(0)], [np.zeros(0, dtype=np.intp)]
    ranks = []
    for i, (spectrum, price) in enumerate(zip(spectra, prices, strict=True)):
        values = np.asarray(spectrum, dtype=np.float64)
        if price <= 0:
            raise KernelError(f"costs[{i}] must be above 0, the cost of one rank, got {costs[i]}")
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            raise KernelError(f"spectra[{i}] must be a vector of finite eigenvalues, got shape {values.shape}")
        if values[-1] < 0 or (np.diff(values) > 0).any():
            raise KernelError(
                f"spectra[{i}] must fall and not be negative; sort it, and clip what rounding made negative"
            )
        kept = np.cumsum(values)
        shares = np.divide(values, kept, out=np.zeros_like(kept), where=kept > 0)
        ratios.append(shares[:0:-1] / float(price))
        owners.append(np.full(len(values) - 1, i))
        ranks.append(len(values))
    total = sum((price * rank for price, rank in zip(prices, ranks, strict=True)), Fraction(0))
    owner = np.concatenate(owners)
    for i in owner[np.argsort(np.concatenate(ratios), kind="stable")]:
        if total <= limit:
            break
        ranks[i] -= 1
        total -= prices[i]
    if total > limit:
        raise RankError(_unaffordable(budget, total))
    return tuple(ranks)


def _exact(name: str, value: Number) -> Fraction:
    if not isinstance(value, Rational) and not math.isfinite(value):
        raise KernelError(f"{name} must be a finite number, got {value}")
    return Fraction(value) if isinstance(value, Rational) else Fraction(float(value))


def _unaffordable(budget: Number, least: Fraction) -> str:
    return (
        f"budget={budget} cannot be met: the cheapest choice in every layer costs {_plain(least)} together; "
        "raise the budget or offer cheaper options"
    )


def _plain(cost: Fraction) -> str:
    return str(cost.numerator) if cost.denominator == 1 else f"{float(cost):.17g}"
