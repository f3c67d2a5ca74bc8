"""Narrow convolutions, of few out-channels per group, row by row of the output and straight from the input.

A row is a line of positions along the last axis. Bits tell what is inside: of a row for the taps of the other axes, all
or none; of the columns for the taps along the row. Square kernels without dilation take the kernel of blocks, a few
rows at a time; the last block begins early enough to be whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tensorconv.arrays import Array
from tensorconv.convolution.atomics import claim_part
from tensorconv.convolution.finite import judge, scan
from tensorconv.convolution.loops import Floats, Ints, compiled
from tensorconv.convolution.rowkernel import (
    block3x3,
    block3x3few,
    block3x3s2,
    block5x5,
    block5x5s2,
    pieces4,
    pieces4s2,
)
from tensorconv.convolution.team import invite
from tensorconv.convolution.threads import granted, share
from tensorconv.convolution.vectors import VECTOR_BYTES
from tensorconv.convolution.ways import DILATION, LOW, POSITIONS, SIZE, STRIDE, TAPS, X_STEP, Y_STEP, Walk

CLAIMS = 16  # for each thread
UNIT_BYTES = 2**17  # of the input of what a thread claims at a time
BLOCKS = {(3, 1): (1, 14), (3, 2): (2, 7), (5, 1): (3, 7), (5, 2): (4, 7)}  # kernels and their rows, by taps and stride


@dataclass(frozen=True, eq=False)
class Rows:
    """A narrow convolution planned for one input size.

    Parameters
    ----------
    way : Walk
        Positions and taps.
    weights : ndarray, shape (G O, I K)
        The kernel.
    bias : ndarray, shape (G O,)
        The bias.
    n_groups : int
        G.
    offsets, row_at, column_at : ndarray of int64, shape (I K,)
        Bytes to what each weight touches, and to its bits among those of a row and of a column.
    sources, outputs : ndarray of int64, shape (rows,)
        Byte of input and output where each row begins.
    row_bits : ndarray of int64, shape (rows, taps of the other axes)
        All bits or none.
    column_bits : ndarray of int64, shape (vectors, taps of the last axis + 1)
        Bits of each vector of columns for every tap, then those of the columns that there are.
    block, block_rows : int
        The kernel of blocks to take and its rows of output, 0 for that of pieces.

    Attributes
    ----------
    tasks : dict
        How work is claimed, by number of images and of threads.
    """

    way: Walk
    weights: Array
    bias: Array
    n_groups: int
    offsets: Ints
    row_at: Ints
    column_at: Ints
    sources: Ints
    outputs: Ints
    row_bits: Ints
    column_bits: Ints
    block: int
    block_rows: int
    tasks: dict[tuple[int, int], Ints] = field(default_factory=dict, init=False)

    @cached_property
    def n_macs(self) -> int:
        """Multiply-accumulates per image."""
        return self.weights.size * self.way.n_positions

    @property
    def n_bytes(self) -> int:
        """Bytes of weights and tables."""
        return self.weights.nbytes + self.row_bits.nbytes + self.column_bits.nbytes

    def _task(self, n_images: int, threads: int) -> Ints:
        """Return groups, rows and out-channels per claim, the kernel of blocks and its rows, the step along a row."""
        if (n_images, threads) not in self.tasks:
            wanted = CLAIMS * threads if threads > 1 else 1
            units, n_rows = n_images * len(self.weights), len(self.sources)
            chunk = n_rows if units >= wanted else max(14, -(-n_rows * units // wanted))
            group_bytes = int(self.way.axes[:, SIZE].prod()) * self.weights.itemsize
            group_bytes *= self.weights.shape[1] // self.way.n_taps
            channels = max(1, min(units // wanted, UNIT_BYTES // group_bytes))
            task = [self.n_groups, chunk, channels, self.block, self.block_rows, self.way.step]
            self.tasks[n_images, threads] = np.array(task, np.int64)
        return self.tasks[n_images, threads]

    def __call__(self, x: Array, y: Array, *, looks: bool | None = None) -> bool:
        """Convolve x (B, G I, L) into y (B, G O, P); return whether x is finite for sure."""
        x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
        threads = granted(self.n_macs * len(x))
        task = self._task(len(x), threads)
        arrays = (
            *(x, self.weights, self.bias, self.offsets, self.row_at, self.column_at),
            *(self.sources, self.outputs, self.row_bits, self.column_bits, self.way.axes, task, y),
        )
        return share(
            lambda counter, team: narrow_rows(*arrays, counter, team),
            threads=threads,
            looks=not self.way.touches_all if looks is None else looks,
        )


def plan_rows(way: Walk, kernel: Array, bias: Array, n_groups: int, channel_bytes: int) -> Rows:
    """Lay out tables.

    Parameters
    ----------
    way : Walk
        Positions and taps.
    kernel : ndarray, shape (G O, I, K)
        The kernel.
    bias : ndarray, shape (G O,)
        The bias.
    n_groups : int
        G.
    channel_bytes : int
        Bytes of one channel of the input.

    Returns
    -------
    Rows
        The planned convolution.
    """
    n_in, axes, item = kernel.shape[1], way.axes, kernel.itemsize
    sources, outputs = np.zeros(1, np.int64), np.full(1, way.first, np.int64)
    row_bits = np.full((1, 1), -1, np.int64)
    for axis in axes[:-1]:
        at = np.arange(axis[POSITIONS]) * axis[STRIDE]
        sources = (sources[:, None] + at * axis[X_STEP]).ravel()
        outputs = (outputs[:, None] + np.arange(axis[POSITIONS]) * axis[Y_STEP]).ravel()
        touched = at[:, None] + np.arange(axis[TAPS]) * axis[DILATION] - axis[LOW]
        inside = -((touched >= 0) & (touched < axis[SIZE])).astype(np.int64)
        row_bits = (row_bits[:, None, :, None] & inside[None, :, None, :]).reshape(len(sources), -1)
    last = axes[-1]
    lanes, n_taps = VECTOR_BYTES // item, int(last[TAPS])
    spread = 2 if last[STRIDE] == 2 else 1
    columns = np.arange(-(-last[POSITIONS] // lanes) * lanes)
    touched = columns[:, None] * last[STRIDE] + np.arange(n_taps) * last[DILATION] - last[LOW]
    inside = (touched >= 0) & (touched < last[SIZE])
    there = columns < last[POSITIONS]
    bits = np.concatenate([(inside & there[:, None]).astype(np.uint64), there[:, None].astype(np.uint64)], axis=1)
    shift = np.full(n_taps + 1, spread, np.uint64)
    shift[-1] = 1
    bits = bits.reshape(-1, lanes, n_taps + 1) << (np.arange(lanes, dtype=np.uint64)[:, None] * shift)
    column_bits = np.bitwise_or.reduce(bits, axis=1).view(np.int64)
    tap = np.arange(way.n_taps)
    square = len(axes) == 2 and way.contiguous and kernel.shape[1] == 1
    square = square and last[LOW] >= 0
    alike = all(axes[0, column] == last[column] for column in (STRIDE, TAPS)) and (axes[:, DILATION] == 1).all()
    block, block_rows = BLOCKS.get((n_taps, int(last[STRIDE])), (0, 0)) if square and alike else (0, 0)
    if (block, block_rows) == (1, 14) and axes[0, POSITIONS] < block_rows:
        block, block_rows = 5, 7
    return Rows(
        way,
        np.ascontiguousarray(kernel.reshape(len(kernel), -1)),
        bias,
        n_groups,
        (np.arange(n_in)[:, None] * channel_bytes + way.taps).ravel(),
        np.tile(tap // n_taps * 8, n_in),
        np.tile(tap % n_taps * 8, n_in),
        sources,
        outputs,
        np.ascontiguousarray(row_bits),
        np.ascontiguousarray(column_bits),
        block,
        block_rows,
    )


@compiled
def narrow_rows(
    x: Floats, weights: Floats, bias: Floats, offsets: Ints, row_at: Ints, column_at: Ints, sources: Ints,
    outputs: Ints, row_bits: Ints, column_bits: Ints, axes: Ints, task: Ints, y: Floats, counter: Ints, team: int,
) -> None:  # fmt: skip
    """Convolve what other threads have not claimed yet.

    Parameters
    ----------
    x : ndarray, shape (B, G I L)
        Data.
    weights, bias, offsets, row_at, column_at, sources, outputs, row_bits, column_bits, axes : ndarray
        The fields of Rows and Walk.
    task : ndarray of int64, shape (6,)
        Groups, rows and out-channels per claim, the kernel of blocks and its rows, the step along a row.
    y : ndarray, shape (B, G O P)
        Receives the output.
    counter : ndarray of int64, shape (5,)
        As for :func:`dense_tiles`.
    team : int
        Address of a team to invite, 0 for none; negative for a thread of the team.
    """
    invite(team)
    n_groups, chunk, channels, block, block_rows, step = task[0], task[1], task[2], task[3], task[4], task[5]
    n_images, (n_out, n_weights), n_rows = len(x), weights.shape, len(sources)
    size = x.itemsize
    lanes = VECTOR_BYTES // size
    last = len(axes) - 1
    n_columns, y_step = axes[last, POSITIONS], axes[last, Y_STEP]
    n_vectors = len(column_bits)
    chunks, parts = (n_rows + chunk - 1) // chunk, (n_out + channels - 1) // channels
    x_group, y_channel = x.shape[1] // n_groups, y.shape[1] // n_out
    sums = np.empty(4 * lanes + 16, x.dtype)
    zeros = np.zeros(axes[last, SIZE] if block > 0 else 0, x.dtype)
    at, seen = np.empty(16, np.int64), np.zeros(4 * lanes, x.dtype)
    scan(x.reshape(-1), seen, counter)
    while True:
        unit = claim_part(counter, n_images * parts * chunks, team)
        if unit < 0:
            judge(seen, counter)
            break
        first_row = unit % chunks * chunk
        last_row = min(n_rows, first_row + chunk)
        unit //= chunks
        first_out, image = unit % parts * channels, unit // parts
        last_out = min(n_out, first_out + channels)
        for o in range(first_out, last_out):
            g = o * n_groups // n_out
            x_at = x.ctypes.data + (image * x.shape[1] + g * x_group) * size
            y_at = y.ctypes.data + (image * y.shape[1] + o * y_channel) * size
            w, b = weights.ctypes.data + o * n_weights * size, bias.ctypes.data + o * size
            if block > 0 and last_row - first_row >= block_rows:
                height, stride, taps = axes[0, SIZE], axes[0, STRIDE], axes[0, TAPS]
                for r0 in range(first_row, last_row, block_rows):
                    r = min(r0, last_row - block_rows)
                    top = r * stride - axes[0, LOW]
                    for v in range(n_vectors):
                        at_v = (v * lanes * stride - axes[1, LOW]) * size
                        bits = column_bits.ctypes.data + v * 8 * column_bits.shape[1]
                        arguments = (
                            y_at + outputs[r] + v * VECTOR_BYTES, axes[0, Y_STEP], column_bits[v, taps],
                            x_at + top * axes[0, X_STEP] + at_v, axes[0, X_STEP], top, height,
                            zeros.ctypes.data + at_v, bits, w, b, seen.ctypes.data,
                        )  # fmt: skip
                        if block == 1:
                            block3x3(x, arguments)
                        elif block == 2:
                            block3x3s2(x, arguments)
                        elif block == 5:
                            block3x3few(x, arguments)
                        elif block == 3:
                            block5x5(x, arguments)
                        else:
                            block5x5s2(x, arguments)
                continue
            n_pieces = (last_row - first_row) * n_vectors
            for piece in range(0, n_pieces, 4):
                for i in range(4):
                    p = min(piece + i, n_pieces - 1)
                    r, v = first_row + p // n_vectors, p % n_vectors
                    at[i] = sources[r] + v * lanes * step * size
                    at[4 + i] = row_bits.ctypes.data + r * row_bits.shape[1] * 8
                    at[8 + i] = column_bits.ctypes.data + v * column_bits.shape[1] * 8
                address = at.ctypes.data
                if step <= 2:
                    where = (
                        sums.ctypes.data, x_at, address, offsets.ctypes.data, n_weights, w, b, address + 32,
                        address + 64, row_at.ctypes.data, column_at.ctypes.data, seen.ctypes.data,
                    )  # fmt: skip
                    if step == 1:
                        pieces4(x, where)
                    else:
                        pieces4s2(x, where)
                for i in range(min(4, n_pieces - piece)):
                    r, v = first_row + (piece + i) // n_vectors, (piece + i) % n_vectors
                    to = (o * y_channel * size + outputs[r] + v * lanes * y_step) // size
                    for lane in range(min(lanes, n_columns - v * lanes)):
                        if step > 2:
                            total = bias[o]
                            for k in range(n_weights):
                                is_inside = row_bits[r, row_at[k] // 8] & column_bits[v, column_at[k] // 8] >> lane
                                if is_inside & 1:
                                    from_x = g * x_group + (at[i] + offsets[k]) // size + lane * step
                                    total += weights[o, k] * x[image, from_x]
                            sums[i * lanes + lane] = total
                            seen[lane] += total * 0
                        y[image, to + lane * y_step // size] = sums[i * lanes + lane]
