"""A sequence as the steps that layers built on lax's convolution do, and the sequence of such layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tensorconv.export.jax_arrays import lax_padding, padded_size
from tensorconv.export.padding import Other, Pairs, merge_padding
from tensorconv.integers import PerAxis
from tensorconv.layers import ConvLayer, ConvSequence, PadLayer, PermuteLayer


@dataclass(frozen=True)
class PaddedConvolution:
    """A convolution with the padding that it does itself.

    Parameters
    ----------
    layer : ConvLayer
        Kernel, bias, name, and all of the geometry but its padding.
    padding : tuple of (int, int)
        Padding by zeros, of the input dilated by the stride where the layer is transposed.
    values : PadLayer or None
        Padding by values, before anything else.
    """

    layer: ConvLayer
    padding: Pairs
    values: PadLayer | None


def lax_steps(
    sequence: ConvSequence, joins: Callable[[PadLayer, ConvLayer], bool]
) -> Iterator[PaddedConvolution | Other | Pairs]:
    """Yield the steps of a sequence in order, each padding by values together with the convolution that can do it.

    Parameters
    ----------
    sequence : ConvSequence
        The layers.
    joins : callable
        Whether the framework's layer of this convolution can do this padding before it; where it pads zeros, none can.

    Yields
    ------
    PaddedConvolution, PadLayer, PermuteLayer, ChannelwiseLayer or tuple of (int, int)
        A convolution, a padding by values alone, another step as it is, or a padding by zeros and cropping.
    """
    waiting: PadLayer | None = None
    croppable = False
    for layer in sequence.layers:
        if waiting is not None and not (isinstance(layer, ConvLayer) and joins(waiting, layer)):
            yield waiting
            waiting = None
        if isinstance(layer, PadLayer):
            waiting, croppable = layer, False
            continue
        if not isinstance(layer, ConvLayer):
            yield layer
            croppable = False
            continue
        own, left = lax_padding(layer.geometry, layer.kernel_size)
        transposed, splits = layer.geometry.transposed, any(side for pair in left for side in pair)
        if splits and not transposed:
            if croppable:
                yield ((0, 0),) * layer.ndim  # else the next step would be read as that layer's crop
            yield left
        yield PaddedConvolution(layer, own, waiting)
        if splits and transposed:
            yield left
        waiting, croppable = None, transposed and not splits
    if waiting is not None:
        yield waiting


def read_modules(
    modules: Iterable[Any],
    read: Callable[[Any, PerAxis | None], Iterable[ConvLayer | Other | Pairs]],
    input_size: PerAxis | None,
) -> ConvSequence:
    """Return the sequence of a framework's layers, the input size carried from one to the next.

    Parameters
    ----------
    modules : iterable
        The framework's layers in order.
    read : callable
        Gives the steps of one of them, which has an input of the given spatial size.
    input_size : int or sequence of int, optional
        Spatial size of the first one's input.

    Returns
    -------
    ConvSequence
        All steps.
    """
    steps: list[ConvLayer | Other | Pairs] = []
    for module in modules:
        size = input_size
        for step in read(module, size):
            steps.append(step)
            if input_size is not None and not isinstance(step, PermuteLayer):
                input_size = padded_size(step, input_size) if isinstance(step, tuple) else step.output_size(input_size)
    return merge_padding(steps)
