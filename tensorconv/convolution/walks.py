"""The fast path of a convolution: by panels, or by rows where a group has few out-channels."""

from __future__ import annotations

import numpy as np

from tensorconv.arrays import Array
from tensorconv.convolution.dense import Blend, Dense, plan_dense
from tensorconv.convolution.rows import Rows, plan_rows
from tensorconv.convolution.ways import SIZE, Walk

NARROW = 4  # out-channels per group from which on panels are worth packing


def plan_walk(
    way: Walk, kernel: Array, bias: Array, n_groups: int, mixing: tuple[Array, Array] | None = None
) -> Dense | Rows:
    """Lay out tables and weights of a convolution that gathers.

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
    mixing : (ndarray of shape (O', G, 1), ndarray of shape (O',)), optional
        Kernel and bias of a pointwise layer that mixes the outputs of a depthwise one.

    Returns
    -------
    Dense or Rows
        The planned convolution.
    """
    channel_bytes = int(np.prod(way.axes[:, SIZE])) * kernel.itemsize
    if mixing is not None:
        return plan_dense(way, *mixing, 1, channel_bytes, Blend(kernel.reshape(len(kernel), -1), bias, way.taps))
    layout = plan_rows if len(kernel) < NARROW * n_groups else plan_dense
    return layout(way, kernel, bias, n_groups, channel_bytes)
