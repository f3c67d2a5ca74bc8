"""Step: what a part of a block makes of channels and sizes, and what it costs, without any array."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from tensorconv.cost import Shape
from tensorconv.integers import PerAxis, per_axis

Row = tuple[str, str, str, str, str, str, str]
HEAD: Row = ("step", "channels", "kernel", "geometry", "parameters", "output", "MACs")


class Step(ABC):
    """One thing that a block does to its input: a map from channels and a spatial size to others, at a cost."""

    @property
    @abstractmethod
    def in_channels(self) -> int:
        """Channels of the input."""

    @property
    @abstractmethod
    def out_channels(self) -> int:
        """Channels of the output."""

    @property
    @abstractmethod
    def ndim(self) -> int:
        """Number of spatial axes."""

    @abstractmethod
    def output_size(self, input_size: PerAxis) -> Shape:
        """Return the spatial size of the output.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.

        Returns
        -------
        tuple of int
            Spatial size of the output.
        """

    @property
    def n_parameters(self) -> int:
        """Entries of kernels and biases."""
        return 0

    @property
    def n_norm_parameters(self) -> int:
        """Scales and shifts of batch normalizations, which a trained network folds into its convolutions."""
        return 0

    def macs(self, input_size: PerAxis) -> int:
        """Return the multiply-accumulates for one image, padded taps counted.

        Pooling, addition, concatenation and shuffles take none, and neither do batch normalizations.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.

        Returns
        -------
        int
            Multiply-accumulates.
        """
        self.output_size(input_size)
        return 0

    def bytes_moved(self, input_size: PerAxis, itemsize: int = 4) -> int:
        """Return what is read and written for one image: inputs, kernels and biases once, outputs once.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.
        itemsize : int
            Bytes per entry.

        Returns
        -------
        int
            Bytes.
        """
        before = math.prod(per_axis("input_size", input_size, self.ndim, at_least=1))
        after = math.prod(self.output_size(input_size))
        return itemsize * (self.in_channels * before + self.n_parameters + self.out_channels * after)

    @abstractmethod
    def rows(self, input_size: Shape | None) -> list[Row]:
        """Return the lines of this step in a table.

        Parameters
        ----------
        input_size : tuple of int or None
            Spatial size of the input; without it the last two columns are empty.

        Returns
        -------
        list of tuple of str
            Cells under the heads step, channels, kernel, geometry, parameters, output, MACs; one line for most steps.
        """

    def _row(self, kind: str, input_size: Shape | None, kernel: str = "", geometry: str = "") -> Row:
        size = "" if input_size is None else "x".join(map(str, self.output_size(input_size)))
        macs = "" if input_size is None else f"{self.macs(input_size):,}"
        channels = f"{self.in_channels} -> {self.out_channels}"
        return (kind, channels, kernel, geometry, f"{self.n_parameters:,}", size, macs)


def sized(steps: Sequence[Step], input_size: PerAxis) -> Iterator[tuple[Step, Shape]]:
    """Yield steps in order, each with the spatial size of its input.

    Parameters
    ----------
    steps : sequence of Step
        The steps, at least one.
    input_size : int or sequence of int
        Spatial size of the first one's input.

    Yields
    ------
    Step
        A step.
    tuple of int
        The size of its input.
    """
    size = per_axis("input_size", input_size, steps[0].ndim, at_least=1)
    for step in steps:
        yield step, size
        size = step.output_size(size)


def final_size(steps: Sequence[Step], input_size: PerAxis) -> Shape:
    """Return the spatial size after all steps.

    Parameters
    ----------
    steps : sequence of Step
        The steps, at least one.
    input_size : int or sequence of int
        Spatial size of the first one's input.

    Returns
    -------
    tuple of int
        The size.
    """
    *_, (last, size) = sized(steps, input_size)
    return last.output_size(size)


def with_sizes(steps: Sequence[Step], input_size: Shape | None) -> list[tuple[Step, Shape | None]]:
    """Return steps with the spatial sizes of their inputs, where one is known.

    Parameters
    ----------
    steps : sequence of Step
        The steps.
    input_size : tuple of int or None
        Spatial size of the first one's input.

    Returns
    -------
    list of (Step, tuple of int or None)
        Each step with a size, or with None.
    """
    return [(step, None) for step in steps] if input_size is None or not steps else list(sized(steps, input_size))
