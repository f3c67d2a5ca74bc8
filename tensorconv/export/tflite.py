"""Exporter "tflite": a sequence as a dict of arrays in the layouts of TensorFlow Lite's operators."""

from __future__ import annotations

from typing import Any

from tensorconv.arrays import Array
from tensorconv.errors import UnsupportedExportError
from tensorconv.export import numpy
from tensorconv.export.numpy import load
from tensorconv.export.tensorflow import check_pads, is_depthwise
from tensorconv.layers import ConvLayer, as_sequence

__all__ = ["dump", "load"]

_NDIMS = (2, 3)


def dump(sequence: Any) -> dict[str, Array]:
    """Return a sequence as a dict of arrays for TensorFlow Lite.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write, with 2 or 3 spatial axes.

    Returns
    -------
    dict of str to ndarray
        As the exporter "numpy" writes it, each kernel in the layout of the operator that takes it: (O, KH, KW, I/G) for
        CONV_2D and TRANSPOSE_CONV, (1, KH, KW, I D) for DEPTHWISE_CONV_2D where there is one group per channel,
        (KD, KH, KW, I, O) for CONV_3D, (KD, KH, KW, O, I) for CONV_3D_TRANSPOSE. Padding is explicit, for a PAD before
        an operator with VALID padding, or cropping after a transposed one.

    Raises
    ------
    UnsupportedExportError
        If there are 1 or more than 3 spatial axes, a transposed or 3-D layer has groups, a transposed one over two axes
        a dilation, or values are padded otherwise than by MIRROR_PAD.
    """
    steps = as_sequence(sequence)
    check_pads("TensorFlow Lite", steps.layers)
    return numpy.dump(steps, _layout)


def _layout(layer: ConvLayer) -> str:
    geometry = layer.geometry
    if layer.ndim not in _NDIMS:
        raise UnsupportedExportError(
            f"TensorFlow Lite has convolutions over 2 or 3 spatial axes, got {layer.ndim}; give a layer over one axis "
            'a second one of one tap, or export to "onnx"'
        )
    if geometry.groups > 1 and (geometry.transposed or layer.ndim == 3):
        raise UnsupportedExportError(
            f"TensorFlow Lite has no groups in transposed and 3-D convolutions, got {geometry.groups}; write one layer "
            'per group, or export to "onnx"'
        )
    if layer.ndim == 3:
        return "*OI" if geometry.transposed else "*IO"
    if geometry.transposed and max(geometry.dilation) > 1:
        raise UnsupportedExportError(
            f"TensorFlow Lite's TRANSPOSE_CONV has no dilation, got {geometry.dilation}; write the kernel with zeros "
            'between its taps, or export to "onnx"'
        )
    return "I*O" if is_depthwise(layer) else "O*I"
