"""What the positions of a tile touch: pieces of consecutive elements, and for every tap which of them are inside.

Where an element would be outside, a bit is not set.
"""

from __future__ import annotations

import numpy as np

from tensorconv.convolution.loops import Ints, compiled
from tensorconv.convolution.vectors import TILE_VECTORS, VECTOR_BYTES
from tensorconv.convolution.ways import DILATION, LOW, POSITIONS, SIZE, STRIDE, TAPS, X_STEP, Y_STEP

LEFT_OVER = 4  # positions behind the last whole vector that are done one by one
COLUMN_BLOCKS = 8  # of out-channels that hide how long one sum takes
Tables = tuple[Ints, Ints, Ints, Ints, Ints, Ints]  # of tiles: pieces, sources, targets, masks, outputs, taps
EVEN = 0x5555555555555555


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
        Receives the element of the output of each position, unless it is empty.

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
                    outputs[q - first + done + j] = (output + j * axes[n_axes - 1, Y_STEP]) // size
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


@compiled
def n_tiles(n_positions: int, lanes: int, n_blocks: int) -> tuple[int, int, int]:
    """Return into how many vectors and tiles positions are cut.

    Parameters
    ----------
    n_positions : int
        Positions.
    lanes : int
        Numbers in a vector.
    n_blocks : int
        Blocks of out-channels.

    Returns
    -------
    (int, int, int)
        Vectors, tiles of them, and 1 if a few positions are left over, else 0.
    """
    left = n_positions % lanes
    few = 1 if n_positions > lanes and 0 < left <= LEFT_OVER and n_blocks >= COLUMN_BLOCKS else 0
    vectors = n_positions // lanes if few else (n_positions + lanes - 1) // lanes
    return vectors, (vectors + TILE_VECTORS - 1) // TILE_VECTORS, few


@compiled
def empty_tables(n: int, axes: Ints, way: Ints, lanes: int) -> Tables:
    """Return tables of tiles that are still to be filled.

    Parameters
    ----------
    n : int
        Tiles.
    axes : ndarray
        Of the walk.
    way : ndarray of int64, shape (5,)
        Row, step, first and contiguous of Walk, and its slots.
    lanes : int
        Numbers in a vector.

    Returns
    -------
    tuple of ndarray
        Number of pieces, what :func:`tile_pieces` fills (sources, targets, masks and outputs), and the first and last
        tap that is inside the input anywhere.
    """
    n_taps, slots = 1, way[4]
    for a in range(len(axes)):
        n_taps *= axes[a, TAPS]
    return (
        np.empty(n, np.int64),
        np.empty((n, slots), np.int64),
        np.empty((n, slots), np.int64),
        np.empty((n, n_taps, slots), np.int64),
        np.empty((n, 0 if way[3] else TILE_VECTORS * lanes), np.int64),
        np.empty((n, 2), np.int64),
    )


@compiled
def fill_tables(
    axes: Ints, way: Ints, n_blocks: int, first: int, last: int, size: int,
    tables: Tables,
) -> None:  # fmt: skip
    """Fill the tables of some tiles.

    Parameters
    ----------
    axes, way : ndarray
        As for :func:`empty_tables`.
    n_blocks : int
        Blocks of out-channels.
    first, last : int
        The tiles, end excluded.
    size : int
        Bytes of a number.
    tables : tuple of ndarray
        The tables.
    """
    pieces, sources, targets, masks, outputs, taps = tables
    lanes, n_positions, n_words = VECTOR_BYTES // size, 1, 1
    for a in range(len(axes)):
        n_positions *= axes[a, POSITIONS]
        n_words = max(n_words, axes[a, TAPS])
    vectors, whole_tiles, _ = n_tiles(n_positions, lanes, n_blocks)
    words = np.empty((n_words, way[4]), np.int64)
    lines = np.empty((TILE_VECTORS * lanes + 1, 3 + len(axes)), np.int64)
    for t in range(first, last):
        i, q0, q1 = t - first, vectors * lanes, n_positions
        if t < whole_tiles:
            q0 = vectors * t // whole_tiles * lanes
            q1 = min(n_positions, vectors * (t + 1) // whole_tiles * lanes)
        pieces[i] = tile_pieces(
            axes, way[0], way[1], q0, q1, lanes, size, sources[i], targets[i], masks[i], words, lines, outputs[i]
        )
        taps[i, 0], taps[i, 1] = 0, masks.shape[1] - 1
        while taps[i, 0] < taps[i, 1] and not masks[i, taps[i, 0], : pieces[i]].any():
            taps[i, 0] += 1
        while taps[i, 0] < taps[i, 1] and not masks[i, taps[i, 1], : pieces[i]].any():
            taps[i, 1] -= 1
