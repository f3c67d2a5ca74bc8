"""A slow convolution in plain numpy, written apart from the library, that the tests compare everything else with."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from tensorconv.arrays import Array
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer, PermuteLayer, Step


def reference_convolution(x: Array, kernel: Array, geometry: ConvGeometry, bias: Array | None = None) -> Array:
    """Return the convolution of x (B, C, L1..LN) in float64, transposed if the geometry says so.

    Forward, y[o, p] sums W[o, i, k] x[i, s p + d k - low]; transposed, W[o, i, k] x[i, p] is added to
    y[o, s p + d k - low]. Both are one loop over the taps k, with the two positions as strided slices.
    """
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    in_size, taps = x.shape[2:], kernel.shape[2:]
    axes = list(zip(in_size, taps, geometry.stride, geometry.dilation, geometry.padding, strict=True))
    if geometry.transposed:
        out_size = [s * (n - 1) + d * (k - 1) + 1 - low - high for n, k, s, d, (low, high) in axes]
    else:
        out_size = [(n + low + high - d * (k - 1) - 1) // s + 1 for n, k, s, d, (low, high) in axes]
    y = np.zeros((x.shape[0], kernel.shape[0], *out_size))
    few, many = (in_size, out_size) if geometry.transposed else (out_size, in_size)
    for tap in itertools.product(*map(range, taps)):
        offsets = [d * k - low for k, d, (low, _) in zip(tap, geometry.dilation, geometry.padding, strict=True)]
        pairs = [_slices(*axis) for axis in zip(few, many, geometry.stride, offsets, strict=True)]
        at_few, at_many = (..., *(pair[0] for pair in pairs)), (..., *(pair[1] for pair in pairs))
        read, written = (at_few, at_many) if geometry.transposed else (at_many, at_few)
        y[written] += _mix_channels(kernel[(..., *tap)], x[read], geometry.groups)
    return y if bias is None else y + np.asarray(bias, np.float64).reshape(-1, *(1,) * len(taps))


def reference_sequence(x: Array, sequence: ConvSequence) -> Array:
    """Return the output of all layers, one after another, in float64."""
    for layer in sequence.layers:
        x = reference_step(x, layer)
    return x


def reference_step(x: Array, layer: Step, *, absolute: bool = False) -> Array:
    """Return the output of one step, or of the step with absolute values for its kernel and bias."""
    if isinstance(layer, PadLayer):
        return reference_padding(x, layer)
    if isinstance(layer, PermuteLayer):
        return np.stack([x[:, c] for c in layer.order], axis=1)
    kernel, bias = (None if w is None else np.asarray(w, np.float64) for w in (layer.kernel, layer.bias))
    if absolute:
        kernel, bias = (None if w is None else np.abs(w) for w in (kernel, bias))
    assert kernel is not None
    if isinstance(layer, ConvLayer):
        return reference_convolution(x, kernel, layer.geometry, bias)
    y = reference_convolution(x[:, None], kernel[:, None], layer.geometry)  # channels are one more spatial axis
    y = np.concatenate([y[:, j] for j in range(len(kernel))], axis=1)
    return y if bias is None else y + bias.reshape(-1, *(1,) * (x.ndim - 2))


def reference_padding(x: Array, layer: PadLayer) -> Array:
    """Return x padded by its own values, every position of the output looked up in the input."""
    for axis, (low, high) in enumerate(layer.padding, start=2):
        n = x.shape[axis]
        at = np.arange(-low, n + high)
        if layer.mode == "reflect":
            at = np.where(at < 0, -at, np.where(at >= n, 2 * (n - 1) - at, at))
        x = np.take(x, at % n if layer.mode == "circular" else np.clip(at, 0, n - 1), axis=axis)
    return x


def reference_bound(x: Array, sequence: ConvSequence, units: Sequence[float]) -> Array:
    """Return how far two computations of a sequence, with these unit roundoffs, may be apart, entry by entry.

    Each output of a layer is a sum of n = I*K products and the bias, in any order: it is off by at most gamma_(n+1) =
    (n+1) u / (1 - (n+1) u) times the same sum of absolute values. For a chain the n add up, and the absolute values
    run through all layers.
    """
    kernels = [layer.kernel[0] for layer in sequence.layers if isinstance(layer, (ConvLayer, ChannelwiseLayer))]
    n = sum(kernel.size + 1 for kernel in kernels)
    absolute = np.abs(np.asarray(x, np.float64))
    for layer in sequence.layers:
        absolute = reference_step(absolute, layer, absolute=True)
    # the absolute run is rounded itself; (1 + gamma) of it is no less than the exact one
    return sum(n * u / (1 - n * u) for u in units) * (1 + n * 2.0**-52) * absolute


def _slices(n_few: int, n_many: int, stride: int, offset: int) -> tuple[slice, slice]:
    """Return the positions p and stride * p + offset, both inside their axes."""
    first = max(0, -(offset // stride))  # the least p with stride * p + offset >= 0
    last = min(n_few - 1, (n_many - 1 - offset) // stride)
    count = max(0, last - first + 1)
    if count == 0:
        return slice(0, 0), slice(0, 0)
    start = stride * first + offset
    return slice(first, first + count), slice(start, start + stride * (count - 1) + 1, stride)


def _mix_channels(matrix: Array, x: Array, groups: int) -> Array:
    """Apply the (O, I/G) matrix of one tap to the channels of x, group by group."""
    out_channels, per_group = matrix.shape
    parts = [
        np.einsum("oi,bi...->bo...", rows, x[:, g * per_group : (g + 1) * per_group])
        for g, rows in enumerate(matrix.reshape(groups, out_channels // groups, per_group))
    ]
    return np.concatenate(parts, axis=1)
