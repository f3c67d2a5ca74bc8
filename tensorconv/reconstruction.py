"""Compress a chain of layers and keep its responses to data: shallow to deep, every layer on what those before give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from tensorconv.activations import Activation
from tensorconv.allocation import Option, allocate
from tensorconv.arrays import as_float_array
from tensorconv.chain import MeasuredChain, advance, applied
from tensorconv.curves import SHARES, Curve, error_curve
from tensorconv.errors import RankError
from tensorconv.factorizations import Factorization, Request, refitted
from tensorconv.integers import is_integer
from tensorconv.layers import ConvLayer
from tensorconv.refit import refitted_after
from tensorconv.statistics import PatchStatistics
from tensorconv.text import aligned_table


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A compressed chain; call it on data.

    Parameters
    ----------
    chain : tuple
        The steps: a Factorization where a layer was compressed, else as given.
    error : float
        Relative error of the chain's final response to the data.
    cost : Fraction
        Cost of all layers, over that of the original ones.
    curves : tuple of tuple of Option
        Per layer what was worth choosing: a Factorization as label, or None for the layer as it is; its cost; and the
        squared relative error of the final response if this layer alone is replaced.
    history : tuple of float
        The error after every sweep over the chain that lowered it.
    """

    chain: tuple[Any, ...]
    error: float
    cost: Fraction
    curves: tuple[Curve, ...]
    history: tuple[float, ...]

    def __call__(self, x: Any) -> Any:
        """Apply the chain.

        Parameters
        ----------
        x : array_like, shape (B, C, L1..LN)
            Data.

        Returns
        -------
        ndarray
            What the last step gives.
        """
        return applied(self.chain, as_float_array("x", x))

    def __str__(self) -> str:
        rows = [("step", "layer", "method", "rank", "response error", "parameters")]
        for i, step in enumerate(self.chain):
            if isinstance(step, Factorization):
                error = "" if step.response_error is None else f"{step.response_error:.3g}"
                share = f"{step.n_parameters / step.layer.n_parameters:.1%}"
                rows.append((str(i), str(step.layer), step.method, str(step.rank), error, share))
            elif isinstance(step, ConvLayer):
                rows.append((str(i), str(step), "as it is", "", "", ""))
        return f"final response error {self.error:.3g}, {float(self.cost):.1%} of the cost\n{aligned_table(rows)}"


def reconstruct(
    chain: Sequence[Any],
    data: Any,
    *,
    budget: float | None = None,
    choices: Sequence[Factorization | None] | None = None,
    of: str = "macs",
    keep: Sequence[int] = (),
    methods: Iterable[str] | None = None,
    shares: Sequence[float] = SHARES,
    curves: Sequence[Curve] | None = None,
    n_sweeps: int = 3,
    nonlinear: bool = False,
    shrinkage: float | None = None,
    rng: Any = 0,
) -> Reconstruction:
    """Compress the layers of a chain so that its responses to data change least.

    First every layer alone is factorized at many costs, to the response it should give, and what that does to the
    chain's final response is measured; the choice of least total error within the budget is an integer program
    (:func:`tensorconv.allocate`). Then the layers are fitted shallow to deep, asymmetrically (Zhang, Zou, He, Sun,
    2015, section 2.3): the inputs are those that the compressed layers before it give, the targets are the original
    responses, so that a layer makes good what was lost before it. Further sweeps go on from there, and count only
    while the final response gets closer. The responses of about two steps are held at a time.

    Parameters
    ----------
    chain : sequence of ConvLayer and callables
        The steps in order. Layers are compressed; anything else is called with the batch, such as an
        :class:`tensorconv.Activation`, pooling or a classifier, for one and the same result per image.
    data : array, shape (B, C, L1..LN), or list of such
        Inputs of the chain, as one array or in batches, maybe of several spatial sizes; costs are for the first.
    budget : float, optional
        Largest share of the cost of all layers together, those that are kept included.
    choices : sequence of Factorization or None, optional
        What every layer is to become, in the order of the layers, instead of a budget; None keeps a layer.
    of : {"macs", "parameters", "bytes"}
        The cost.
    keep : sequence of int
        Which layers to leave as they are, counted among the layers from 0.
    methods : iterable of str, optional
        Names of the methods to choose from; all that take statistics if not given.
    shares : sequence of float
        Shares of a layer's cost to choose from.
    curves : sequence of tuple of Option, optional
        The curves of an earlier result for the same layers, so that another budget costs less.
    n_sweeps : int
        Most sweeps over the chain, at least 1.
    nonlinear : bool
        Whether layers before an :class:`tensorconv.Activation` are fitted to the response after it.
    shrinkage : float, optional
        As in :class:`tensorconv.PatchStatistics`.
    rng : int or numpy.random.Generator
        Seed for methods with random starts, and for the positions that nonlinear fits look at.

    Returns
    -------
    Reconstruction
        The compressed chain, callable, with its error and cost and all that was tried.

    Raises
    ------
    KernelError
        If the chain has no layer, the data do not fit it, or its response to them is zero.
    RankError
        If not exactly one of budget and choices is given, the budget cannot be met, or something does not fit the
        layers.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorconv as tc
    >>> rng = np.random.default_rng(0)
    >>> first, second = (tc.ConvLayer.of(rng.standard_normal((8, 8, 3, 3)), padding=1) for _ in range(2))
    >>> x = np.cumsum(np.cumsum(rng.standard_normal((4, 8, 12, 12)), axis=2), axis=3)
    >>> found = tc.reconstruct([first, tc.Activation.relu(), second], x, budget=0.4, methods=["svd"])
    >>> bool(found.cost <= 0.4), found.error < 0.3
    (True, True)
    """
    if (budget is None) == (choices is None):
        raise RankError(f"exactly one of budget and choices must be given, got {'none' if budget is None else 'both'}")
    if not is_integer(n_sweeps) or n_sweeps < 1:
        raise RankError(f"n_sweeps must be an integer of at least 1, got {n_sweeps!r}")
    original, kept = MeasuredChain(chain, data, of), set(keep)
    n_layers = len(original.layers)
    for n in kept:
        if not is_integer(n) or not 0 <= n < n_layers:
            raise RankError(f"keep must count layers from 0 to {n_layers - 1}, got {n!r}")
    for name, given in (("choices", choices), ("curves", curves)):
        if given is not None and len(given) != n_layers:
            raise RankError(f"{name} must have one entry per layer, {n_layers} here, got {len(given)}")

    tried: tuple[Curve, ...] = ()
    if choices is not None:
        picks = [None if n in kept else original.checked(n, pick) for n, pick in enumerate(choices)]
    else:
        Request(budget=budget)  # checks it
        options = {"methods": None if methods is None else tuple(methods), "shares": shares, "rng": rng}
        tried = _curves(original, kept, shrinkage, options) if curves is None else _repriced(original, kept, curves)
        picks = _allocated(original, tried, float(budget or 0))
    best, history = list[Any](), list[float]()
    for _ in range(n_sweeps):
        steps = _swept(original, picks, nonlinear, shrinkage, rng)
        error = original.error(steps)
        if history and error >= history[-1]:
            break
        best, picks = steps, [None if pick is None else steps[i] for i, pick in zip(original.at, picks, strict=True)]
        history.append(error)
    cost = sum(original.cost(n, pick) for n, pick in enumerate(picks)) / original.dense
    return Reconstruction(tuple(best), history[-1], cost, tried, tuple(history))


