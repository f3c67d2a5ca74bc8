"""Exporter "tensorflow": a sequence as a dict of arrays in the layouts of TensorFlow's operators."""

from __future__ import annotations

from typing import Any

from tensorconv.arrays import Array
from tensorconv.errors import UnsupportedExportError
from tensorconv.export import numpy
from tensorconv.export.numpy import load
from tensorconv.layers import ConvLayer, PadLayer, Step, as_sequence

__all__ = ["dump", "load"]

_MAX_NDIM = 3


def dump(sequence: Any) -> dict[str, Array]:
    """Return a sequence as a dict of arrays for TensorFlow.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write, with 1 to 3 spatial axes.

    Returns
    -------
    dict of str to ndarray
        As the exporter "numpy" writes it, each kernel in the layout of the operator that takes it: (K.., I/G, O) for
        ``tf.nn.conv1d``, ``conv2d`` and ``conv3d``; (K.., I, D), D the channel multiplier, for
        ``tf.nn.depthwise_conv2d``, where a layer over two axes has one group per channel and equal strides, which that
        operator asks for; (K.., O, I) for ``tf.nn.conv_transpose``. Padding is explicit: that of TensorFlow's "SAME"
        depends on the size of the input. Its CPU kernels of groups and of dilated transposed convolutions need XLA.

    Raises
    ------
    UnsupportedExportError
        If there are more than 3 spatial axes, a transposed layer has groups, or values are padded otherwise than by
        ``tf.pad``.
    """
    steps = as_sequence(sequence)
    check_pads("TensorFlow", steps.layers)
    return numpy.dump(steps, _layout)


def check_pads(framework: str, layers: tuple[Step, ...]) -> None:
    """Refuse padding by values that the framework has no operator for.

    Parameters
    ----------
    framework : str
        Its name, for the message.
    layers : tuple of steps
        The layers of a sequence.

    Raises
    ------
    UnsupportedExportError
        If a padding is not by reflection.
    """
    for layer in layers:
        if isinstance(layer, PadLayer) and layer.mode != "reflect":
            raise UnsupportedExportError(
                f'{framework} pads by reflection, got {layer}; export to "torch", "onnx" or "jax", or pad the data'
            )


def is_depthwise(layer: ConvLayer) -> bool:
    """Whether a layer is a convolution with one group per in-channel.

    Parameters
    ----------
    layer : ConvLayer
        The layer.

    Returns
    -------
    bool
        True also for a single channel.
    """
    return not layer.geometry.transposed and layer.geometry.groups == layer.in_channels


def _layout(layer: ConvLayer) -> str:
    geometry = layer.geometry
    if layer.ndim > _MAX_NDIM:
        raise UnsupportedExportError(
            f"TensorFlow has convolutions over 1 to {_MAX_NDIM} spatial axes, got {layer.ndim}; export to "
            '"onnx" or "jax"'
        )
    if not geometry.transposed:
        return "*ID" if layer.ndim == 2 and is_depthwise(layer) and len(set(geometry.stride)) == 1 else "*IO"
    if geometry.groups > 1:
        raise UnsupportedExportError(
            f"TensorFlow's transposed convolution has no groups, got {geometry.groups}; write one layer per group, or "
            'export to "torch", "onnx" or "jax"'
        )
    return "*OI"
