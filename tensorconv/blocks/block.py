"""Block: steps in order under one name, what they cost, and the dense layers they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from tensorconv.blocks.branches import check_chain
from tensorconv.blocks.steps import HEAD, Row, Step, final_size, sized, with_sizes
from tensorconv.cost import MEASURES, Shape
from tensorconv.errors import GeometryError
from tensorconv.integers import PerAxis, per_axis
from tensorconv.text import aligned_table

if TYPE_CHECKING:
    from tensorconv.factorizations import Factorization


@dataclass(frozen=True)
class Form:
    """The factorization whose sequence is the linear part of a block.

    Parameters
    ----------
    method : str
        A name in :func:`tensorconv.methods`.
    rank : int or tuple of int
        The ranks that make the block's widths.
    options : tuple of (str, object)
        Options of the method.
    """

    method: str
    rank: int | tuple[int, ...]
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Block(Step):
    """Steps in order; a network is a block of blocks.

    Parameters
    ----------
    name : str
        What it is called.
    steps : tuple of Step
        Convolutions, poolings, shuffles, branches, or blocks.
    dense : tuple of Step
        The dense layers that the block stands for, in order; none for a network.
    form : Form or None
        The factorization that the linear part of the block is, where it is one.

    Raises
    ------
    GeometryError
        If there is no step, the steps do not chain, or the dense layers have other channels.

    Examples
    --------
    >>> from tensorconv import blocks
    >>> block = blocks.mobilenet_v1(256, 256)
    >>> print(block)
    step       channels    kernel  geometry                         parameters
    depthwise  256 -> 256  3x3     stride 1, padding 1, groups 256       2,304
    pointwise  256 -> 256  1x1     stride 1, padding 0                  65,536
    >>> block.macs(14), block.cost_ratio(14)
    (13296640, Fraction(265, 2304))
    """

    name: str
    steps: tuple[Step, ...]
    dense: tuple[Step, ...] = ()
    form: Form | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        object.__setattr__(self, "dense", tuple(self.dense))
        if not self.steps:
            raise GeometryError(f"steps of block {self.name!r} must hold at least one Step, got none")
        check_chain(self.steps, getattr(self.steps[0], "ndim", 0))
        check_chain(self.dense, self.ndim, self.in_channels)
        if self.dense and self.dense[-1].out_channels != self.out_channels:
            raise GeometryError(
                f"dense must end with the {self.out_channels} channels of block {self.name!r}, got "
                f"{self.dense[-1].out_channels}"
            )

    @property
    def in_channels(self) -> int:
        """Channels of the first step."""
        return self.steps[0].in_channels

    @property
    def out_channels(self) -> int:
        """Channels of the last step."""
        return self.steps[-1].out_channels

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.steps[0].ndim

    def output_size(self, input_size: PerAxis) -> Shape:
        """Size after the last step."""
        return final_size(self.steps, input_size)

    @property
    def n_parameters(self) -> int:
        """Sum over the steps."""
        return sum(step.n_parameters for step in self.steps)

    @property
    def n_norm_parameters(self) -> int:
        """Sum over the steps."""
        return sum(step.n_norm_parameters for step in self.steps)

    def macs(self, input_size: PerAxis) -> int:
        """Sum over the steps, each at its own size."""
        return sum(step.macs(size) for step, size in sized(self.steps, input_size))

    def bytes_moved(self, input_size: PerAxis, itemsize: int = 4) -> int:
        """Sum over the steps: each reads what the one before has written."""
        return sum(step.bytes_moved(size, itemsize) for step, size in sized(self.steps, input_size))

    def cost_ratio(self, input_size: PerAxis, of: str = "macs") -> Fraction:
        """Return the cost of the block over that of the dense layers it stands for.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.
        of : {"macs", "parameters", "bytes"}
            The cost; bytes as :meth:`bytes_moved` counts them, with four per entry.

        Returns
        -------
        Fraction
            The exact ratio, such as ``1/N + 1/K`` for a depthwise separable convolution to N channels with K taps.

        Raises
        ------
        GeometryError
            If the block stands for no dense layer, or there is no such cost.
        """
        if not self.dense:
            raise GeometryError(f"block {self.name!r} stands for no dense layer; compare the blocks it is made of")
        if of not in MEASURES:
            raise GeometryError(f"of must be one of {MEASURES}, got {of!r}")
        plain = Block("dense", self.dense)
        costs = {
            "macs": lambda block: block.macs(input_size),
            "parameters": lambda block: block.n_parameters,
            "bytes": lambda block: block.bytes_moved(input_size),
        }
        return Fraction(costs[of](self), costs[of](plain))

    def from_kernel(self, kernel: Any, *, statistics: Any = None) -> Factorization:
        """Factorize a dense layer into the linear part of this block, with the block's widths as ranks.

        For a block with a shortcut this is the branch beside it; activations and normalizations are not part of it.

        Parameters
        ----------
        kernel : ConvLayer or array_like, shape (O, I, K1..KN)
            The dense layer that the block stands for, or its kernel alone.
        statistics : PatchStatistics, optional
            Of data whose responses are to be kept, not the kernel.

        Returns
        -------
        Factorization
            Its ``sequence`` has the shapes and geometries of the block.

        Raises
        ------
        GeometryError
            If the block is no factorization of one kernel, or the layer's geometry is not that of the dense layer.
        KernelError
            If the kernel has another shape.
        RankError
            If a width of the block is no rank of this kernel.

        Examples
        --------
        >>> import numpy as np
        >>> from tensorconv import blocks
        >>> kernel = np.random.default_rng(0).standard_normal((64, 64, 3, 3))
        >>> [layer.kernel.shape for layer in blocks.resnet_bottleneck(64, 64).from_kernel(kernel).sequence]
        [(16, 64, 1, 1), (16, 16, 3, 3), (64, 16, 1, 1)]
        """
        from tensorconv.blocks.from_kernel import factorized  # arrays and methods are loaded only when asked for

        return factorized(self, kernel, statistics)

    def rows(self, input_size: Shape | None) -> list[Row]:
        """One line for the whole."""
        return [self._row(self.name, input_size)]

    def table(self, input_size: PerAxis | None = None) -> str:
        """Return the steps as a table.

        Parameters
        ----------
        input_size : int or sequence of int, optional
            Spatial size of the input; with it the table has sizes of outputs and multiply-accumulates as well.

        Returns
        -------
        str
            One line per step, branches spelt out.
        """
        size = None if input_size is None else per_axis("input_size", input_size, self.ndim, at_least=1)
        lines = [HEAD, *(row for step, before in with_sizes(self.steps, size) for row in step.rows(before))]
        return aligned_table(line[: 5 if size is None else 7] for line in lines)

    def __str__(self) -> str:
        return self.table()
