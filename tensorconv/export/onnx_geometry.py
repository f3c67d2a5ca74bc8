"""The geometry of an ONNX Conv or ConvTranspose: ``auto_pad`` and ``output_shape`` resolved to numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorconv.errors import FormatError, UnsupportedExportError
from tensorconv.export.padding import Pairs
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import integers

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
    FormatError
        If an attribute is invalid.
    UnsupportedExportError
        If the padding depends on an input size that is not known, or is said twice and differently.
    GeometryError
        If the integers make no geometry.
    """
    ndim = len(kernel_size)
    stride = _per_axis(attributes, "strides", ndim, 1)
    dilation = _per_axis(attributes, "dilations", ndim, 1)
    auto_pad = attributes.get("auto_pad") or "NOTSET"
    if auto_pad not in AUTO_PADS:
        raise FormatError(f"auto_pad must be one of {', '.join(AUTO_PADS)}, got {auto_pad!r}")
    if (attributes.get("kernel_shape") or kernel_size) != kernel_size:
        raise FormatError(f"kernel_shape {attributes['kernel_shape']} is not that of the weights, {kernel_size}")
    extra = integers("output_padding", _per_axis(attributes, "output_padding", ndim, 0), at_least=0)
    given = _given_padding(attributes, extra)
    wanted: Size | None = attributes.get("output_shape") or None
    if wanted is not None:
        padding = _shaped_padding(wanted, auto_pad, stride, dilation, kernel_size, extra, input_size)
    elif auto_pad == "NOTSET":
        padding = given
    elif auto_pad == "VALID":
        padding = tuple((0, -more) for more in extra)
    elif transposed:
        padding = _transposed_same(auto_pad, stride, dilation, kernel_size, extra)
    else:
        padding = _forward_same(auto_pad, stride, dilation, kernel_size, input_size)
    # beside an output_shape the standard ignores pads
    if wanted is None and any(attributes.get("pads", ())) and padding != given:
        raise UnsupportedExportError(
            f"auto_pad={auto_pad} and pads {attributes['pads']} contradict each other; write explicit pads alone"
        )
    return ConvGeometry(stride, padding, dilation, attributes.get("group", 1), transposed)


def _forward_same(auto_pad: str, stride: Size, dilation: Size, kernel_size: Size, input_size: Size | None) -> Pairs:
    """Return the padding to ceil(x / stride) positions."""
    size = (1,) * len(stride)  # stands for any size, where the stride or the number of taps is 1
    if any(s > 1 and k > 1 for s, k in zip(stride, kernel_size, strict=True)):
        size = _known(input_size, f"auto_pad={auto_pad} at stride {stride}")
    side = "high" if auto_pad == "SAME_UPPER" else "low"
    return ConvGeometry.same(kernel_size, input_size=size, stride=stride, dilation=dilation, extra=side).padding


def _transposed_same(auto_pad: str, stride: Size, dilation: Size, kernel_size: Size, extra: Size) -> Pairs:
    """Return the crop to stride * x positions; it is the same for all input sizes x."""
    pairs = []
    for s, d, k, more in zip(stride, dilation, kernel_size, extra, strict=True):
        low, high = _crop(d * (k - 1) + 1 + more - s, auto_pad)
        pairs.append((low, high - more))
    return tuple(pairs)


def _shaped_padding(
    wanted: Size, auto_pad: str, stride: Size, dilation: Size, kernel_size: Size, extra: Size, input_size: Size | None
) -> Pairs:
    """Return the crop to an output shape; where that asks for more than there is, the high end is extended."""
    ndim = len(extra)
    if len(wanted) not in (ndim, ndim + 2):  # ONNX Runtime takes batch and channels in front, too
        raise FormatError(f"output_shape {wanted} must have one entry per spatial axis, {ndim} here")
    sizes = _known(input_size, f"output_shape {wanted}")
    pairs = []
    for x, s, d, k, more, target in zip(sizes, stride, dilation, kernel_size, extra, wanted[-ndim:], strict=True):
        whole = s * (x - 1) + d * (k - 1) + 1
        low, _ = _crop(whole + more - target, auto_pad)
        pairs.append((low, whole - low - target))
    return tuple(pairs)


def _crop(total: int, auto_pad: str) -> tuple[int, int]:
    """Return what ONNX crops at the two ends, never less than nothing; the odd position is the high end's if UPPER."""
    total = max(total, 0)
    low = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
    return low, total - low


def _given_padding(attributes: Attributes, extra: Size) -> Pairs:
    ndim = len(extra)
    pads: Size = attributes.get("pads") or (0,) * (2 * ndim)
    if len(pads) != 2 * ndim:
        raise FormatError(f"pads {pads} must have a begin and an end per spatial axis, {2 * ndim} entries here")
    return tuple((low, high - more) for low, high, more in zip(pads[:ndim], pads[ndim:], extra, strict=True))


def _per_axis(attributes: Attributes, name: str, ndim: int, default: int) -> Size:
    values: Size = attributes.get(name) or (default,) * ndim
    if len(values) != ndim:
        raise FormatError(f"{name} {values} must have one entry per spatial axis, {ndim} here")
    return values


def _known(input_size: Size | None, what: str) -> Size:
    """Return the input size, which ``what`` cannot be resolved without."""
    if input_size is None:
        raise UnsupportedExportError(
            f"{what} depends on the input size, which is left open here; read it with input_size=..., or give the "
            "network a fixed size"
        )
    return input_size
