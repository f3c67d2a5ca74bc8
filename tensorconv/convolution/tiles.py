"""What the positions of a tile touch: pieces of consecutive elements, and for every tap which of them are inside.

The address of an element of the input is the sum of a part of the position, a part of the tap and a part of the
channel, whatever the number of axes. Where the element would be outside, a bit is not set.
Where a position's neighbour touches the neighbouring element throughout several axes, they are one long row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tensorconv.convolution.loops import Ints, compiled
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

    @property
    def n_positions(self) -> int:
        """Positions of all axes."""
        return int(np.prod(self.axes[:, POSITIONS]))

    @property
    def n_taps(self) -> int:
        """Taps of all axes."""
        return int(np.prod(self.axes[:, TAPS]))

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
    size: tuple[int, ...], taps: tuple[int, ...], item: int,
) -> Walk:  # fmt: skip
    """Describe a convolution whose output is dense.

    Parameters
    ----------
    positions, stride, dilation, low, size, taps : tuple of int
        Output size, geometry, input size and kernel size, per axis.
    item : int
        Bytes of a number.

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
    return Walk(axes, row, step)


@compiled
def tile_pieces(
    axes: Ints, row: int, step: int, first: int, last: int, lanes: int, size: int,
    sources: Ints, targets: Ints, masks: Ints, words: Ints, coordinates: Ints, outputs: Ints,
) -> int:  # fmt: skip
    """Fill the tables of one tile of positions and return the number of its pieces, of at most one vector each.

    Parameters
    ----------
    axes, row, step : ndarray, int, int
        The fields of Walk.
    first, last : int
        The tile, end excluded.
    lanes, size : int
        Numbers in a vector, and bytes of a number.
    sources, targets : ndarray of int64, shape (slots,)
        Receive the byte of the input and of a panel's row where each piece begins, the last one again up to the end.
    masks : ndarray of int64, shape (K, slots)
        Receives the bits of each piece that are inside, for every tap.
    words : ndarray of int64, shape (K1 + .. + KN, slots)
        Workspace.
    coordinates : ndarray of int64, shape (N, slots * lanes)
        Workspace.
    outputs : ndarray of int64, shape (slots * lanes,)
        Receives the byte of the output of each position.

    Returns
    -------
    int
        The number of pieces.
    """
    n_axes, slots = len(axes), len(sources)
    at = np.empty(n_axes, np.int64)
    rest = first
    for a in range(n_axes - 1, -1, -1):
        at[a] = rest % axes[a, POSITIONS]
        rest //= axes[a, POSITIONS]
    counts = np.empty(slots, np.int64)
    spread = 2 if step == 2 else 1  # between the bits of neighbours
    n = 0
    q = first
    while q < last:
        count = min(lanes, row - q % row, last - q)
        source = 0
        for a in range(n_axes):
            source += axes[a, STRIDE] * at[a] * axes[a, X_STEP]
        sources[n], targets[n], counts[n] = source, (q - first) * size, count
        for j in range(count):
            output = 0
            for a in range(n_axes):
                coordinates[a, n * lanes + j] = at[a] * axes[a, STRIDE]
                output += at[a] * axes[a, Y_STEP]
            outputs[q - first + j] = output
            a = n_axes - 1
            at[a] += 1
            while a > 0 and at[a] == axes[a, POSITIONS]:
                at[a] = 0
                a -= 1
                at[a] += 1
        n += 1
        q += count
    n_taps = len(masks)
    for i in range(n):
        full = 0
        for j in range(counts[i]):
            full |= 1 << (j * spread)
        for t in range(n_taps):
            masks[t, i] = full
    repeat = n_taps
    for a in range(n_axes):
        taps, dilation, low, length = axes[a, TAPS], axes[a, DILATION], axes[a, LOW], axes[a, SIZE]
        repeat //= taps
        highest = (axes[a, POSITIONS] - 1) * axes[a, STRIDE] + (taps - 1) * dilation - low
        if low <= 0 and highest < length:
            continue
        for k in range(taps):
            for i in range(n):
                word = 0
                for j in range(counts[i]):
                    inside = coordinates[a, i * lanes + j] + k * dilation - low
                    word |= (1 << (j * spread)) if 0 <= inside < length else 0
                words[k, i] = word
        t = 0
        while t < n_taps:
            for k in range(taps):
                for _ in range(repeat):
                    for i in range(n):
                        masks[t, i] &= words[k, i]
                    t += 1
    for i in range(n, min(n + 8, slots)):
        sources[i], targets[i] = sources[n - 1], targets[n - 1]
        for t in range(n_taps):
            masks[t, i] = masks[t, n - 1]
    return n
