"""A chain of layers and callables with data: what its layers cost, and how far another chain's responses are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tensorconv.arrays import as_float_array
from tensorconv.convolution.run import convolve
from tensorconv.cost import chain_cost
from tensorconv.errors import KernelError, RankError
from tensorconv.factorizations import Factorization
from tensorconv.layers import ConvLayer

BATCH = 64  # images of an array that go through a chain together
SAMPLE = 64  # images that are enough to compare responses by


class MeasuredChain:
    """A chain, its data in batches, and its final responses to them.

    Parameters
    ----------
    steps : sequence of ConvLayer and callables
        The chain in order.
    data : array, shape (B, C, L1..LN), or list of such
        Inputs, as one array or in batches.
    of : {"macs", "parameters", "bytes"}
        The cost.

    Attributes
    ----------
    steps : list
        The chain.
    at : list of int
        Which steps are layers.
    layers : list of ConvLayer
        The layers.
    sizes : list of tuple of int
        Spatial size of every layer's input, in the first batch.
    batches : list of ndarray
        The data.

    Raises
    ------
    KernelError
        If there is no layer, a step is not callable, the data do not fit the layers, or the response is zero.
    """

    def __init__(self, steps: Sequence[Any], data: Any, of: str) -> None:
        self.steps, self.of = list(steps), of
        self.at = [i for i, step in enumerate(self.steps) if isinstance(step, ConvLayer)]
        self.layers: list[ConvLayer] = [self.steps[i] for i in self.at]
        if not self.layers:
            raise KernelError("chain must have at least one ConvLayer; make one with ConvLayer.of(kernel, ...)")
        for i, step in enumerate(self.steps):
            if not callable(step) and not isinstance(step, ConvLayer):
                raise KernelError(f"chain[{i}] must be a ConvLayer or a callable, got {type(step).__name__}")
        if not isinstance(data, (list, tuple)):
            array = np.atleast_1d(as_float_array("data", data))
            data = [array[first : first + BATCH] for first in range(0, len(array), BATCH)]
        self.batches = [as_float_array("data", batch) for batch in data]
        if not self.batches:
            raise KernelError("data must be an array (B, C, L1..LN) or a list of such, got an empty list")
        values, self.sizes = list[Any](self.batches), list[tuple[int, ...]]()
        for step in self.steps:
            if isinstance(step, ConvLayer):
                self.sizes.append(tuple(np.shape(values[0])[2:]))
            advance(step, values)
        self._final = [as_float_array("the chain's response", value) for value in values]
        self._norm = math.sqrt(sum(float(np.sum(np.square(value, dtype=np.float64))) for value in self._final))
        if not self._norm:
            raise KernelError("data must get a response that is not zero everywhere, or there is nothing to keep")

    def sample(self) -> MeasuredChain:
        """Return the chain with some images of every batch, spread evenly, about 64 in all.

        Returns
        -------
        MeasuredChain
            The same steps with fewer data.
        """
        step = math.ceil(sum(map(len, self.batches)) / SAMPLE)
        return MeasuredChain(self.steps, [batch[::step] for batch in self.batches], self.of)

    def error(self, steps: Sequence[Any], values: Sequence[Any] | None = None) -> float:
        """Return the relative error of another chain's final responses to the data.

        Parameters
        ----------
        steps : sequence of ConvLayer, Factorization and callables
            The other chain, or the end of one.
        values : list of ndarray, optional
            What goes into these steps; the data if not given.

        Returns
        -------
        float
            The Frobenius norm of the difference over that of the responses.

        Raises
        ------
        KernelError
            If its responses are not finite.
        """
        lost = 0.0
        for value, wanted in zip(self.batches if values is None else values, self._final, strict=True):
            found = as_float_array("the compressed chain's response", applied(steps, value))
            lost += float(np.sum(np.subtract(found, wanted, dtype=np.float64) ** 2))
        return math.sqrt(lost) / self._norm

    def cost(self, n: int, pick: Factorization | None = None) -> Fraction:
        """Return what a layer costs.

        Parameters
        ----------
        n : int
            Which of the layers.
        pick : Factorization, optional
            What it becomes, with a bias that is fitted; by default it stays as it is.

        Returns
        -------
        Fraction
            The cost.
        """
        layer = self.layers[n]
        chain = layer.chain if pick is None else pick.scheme.chain(pick.ranks)
        n_bias = 0 if pick is None and layer.bias is None else layer.out_channels
        return chain_cost(chain, self.of, self.sizes[n], n_bias=n_bias, itemsize=layer.dtype.itemsize)

    @property
    def dense(self) -> Fraction:
        """What all layers cost as they are."""
        return sum((self.cost(n) for n in range(len(self.layers))), Fraction(0))

    def checked(self, n: int, pick: Any) -> Any:
        """Return what a layer is to become, checked.

        Parameters
        ----------
        n : int
            Which of the layers.
        pick : Factorization or None
            What it becomes; None for the layer as it is.

        Returns
        -------
        Factorization or None
            The same.

        Raises
        ------
        RankError
            If it is anything else, or a factorization of another layer.
        """
        layer = self.layers[n]
        if pick is None or (isinstance(pick, Factorization) and _alike(pick.layer, layer)):
            return pick
        raise RankError(f"layer {n} of the chain, {layer}, can become a Factorization of itself or None, got {pick!r}")


def applied(steps: Sequence[Any], value: Any) -> Any:
    """Return what a chain makes of a batch.

    Parameters
    ----------
    steps : sequence of ConvLayer, Factorization and callables
        The chain.
    value : ndarray, shape (B, C, L1..LN)
        A batch.

    Returns
    -------
    ndarray
        What the last step gives.
    """
    for step in steps:
        value = convolve(value, step) if isinstance(step, (ConvLayer, Factorization)) else step(value)
    return value


def advance(step: Any, values: list[Any]) -> None:
    """Put what a step makes of every batch in the batch's place, so that never two lists are held.

    Parameters
    ----------
    step : ConvLayer, Factorization or callable
        The step.
    values : list of ndarray
        The batches.
    """
    for j, value in enumerate(values):
        values[j] = applied([step], value)


def _alike(one: ConvLayer, other: ConvLayer) -> bool:
    return one is other or (one.geometry == other.geometry and np.array_equal(one.kernel, other.kernel))
