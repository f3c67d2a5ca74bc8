"""Padding by values, the one step of a sequence that is no convolution, applied to data."""

from __future__ import annotations

import numpy as np

from tensorconv.arrays import Array
from tensorconv.layers import PadLayer
from tensorconv.layers.pad import NUMPY_MODES


def pad_by_values(x: Array, layer: PadLayer) -> Array:
    """Pad data as a padding step says.

    Parameters
    ----------
    x : ndarray, shape (B, C, L1..LN)
        Data.
    layer : PadLayer
        The step.

    Returns
    -------
    ndarray, shape (B, C, L1'..LN')
        The padded data.

    Raises
    ------
    GeometryError
        If an axis is too short to be mirrored or wrapped this far.
    """
    layer.output_size(x.shape[2:])
    padded: Array = np.pad(x, ((0, 0), (0, 0), *layer.padding), mode=NUMPY_MODES[layer.mode])
    return padded
