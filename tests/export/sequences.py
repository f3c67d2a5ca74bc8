"""The sequences that every exporter is tested with: all kinds of geometry, and hand-checkable kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorconv.arrays import Array, named_dtype
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer, PermuteLayer

DTYPES = ("float16", "bfloat16", "float32", "float64")

# groups 0 means one group per in-channel; integers are cut to the number of axes
GEOMETRIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "unequal": {"stride": (2, 1, 3, 1), "dilation": (1, 2, 1, 2), "padding": (1, 2, 0, 1)},
    "asymmetric": {"padding": ((0, 2), (3, 1), (1, 0), (0, 0)), "stride": (1, 2, 2, 1)},
    "cropping": {"padding": ((-1, 0), (2, -1), (0, 0), (-1, 1)), "groups": 2},
    "shrinking": {"padding": -1},
    "grouped": {"groups": 2, "padding": 1, "stride": 2},
    "depthwise": {"groups": 0, "dilation": 2, "padding": ((2, 2), (0, 1), (1, 1), (2, 2))},
    "transposed": {"transposed": True, "stride": (2, 1, 3, 2), "padding": 1, "dilation": (1, 2, 1, 2)},
    "output_padding": {
        "transposed": True,
        "stride": (2, 3, 2, 2),
        "padding": (1, 2, 0, 1),
        "output_padding": (1, 2, 1, 0),
        "groups": 2,
    },
    "transposed_unequal": {
        "transposed": True,
        "stride": (2, 1, 2, 1),
        "padding": ((0, 1), (2, 0), (1, -1), (0, 1)),
        "groups": 0,
    },
    "transposed_dilated": {"transposed": True, "dilation": 3, "padding": ((1, -1), (2, 2), (0, -2), (0, 0))},
}
# without bias only: torch has nothing that would add the bias to the new entries
EXTENDED: dict[str, dict[str, Any]] = {
    "extended": {"transposed": True, "stride": 2, "padding": ((-1, 1), (0, -4), (-2, -3), (0, 0))},
}
KERNEL_SIZE = (3, 2, 1, 2)
INPUT_SIZE = (7, 6, 5, 4)
IN_CHANNELS = 4


def layer(
    kind: str, ndim: int, dtype: str = "float64", *, bias: bool = True, seed: int = 0, name: str = ""
) -> ConvLayer:
    """Return a layer of 4 in-channels and 6 out-channels (depthwise: 8) with normally distributed entries."""
    fields = dict((GEOMETRIES | EXTENDED)[kind])
    groups = fields.pop("groups", 1) or IN_CHANNELS
    out_channels = 8 if groups == IN_CHANNELS else 6
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal((out_channels, IN_CHANNELS // groups, *KERNEL_SIZE[:ndim])).astype(named_dtype(dtype))
    values = rng.standard_normal(out_channels).astype(named_dtype(dtype)) if bias else None
    cut = {key: value[:ndim] if isinstance(value, tuple) else value for key, value in fields.items()}
    return ConvLayer.of(kernel, values, groups=groups, name=name, **cut)


def chain(ndim: int, dtype: str = "float64") -> ConvSequence:
    """Return five layers, transposed and forward, in which every kind of padding step meets every other."""
    rng = np.random.default_rng(ndim)
    fields: list[tuple[int, dict[str, Any]]] = [
        (4, {"padding": ((0, 1),) * ndim, "name": "squeeze"}),
        (6, {"transposed": True, "stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
        (6, {"padding": ((1, -1),) * ndim, "groups": 3, "name": "core.3"}),
        (4, {"transposed": True, "padding": ((-1, 2),) * ndim, "name": "grow"}),
        (3, {"padding": ((-1, 2),) * ndim, "stride": 2}),
    ]
    layers = []
    channels = IN_CHANNELS
    for i, (out_channels, options) in enumerate(fields):
        shape = (out_channels, channels // options.get("groups", 1), *KERNEL_SIZE[:ndim])
        kernel = rng.standard_normal(shape).astype(named_dtype(dtype))
        bias = rng.standard_normal(out_channels).astype(named_dtype(dtype)) if i == len(fields) - 1 else None
        layers.append(ConvLayer.of(kernel, bias, **options))
        channels = out_channels
    return ConvSequence(tuple(layers))


def padded(ndim: int, mode: str, dtype: str = "float64") -> ConvSequence:
    """Return paddings by values before and between convolutions, one of which pads by zeros too."""
    first = layer("asymmetric", ndim, dtype, bias=False, name="first")
    second = ConvLayer(layer("plain", ndim, dtype, seed=1).kernel[:, :1], first.geometry.on_axes((), groups=6))
    pads = [PadLayer(((1, 2), (0, 1), (2, 2), (1, 0))[:ndim], mode, "border"), PadLayer(((1, 0),) * ndim, mode)]
    return ConvSequence((pads[0], first, pads[1], second))


def channelwise(ndim: int, dtype: str = "float64", *, bias: bool = True) -> ConvSequence:
    """Return orders of the channels around a convolution and a channel-wise one of three maps, which pads and crops."""
    pointwise = layer("plain", ndim, dtype, bias=False).kernel[(..., *(slice(1),) * ndim)]
    first = ConvLayer.of(pointwise, name="first")
    geometry = ConvGeometry(
        (2, 1, 2, 1, 1)[: ndim + 1], ((1, 2), (0, 1), (-1, 1), (2, 0), (0, 0))[: ndim + 1], (1, 2, 1, 1, 1)[: ndim + 1]
    )
    rng = np.random.default_rng(ndim)
    kernel = rng.standard_normal((3, 4, *(2, 3, 1, 2)[:ndim])).astype(named_dtype(dtype))
    values = rng.standard_normal(9).astype(named_dtype(dtype)) if bias else None
    along = ChannelwiseLayer(kernel, 6, geometry, values, "along")
    orders = PermuteLayer((2, 0, 3, 1), "before"), PermuteLayer.shuffle(6, 2), PermuteLayer.shuffle(9, 3, "after")
    return ConvSequence((orders[0], first, orders[1], along, orders[2]))


def data(ndim: int, dtype: str = "float64", batch: int = 2) -> Array:
    """Return an input of a layer or chain."""
    return np.random.default_rng(1).standard_normal((batch, IN_CHANNELS, *INPUT_SIZE[:ndim])).astype(dtype)


def assert_same(loaded: ConvSequence, sequence: ConvSequence, *, names: bool = True) -> None:
    """Assert that two sequences are bitwise the same."""
    assert len(loaded) == len(sequence)
    for ours, theirs in zip(loaded, sequence, strict=True):
        assert type(ours) is type(theirs)
        assert not names or ours.name == theirs.name
        if isinstance(ours, PermuteLayer) and isinstance(theirs, PermuteLayer):
            assert ours.order == theirs.order
            continue
        if isinstance(ours, PadLayer) or isinstance(theirs, PadLayer):
            assert str(ours) == str(theirs)
            continue
        assert (ours.in_channels, ours.out_channels) == (theirs.in_channels, theirs.out_channels)
        assert ours.geometry == theirs.geometry
        assert (ours.dtype, ours.kernel.shape) == (theirs.dtype, theirs.kernel.shape)
        assert ours.kernel.tobytes() == theirs.kernel.tobytes()
        assert (ours.bias is None) == (theirs.bias is None)
        if ours.bias is not None and theirs.bias is not None:
            assert ours.bias.dtype == theirs.bias.dtype
            assert ours.bias.tobytes() == theirs.bias.tobytes()
