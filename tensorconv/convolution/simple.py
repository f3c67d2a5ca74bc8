"""The simple path, which is the specification: tiles of patches gathered through offset tables, for any geometry."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from tensorconv.arrays import Array
from tensorconv.convolution import loops
from tensorconv.convolution.tables import OffsetTables, offset_tables
from tensorconv.convolution.threads import run_tasks
from tensorconv.geometry import ConvGeometry

TILE_BYTES = 2**18  # the panel of one tile stays in a core's second-level cache


@dataclass(frozen=True, eq=False)
class Simple:
    """Tables and weights of a layer for one input size and data type.

    Parameters
    ----------
    transposed : bool
        Whether the convolution is.
    tables : OffsetTables
        What each tap touches.
    weights : ndarray
        (G, O/G, I K) for a convolution, (G, O/G, K, I) for a transposed one.
    bias : ndarray, shape (O,)
        The bias.
    tile : int
        Positions worked on at a time.
    """

    transposed: bool
    tables: OffsetTables
    weights: Array
    bias: Array
    tile: int

    @property
    def n_bytes(self) -> int:
        """Bytes of the weights."""
        return self.weights.nbytes

    def __call__(self, x: Array, y: Array) -> bool:
        """Convolve x (B, C, L) into y (B, O, P); return whether x is finite."""
        tasks = self._transposed_tasks(x, y) if self.transposed else self._tasks(x, y)
        run_tasks(tasks, n_macs=self.weights.size * y.shape[2] * len(x))
        return bool(np.isfinite(x).all())

    def _tasks(self, x: Array, y: Array) -> Iterable[Callable[[], None]]:
        """One task per image and tile of output positions."""
        for image in range(len(x)):
            for first in range(0, y.shape[2], self.tile):
                yield partial(self._gather, x[image], y[image, :, first : first + self.tile], first)

    def _gather(self, x: Array, y: Array, first: int) -> None:
        tables = self.tables
        offsets = np.empty((math.prod(tables.taps), y.shape[1]), np.int64)
        panel = np.empty((self.weights.shape[2], y.shape[1]), x.dtype)
        loops.tile_offsets(tables.entries, tables.taps, tables.positions, first, offsets)
        loops.gather(x, self.weights, self.bias, offsets, panel, y)

    def _transposed_tasks(self, x: Array, y: Array) -> Iterable[Callable[[], None]]:
        """One task per image, group and block of out-channels: no two tasks add to the same output element."""
        n_groups, n_out, _, n_in = self.weights.shape
        block = max(1, -(-n_out // 8))
        for image in range(len(x)):
            for g in range(n_groups):
                for o in range(0, n_out, block):
                    rows = slice(g * n_out + o, g * n_out + min(o + block, n_out))
                    inputs = x[image, g * n_in : (g + 1) * n_in]
                    yield partial(
                        self._scatter, inputs, self.weights[g, o : o + block], self.bias[rows], y[image, rows]
                    )

    def _scatter(self, x: Array, weights: Array, bias: Array, y: Array) -> None:
        tables = self.tables
        offsets = np.empty((weights.shape[1], self.tile), np.int64)
        column = np.empty(self.tile, x.dtype)
        loops.scatter(x, weights, bias, tables.entries, tables.taps, tables.positions, offsets, column, y)


def plan_simple(
    geometry: ConvGeometry, kernel: Array, bias: Array, input_size: tuple[int, ...], output_size: tuple[int, ...]
) -> Simple:
    """Lay out tables and weights.

    Parameters
    ----------
    geometry : ConvGeometry
        The geometry.
    kernel : ndarray, shape (O, I/G, K1..KN)
        The kernel.
    bias : ndarray, shape (O,)
        The bias.
    input_size, output_size : tuple of int
        Spatial sizes.

    Returns
    -------
    Simple
        The planned layer.
    """
    positions, touched = (input_size, output_size) if geometry.transposed else (output_size, input_size)
    n_groups, (n_out, n_in, *taps) = geometry.groups, kernel.shape
    weights: Array = kernel.reshape(n_groups, n_out // n_groups, n_in, -1)
    n_rows = math.prod(taps) if geometry.transposed else math.prod(taps) * n_in
    weights = np.swapaxes(weights, 2, 3) if geometry.transposed else weights.reshape(*weights.shape[:2], n_rows)
    tile = min(max(32, TILE_BYTES // (n_rows * kernel.itemsize)), 1024, math.prod(positions))
    tables = offset_tables(geometry, tuple(taps), positions, touched)
    return Simple(geometry.transposed, tables, np.ascontiguousarray(weights), bias, tile)
