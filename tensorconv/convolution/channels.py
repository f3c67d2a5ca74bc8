"""Steps that work along the channels, applied to data: another order of them, and a convolution over them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tensorconv.arrays import Array
from tensorconv.layers import PermuteLayer


def permute_channels(x: Array, layer: PermuteLayer) -> Array:
    """Put the channels of data into another order.

    Parameters
    ----------
    x : ndarray, shape (B, C, L1..LN)
        Data.
    layer : PermuteLayer
        The order.

    Returns
    -------
    ndarray
        A new array of the same shape.
    """
    return np.take(x, layer.order, axis=1)


def convolve_channels(x: Array, view: Callable[[Array], Array], bias: Array | None) -> Array:
    """Apply a channel-wise convolution to data.

    Parameters
    ----------
    x : ndarray, shape (B, C, L1..LN)
        Data.
    view : callable
        The convolution of one in-channel over channels and space, from (B, 1, C, L1..LN) to (B, J, C', P1..PN).
    bias : ndarray, shape (J C',), or None
        Added at the end.

    Returns
    -------
    ndarray, shape (B, J C', P1..PN)
        The output.
    """
    y = view(x[:, None])
    y = y.reshape(len(y), -1, *y.shape[3:])
    return y if bias is None else y + bias.reshape(-1, *(1,) * (y.ndim - 2))
