"""What the positions of a tile touch: pieces of consecutive elements, and for every tap which of them are inside.

The address of an element of the input is the sum of a part of the position, a part of the tap and a part of the
channel, whatever the number of axes. Where the element would be outside, a bit is not set.
Where a position's neighbour touches the neighbouring element throughout several axes, they are one long row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tensorconv.convolution.loops import Ints, compiled
from tensorconv.convolution.vectors import TILE_VECTORS, VECTOR_BYTES

EVEN = 0x5555555555555555
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


@compiled
def tile_pieces(
    axes: Ints, row: int, step: int, first: int, last: int, lanes: int, size: int,
    sources: Ints, targets: Ints, masks: Ints, words: Ints, runs: Ints, outputs: Ints,
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
    words : ndarray of int64, shape (largest of K1..KN, slots)
        Workspace.
    runs : ndarray of int64, shape (tile + 1, 3 + N)
        Workspace for the runs of positions along the last axis: piece, first bit, length, and where the axes are.
    outputs : ndarray of int64, shape (tile,)
        Receives the byte of the output of each position, unless it is empty.

    Returns
    -------
    int
        The number of pieces.
    """
    n_axes, slots, n_runs, n = len(axes), len(sources), 0, 0
    spread = 2 if step == 2 else 1  # between the bits of neighbours
    rest = q = first
    for a in range(n_axes - 1, -1, -1):
        runs[0, 3 + a] = rest % axes[a, POSITIONS]
        rest //= axes[a, POSITIONS]
    in_row = row - q % row
    while q < last:
        count, source, done = min(lanes, in_row, last - q), 0, 0
        for a in range(n_axes):
            source += axes[a, STRIDE] * runs[n_runs, 3 + a] * axes[a, X_STEP]
        sources[n], targets[n] = source, (q - first) * size
        while done < count:
            at, following = runs[n_runs], runs[n_runs + 1]
            length = min(count - done, axes[n_axes - 1, POSITIONS] - at[2 + n_axes])
            at[0], at[1], at[2] = n, done * spread, length
            if len(outputs) > 0:
                output = 0
                for a in range(n_axes):
                    output += at[3 + a] * axes[a, Y_STEP]
                for j in range(length):
                    outputs[q - first + done + j] = output + j * axes[n_axes - 1, Y_STEP]
            done += length
            n_runs += 1
            for b in range(3, 3 + n_axes):
                following[b] = at[b]
            a = n_axes - 1
            following[3 + a] += length
            while a > 0 and following[3 + a] == axes[a, POSITIONS]:
                following[3 + a] = 0
                a -= 1
                following[3 + a] += 1
        in_row = row if in_row == count else in_row - count
        bits = (1 << (count * spread)) - 1
        masks[0, n] = bits & EVEN if spread == 2 else bits
        n += 1
        q += count
    n_masks = 1
    for a in range(n_axes):
        taps, stride, dilation, low, length = (
            axes[a, TAPS], axes[a, STRIDE], axes[a, DILATION], axes[a, LOW], axes[a, SIZE]
        )  # fmt: skip
        always = low <= 0 and (axes[a, POSITIONS] - 1) * stride + (taps - 1) * dilation - low < length
        for k in range(taps):
            words[k, :n] = -1 if always else 0
            if always:
                continue
            for r in range(n_runs):
                begin, end, at0 = 0, runs[r, 2], runs[r, 3 + a] * stride + k * dilation - low
                if a < n_axes - 1:
                    end = end if 0 <= at0 < length else 0
                elif stride == 1:
                    begin, end = max(0, -at0), min(end, length - at0)
                else:
                    begin, end = max(0, (stride - 1 - at0) // stride), min(end, (length - at0 + stride - 1) // stride)
                if begin < end:
                    bits = (1 << (end * spread)) - (1 << (begin * spread))
                    words[k, runs[r, 0]] |= bits << runs[r, 1]
        for m in range(n_masks - 1, -1, -1):
            for k in range(taps - 1, -1, -1):
                for i in range(n):
                    masks[m * taps + k, i] = masks[m, i] & words[k, i]
        n_masks *= taps
    for i in range(n, min(n + 8, slots)):
        sources[i], targets[i] = sources[n - 1], targets[n - 1]
        for t in range(n_masks):
            masks[t, i] = masks[t, n - 1]
    return n
