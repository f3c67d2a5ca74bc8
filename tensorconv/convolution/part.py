"""A layer as arrays, or a depthwise layer together with the pointwise layer behind it: what is planned as one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tensorconv.arrays import Array
from tensorconv.convolution.dense import Dense
from tensorconv.convolution.rows import Rows
from tensorconv.convolution.walks import NARROW, plan_walk
from tensorconv.convolution.ways import Walk, walk
from tensorconv.geometry import ConvGeometry

Interval = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Part:
    """One layer, or a depthwise layer whose outputs are mixed by a pointwise layer.

    Parameters
    ----------
    geometry : ConvGeometry
        Of the layer.
    kernel : ndarray, shape (O, I/G, K1..KN)
        The kernel.
    bias : ndarray, shape (O,)
        The bias.
    input_size, output_size : tuple of int
        Spatial sizes.
    mixing : Part, optional
        The pointwise layer.
    """

    geometry: ConvGeometry
    kernel: Array
    bias: Array
    input_size: tuple[int, ...]
    output_size: tuple[int, ...]
    mixing: Part | None = None

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return len((self.mixing or self).kernel)

    @property
    def n_weights(self) -> int:
        """Entries of the kernels."""
        return self.kernel.size + (self.mixing.kernel.size if self.mixing else 0)

    @property
    def n_bytes(self) -> int:
        """Bytes of the kernels."""
        return self.n_weights * self.kernel.itemsize

    @property
    def way(self) -> Walk:
        """Positions and taps of the layer, which is not transposed."""
        return self.way_of((0, self.output_size[0]), (0, self.input_size[0]))

    def way_of(self, rows: Interval, given: Interval, first: int = 0) -> Walk:
        """Return the positions of some rows of the output, in a part of the input.

        Parameters
        ----------
        rows, given : (int, int)
            Rows of the output, and those of the input that are there, ends excluded.
        first : int
            Byte of the output where the first position is.

        Returns
        -------
        Walk
            The way.
        """
        geometry = self.geometry
        low = [pair[0] for pair in geometry.padding]
        low[0] += given[0] - geometry.stride[0] * rows[0]
        size = (given[1] - given[0], *self.input_size[1:])
        positions = (rows[1] - rows[0], *self.output_size[1:])
        taps, item = self.kernel.shape[2:], self.kernel.itemsize
        return walk(positions, geometry.stride, geometry.dilation, tuple(low), size, taps, item, first)

    def reads(self, rows: Interval) -> Interval:
        """Return the input rows that some output rows read, at least one.

        Parameters
        ----------
        rows : (int, int)
            Output rows, end excluded.

        Returns
        -------
        (int, int)
            Input rows, end excluded.
        """
        stride, low, n = self.geometry.stride[0], self.geometry.padding[0][0], self.input_size[0]
        reach = self.geometry.dilation[0] * (self.kernel.shape[2] - 1)
        first = min(max(rows[0] * stride - low, 0), n - 1)
        return first, max(first + 1, min(n, (rows[1] - 1) * stride - low + reach + 1))

    def planned(self, way: Walk) -> Dense | Rows:
        """Lay out tables and weights for some positions: panels, or rows where a group has few out-channels.

        Parameters
        ----------
        way : Walk
            The positions.

        Returns
        -------
        Dense or Rows
            The planned layer.
        """
        flat = self.kernel.reshape(*self.kernel.shape[:2], -1)
        mixing = (
            None if self.mixing is None else (self.mixing.kernel.reshape(self.out_channels, -1, 1), self.mixing.bias)
        )
        return plan_walk(way, flat, self.bias, self.geometry.groups, mixing)

    def mixed(self, after: Part) -> Part | None:
        """Return this layer and the next one as one part, if they are a depthwise and a pointwise one that can be.

        Parameters
        ----------
        after : Part
            The next layer.

        Returns
        -------
        Part or None
            None where they are not, or where positions are not neighbours throughout, as they are at stride 1 where
            padding keeps the size of all axes but the first.
        """
        geometry, is_depthwise = (
            after.geometry,
            len(self.kernel) == self.geometry.groups == self.kernel.shape[1] * len(self.kernel),
        )
        is_pointwise = geometry.groups == 1 and set(after.kernel.shape[2:]) | set(geometry.stride) == {1}
        is_pointwise = is_pointwise and not any(itertools.chain(*geometry.padding))
        if self.mixing or not is_depthwise or not is_pointwise or len(after.kernel) < NARROW:
            return None
        way = self.way
        return replace(self, mixing=after) if way.step == 1 and way.row == way.n_positions else None


def joined(parts: Sequence[Part]) -> list[Part]:
    """Return layers with every pair of a depthwise and a pointwise one as one part, where they can be.

    Parameters
    ----------
    parts : sequence of Part
        Layers in order.

    Returns
    -------
    list of Part
        As many, or fewer.
    """
    found: list[Part] = []
    for part in parts:
        pair = found[-1].mixed(part) if found else None
        if pair is None:
            found.append(part)
        else:
            found[-1] = pair
    return found
