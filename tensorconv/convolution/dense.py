"""Dense convolutions by tiles: a panel of inputs is packed in the first-level cache and read by every out-channel.

For each tile of positions and each block of rows (in-channels and taps), a panel is packed and multiplied by the
weights of all out-channels, eight at a time. Sums stay in the output between blocks of rows. Every output is one chain
of additions, bias first, in an order that kernel size and in-channels decide: no tiling, no sharing of the work changes
a bit.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from tensorconv.arrays import Array
from tensorconv.convolution.loops import Ints
from tensorconv.convolution.panels import PANEL_ROWS, dense_tiles
from tensorconv.convolution.threads import granted, share
from tensorconv.convolution.tiles import Tables, empty_tables, fill_tables, n_tiles
from tensorconv.convolution.vectors import TILE_CHANNELS, TILE_VECTORS, VECTOR_BYTES
from tensorconv.convolution.ways import Walk

WEIGHT_BYTES = 1_000_000  # beyond these, several tiles are worked on together for each block of rows
PASS_BYTES = 400_000  # of the output that such a group of tiles has
GROUPED_TILES = 8  # in a group at most
TABLE_BYTES = 2**21  # of tables at most that are kept; larger ones are made again in every call
PARTS = 8  # of the tiles for each thread; those that are too many for some threads are split by out-channels
CHANNEL_BLOCKS = 128  # of out-channels that are worked on together


class Blend(NamedTuple):
    """A depthwise layer that is computed while panels are packed.

    Parameters
    ----------
    weights : ndarray, shape (C, K)
        The kernel.
    bias : ndarray, shape (C,)
        The bias.
    taps : ndarray of int64, shape (K,)
        Byte of each tap from a position's element.
    """

    weights: Array
    bias: Array
    taps: Ints


@dataclass(frozen=True, eq=False)
class Dense:
    """A dense or grouped convolution planned for one input size.

    Parameters
    ----------
    way : Walk
        Positions and taps.
    weights : ndarray, shape (G, blocks, I K, channels of a tile)
        The kernel, out-channels innermost, rows in the order of the runs.
    bias : ndarray, shape (G, blocks * channels of a tile)
        The bias.
    n_out : int
        Out-channels of a group.
    runs : ndarray of int64, shape (n, 4)
        Rows of the panel that are of one tap and of in-channels one after another: the first, how many, the bytes from
        a position's element to that of the first, and the tap.
    passes : ndarray of int64, shape (n, 2)
        What is in a panel together: the first run and the last, end excluded.
    blend : Blend
        A depthwise layer before a pointwise one, without channels if there is none.

    Attributes
    ----------
    tasks : dict
        How work is claimed, by number of images and of threads.
    """

    way: Walk
    weights: Array
    bias: Array
    n_out: int
    runs: Ints
    passes: Ints
    blend: Blend
    tasks: dict[tuple[int, int], Ints] = field(default_factory=dict, init=False)

    @cached_property
    def n_macs(self) -> int:
        """Multiply-accumulates per image."""
        return self.weights.size * self.way.n_positions

    @cached_property
    def walk_numbers(self) -> Ints:
        """The numbers of the walk, and its slots."""
        way = self.way
        return np.array([way.row, way.step, way.first, way.contiguous, way.slots(self.bias.itemsize)], np.int64)

    @cached_property
    def n_tiles(self) -> int:
        """Tiles that the positions are cut into."""
        return sum(n_tiles(self.way.n_positions, VECTOR_BYTES // self.bias.itemsize, self.weights.shape[1])[1:])

    @cached_property
    def n_kept(self) -> int:
        """Tiles whose tables are kept: all, or none where these would be large."""
        return self.n_tiles if self.n_tiles * self._table_bytes <= TABLE_BYTES else 0

    @property
    def n_bytes(self) -> int:
        """Bytes of weights and of the tables that are kept."""
        return self.weights.nbytes + self.n_kept * self._table_bytes

    @property
    def _table_bytes(self) -> int:
        size = self.bias.itemsize
        outputs = 0 if self.way.contiguous else TILE_VECTORS * VECTOR_BYTES // size
        return 8 * ((self.way.n_taps + 2) * self.way.slots(size) + outputs + 3)

    def _task(self, n_images: int, threads: int) -> Ints:
        """Return out-channels of a group, tiles per pass and per part, and which parts are split into how many."""
        if (n_images, threads) not in self.tasks:
            n_groups, n_blocks, n_rows, channels = self.weights.shape
            tiles, group = self.n_tiles, 1
            if n_blocks * channels * n_rows * self.bias.itemsize > WEIGHT_BYTES:
                group = min(tiles, GROUPED_TILES, max(1, PASS_BYTES // (self.n_out * TILE_VECTORS * VECTOR_BYTES)))
            others = n_images * n_groups
            chunk = max(group, tiles * others // (PARTS * threads) // group * group) if threads > 1 else tiles
            parts = -(-tiles // chunk) * others
            n_split, splits = (parts % threads if parts < 3 * PARTS * threads else 0), min(threads, n_blocks)
            if n_blocks > CHANNEL_BLOCKS:
                n_split, splits = parts, max(splits, -(-n_blocks // CHANNEL_BLOCKS))
            task = [self.n_out, group, chunk, (parts - n_split) // 2, n_split, splits, 0, tiles]
            self.tasks[n_images, threads] = np.array(task, np.int64)
        return self.tasks[n_images, threads]

    @cached_property
    def tables(self) -> Tables:
        """What the positions of every tile touch whose tables are kept."""
        axes, way, size = self.way.axes, self.walk_numbers, self.bias.itemsize
        tables = empty_tables(self.n_kept, axes, way, VECTOR_BYTES // size)
        fill_tables(axes, way, self.weights.shape[1], 0, self.n_kept, size, tables)
        return tables

    @cached_property
    def layer(self) -> tuple[Any, ...]:
        """What :func:`dense_tiles` is to know of the layer: all of its arguments but data and task."""
        first = self.weights, self.bias, self.runs, self.passes, self.way.axes, self.walk_numbers
        return (*first, self.tables, (self.blend.weights, self.blend.bias, self.blend.taps))

    def __call__(self, x: Array, y: Array, *, looks: bool | None = None) -> bool:
        """Convolve x (B, G I, L) into y (B, G O, P); return whether x is finite for sure."""
        x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
        threads = granted(self.n_macs * len(x))
        task, (weights, bias, runs, passes, axes, way, tables, blend) = self._task(len(x), threads), self.layer
        return share(
            lambda counter, team: dense_tiles(
                x, weights, bias, runs, passes, axes, way, task, tables, blend, y, counter, team
            ),
            threads=threads,
            looks=not self.way.touches_all if looks is None else looks,
        )


def plan_dense(
    way: Walk, kernel: Array, bias: Array, n_groups: int, channel_bytes: int, blend: Blend | None = None
) -> Dense:
    """Lay out tables and weights.

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
    blend : Blend, optional
        A depthwise layer before this one, which is pointwise then; the walk is that of the depthwise layer.

    Returns
    -------
    Dense
        The planned convolution.
    """
    n_out, n_in = len(kernel) // n_groups, kernel.shape[1]
    taps = way.taps if blend is None else np.zeros(1, np.int64)
    n_blocks, n_rows = -(-n_out // TILE_CHANNELS), n_in * len(taps)
    order, runs, passes = panel_rows(n_in, taps, channel_bytes)
    weights = np.zeros((n_groups, n_blocks, n_rows, TILE_CHANNELS), kernel.dtype)
    rows = kernel.reshape(n_groups, n_out, n_rows)
    for g, block in np.ndindex(n_groups, n_blocks):  # one by one: a large kernel is in memory often enough
        some = rows[g, block * TILE_CHANNELS : (block + 1) * TILE_CHANNELS][:, order]
        weights[g, block, :, : len(some)] = some.T
    biases = np.zeros((n_groups, n_blocks * TILE_CHANNELS), kernel.dtype)
    biases[:, :n_out] = bias.reshape(n_groups, n_out)
    if blend is None:
        blend = Blend(np.zeros((0, 1), kernel.dtype), np.zeros(0, kernel.dtype), np.zeros(0, np.int64))
    return Dense(way, weights, biases, n_out, runs, passes, blend)


def panel_rows(n_in: int, taps: Ints, channel_bytes: int) -> tuple[Ints, Ints, Ints]:
    """Return in which order in-channels and taps are gone through, in runs and passes.

    Parameters
    ----------
    n_in : int
        In-channels of a group.
    taps : ndarray of int64, shape (K,)
        Byte of each tap from a position's element.
    channel_bytes : int
        Bytes of one channel of the input.

    Returns
    -------
    order : ndarray of int64, shape (I K,)
        The weight of each row, by in-channel and tap.
    runs, passes : ndarray of int64
        The fields of Dense.
    """
    n_taps, n_rows = len(taps), 0
    n_parts = -(-n_in // max(1, round(PANEL_ROWS / n_taps))), -(-n_taps // PANEL_ROWS)
    (first, second) = (
        [n * part // parts for part in range(parts + 1)] for n, parts in zip((n_in, n_taps), n_parts, strict=True)
    )
    order: list[Ints] = []
    runs: list[tuple[int, ...]] = []
    passes: list[tuple[int, ...]] = []
    for (c0, c1), (t0, t1) in itertools.product(itertools.pairwise(first), itertools.pairwise(second)):
        passes.append((len(runs), len(runs) + t1 - t0))
        for t in range(t0, t1):
            runs.append((n_rows, c1 - c0, c0 * channel_bytes + taps[t], t))
            order.append(np.arange(c0, c1) * n_taps + t)
            n_rows += c1 - c0
    return np.concatenate(order), np.array(runs, np.int64), np.array(passes, np.int64)
