"""The geometry of an ONNX Conv or ConvTranspose: ``auto_pad`` and ``output_shape`` resolved to numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorconv.errors import ModelError
from tensorconv.geometry import ConvGeometry

Size = tuple[int, ...]
Attributes = Mapping[str, Any]
AUTO_PADS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def onnx_geometry(transposed: bool, attributes: Attributes, kernel_size: Size, input_size: Size | None) -> ConvGeometry:
    """Return the geometry that the attributes of a node mean.

    Parameters
    ----------
    transposed : bool
        Whether the node is a ConvTranspose.
    attributes : mapping of str to int, str or tuple of int
        The attributes that the node has; those it lacks take ONNX's defaults.
    kernel_size : tuple of int
        Taps per spatial axis, from the weights.
    input_size : tuple of int or None
        Spatial size of the node's input; needed only where the padding depends on it.

    Returns
    -------
    ConvGeometry
        The geometry with explicit padding.

    Raises
    ------
    ModelError
        If an attribute is invalid, or the padding depends on an input size that is not known.
    """
    ndim = len(kernel_size)
    stride = _per_axis(attributes, "strides", ndim, 1)
    dilation = _per_axis(attributes, "dilations", ndim, 1)
    groups = attributes.get("group", 1)
    auto_pad = attributes.get("auto_pad") or "NOTSET"
    if auto_pad not in AUTO_PADS:
        raise ModelError(f"auto_pad must be one of {', '.join(AUTO_PADS)}, got {auto_pad!r}")
    if (attributes.get("kernel_shape") or kernel_size) != kernel_size:
        raise ModelError(f"kernel_shape {attributes['kernel_shape']} is not that of the weights, {kernel_size}")
    if transposed:
        padding = _transposed_padding(attributes, auto_pad, stride, dilation, kernel_size, input_size)
        return ConvGeometry(stride, padding, dilation, groups, transposed=True)
    if auto_pad.startswith("SAME"):
        size = _known(input_size, f"auto_pad={auto_pad} at stride {stride}") if max(stride) > 1 else None
        extra = "high" if auto_pad == "SAME_UPPER" else "low"
        return ConvGeometry.same(
            kernel_size, input_size=size, stride=stride, dilation=dilation, groups=groups, extra=extra
        )
    return ConvGeometry(stride, _explicit_padding(attributes, auto_pad, ndim), dilation, groups)


def _transposed_padding(
    attributes: Attributes,
    auto_pad: str,
    stride: Size,
    dilation: Size,
    kernel_size: Size,
    input_size: Size | None,
) -> tuple[tuple[int, int], ...]:
    """Return what is cropped from the uncropped output of s(x-1) + d(k-1) + 1 positions, at the low and high end.

    ONNX crops output_padding + that - (wanted size), never less than nothing, and gives the odd position to the high
    end for SAME_UPPER and to the low end otherwise. Where more is wanted than there is, the high end is extended.
    """
    ndim = len(kernel_size)
    extra = _per_axis(attributes, "output_padding", ndim, 0)
    wanted: Size | None = attributes.get("output_shape") or None
    if wanted is None and not auto_pad.startswith("SAME"):
        given = _explicit_padding(attributes, auto_pad, ndim)
        return tuple((low, high - more) for (low, high), more in zip(given, extra, strict=True))
    if wanted is None:  # SAME wants s * x positions, so the input size x cancels out of the crop; x = 1 will do
        sizes, targets = (1,) * ndim, stride
    elif len(wanted) in (ndim, ndim + 2):  # ONNX Runtime takes batch and channels in front, too
        sizes, targets = _known(input_size, f"output_shape {wanted}"), wanted[-ndim:]
    else:
        raise ModelError(f"output_shape {wanted} must have one entry per spatial axis, {ndim} here")
    pairs = []
    for x, s, d, k, more, target in zip(sizes, stride, dilation, kernel_size, extra, targets, strict=True):
        whole = s * (x - 1) + d * (k - 1) + 1
        crop = max(whole + more - target, 0)
        low = crop // 2 if auto_pad == "SAME_UPPER" else crop - crop // 2
        out = whole + more - crop if wanted is None else target
        pairs.append((low, whole - low - out))
    return tuple(pairs)


def _explicit_padding(attributes: Attributes, auto_pad: str, ndim: int) -> tuple[tuple[int, int], ...]:
    given: Size = attributes.get("pads", ()) if auto_pad == "NOTSET" else ()
    pads = given or (0,) * (2 * ndim)
    if len(pads) != 2 * ndim:
        raise ModelError(f"pads {pads} must have a begin and an end per spatial axis, {2 * ndim} entries here")
    return tuple(zip(pads[:ndim], pads[ndim:], strict=True))


def _per_axis(attributes: Attributes, name: str, ndim: int, default: int) -> Size:
    values: Size = attributes.get(name) or (default,) * ndim
    if len(values) != ndim:
        raise ModelError(f"{name} {values} must have one entry per spatial axis, {ndim} here")
    return values


def _known(input_size: Size | None, what: str) -> Size:
    """Return the input size, which ``what`` cannot be resolved without."""
    if input_size is None:
        raise ModelError(
            f"{what} depends on the input size, which the network leaves open; read it with input_size=..., or give "
            "the network a fixed size"
        )
    return input_size
