"""Dense convolutions by tiles: a panel of inputs is packed in the first-level cache and read by every out-channel.

For each tile of positions and each block of rows (in-channels and taps), a panel is packed and multiplied by the
weights of all out-channels, eight at a time. Sums stay in the output between blocks of rows. Every output is one chain
of additions, bias first, in the order of in-channels and taps, so no tiling or sharing of the work changes a bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tensorconv.arrays import Array
from tensorconv.convolution.loops import Ints
from tensorconv.convolution.panels import dense_tiles, n_tiles
from tensorconv.convolution.threads import SMALL_WORK, n_threads, share
from tensorconv.convolution.tiles import Walk
from tensorconv.convolution.vectors import TILE_CHANNELS, TILE_VECTORS, VECTOR_BYTES

WEIGHT_BYTES = 1_000_000  # beyond these, several tiles are worked on together for each block of rows
PASS_BYTES = 400_000  # of the output that such a group of tiles has
GROUPED_TILES = 8  # in a group at most
CHANNEL_BLOCKS = 128  # of out-channels that are worked on together


@dataclass(frozen=True, eq=False)
class Dense:
    """A dense or grouped convolution planned for one input size.

    Parameters
    ----------
    way : Walk
        Positions and taps.
    weights : ndarray, shape (G, blocks, I K, channels of a tile)
        The kernel, out-channels innermost.
    bias : ndarray, shape (G, blocks * channels of a tile)
        The bias.
    n_out : int
        Out-channels of a group.
    rows, mask_rows : ndarray of int64, shape (I K,)
        Bytes from a position's element to that of each row, and of the masks of the row's tap.
    """

    way: Walk
    weights: Array
    bias: Array
    n_out: int
    rows: Ints
    mask_rows: Ints

    @cached_property
    def n_macs(self) -> int:
        """Multiply-accumulates per image."""
        return self.weights.size * self.way.n_positions

    @cached_property
    def walk_numbers(self) -> Ints:
        """The numbers of the walk, and its slots."""
        way = self.way
        return np.array([way.row, way.step, way.first, way.contiguous, way.slots(self.bias.itemsize)], np.int64)

    def __call__(self, x: Array, y: Array, *, looks: bool = True, alone: bool = False) -> bool:
        """Convolve x (B, G I, L) into y (B, G O, P); return whether x is finite, if it is looked at."""
        x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
        n_groups, n_blocks, n_rows, channels = self.weights.shape
        item = x.itemsize
        tiles = sum(n_tiles(self.way.n_positions, VECTOR_BYTES // item, n_blocks)[1:])
        group = 1
        if n_blocks * channels * n_rows * item > WEIGHT_BYTES:
            group = min(tiles, GROUPED_TILES, max(1, PASS_BYTES // (self.n_out * TILE_VECTORS * VECTOR_BYTES)))
        n_macs = 0 if alone else self.n_macs * len(x)
        wanted = 4 * n_threads() if n_macs > SMALL_WORK else 1
        others = len(x) * n_groups
        chunk = max(group, tiles * others // wanted // group * group)
        parts = -(-tiles // chunk) * others
        blocks = min(CHANNEL_BLOCKS, max(1, -(-n_blocks * parts // wanted) if parts < wanted else n_blocks))
        task = np.array([self.n_out, group, chunk, blocks], np.int64)
        arrays = (x, self.weights, self.bias, self.rows, self.mask_rows, self.way.axes, self.walk_numbers, task, y)
        return share(lambda counter: dense_tiles(*arrays, counter), n_macs=n_macs, looks=looks)


def plan_dense(way: Walk, kernel: Array, bias: Array, n_groups: int, channel_bytes: int) -> Dense:
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

    Returns
    -------
    Dense
        The planned convolution.
    """
    n_out, (_, n_in, n_taps) = len(kernel) // n_groups, kernel.shape
    n_blocks, n_rows = -(-n_out // TILE_CHANNELS), n_in * n_taps
    padded = np.zeros((n_groups, n_blocks * TILE_CHANNELS, n_rows), kernel.dtype)
    padded[:, :n_out] = kernel.reshape(n_groups, n_out, n_rows)
    weights = padded.reshape(n_groups, n_blocks, TILE_CHANNELS, n_rows).swapaxes(2, 3)
    biases = np.zeros((n_groups, n_blocks * TILE_CHANNELS), kernel.dtype)
    biases[:, :n_out] = bias.reshape(n_groups, n_out)
    rows = (np.arange(n_in)[:, None] * channel_bytes + way.taps).ravel()
    mask_rows = np.tile(np.arange(n_taps) * way.slots(kernel.itemsize) * 8, n_in)
    return Dense(way, np.ascontiguousarray(weights), biases, n_out, rows, mask_rows)
