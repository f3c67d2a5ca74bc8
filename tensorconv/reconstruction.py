"""Compress a chain of layers and keep its responses to data: shallow to deep, every layer on what those before give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tensorconv.activations import Activation
from tensorconv.allocation import Option, allocate
from tensorconv.arrays import Array, as_float_array
from tensorconv.convolution.run import convolve
from tensorconv.cost import chain_cost
from tensorconv.curves import SHARES, Curve, error_curve
from tensorconv.errors import KernelError, RankError
from tensorconv.factorizations import Factorization, refitted
from tensorconv.layers import ConvLayer
from tensorconv.refit import refitted_after
from tensorconv.statistics import PatchStatistics
from tensorconv.text import aligned_table

TINY = 1e-300
BATCH = 64  # images of an array that go through the chain together
Step = Callable[[Array], Any]


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
        Per layer what was tried, its label a Factorization, or None for the layer as it is.
    history : tuple of float
        The error after every sweep over the chain.
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
        value = as_float_array("x", x)
        for step in self.chain:
            value = _applied(step, value)
        return value

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

    First every layer alone is factorized at many costs, to the response it should give; how much its error counts is
    measured on the chain's final response; the choice of least total error within the budget is an integer program
    (:func:`tensorconv.allocate`). Then the layers are fitted shallow to deep, asymmetrically (Zhang, Zou, He, Sun,
    2015, section 2.3): the inputs are those that the compressed layers before it give, the targets are the original
    responses, so that a layer makes good what was lost before it. Further sweeps go on from there, and count only
    while the final response gets closer.

    Parameters
    ----------
    chain : sequence of ConvLayer and callables
        The steps in order. Layers are compressed; anything else is called with the batch, such as an
        :class:`tensorconv.Activation`, pooling or a classifier, for one and the same result per image.
    data : array_like, shape (B, C, L1..LN), or sequence of such
        Inputs of the chain, as one array or in batches, which are all held.
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
        The curves of an earlier result, for the same chain, data and kind of cost, so that another budget costs less.
    n_sweeps : int
        Most sweeps over the chain, at least 1.
    nonlinear : bool
        Whether layers before an :class:`tensorconv.Activation` are fitted to the response after it.
    shrinkage : float, optional
        As in :class:`tensorconv.PatchStatistics`.
    rng : int or numpy.random.Generator
        Seed for methods with random starts.

    Returns
    -------
    Reconstruction
        The compressed chain, callable, with its error and cost and all that was tried.

    Raises
    ------
    KernelError
        If the chain has no layer or the data do not fit it.
    RankError
        If not exactly one of budget and choices is given, or the budget cannot be met.

    Examples
    --------
    >>> import tensorconv as tc
    >>> rng = np.random.default_rng(0)
    >>> first, second = (tc.ConvLayer.of(rng.standard_normal((8, 8, 3, 3)), padding=1) for _ in range(2))
    >>> x = np.cumsum(np.cumsum(rng.standard_normal((4, 8, 12, 12)), axis=2), axis=3)
    >>> found = tc.reconstruct([first, tc.Activation.relu(), second], x, budget=0.4, methods=["svd"])
    >>> bool(found.cost <= 0.4), found.error < 0.2
    (True, True)
    """
    return _Chain(chain, data, of, shrinkage, nonlinear).reconstructed(
        budget, choices, keep, n_sweeps, curves, {"methods": methods, "shares": shares, "rng": rng}
    )


