"""Offset tables: which element each tap of each position touches, as one small table per spatial axis.

Along one axis, tap ``k`` at position ``p`` touches element ``stride * p + dilation * k - low``. A convolution reads
there from its input; a transposed one adds there to its output. An element of an N-D array is the sum of one entry per
axis, each already multiplied by the axis' step in the flattened array, so the loops need no case for any N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.geometry import ConvGeometry

# An entry that points outside the array: sums of up to N of them with any true offsets stay negative.
OUTSIDE = -(2**48)


@dataclass(frozen=True)
class OffsetTables:
    """Where every tap of every position lands in a flattened array.

    Parameters
    ----------
    entries : ndarray of int64
        The tables of all axes one after another, each of shape (K_n, P_n), flattened.
    taps : ndarray of int64, shape (N,)
        K_n, taps per axis.
    positions : ndarray of int64, shape (N,)
        P_n, positions per axis.
    """

    entries: NDArray[np.int64]
    taps: NDArray[np.int64]
    positions: NDArray[np.int64]


def offset_tables(
    geometry: ConvGeometry, kernel_size: tuple[int, ...], positions: tuple[int, ...], touched: tuple[int, ...]
) -> OffsetTables:
    """Return the tables of a geometry.

    Parameters
    ----------
    geometry : ConvGeometry
        Stride, padding and dilation.
    kernel_size : tuple of int
        Taps per axis.
    positions : tuple of int
        Positions per axis: the output size of a convolution, the input size of a transposed one.
    touched : tuple of int
        Size of the array that the taps touch: the input of a convolution, the output of a transposed one.

    Returns
    -------
    OffsetTables
        One entry per axis, tap and position.
    """
    tables: list[NDArray[Any]] = []
    for axis, (n_taps, n_positions, size) in enumerate(zip(kernel_size, positions, touched, strict=True)):
        at = (
            geometry.stride[axis] * np.arange(n_positions)[None, :]
            + geometry.dilation[axis] * np.arange(n_taps)[:, None]
            - geometry.padding[axis][0]
        )
        step = math.prod(touched[axis + 1 :])
        tables.append(np.where((at >= 0) & (at < size), at * step, OUTSIDE).ravel())
    return OffsetTables(
        np.concatenate(tables).astype(np.int64), np.array(kernel_size, np.int64), np.array(positions, np.int64)
    )
