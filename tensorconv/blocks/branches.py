"""Branches: chains of steps side by side, of one input or of its parts, added or concatenated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from string import ascii_lowercase

from tensorconv.blocks.steps import Row, Step, final_size, sized, with_sizes
from tensorconv.cost import Shape
from tensorconv.errors import GeometryError
from tensorconv.integers import PerAxis, flag, integer, per_axis

JOINS = ("add", "concat")


@dataclass(frozen=True)
class Branches(Step):
    """Chains of steps side by side, of the same input or of its parts, whose outputs are added or concatenated.

    Parameters
    ----------
    channels : int
        Channels of the input.
    branches : tuple of tuple of Step
        The chains; an empty one hands its input on.
    join : {"add", "concat"}
        What becomes of their outputs.
    split : bool
        Whether each branch gets an equal part of the channels, in order, instead of all; the parts are not copied.
    n_axes : int
        Number of spatial axes.

    Raises
    ------
    GeometryError
        If the branches do not chain, do not take their input, or cannot be joined.
    """

    channels: int
    branches: tuple[tuple[Step, ...], ...]
    join: str = "add"
    split: bool = False
    n_axes: int = 2

    def __post_init__(self) -> None:
        integer("channels", self.channels, at_least=1)
        integer("n_axes", self.n_axes, at_least=1)
        flag("split", self.split)
        object.__setattr__(self, "branches", tuple(tuple(branch) for branch in self.branches))
        if self.join not in JOINS:
            raise GeometryError(f"join must be one of {JOINS}, got {self.join!r}")
        if not self.branches or (self.split and self.channels % len(self.branches)):
            raise GeometryError(
                f"{self.channels} channels cannot be split evenly among {len(self.branches)} branches; choose another "
                "number of channels"
            )
        for branch in self.branches:
            check_chain(branch, self.ndim, self._given)
        widths = self._widths
        if self.join == "add" and len(set(widths)) > 1:
            raise GeometryError(f"branches that are added must have one number of out-channels, got {widths}")

    @property
    def _given(self) -> int:
        """Channels that a branch gets."""
        return self.channels // len(self.branches) if self.split else self.channels

    @property
    def _widths(self) -> list[int]:
        """Channels that the branches give."""
        return [branch[-1].out_channels if branch else self._given for branch in self.branches]

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.channels

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return sum(self._widths) if self.join == "concat" else self._widths[0]

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.n_axes

    def output_size(self, input_size: PerAxis) -> Shape:
        """The size at which all branches end."""
        size = per_axis("input_size", input_size, self.ndim, at_least=1)
        sizes = [final_size(branch, size) if branch else size for branch in self.branches]
        if len(set(sizes)) > 1:
            raise GeometryError(
                f"branches end at different sizes {sizes} for input_size {size}; choose one that their strides divide"
            )
        return sizes[0]

    @property
    def n_parameters(self) -> int:
        """Sum over the branches."""
        return sum(step.n_parameters for branch in self.branches for step in branch)

    @property
    def n_norm_parameters(self) -> int:
        """Sum over the branches."""
        return sum(step.n_norm_parameters for branch in self.branches for step in branch)

    def macs(self, input_size: PerAxis) -> int:
        """Sum over the branches; joining takes none."""
        self.output_size(input_size)
        filled = filter(None, self.branches)
        return sum(step.macs(size) for branch in filled for step, size in sized(branch, input_size))

    def bytes_moved(self, input_size: PerAxis, itemsize: int = 4) -> int:
        """Sum over the branches, and the join, which reads all their outputs and writes one."""
        positions = math.prod(self.output_size(input_size))
        filled = filter(None, self.branches)
        inside = sum(step.bytes_moved(size, itemsize) for branch in filled for step, size in sized(branch, input_size))
        return inside + itemsize * positions * (sum(self._widths) + self.out_channels)

    def rows(self, input_size: Shape | None) -> list[Row]:
        """One line per step, named by the letter of its branch."""

        def empty(kind: str, channels: str, size: Shape | None) -> Row:
            return (kind, channels, "", "", "0", *(("", "") if size is None else ("x".join(map(str, size)), "0")))

        found: list[Row] = []
        if self.split:
            found.append(empty("split", f"{self.channels} -> {len(self.branches)} x {self._given}", input_size))
        for i, branch in enumerate(self.branches):
            letter = ascii_lowercase[i] if i < len(ascii_lowercase) else str(i + 1)
            lines = [] if branch else [empty("identity", f"{self._given} -> {self._given}", input_size)]
            for step, size in with_sizes(branch, input_size):
                lines += step.rows(size)
            found += [(f"{letter}: {line[0]}", *line[1:]) for line in lines]
        after = None if input_size is None else self.output_size(input_size)
        return [*found, empty(self.join, f"{' + '.join(map(str, self._widths))} -> {self.out_channels}", after)]


def check_chain(steps: tuple[Step, ...], ndim: int, channels: int | None = None) -> None:
    """Refuse steps that do not follow from one another.

    Parameters
    ----------
    steps : tuple of Step
        The steps in order.
    ndim : int
        Number of spatial axes.
    channels : int, optional
        Channels of the first one's input, where they are known.

    Raises
    ------
    GeometryError
        If one is no step, or its channels or spatial axes are not those of the one before.
    """
    for i, step in enumerate(steps):
        if not isinstance(step, Step):
            raise GeometryError(f"steps[{i}] must be a Step, such as a Convolution, got {type(step).__name__}")
        if step.ndim != ndim:
            raise GeometryError(f"steps must have one number of spatial axes, {ndim}, got {step.ndim} in step {i}")
        if channels is not None and step.in_channels != channels:
            raise GeometryError(f"step {i} takes {step.in_channels} channels, what comes before it gives {channels}")
        channels = step.out_channels
