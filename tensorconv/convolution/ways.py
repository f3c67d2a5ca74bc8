"""The way of a convolution through its input: which positions there are, and what each touches.

The address of an element of the input is the sum of a part of the position, a part of the tap and a part of the
channel, whatever the number of axes. Where a position's neighbour touches the neighbouring element throughout several
axes, they are one long row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tensorconv.convolution.loops import Ints
from tensorconv.convolution.vectors import TILE_VECTORS, VECTOR_BYTES

POSITIONS, STRIDE, DILATION, LOW, SIZE, TAPS, X_STEP, Y_STEP = range(8)  # columns of `axes`


@dataclass(frozen=True)
class Walk:
    """The way of a convolution through its input and output, of one channel each.

    Parameters
    ----------
    axes : ndarray of int64, shape (N, 8)
        Per axis: positions, stride, dilation, low padding, size, taps, and the bytes between neighbours of the input
        and of the output.
    row : int
        Positions that touch equally spaced elements.
    step : int
        Elements between those.
    first : int
        Byte of the output where position 0 is.
    contiguous : bool
        Whether positions are neighbours in the output.
    """

    axes: Ints
    row: int
    step: int
    first: int = 0
    contiguous: bool = True

    @cached_property
    def n_positions(self) -> int:
        """Positions of all axes."""
        return int(np.prod(self.axes[:, POSITIONS]))

    @cached_property
    def n_elements(self) -> int:
        """Elements of a channel of the input."""
        return int(np.prod(self.axes[:, SIZE]))

    @cached_property
    def n_taps(self) -> int:
        """Taps of all axes."""
        return int(np.prod(self.axes[:, TAPS]))

    @cached_property
    def touches_all(self) -> bool:
        """Whether every element of the input is seen by some position: what is not finite then shows in the output."""
        return all(
            len(np.intersect1d(np.add.outer(np.arange(n) * stride, np.arange(taps) * dilation) - low, np.arange(size)))
            == size
            for n, stride, dilation, low, size, taps in self.axes[:, : TAPS + 1]
        )

    @property
    def taps(self) -> Ints:
        """Bytes between what the taps of one position touch and what the position would without taps."""
        offsets = np.zeros(1, np.int64)
        for axis in self.axes:
            at = (np.arange(axis[TAPS]) * axis[DILATION] - axis[LOW]) * axis[X_STEP]
            offsets = (offsets[:, None] + at).ravel()
        return offsets

    def slots(self, size: int) -> int:
        """Return the pieces that a tile can have at most, and eight more.

        Parameters
        ----------
        size : int
            Bytes of a number.

        Returns
        -------
        int
            How many.
        """
        lanes = VECTOR_BYTES // size
        n = TILE_VECTORS * lanes
        return min(n, n // self.row + 2 + TILE_VECTORS) + 8


def walk(
    positions: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...], low: tuple[int, ...],
    size: tuple[int, ...], taps: tuple[int, ...], item: int, first: int = 0,
) -> Walk:  # fmt: skip
    """Describe a convolution whose output is dense.

    Parameters
    ----------
    positions, stride, dilation, low, size, taps : tuple of int
        Output size, geometry, input size and kernel size, per axis.
    item : int
        Bytes of a number.
    first : int
        Byte of the output where position 0 is.

    Returns
    -------
    Walk
        The way.
    """
    n = len(positions)
    axes = np.array(
        [
            [positions[a], stride[a], dilation[a], low[a], size[a], taps[a]]
            + [math.prod(lengths[a + 1 :]) * item for lengths in (size, positions)]
            for a in range(n)
        ],
        np.int64,
    )
    row, step = positions[-1], stride[-1]
    if step == 1:
        for a in range(n - 2, -1, -1):
            if stride[a] != 1 or positions[a + 1] != size[a + 1]:
                break
            row *= positions[a]
    return Walk(axes, row, step, first)
