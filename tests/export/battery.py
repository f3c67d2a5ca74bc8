"""The contract of every exporter: what it does with each capability of a sequence, tried on the framework itself.

Run as a program with names of exporters, it prints their outcomes as JSON; the frameworks' page and its test read them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from export import runtimes
from export.sequences import assert_same
from oracles import reference_bound, reference_sequence

from tensorconv.arrays import Array, named_dtype
from tensorconv.errors import UnsupportedExportError
from tensorconv.export import dump, load
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer, PermuteLayer

FLOAT32, FLOAT64 = 2.0**-24, 2.0**-53
NDIMS = (1, 2, 3, 4)
KERNEL_SIZE, INPUT_SIZE, CHANNELS = (3, 2, 4, 2), (9, 8, 11, 6), 4
UNEQUAL = (2, 1, 3, 1)
ASYMMETRIC = ((0, 2), (3, 1), (1, 0), (0, 1))

# options of ConvLayer.of; groups 0 means one per in-channel, a tuple is cut to the number of axes
LAYERS: dict[str, dict[str, Any]] = {
    "plain": {"bias": False},
    "bias": {},
    "padding": {"padding": 1},
    "asymmetric padding": {"padding": ASYMMETRIC},
    "cropping": {"padding": ((-1, 0), (2, -1), (0, -2), (-1, 1))},
    "stride": {"stride": 2, "padding": 1},
    "unequal strides": {"stride": UNEQUAL, "padding": ASYMMETRIC},
    "dilation": {"dilation": 2, "padding": 1},
    "unequal dilations": {"dilation": UNEQUAL, "padding": ASYMMETRIC},
    "stride and dilation": {"stride": 2, "dilation": 2, "padding": 1},
    "stride on one axis, dilation on another": {"stride": (2, 1, 1, 1), "dilation": (1, 2, 1, 1)},
    "groups": {"groups": 2, "padding": 1},
    "groups, dilation, unequal strides, asymmetric padding": {
        "groups": 2,
        "dilation": (1, 2, 1, 2),
        "stride": UNEQUAL,
        "padding": ASYMMETRIC,
    },
    "depthwise, two outputs per channel": {"groups": 0, "padding": 1, "stride": 2},
    "depthwise, unequal strides": {"groups": 0, "padding": ASYMMETRIC, "stride": UNEQUAL},
    "depthwise, dilation": {"groups": 0, "padding": ASYMMETRIC, "dilation": UNEQUAL},
    "transposed": {"transposed": True, "stride": 2},
    "transposed, kernel shorter than stride": {"transposed": True, "stride": 5},
    "transposed, unequal strides": {"transposed": True, "stride": UNEQUAL},
    "transposed, dilation": {"transposed": True, "dilation": 2},
    "transposed, stride and dilation": {"transposed": True, "dilation": (2, 3, 2, 2), "stride": (3, 2, 2, 2)},
    "transposed, equal crop": {"transposed": True, "stride": 2, "padding": 1},
    "transposed, asymmetric crop": {"transposed": True, "stride": 2, "padding": ((0, 1), (2, 0), (1, 0), (0, 2))},
    "transposed, output padding": {"transposed": True, "stride": 3, "padding": 1, "output_padding": (1, 2, 1, 2)},
    "transposed, groups": {"transposed": True, "stride": 2, "padding": 1, "groups": 2},
    "transposed, depthwise": {"transposed": True, "stride": 2, "padding": 1, "groups": 0},
    "transposed, extended": {"transposed": True, "stride": 2, "padding": ((-1, -4),) * 4, "bias": False},
    "transposed, extended, bias": {"transposed": True, "stride": 2, "padding": ((-1, -4),) * 4},
}
STEPS = ("order of channels", "channel-wise convolution", "channel-wise convolution of channels and space")
MODES = ("reflect", "replicate", "circular")
DTYPES = ("float16", "bfloat16", "float64")
CAPABILITIES = (*LAYERS, *(f"padding by values, {mode}" for mode in MODES), *STEPS, "five layers in a row", *DTYPES)
NEEDS_TWO_AXES = ("unequal strides", "unequal dilations", "depthwise, unequal strides", "transposed, unequal strides")
NEEDS_TWO_AXES += ("stride on one axis, dilation on another",)
POLICIES: dict[str, tuple[Any, ...]] = {
    "keras": ("subsample", "branches", "dense"),
}


def one(ndim: int, dtype: str = "float32", *, bias: bool = True, seed: int = 0, **options: Any) -> ConvLayer:
    """Return a layer of 4 in-channels, and 6 out-channels or two per channel, with normally distributed entries."""
    rng = np.random.default_rng(seed)
    groups = options.pop("groups", 1) or CHANNELS
    n_out = 8 if groups == CHANNELS else 6
    kernel = rng.standard_normal((n_out, CHANNELS // groups, *KERNEL_SIZE[:ndim])).astype(named_dtype(dtype))
    cut = {key: value[:ndim] if isinstance(value, tuple) else value for key, value in options.items()}
    values = rng.standard_normal(n_out).astype(named_dtype(dtype)) if bias else None
    return ConvLayer.of(kernel, values, groups=groups, **cut)


def sequence(capability: str, ndim: int) -> ConvSequence:
    """Return the sequence that shows a capability."""
    if capability in LAYERS:
        return one(ndim, **LAYERS[capability]).sequence
    if capability in DTYPES:
        return one(ndim, capability, padding=1).sequence
    if capability == "five layers in a row":
        first, wide = one(ndim, padding=1, bias=False), one(ndim, stride=UNEQUAL, padding=ASYMMETRIC, seed=1)
        pointwise = ConvLayer.of(np.ones((CHANNELS, 6, *(1,) * ndim), "float32"))
        up = one(ndim, transposed=True, stride=2, padding=1, seed=2, bias=False)
        return ConvSequence([first, pointwise, up, pointwise, wide])
    if capability in STEPS:
        return _along_channels(capability, ndim)
    mode = capability.rpartition(" ")[2]
    return ConvSequence([PadLayer(((1, 2), (0, 1), (2, 2), (1, 0))[:ndim], mode), one(ndim)])


def _along_channels(capability: str, ndim: int) -> ConvSequence:
    """Return a convolution to six channels, in another order of them or followed by a channel-wise convolution."""
    first = one(ndim, bias=False)
    if capability == STEPS[0]:
        return ConvSequence([PermuteLayer((2, 0, 3, 1)), one(ndim, padding=1), PermuteLayer.shuffle(6, 2)])
    is_full = capability == STEPS[2]
    taps = KERNEL_SIZE[:ndim] if is_full else (1,) * ndim
    pads = ((1, 1), *(((0, 1), (1, 0), (2, 1), (0, 0))[:ndim] if is_full else ((0, 0),) * ndim))
    geometry = ConvGeometry.of(ndim + 1, stride=(2, *(1,) * ndim), padding=pads)
    kernel = np.random.default_rng(4).standard_normal((2, 4, *taps)).astype("float32")
    bias = np.random.default_rng(5).standard_normal(6).astype("float32")
    return ConvSequence([first, ChannelwiseLayer(kernel, 6, geometry, bias)])


def outcome(target: str, capability: str, ndim: int) -> str:
    """Return "exact", "policy ..." or "refused", or raise AssertionError where the exporter breaks its contract."""
    wanted = sequence(capability, ndim)
    with runtimes.precision(target, capability):
        made, refusal = _dumped(target, wanted)
        if refusal:
            assert ";" in refusal, f"a refusal names its cure: {refusal}"
            return _by_policy(target, wanted, ndim)
        assert_same(load(made, target), wanted, names=False)
        if capability not in DTYPES:
            _assert_computes(target, made, wanted, ndim)
    return "exact"


def _dumped(target: str, wanted: ConvSequence, **options: Any) -> tuple[Any, str]:
    """Return what the exporter makes, or why it refuses."""
    try:
        return dump(wanted, target, **options), ""
    except UnsupportedExportError as error:
        return None, str(error)


def _by_policy(target: str, wanted: ConvSequence, ndim: int) -> str:
    """Return the first named policy under which the framework computes the sequence, or "refused"."""
    for policy in POLICIES.get(target, ()):
        made, refusal = _dumped(target, wanted, policy=policy)
        if refusal:
            continue
        _assert_computes(target, made, wanted, ndim)
        loaded, x = load(made, target), _data(wanted, ndim)
        difference = np.abs(reference_sequence(x, loaded) - reference_sequence(x, wanted))
        assert np.all(difference <= 2 * reference_bound(x, wanted, [FLOAT64]) + reference_bound(x, loaded, [FLOAT64]))
        return f'policy "{policy}"'
    return "refused"


def _assert_computes(target: str, made: Any, wanted: ConvSequence, ndim: int) -> None:
    run: Callable[[Any, Array], Array] | None = runtimes.RUNS[target]
    if run is None:
        return
    x = _data(wanted, ndim)
    y, expected = run(made, x), reference_sequence(x, wanted)
    assert y.shape == expected.shape
    # the framework rounds in float32, the reference in float64
    assert np.all(np.abs(y - expected) <= reference_bound(x, wanted, [FLOAT32, FLOAT64]))


def _data(wanted: ConvSequence, ndim: int) -> Array:
    return np.random.default_rng(3).standard_normal((2, wanted.in_channels, *INPUT_SIZE[:ndim])).astype("float32")


def outcomes(target: str) -> dict[str, list[str]]:
    """Return the outcome of every capability, one per number of axes; "" where it needs two."""
    return {
        capability: [
            "" if ndim == 1 and capability in NEEDS_TWO_AXES else outcome(target, capability, ndim) for ndim in NDIMS
        ]
        for capability in CAPABILITIES
    }


if __name__ == "__main__":
    json.dump({target: outcomes(target) for target in sys.argv[1:]}, sys.stdout)
