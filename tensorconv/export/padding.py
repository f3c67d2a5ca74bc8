"""Padding that a framework's convolution cannot do itself: split off into padding steps, and merged back.

A forward layer takes such a step before itself, a transposed one after itself, where a negative padding of the output
crops it. Two steps in one gap are told apart by order: what directly follows a transposed convolution is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import UnsupportedExportError
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer, ConvSequence

Pairs = tuple[tuple[int, int], ...]
Step = ConvLayer | Pairs | Array


@dataclass(frozen=True)
class Split:
    """Zero padding (negative: cropping) of a layer as a framework does it: before, in the convolution, and after it.

    Parameters
    ----------
    before : tuple of (int, int), optional
        Step before a forward convolution, one (low, high) pair per spatial axis.
    own : tuple of (int, int)
        Padding of the convolution itself, as :class:`ConvGeometry` counts it.
    after : tuple of (int, int), optional
        Step after a transposed convolution.
    """

    before: Pairs | None
    own: Pairs
    after: Pairs | None

    @property
    def extends(self) -> bool:
        """Whether entries are added after the convolution, where they get no bias."""
        return any(side > 0 for pair in self.after or () for side in pair)


def split_padding(sequence: ConvSequence, says: Callable[[ConvGeometry], bool]) -> Iterator[tuple[ConvLayer, Split]]:
    """Split the padding of every layer of a sequence into steps that the framework has.

    Parameters
    ----------
    sequence : ConvSequence
        The layers.
    says : callable
        Whether the framework's convolution can do this geometry by itself; asked for one spatial axis at a
        time. It must be able to do padding (0, 0).

    Yields
    ------
    layer : ConvLayer
        Each layer in order.
    split : Split
        Its padding; the three together do exactly what the layer's geometry says.
    """
    splits = [_split(layer.geometry, says) for layer in sequence]
    for i, split in enumerate(splits[:-1]):
        if sequence.layers[i].geometry.transposed and split.after is None and splits[i + 1].before is not None:
            splits[i] = replace(split, after=((0, 0),) * len(split.own))  # else the next step would be read as its crop
    yield from zip(sequence, splits, strict=True)


def merge_padding(steps: Iterable[Step]) -> ConvSequence:
    """Merge layers, padding steps and added biases into a sequence, the inverse of :func:`split_padding`.

    Parameters
    ----------
    steps : iterable of ConvLayer, tuple of (int, int) or ndarray
        A convolution, a padding by zeros (negative: cropping) per spatial axis, or a bias added per channel.

    Returns
    -------
    ConvSequence
        The sequence that does the same.

    Raises
    ------
    UnsupportedExportError
        If no geometry says the same.
    """
    layers: list[ConvLayer] = []
    before: Pairs | None = None
    croppable = False
    for step in steps:
        if isinstance(step, ConvLayer):
            layers.append(step if before is None else _padded_before(step, before))
            before, croppable = None, step.geometry.transposed
        elif isinstance(step, np.ndarray):
            if before is not None or not layers:
                raise UnsupportedExportError("a bias is added where no convolution precedes it")
            layers[-1], croppable = _biased(layers[-1], step), False
        elif croppable:
            layers[-1], croppable = _padded_after(layers[-1], step), False
        elif before is None:
            before = step
        else:
            raise UnsupportedExportError(f"padding by {before} is followed by padding by {step}; join them into one")
    if before is not None:
        raise UnsupportedExportError(f"padding by {before} at the end belongs to no convolution; drop it or add one")
    return ConvSequence(tuple(layers))


def _split(geometry: ConvGeometry, says: Callable[[ConvGeometry], bool]) -> Split:
    if all(says(axis) for axis in _axes(geometry, geometry.padding)):
        return Split(None, geometry.padding, None)
    if not geometry.transposed:
        return Split(geometry.padding, ((0, 0),) * geometry.ndim, None)
    own = tuple(_nearest(axis, says) for axis in _axes(geometry, geometry.padding))
    after = tuple((o[0] - p[0], o[1] - p[1]) for o, p in zip(own, geometry.padding, strict=True))
    return Split(None, own, after)


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