def _curves(
    original: MeasuredChain, kept: set[int], shrinkage: float | None, options: dict[str, Any]
) -> tuple[Curve, ...]:
    """Return what is worth choosing for every layer, and what each choice alone does to the final response."""
    sample, curves = original.sample(), list[Curve]()
    values, few = list[Any](original.batches), list[Any](sample.batches)
    for i, step in enumerate(original.steps):
        n = len(curves)
        if isinstance(step, ConvLayer):
            front = [Option(original.cost(n), 0.0)]
            if n not in kept:
                statistics, size = _statistics(step, shrinkage, values), original.sizes[n]
                least, end = math.inf, original.steps[i + 1 :]
                for option in error_curve(step, statistics, input_size=size, of=original.of, **options)[1:]:
                    if option.error < least:
                        least = option.error
                        front.append(replace(option, error=sample.error([option.label, *end], few) ** 2))
            curves.append(tuple(front))
        advance(step, values)
        advance(step, few)
    return tuple(curves)


def _repriced(original: MeasuredChain, kept: set[int], curves: Sequence[Curve]) -> tuple[Curve, ...]:
    """Return given curves at the costs that count here, of a layer to keep only the layer as it is."""
    found = []
    for n, curve in enumerate(curves):
        labels = [original.checked(n, option.label) for option in curve]
        options = [replace(option, cost=original.cost(n, label)) for option, label in zip(curve, labels, strict=True)]
        found.append((Option(original.cost(n), 0.0),) if n in kept or not options else tuple(options))
    return tuple(found)


def _allocated(original: MeasuredChain, curves: Sequence[Curve], budget: float) -> list[Factorization | None]:
    """Choose within the budget what changes the final response least, the changes added up."""
    limit, least = Fraction(budget) * original.dense, sum(min(option.cost for option in curve) for curve in curves)
    if least > limit:
        share = math.ceil(least / original.dense * 10_000) / 10_000
        raise RankError(
            f"budget={budget:g} of {original.of} cannot be met: the cheapest choices, layers that are kept included, "
            f"cost {share:g} of the chain; ask for at least that, keep fewer layers, or offer smaller shares"
        )
    chosen = allocate(curves, limit)
    return [curve[i].label for curve, i in zip(curves, chosen, strict=True)]


def _swept(
    original: MeasuredChain,
    picks: Sequence[Factorization | None],
    nonlinear: bool,
    shrinkage: float | None,
    rng: Any,
) -> list[Any]:
    """Fit every layer on the inputs that the layers before it give, to the original responses."""
    steps, given, wanted = list[Any](), list[Any](original.batches), list[Any](original.batches)
    chosen = dict(zip(original.at, picks, strict=True))
    for i, step in enumerate(original.steps):
        advance(step, wanted)
        pick, after = chosen.get(i), original.steps[i + 1 : i + 2]
        if pick is not None:
            pick = refitted(pick, _statistics(step, shrinkage, given, wanted))
            if nonlinear and after and isinstance(after[0], Activation):
                pick = refitted_after(after[0], pick, given, wanted, shrinkage=shrinkage, rng=rng)
        steps.append(step if pick is None else pick)
        advance(steps[-1], given)
    return steps


def _statistics(
    layer: ConvLayer, shrinkage: float | None, inputs: Sequence[Any], targets: Sequence[Any] | None = None
) -> PatchStatistics:
    statistics = PatchStatistics(layer, shrinkage=shrinkage)
    for j, value in enumerate(inputs):
        statistics.update(value, None if targets is None else targets[j])
    return statistics
