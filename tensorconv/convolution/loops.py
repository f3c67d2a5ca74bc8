"""The loops, compiled by Numba: pure arithmetic over flattened arrays and offset tables, for any number of axes.

Every output element is summed by one thread in an order that depends on shapes only, so results are bitwise the same
for any number of threads. Workspaces are handed in and hold one tile of positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Loop = TypeVar("Loop", bound=Callable[..., Any])
Floats = NDArray[Any]
Ints = NDArray[np.int64]


def compiled(loop: Loop) -> Loop:
    """Compile a loop without the interpreter lock, cached on disk if that is possible; no fast-math, for the bounds.

    Parameters
    ----------
    loop : callable
        A function of plain loops over arrays.

    Returns
    -------
    callable
        The compiled function, of the same signature.
    """
    try:
        return cast(Loop, numba.njit(nogil=True, cache=True)(loop))
    except RuntimeError:  # there is no folder that a cache can be written to
        return cast(Loop, numba.njit(nogil=True)(loop))


@compiled
def tile_offsets(entries: Ints, taps: Ints, positions: Ints, first: int, offsets: Ints) -> None:
    """Fill the offsets of one tile of positions.

    Parameters
    ----------
    entries, taps, positions : ndarray of int64
        The fields of OffsetTables.
    first : int
        First position of the tile.
    offsets : ndarray of int64, shape (K, tile)
        Receives the element that tap k of position first + j touches; negative means outside.
    """
    n_taps, n_tile = offsets.shape
    for j in range(n_tile):
        for k in range(n_taps):
            offsets[k, j] = 0
    start = len(entries)
    position_step = 1
    tap_step = 1
    for axis in range(len(taps) - 1, -1, -1):
        start -= taps[axis] * positions[axis]
        for k in range(n_taps):
            row = start + (k // tap_step) % taps[axis] * positions[axis]
            for j in range(n_tile):
                offsets[k, j] += entries[row + (first + j) // position_step % positions[axis]]
        position_step *= positions[axis]
        tap_step *= taps[axis]


@compiled
def gather(x: Floats, weights: Floats, bias: Floats, offsets: Ints, panel: Floats, y: Floats) -> None:
    """Convolve one tile of positions.

    Parameters
    ----------
    x : ndarray, shape (C, L)
        One flattened image.
    weights : ndarray, shape (G, O/G, I K)
        The kernel.
    bias : ndarray, shape (O,)
        The bias.
    offsets : ndarray of int64, shape (K, tile)
        What every tap of the tile's positions touches.
    panel : ndarray, shape (I K, tile)
        Workspace for the patches of one group.
    y : ndarray, shape (O, tile)
        Receives the output.
    """
    n_groups, n_out, n_rows = weights.shape
    n_taps, n_tile = offsets.shape
    n_in = n_rows // n_taps
    for g in range(n_groups):
        for i in range(n_in):
            source = x[g * n_in + i]
            for k in range(n_taps):
                for j in range(n_tile):
                    at = offsets[k, j]
                    panel[i * n_taps + k, j] = source[at] if at >= 0 else 0
        for o in range(n_out):
            sums = y[g * n_out + o]
            sums[:] = bias[g * n_out + o]
            for row in range(n_rows):
                weight = weights[g, o, row]
                if weight == 0:  # of a sparse kernel, which is then shifted and added
                    continue
                values = panel[row]
                for j in range(n_tile):
                    sums[j] += weight * values[j]


@compiled
def scatter(
    x: Floats, weights: Floats, bias: Floats, entries: Ints, taps: Ints, positions: Ints,
    offsets: Ints, column: Floats, y: Floats,
) -> None:  # fmt: skip
    """Convolve transposed: all input positions of one image and group, tile by tile, for some out-channels.

    Parameters
    ----------
    x : ndarray, shape (I, P)
        The group's channels of one flattened image.
    weights : ndarray, shape (O, K, I)
        The kernel of these out-channels.
    bias : ndarray, shape (O,)
        Their bias.
    entries, taps, positions : ndarray of int64
        The fields of OffsetTables.
    offsets : ndarray of int64, shape (K, tile)
        Workspace for what the taps of a tile touch.
    column : ndarray, shape (tile,)
        Workspace for one tap's contributions.
    y : ndarray, shape (O, L)
        Receives the output.
    """
    n_out, n_taps, n_in = weights.shape
    n_positions = x.shape[1]
    n_tile = offsets.shape[1]
    y[:] = 0
    for first in range(0, n_positions, n_tile):
        n = min(n_tile, n_positions - first)
        tile_offsets(entries, taps, positions, first, offsets[:, :n])
        for o in range(n_out):
            for k in range(n_taps):
                column[:n] = 0
                for i in range(n_in):
                    weight = weights[o, k, i]
                    if weight == 0:
                        continue
                    values = x[i, first : first + n]
                    for j in range(n):
                        column[j] += weight * values[j]
                for j in range(n):
                    at = offsets[k, j]
                    if at >= 0:
                        y[o, at] += column[j]
    for o in range(n_out):
        y[o] += bias[o]
