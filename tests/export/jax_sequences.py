"""A sequence in which steps along the channels meet every other step, for the exporters that are built on JAX."""

from __future__ import annotations

import numpy as np

from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer, PermuteLayer


def mixed() -> ConvSequence:
    """Return nine steps over one spatial axis, from 4 channels to 9."""
    rng = np.random.default_rng(6)

    def entries(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    cropping = ConvGeometry((1, 2), ((-1, 2), (1, -2)), (1, 2))
    strided = ConvGeometry((2, 1), ((1, 1), (0, 3)), (1, 1))
    return ConvSequence(
        (
            PadLayer(((1, 2),), "circular"),  # of the data, not of a convolution after it
            ChannelwiseLayer(entries(2, 2, 3), 4, cropping),
            PermuteLayer(tuple(rng.permutation(8).tolist())),
            ConvLayer.of(entries(4, 8, 3), stride=2, padding=1, transposed=True),
            PermuteLayer.shuffle(4, 2),  # what crops after it is not the transposed convolution's
            ConvLayer.of(entries(6, 2, 2), padding=((-1, 2),), groups=2),
            PadLayer(((2, 1),), "reflect"),
            PermuteLayer(tuple(rng.permutation(6).tolist())),
            ChannelwiseLayer(entries(3, 3, 1), 6, strided, entries(9)),
        )
    )
