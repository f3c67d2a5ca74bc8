"""The loop over the tiles of a dense convolution: panels packed, multiplied, and edges written."""

from __future__ import annotations

import numpy as np

from tensorconv.convolution.atomics import claim_part
from tensorconv.convolution.finite import judge, scan
from tensorconv.convolution.loops import Floats, Ints, compiled
from tensorconv.convolution.microkernel import (
    blend1,
    blend4,
    column1,
    column8,
    copy1,
    copy3,
    copy4,
    copy5,
    copy8,
    pack2,
    pack3,
    skip4,
    skip8,
    tile1,
    tile2,
    tile3,
)
from tensorconv.convolution.team import invite
from tensorconv.convolution.tiles import (
    COLUMN_BLOCKS,
    Tables,
    empty_tables,
    fill_tables,
    n_tiles,
)
from tensorconv.convolution.vectors import TILE_VECTORS, VECTOR_BYTES
from tensorconv.convolution.ways import POSITIONS, SIZE, TAPS

PANEL_ROWS, MOST_ROWS = 128, 192  # of a panel: 24 KB of a first-level cache of 48, with AVX-512


@compiled
def dense_tiles(
    x: Floats, weights: Floats, bias: Floats, runs: Ints, passes: Ints, axes: Ints, way: Ints, task: Ints,
    tables: Tables, blend: tuple[Floats, Floats, Ints], y: Floats, counter: Ints, team: int,
) -> None:  # fmt: skip
    """Convolve what other threads have not claimed yet.

    Parameters
    ----------
    x : ndarray, shape (B, G I L)
        Data.
    weights, bias, runs, passes, axes : ndarray
        The fields of Dense and Walk.
    way : ndarray of int64, shape (5,)
        Row, step, first and contiguous of Walk, and its slots.
    task : ndarray of int64, shape (8,)
        Out-channels per group, tiles per pass over the weights and per part; the first part that is split into several
        by its out-channels, how many are, and into how many, which are those that are claimed last; the first tile and
        the last, end excluded.
    tables : tuple of ndarray
        The tables of all tiles, as :func:`fill_tables` fills them, or of none: then they are made here.
    blend : tuple of ndarray
        The fields of Blend.
    y : ndarray, shape (B, G O P)
        Receives the output.
    counter : ndarray of int64, shape (5,)
        What is claimed, of the work and of the looking at the data, and whether they are not finite; then what the
        caller and what the team has claimed.
    team : int
        Address of a team to invite, 0 for none; negative for a thread of the team.
    """
    invite(team)
    n_images, (n_groups, n_blocks, n_rows, channels) = len(x), weights.shape
    step, y_first, contiguous, slots = way[1], way[2], way[3], way[4]
    n_out, group, chunk, first_split, n_split, splits = task[0], task[1], task[2], task[3], task[4], task[5]
    size = x.itemsize
    lanes = VECTOR_BYTES // size
    n_positions, n_taps, x_channel = 1, 1, size
    for a in range(len(axes)):
        n_positions *= axes[a, POSITIONS]
        n_taps *= axes[a, TAPS]
        x_channel *= axes[a, SIZE]
    vectors, whole_tiles, _ = n_tiles(n_positions, lanes, n_blocks)
    tile_chunks = (task[7] - task[6] + chunk - 1) // chunk
    n_parts = n_images * n_groups * tile_chunks
    most_blocks = n_blocks if n_split < n_parts else (n_blocks + splits - 1) // splits
    y_channel = y.shape[1] // (n_groups * n_out)
    x_group = x.shape[1] // n_groups * size
    tile_bytes = TILE_VECTORS * VECTOR_BYTES
    panel_values = np.zeros(MOST_ROWS * (TILE_VECTORS + 1) * lanes + 32, x.dtype)
    edge = np.empty(group * most_blocks * channels * TILE_VECTORS * lanes + 16, x.dtype)
    panel = (panel_values.ctypes.data + 63) // 64 * 64
    panel_first, x_values = (panel - panel_values.ctypes.data) // size, x.reshape(-1)
    edges = (edge.ctypes.data + 63) // 64 * 64
    edge_first = (edges - edge.ctypes.data) // size
    factors, constants, offsets = blend
    is_blended, is_kept = len(factors) > 0, len(tables[0]) > 0
    if not is_kept:
        tables = empty_tables(group, axes, way, lanes)
    pieces, sources, targets, masks, outputs, taps = tables
    seen = np.zeros(4 * lanes, x.dtype)
    seen_at = seen.ctypes.data
    scan(x_values, seen, counter)
    while True:
        unit = claim_part(counter, n_parts + n_split * (splits - 1), team)
        if unit < 0:
            judge(seen, counter)
            break
        first_block, last_block = 0, n_blocks
        if unit >= first_split + n_split * splits:
            unit -= n_split * (splits - 1)
        elif unit >= first_split:
            split = (unit - first_split) % splits
            first_block, last_block = n_blocks * split // splits, n_blocks * (split + 1) // splits
            unit = first_split + (unit - first_split) // splits
        first_tile = task[6] + unit % tile_chunks * chunk
        last_tile = min(task[7], first_tile + chunk)
        unit //= tile_chunks
        g, image = unit % n_groups, unit // n_groups
        x_at = x.ctypes.data + image * x.shape[1] * size + g * x_group
        y_at = y.ctypes.data + (image * y.shape[1] + g * n_out * y_channel) * size + y_first
        y_values = y[image]
        for t0 in range(first_tile, last_tile, group):
            t1 = min(last_tile, t0 + group)
            if not is_kept:
                fill_tables(axes, way, n_blocks, t0, t1, size, tables)
            for p in range(len(passes)):
                for t in range(t0, t1):
                    i = t - t0
                    v0, v1 = vectors, vectors + 1
                    if t < whole_tiles:
                        v0, v1 = vectors * t // whole_tiles, vectors * (t + 1) // whole_tiles
                    nv, q0, q1 = v1 - v0, v0 * lanes, min(n_positions, v1 * lanes)
                    entry = t if is_kept else i
                    n = pieces[entry]
                    pitch = (nv if n <= 8 else nv + 1) * VECTOR_BYTES  # room for overruns, if in several passes
                    first_run, last_run = passes[p, 0], passes[p, 1]
                    while last_run - first_run > 1 and runs[first_run, 3] < taps[entry, 0]:  # outside everywhere
                        first_run += 1
                    while last_run - first_run > 1 and runs[last_run - 1, 3] > taps[entry, 1]:
                        last_run -= 1
                    k0, n_runs = runs[first_run, 0], last_run - first_run
                    k_rows = runs[last_run - 1, 0] + runs[last_run - 1, 1] - k0
                    run = runs.ctypes.data + first_run * runs.shape[1] * 8
                    source, target, mask = (
                        sources[entry].ctypes.data,
                        targets[entry].ctypes.data,
                        masks[entry].ctypes.data,
                    )
                    whole = n == nv and targets[entry, n - 1] == (n - 1) * VECTOR_BYTES  # a piece is a vector
                    # while the first block is multiplied
                    packs = step == 1 and n > 1 and whole and t < whole_tiles and not is_blended
                    if is_blended:
                        for j in range(2):  # fours of channels, and what is left of them
                            done = 0 if j == 0 else k_rows // 4 * 4
                            times = k_rows // 4 if j == 0 else k_rows - done
                            blending = (
                                panel + done * pitch, pitch, target, offsets.ctypes.data, n_taps,
                                x_at + (k0 + done) * x_channel, x_channel, source, mask, slots * 8,
                                factors.ctypes.data + (k0 + done) * n_taps * size,
                                constants.ctypes.data + (k0 + done) * size, times,
                            )  # fmt: skip
                            if times > 0 and j == 0:
                                blend4(x, blending)
                            elif times > 0:
                                blend1(x, blending)
                    elif step <= 2 and not packs:
                        for j in range(0, 8 * n, 64):
                            copying = (
                                panel, pitch, target + j, run, n_runs, k0, x_at, x_channel, source + j, mask + j,
                                slots * 8,
                            )  # fmt: skip
                            if step == 2 and n <= 4:
                                skip4(x, copying)
                            elif step == 2:
                                skip8(x, copying)
                            elif n == 1:
                                copy1(x, copying)
                            elif n <= 3:
                                copy3(x, copying)
                            elif n == 4:
                                copy4(x, copying)
                            elif n == 5:
                                copy5(x, copying)
                            else:
                                copy8(x, copying)
                    elif step > 2:
                        for r in range(first_run, first_run + n_runs):
                            row, count, tap = runs[r, 0] - k0, runs[r, 1], runs[r, 3]
                            x_first = image * x.shape[1] + (g * x_group + runs[r, 2]) // size
                            for k in range(count):
                                for j in range(n):
                                    into = panel_first + ((row + k) * pitch + targets[entry, j]) // size
                                    at = x_first + (k * x_channel + sources[entry, j]) // size
                                    for lane in range(min(lanes, (pitch - targets[entry, j]) // size)):
                                        is_inside = masks[entry, tap, j] >> lane & 1
                                        panel_values[into + lane] = x_values[at + lane * step] if is_inside else 0
                    if t == whole_tiles:  # what is left over
                        o, weights_step = first_block, n_rows * channels * size
                        while o < last_block:
                            w = weights.ctypes.data + ((g * n_blocks + o) * n_rows + k0) * channels * size
                            b = bias.ctypes.data + (g * n_blocks + o) * channels * size
                            at_once = COLUMN_BLOCKS if o + COLUMN_BLOCKS <= last_block else 1
                            for j in range(q1 - q0):
                                sums = edges + i * most_blocks * channels * tile_bytes
                                sums += (j * most_blocks + o - first_block) * channels * size
                                column = (w, weights_step, panel + j * size, pitch, k_rows, sums, b, p, seen_at)
                                if at_once == 1:
                                    column1(x, column)
                                else:
                                    column8(x, column)
                            o += at_once
                        if p == len(passes) - 1:
                            for o in range(first_block * channels, min(n_out, last_block * channels)):
                                at = (g * n_out + o) * y_channel + y_first // size
                                e = edge_first + i * most_blocks * channels * TILE_VECTORS * lanes
                                for j in range(q1 - q0):
                                    to = q0 + j if contiguous == 1 else outputs[entry, j]
                                    y_values[at + to] = edge[e + (j * most_blocks - first_block) * channels + o]
                        continue
                    through_edge = contiguous == 0 or q1 - q0 < nv * lanes
                    for o in range(first_block, last_block):
                        w = weights.ctypes.data + ((g * n_blocks + o) * n_rows + k0) * channels * size
                        b = bias.ctypes.data + (g * n_blocks + o) * channels * size
                        to, to_step = y_at + (o * channels * y_channel + q0) * size, y_channel * size
                        if through_edge or (o + 1) * channels > n_out:
                            to = edges + (i * most_blocks + o - first_block) * channels * tile_bytes
                            to_step = tile_bytes
                        ahead, ahead_step = w, 0
                        if group > 1:  # weights from beyond the second-level cache: the next block of them
                            ahead, ahead_step = w + n_rows * channels * size, channels * size
                        if packs and o == first_block:
                            packing = (
                                w, panel, pitch, k_rows, to, to_step, b, p, seen_at,
                                run, n_runs, k0, x_at, x_channel, source, mask, slots * 8,
                            )  # fmt: skip
                            if nv == 3:
                                pack3(x, packing)
                            else:
                                pack2(x, packing)
                            continue
                        where = (w, panel, pitch, k_rows, to, to_step, b, p, seen_at, ahead, ahead_step)
                        if nv == 3:
                            tile3(x, where)
                        elif nv == 2:
                            tile2(x, where)
                        else:
                            tile1(x, where)
                    if p == len(passes) - 1:
                        in_place = n_out // channels * channels
                        start = first_block * channels if through_edge else max(in_place, first_block * channels)
                        for o in range(start, min(n_out, last_block * channels)):
                            e = edge_first + (i * most_blocks * channels + o - first_block * channels) * (
                                TILE_VECTORS * lanes
                            )
                            at = (g * n_out + o) * y_channel + y_first // size
                            if contiguous == 1:
                                y_values[at + q0 : at + q1] = edge[e : e + q1 - q0]
                            else:
                                for j in range(q1 - q0):  # unsigned: not counted from the end
                                    y_values[np.uint64(at + outputs[entry, j])] = edge[np.uint64(e + j)]
