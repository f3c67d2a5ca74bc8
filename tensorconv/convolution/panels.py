"""The loop over the tiles of a dense convolution: panels packed, multiplied, and edges written."""

from __future__ import annotations

import numpy as np

from tensorconv.convolution.finite import judge, look, scan
from tensorconv.convolution.loops import Floats, Ints, compiled
from tensorconv.convolution.microkernel import (
    column1,
    column8,
    copy1,
    copy2,
    copy3,
    copy4,
    copy5,
    copy8,
    skip4,
    skip8,
    tile1,
    tile2,
    tile3,
)
from tensorconv.convolution.tiles import LOW, POSITIONS, SIZE, TAPS, tile_pieces
from tensorconv.convolution.vectors import TILE_VECTORS, VECTOR_BYTES, claim

PANEL_ROWS = 128  # of a panel: 24 KB of a first-level cache of 48, with AVX-512
LEFT_OVER = 4  # positions behind the last whole vector that are done one by one
COLUMN_BLOCKS = 8  # of out-channels that hide how long one sum takes


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
def dense_tiles(
    x: Floats, weights: Floats, bias: Floats, rows: Ints, mask_rows: Ints, axes: Ints, way: Ints, task: Ints,
    y: Floats, counter: Ints,
) -> None:  # fmt: skip
    """Convolve what other threads have not claimed yet.

    Parameters
    ----------
    x : ndarray, shape (B, G I L)
        Data.
    weights, bias, rows, mask_rows, axes : ndarray
        The fields of Dense and Walk.
    way : ndarray of int64, shape (5,)
        Row, step, first and contiguous of Walk, and its slots.
    task : ndarray of int64, shape (4,)
        Out-channels per group, tiles per pass over the weights, tiles and blocks of out-channels per claim.
    y : ndarray, shape (B, G O P)
        Receives the output.
    counter : ndarray of int64, shape (3,)
        What is claimed, of the work and of the looking at the data, and whether they are not finite.
    """
    n_images, (n_groups, n_blocks, n_rows, channels) = len(x), weights.shape
    row_length, step, y_first, contiguous, slots = way[0], way[1], way[2], way[3], way[4]
    n_out, group, chunk, chunk_blocks = task[0], task[1], task[2], task[3]
    size = x.itemsize
    lanes = VECTOR_BYTES // size
    n_positions, n_taps, n_words = 1, 1, 1
    for a in range(len(axes)):
        n_positions *= axes[a, POSITIONS]
        n_taps *= axes[a, TAPS]
        n_words = max(n_words, axes[a, TAPS])
    vectors, whole_tiles, few = n_tiles(n_positions, lanes, n_blocks)
    tiles = whole_tiles + few
    tile_chunks, block_chunks = (tiles + chunk - 1) // chunk, (n_blocks + chunk_blocks - 1) // chunk_blocks
    passes = (n_rows + PANEL_ROWS - 1) // PANEL_ROWS
    pass_rows = (n_rows + passes - 1) // passes
    y_channel = y.shape[1] // (n_groups * n_out)
    x_group = x.shape[1] // n_groups * size
    tile_bytes = TILE_VECTORS * VECTOR_BYTES
    panel_values = np.empty(PANEL_ROWS * (TILE_VECTORS + 1) * lanes + 32, x.dtype)
    edge = np.empty(group * chunk_blocks * channels * TILE_VECTORS * lanes + 16, x.dtype)
    panel = (panel_values.ctypes.data + 63) // 64 * 64
    panel_first, x_values = (panel - panel_values.ctypes.data) // size, x.reshape(-1)
    edges = (edge.ctypes.data + 63) // 64 * 64
    edge_first = (edges - edge.ctypes.data) // size
    sources, targets = np.empty((group, slots), np.int64), np.empty((group, slots), np.int64)
    masks, words = np.empty((group, n_taps, slots), np.int64), np.empty((n_words, slots), np.int64)
    runs = np.empty((TILE_VECTORS * lanes + 1, 3 + len(axes)), np.int64)
    outputs = np.empty((group, 0 if contiguous else TILE_VECTORS * lanes), np.int64)
    pieces = np.empty(group, np.int64)
    next_row = rows[1] - rows[0] if n_rows > 1 else 0
    pointwise = n_taps == 1 and x_group == n_rows * n_positions * size and counter[1] == 0
    for a in range(len(axes)):
        pointwise = pointwise and axes[a, LOW] == 0 and axes[a, POSITIONS] == axes[a, SIZE]
    seen = np.zeros(4 * lanes, x.dtype)
    if not pointwise:
        scan(x_values, seen, counter)
    while True:
        unit = claim(counter.ctypes.data)
        if unit >= n_images * n_groups * tile_chunks * block_chunks:
            judge(seen, counter)
            break
        first_block = unit % block_chunks * chunk_blocks
        last_block = min(n_blocks, first_block + chunk_blocks)
        unit //= block_chunks
        first_tile = unit % tile_chunks * chunk
        last_tile = min(tiles, first_tile + chunk)
        unit //= tile_chunks
        g, image = unit % n_groups, unit // n_groups
        x_at = x.ctypes.data + image * x.shape[1] * size + g * x_group
        y_at = y.ctypes.data + (image * y.shape[1] + g * n_out * y_channel) * size + y_first
        y_values = y[image]
        if pointwise and first_block == 0:  # just before they are used: they come into the cache
            q0 = min(vectors, vectors * first_tile // whole_tiles) * lanes
            q1 = n_positions if last_tile >= whole_tiles else vectors * last_tile // whole_tiles * lanes
            for k in range(n_rows):
                look(x, (seen.ctypes.data, x_at + rows[k] + q0 * size, q1 - q0))
        for t0 in range(first_tile, last_tile, group):
            t1 = min(last_tile, t0 + group)
            for t in range(t0, t1):
                i = t - t0
                q0, q1 = vectors * lanes, n_positions
                if t < whole_tiles:
                    q0 = vectors * t // whole_tiles * lanes
                    q1 = min(n_positions, vectors * (t + 1) // whole_tiles * lanes)
                pieces[i] = tile_pieces(
                    axes, row_length, step, q0, q1, lanes, size,
                    sources[i], targets[i], masks[i], words, runs, outputs[i],
                )  # fmt: skip
            for k0 in range(0, n_rows, pass_rows):
                k_rows = min(pass_rows, n_rows - k0)
                for t in range(t0, t1):
                    i = t - t0
                    v0, v1 = vectors, vectors + 1
                    if t < whole_tiles:
                        v0, v1 = vectors * t // whole_tiles, vectors * (t + 1) // whole_tiles
                    nv, q0, q1 = v1 - v0, v0 * lanes, min(n_positions, v1 * lanes)
                    n = pieces[i]
                    pitch = (nv if n <= 8 else nv + 1) * VECTOR_BYTES  # room for overruns, if in several passes
                    source, target, mask = sources[i].ctypes.data, targets[i].ctypes.data, masks[i].ctypes.data
                    r, mr = rows.ctypes.data + k0 * 8, mask_rows.ctypes.data + k0 * 8
                    if step == 1:
                        if n == 1:
                            copy1(x, (panel, pitch, x_at, r, mr, k_rows, source, target, mask))
                        elif n == 2:
                            copy2(x, (panel, pitch, x_at, r, mr, k_rows, source, target, mask))
                        elif n == 3:
                            copy3(x, (panel, pitch, x_at, r, mr, k_rows, source, target, mask))
                        elif n == 4:
                            copy4(x, (panel, pitch, x_at, r, mr, k_rows, source, target, mask))
                        elif n == 5:
                            copy5(x, (panel, pitch, x_at, r, mr, k_rows, source, target, mask))
                        else:
                            for j in range(0, 8 * n, 64):
                                copy8(x, (panel, pitch, x_at, r, mr, k_rows, source + j, target + j, mask + j))
                    elif step > 2:
                        x_first = image * x.shape[1] + g * x.shape[1] // n_groups
                        for k in range(k_rows):
                            base, mask_at = x_first + rows[k0 + k] // size, mask_rows[k0 + k] // (8 * slots)
                            for j in range(n):
                                to = panel_first + (k * pitch + targets[i, j]) // size
                                at = base + sources[i, j] // size
                                for lane in range(min(lanes, pitch // size - targets[i, j] // size)):
                                    is_inside = masks[i, mask_at, j] >> lane & 1
                                    panel_values[to + lane] = x_values[at + lane * step] if is_inside else 0
                    elif n <= 4:
                        skip4(x, (panel, pitch, x_at, r, mr, k_rows, source, target, mask))
                    else:
                        for j in range(0, 8 * n, 64):
                            skip8(x, (panel, pitch, x_at, r, mr, k_rows, source + j, target + j, mask + j))
                    if t == whole_tiles:  # what is left over
                        o, weights_step = first_block, n_rows * channels * size
                        while o < last_block:
                            w = weights.ctypes.data + ((g * n_blocks + o) * n_rows + k0) * channels * size
                            b = bias.ctypes.data + (g * n_blocks + o) * channels * size
                            at_once = COLUMN_BLOCKS if o + COLUMN_BLOCKS <= last_block else 1
                            for j in range(q1 - q0):
                                sums = edges + i * chunk_blocks * channels * tile_bytes
                                sums += (j * chunk_blocks + o - first_block) * channels * size
                                where = (w, weights_step, panel + j * size, pitch, k_rows, sums, b, k0)
                                if at_once == 1:
                                    column1(x, where)
                                else:
                                    column8(x, where)
                            o += at_once
                        if k0 + k_rows == n_rows:
                            for o in range(first_block * channels, min(n_out, last_block * channels)):
                                at = (g * n_out + o) * y_channel + y_first // size
                                e = edge_first + i * chunk_blocks * channels * TILE_VECTORS * lanes
                                for j in range(q1 - q0):
                                    to = q0 + j if contiguous == 1 else outputs[i, j] // size
                                    y_values[at + to] = edge[e + (j * chunk_blocks - first_block) * channels + o]
                        continue
                    through_edge = contiguous == 0 or q1 - q0 < nv * lanes
                    for o in range(first_block, last_block):
                        w = weights.ctypes.data + ((g * n_blocks + o) * n_rows + k0) * channels * size
                        b = bias.ctypes.data + (g * n_blocks + o) * channels * size
                        to, to_step = y_at + (o * channels * y_channel + q0) * size, y_channel * size
                        if through_edge or (o + 1) * channels > n_out:
                            to = edges + (i * chunk_blocks + o - first_block) * channels * tile_bytes
                            to_step = tile_bytes
                        ahead, ahead_step = w, 0
                        if group > 1:  # weights from beyond the second-level cache: the next block of them
                            ahead, ahead_step = w + n_rows * channels * size, channels * size
                        elif n_taps == 1 and o - first_block <= TILE_VECTORS:  # the next panel
                            ahead = x_at + rows[k0] + sources[i, 0] + nv * VECTOR_BYTES + (o - first_block) * 64
                            ahead_step = next_row
                        if nv == 3:
                            tile3(x, (w, panel, pitch, k_rows, to, to_step, b, k0, ahead, ahead_step))
                        elif nv == 2:
                            tile2(x, (w, panel, pitch, k_rows, to, to_step, b, k0, ahead, ahead_step))
                        else:
                            tile1(x, (w, panel, pitch, k_rows, to, to_step, b, k0, ahead, ahead_step))
                    if k0 + k_rows == n_rows:
                        whole = n_out // channels * channels
                        start = first_block * channels if through_edge else max(whole, first_block * channels)
                        for o in range(start, min(n_out, last_block * channels)):
                            e = edge_first + (i * chunk_blocks * channels + o - first_block * channels) * (
                                TILE_VECTORS * lanes
                            )
                            at = (g * n_out + o) * y_channel + y_first // size
                            if contiguous == 1:
                                y_values[at + q0 : at + q1] = edge[e : e + q1 - q0]
                            else:
                                for j in range(q1 - q0):
                                    y_values[at + outputs[i, j] // size] = edge[e + j]
