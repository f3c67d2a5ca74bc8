"""Padding that a framework's convolution cannot do itself: split off into padding steps, and merged back.

A forward layer takes such a step before itself, a transposed one after itself, where a negative padding of the output
crops it. Two steps in one gap are told apart by order: what directly follows a transposed convolution is its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import UnsupportedExportError
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer, PermuteLayer

Pairs = tuple[tuple[int, int], ...]
Other = PadLayer | PermuteLayer | ChannelwiseLayer  # steps that stay as they are
_OTHERS = (PadLayer, PermuteLayer, ChannelwiseLayer)


@dataclass(frozen=True)
class Convolution:
    """A layer as a framework's convolution does it, with what is left to it of the layer's padding and bias.

    Parameters
    ----------
    layer : ConvLayer
        Kernel, name, and all of the geometry but its padding.
    padding : tuple of (int, int)
        Padding of the convolution itself, as :class:`ConvGeometry` counts it.
    with_bias : bool
        False where the bias is added by a step of its own, after the padding that follows.
    """

    layer: ConvLayer
    padding: Pairs
    with_bias: bool = True

    @property
    def bias(self) -> Array | None:
        """The bias that the convolution itself adds."""
        return self.layer.bias if self.with_bias else None


def split_padding(
    sequence: ConvSequence, says: Callable[[ConvGeometry], bool], *, framework: str, adds_bias: bool = False
) -> Iterator[Convolution | Other | Pairs | Array]:
    """Split a sequence into steps that a framework has.

    Parameters
    ----------
    sequence : ConvSequence
        The layers.
    says : callable
        Whether the framework's convolution can do this geometry by itself; asked for one spatial axis at a
        time. It must be able to do padding (0, 0).
    framework : str
        Its name, for the message.
    adds_bias : bool
        Whether the framework has a step that adds an array, for a bias that must follow an extension by zeros.

    Yields
    ------
    Convolution, PadLayer, PermuteLayer, ChannelwiseLayer, tuple of (int, int) or ndarray
        In order: a convolution, another step as it is, a padding by zeros (negative: cropping) per spatial axis, and a
        bias (O,) to be added per channel.

    Raises
    ------
    UnsupportedExportError
        If a transposed layer with a bias is extended beyond its framework's convolution, and ``adds_bias`` is False.
    """
    layers = sequence.layers
    for layer, follower in itertools.zip_longest(layers, layers[1:]):
        if isinstance(layer, _OTHERS):
            yield layer
            continue
        before, own, after = _split(layer.geometry, says)
        meets_step = isinstance(follower, ConvLayer) and _split(follower.geometry, says)[0] is not None
        if after is None and layer.geometry.transposed and meets_step:
            after = ((0, 0),) * len(own)  # else the follower's step would be read as this layer's crop
        extends = any(side > 0 for pair in after or () for side in pair)  # by entries that get no bias
        if before is not None:
            yield before
        yield Convolution(layer, own, with_bias=not extends)
        if after is not None:
            yield after
        if extends and layer.bias is not None:
            if not adds_bias:
                raise UnsupportedExportError(
                    f"{framework} cannot extend a transposed convolution by padding {layer.geometry.padding} and give "
                    'the new entries the bias; export to "onnx" or "jax", or give the bias to a pointwise layer after '
                    "this one"
                )
            yield layer.bias


def merge_padding(steps: Iterable[ConvLayer | Other | Pairs | Array]) -> ConvSequence:
    """Merge layers, padding steps and added biases into a sequence, the inverse of :func:`split_padding`.

    Parameters
    ----------
    steps : iterable of ConvLayer, PadLayer, PermuteLayer, ChannelwiseLayer, tuple of (int, int) or ndarray
        A convolution, another step as it is, a padding by zeros (negative: cropping) per spatial axis, or an array, of
        shape (O, 1..) or (1, O, 1..) with channels before the spatial axes, that is added as bias.

    Returns
    -------
    ConvSequence
        The sequence that does the same.

    Raises
    ------
    UnsupportedExportError
        If no geometry says the same.
    """
    layers: list[ConvLayer | Other] = []
    before: Pairs | None = None
    croppable = False
    for step in steps:
        if isinstance(step, ConvLayer):
            layers.append(step if before is None else _padded_before(step, before))
            before, croppable = None, step.geometry.transposed
            continue
        last = layers[-1] if layers else None
        if isinstance(step, _OTHERS):
            if before is not None:
                raise UnsupportedExportError(f"padding by {before} is followed by {step}; no convolution takes it")
            layers.append(step)
            croppable = False
        elif isinstance(step, np.ndarray):
            if before is not None or not isinstance(last, ConvLayer):
                raise UnsupportedExportError("a bias is added where no convolution precedes it")
            layers[-1], croppable = _biased(last, step), False
        elif croppable and isinstance(last, ConvLayer):
            layers[-1], croppable = _padded_after(last, step), False
        elif before is None:
            before = step
        else:
            raise UnsupportedExportError(f"padding by {before} is followed by padding by {step}; join them into one")
    if before is not None:
        raise UnsupportedExportError(f"padding by {before} at the end belongs to no convolution; drop it or add one")
    return ConvSequence(tuple(layers))


def _split(geometry: ConvGeometry, says: Callable[[ConvGeometry], bool]) -> tuple[Pairs | None, Pairs, Pairs | None]:
    """Return padding before, in and after the convolution; together they do what the geometry says."""
    if all(says(axis) for axis in _axes(geometry, geometry.padding)):
        return None, geometry.padding, None
    if not geometry.transposed:
        return geometry.padding, ((0, 0),) * geometry.ndim, None
    own = tuple(_nearest(axis, says) for axis in _axes(geometry, geometry.padding))
    after = tuple((o[0] - p[0], o[1] - p[1]) for o, p in zip(own, geometry.padding, strict=True))
    return None, own, after


def _nearest(axis: ConvGeometry, says: Callable[[ConvGeometry], bool]) -> tuple[int, int]:
    """Return all the padding of a transposed axis if the framework has it, else what spares an extension, else none."""
    ((low, high),) = axis.padding
    candidates = ((low, high), (0, min(high, 0)))
    return next((pair for pair in candidates if says(replace(axis, padding=(pair,)))), (0, 0))


def _axes(geometry: ConvGeometry, padding: Pairs) -> Iterator[ConvGeometry]:
    """Yield the geometry of every spatial axis alone."""
    for stride, pair, dilation in zip(geometry.stride, padding, geometry.dilation, strict=True):
        yield ConvGeometry((stride,), (pair,), (dilation,), geometry.groups, geometry.transposed)


def _padded_before(layer: ConvLayer, step: Pairs) -> ConvLayer:
    geometry = layer.geometry
    _check_axes(layer, step)
    if geometry.transposed:
        raise UnsupportedExportError(f"padding by {step} before a transposed convolution cannot be merged into it")
    sides = [(a, b) for pair, own in zip(step, geometry.padding, strict=True) for a, b in zip(pair, own, strict=True)]
    if any(a < 0 < b for a, b in sides):
        raise UnsupportedExportError(
            f"cropping by {step} is followed by zero padding {geometry.padding}: not one padding"
        )
    padding = tuple((a + c, b + d) for (a, b), (c, d) in zip(step, geometry.padding, strict=True))
    return replace(layer, geometry=replace(geometry, padding=padding))


def _padded_after(layer: ConvLayer, step: Pairs) -> ConvLayer:
    geometry = layer.geometry
    _check_axes(layer, step)
    sides = [(a, b) for pair, own in zip(step, geometry.padding, strict=True) for a, b in zip(pair, own, strict=True)]
    if any(a > 0 and (b > 0 or layer.bias is not None) for a, b in sides):
        raise UnsupportedExportError(
            f"padding by {step} after a transposed convolution that crops or has a bias cannot be merged into it"
        )
    padding = tuple((c - a, d - b) for (a, b), (c, d) in zip(step, geometry.padding, strict=True))
    return replace(layer, geometry=replace(geometry, padding=padding))


def _biased(layer: ConvLayer, step: Array) -> ConvLayer:
    """Return the layer with an added array of shape (O, 1..) or (1, O, 1..) as its bias."""
    shape = (layer.out_channels, *(1,) * layer.geometry.ndim)
    if layer.bias is not None or step.dtype != layer.dtype or step.shape not in (shape, (1, *shape)):
        raise UnsupportedExportError(
            f"an added {step.dtype} array of shape {step.shape} is no bias of a {layer.dtype} convolution that has "
            f"{'one' if layer.bias is not None else 'none'} and {layer.out_channels} out-channels"
        )
    return replace(layer, bias=step.reshape(-1))


def _check_axes(layer: ConvLayer, step: Pairs) -> None:
    if len(step) != layer.geometry.ndim:
        raise UnsupportedExportError(
            f"padding by {step} does not fit a convolution over {layer.geometry.ndim} spatial axes"
        )