class _Chain:
    """The original chain with its data, and what is measured on them."""

    def __init__(self, chain: Sequence[Any], data: Any, of: str, shrinkage: float | None, nonlinear: bool) -> None:
        self.steps, self.of, self.shrinkage, self.nonlinear = list(chain), of, shrinkage, nonlinear
        self.at = [i for i, step in enumerate(self.steps) if isinstance(step, ConvLayer)]
        if not self.at:
            raise KernelError("chain must have at least one ConvLayer; make one with ConvLayer.of(kernel, ...)")
        for i, step in enumerate(self.steps):
            if not callable(step) and not isinstance(step, ConvLayer):
                raise KernelError(f"chain[{i}] must be a ConvLayer or a callable, got {type(step).__name__}")
        given = list(data) if isinstance(data, (list, tuple)) else _batches(as_float_array("data", data))
        self.batches = [as_float_array("data", batch) for batch in given]
        if not self.batches:
            raise KernelError("data must have at least one image")
        self.sizes: list[tuple[int, ...]] = []
        self.final = self._run(self.steps, self.batches, sizes=self.sizes)
        self.norm = math.sqrt(sum(float(np.sum(np.square(value, dtype=np.float64))) for value in self.final))

    def _run(self, steps: Sequence[Any], values: list[Array], sizes: list[tuple[int, ...]] | None = None) -> list[Any]:
        for step in steps:
            if sizes is not None and isinstance(step, ConvLayer):
                sizes.append(tuple(values[0].shape[2:]))
            values = [_applied(step, value) for value in values]
        return values

    def error(self, steps: Sequence[Any]) -> float:
        """Return the relative error of the final response."""
        found = self._run(steps, self.batches)
        lost = sum(
            float(np.sum(np.square(np.subtract(a, b, dtype=np.float64))))
            for a, b in zip(found, self.final, strict=True)
        )
        return math.sqrt(lost) / self.norm if self.norm else (math.inf if lost else 0.0)

    def reconstructed(
        self, budget: Any, choices: Any, keep: Sequence[int], n_sweeps: int, curves: Any, tried: dict[str, Any]
    ) -> Reconstruction:
        if (budget is None) == (choices is None):
            raise RankError("exactly one of budget and choices must be given")
        if n_sweeps < 1:
            raise RankError(f"n_sweeps must be at least 1, got {n_sweeps}")
        curves = () if curves is None else tuple(curves)
        if budget is not None:
            curves = curves or self._curves(keep, tried)
            chosen = self._allocated(curves, budget)
        else:
            chosen = list(choices)
            if len(chosen) != len(self.at):
                raise RankError(f"choices must have one entry per layer, {len(self.at)}, got {len(chosen)}")
        best, history = list[Any](), list[float]()
        for _ in range(n_sweeps):
            steps = self._swept(chosen)
            error = self.error(steps)
            if history and error >= history[-1]:
                break
            history.append(error)
            best, chosen = steps, [steps[i] if isinstance(steps[i], Factorization) else None for i in self.at]
        pairs = list(zip(self.at, self.sizes, strict=True))
        cost = sum((self._cost(best[i], self.steps[i], size) for i, size in pairs), Fraction(0))
        return Reconstruction(tuple(best), history[-1], cost / self._dense(), curves, tuple(history))

    def _curves(self, keep: Sequence[int], tried: dict[str, Any]) -> tuple[Curve, ...]:
        """What every layer's original responses lose at what cost."""
        for index in keep:
            if not 0 <= index < len(self.at):
                raise RankError(f"keep must count layers from 0 to {len(self.at) - 1}, got {index}")
        curves, values, n = list[Curve](), self.batches, 0
        for step in self.steps:
            if isinstance(step, ConvLayer):
                if n in keep:
                    curves.append((Option(self._cost(step, step, self.sizes[n]), 0.0),))
                else:
                    statistics = self._statistics(step, values)
                    curves.append(error_curve(step, statistics, input_size=self.sizes[n], of=self.of, **tried))
                n += 1
            values = [_applied(step, value) for value in values]
        return tuple(curves)

    def _allocated(self, curves: Sequence[Curve], budget: float) -> list[Factorization | None]:
        """Weigh every layer's error by what it does to the final response, and choose within the budget."""
        limit = Fraction(float(budget)) * self._dense()
        weights = []
        for at, curve in zip(self.at, curves, strict=True):
            tried = [option for option in curve if option.label is not None and option.error > 0]
            weights.append(1.0)
            if tried:
                aim = float(budget * curve[0].cost)
                middle = min(tried, key=lambda option: abs(float(option.cost) - aim))
                steps = [middle.label if i == at else step for i, step in enumerate(self.steps)]
                weights[-1] = max(self.error(steps) ** 2 / middle.error, TINY)
        return [curve[i].label for curve, i in zip(curves, allocate(curves, limit, weights=weights), strict=True)]

    def _swept(self, chosen: Sequence[Factorization | None]) -> list[Any]:
        """Fit every layer on the inputs that the layers before it give, to the original responses."""
        steps, given, wanted = list[Any](), self.batches, self.batches
        picks = iter(chosen)
        for i, step in enumerate(self.steps):
            responses = [_applied(step, value) for value in wanted]
            pick = next(picks) if isinstance(step, ConvLayer) else None
            if pick is None:
                steps.append(step)
            else:
                after = self.steps[i + 1] if i + 1 < len(self.steps) else None
                found = refitted(pick, self._statistics(pick.layer, given, responses))
                if self.nonlinear and isinstance(after, Activation):
                    found = refitted_after(after, found, given, responses)
                steps.append(found)
            given = [_applied(steps[-1], value) for value in given]
            wanted = responses
        return steps

    def _statistics(self, layer: ConvLayer, inputs: Sequence[Array], targets: Sequence[Array] | None = None) -> Any:
        statistics = PatchStatistics(layer, shrinkage=self.shrinkage)
        for j, value in enumerate(inputs):
            statistics.update(value, None if targets is None else targets[j])
        return statistics

    def _cost(self, step: Any, layer: ConvLayer, size: tuple[int, ...]) -> Fraction:
        steps = step.sequence if isinstance(step, Factorization) else step
        last = steps.layers[-1] if isinstance(step, Factorization) else step
        n_bias = 0 if last.bias is None else len(last.bias)
        return chain_cost(steps.chain, self.of, size, n_bias=n_bias, itemsize=layer.dtype.itemsize)

    def _dense(self) -> Fraction:
        pairs = zip(self.at, self.sizes, strict=True)
        return sum((self._cost(self.steps[i], self.steps[i], size) for i, size in pairs), Fraction(0))


def _applied(step: Any, value: Any) -> Any:
    return convolve(value, step) if isinstance(step, (ConvLayer, Factorization)) else step(value)


def _batches(data: Array) -> list[Array]:
    return [data[first : first + BATCH] for first in range(0, len(data), BATCH)]
