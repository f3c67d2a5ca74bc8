"""One ONNX Conv or ConvTranspose node and its arrays as a layer."""

from __future__ import annotations

from onnx import AttributeProto, NodeProto

from tensorconv.arrays import Array
from tensorconv.errors import FormatError, GeometryError, ModelError, UnsupportedExportError
from tensorconv.export.onnx_geometry import onnx_geometry
from tensorconv.integers import PerAxis, per_axis
from tensorconv.layers import ConvLayer, from_layout

_CONVOLUTION = {"auto_pad": "STRING", "dilations": "INTS", "group": "INT", "kernel_shape": "INTS", "pads": "INTS"}
_CONVOLUTION["strides"] = "INTS"
ATTRIBUTES = {
    "Conv": _CONVOLUTION,
    "ConvTranspose": {**_CONVOLUTION, "output_padding": "INTS", "output_shape": "INTS"},
    "Pad": {"mode": "STRING"},
    "Add": {},
    "Gather": {"axis": "INT"},
    "Reshape": {"allowzero": "INT"},
    "Transpose": {"perm": "INTS"},
}


def read_convolution(
    node: NodeProto, kernel: Array, bias: Array | None = None, input_size: PerAxis | None = None, name: str = ""
) -> ConvLayer:
    """Return the layer that a Conv or ConvTranspose node is.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.
    kernel : ndarray
        Its weights in ONNX's layout, (O, I/G, K1..KN), or (I, O/G, K1..KN) of a ConvTranspose.
    bias : ndarray, shape (O,), optional
        Its bias.
    input_size : int or sequence of int, optional
        Spatial size of its input; needed only where the padding depends on it.
    name : str
        The layer's name.

    Returns
    -------
    ConvLayer
        The layer, its padding explicit.

    Raises
    ------
    FormatError
        If an attribute is invalid, or the arrays are no weights.
    UnsupportedExportError
        If the padding depends on an input size that is not given, or is said twice and differently.
    ModelError
        If ``input_size`` has another number of axes.
    GeometryError, KernelError, KernelTypeError
        If attributes and arrays do not make a convolution.
    """
    if kernel.ndim < 3:
        raise FormatError(f"node {label(node)}: the weights have shape {kernel.shape}, must have at least 3 axes")
    if bias is not None and bias.dtype != kernel.dtype:
        raise FormatError(
            f"node {label(node)}: kernel and bias must be of one type, got {kernel.dtype} and {bias.dtype}"
        )
    size = None if input_size is None else checked_size(input_size, kernel.ndim - 2)
    transposed = node.op_type == "ConvTranspose"
    geometry = onnx_geometry(transposed, read_attributes(node), kernel.shape[2:], size)
    return ConvLayer(from_layout(kernel, "IO*" if transposed else "OI*", geometry), geometry, bias, name)


def read_attributes(node: NodeProto) -> dict[str, int | str | tuple[int, ...]]:
    """Return the attributes of a node by name, each checked to be known and of its type.

    Parameters
    ----------
    node : onnx.NodeProto
        A node of a type in ``ATTRIBUTES``.

    Returns
    -------
    dict of str to int, str or tuple of int
        Those that the node has.

    Raises
    ------
    FormatError
        If one is unknown, repeated or of another type.
    UnsupportedExportError
        If one takes its value from the call of a function.
    """
    known = ATTRIBUTES[node.op_type]
    values: dict[str, int | str | tuple[int, ...]] = {}
    for attribute in node.attribute:
        kind = known.get(attribute.name)
        if kind is None or attribute.name in values:
            raise FormatError(f"node {label(node)} has the unknown or repeated attribute {attribute.name!r}")
        if attribute.ref_attr_name:
            raise UnsupportedExportError(
                f"node {label(node)} takes {attribute.name} from the attribute {attribute.ref_attr_name!r} of its "
                "function; write the value into the node"
            )
        if attribute.type != AttributeProto.AttributeType.Value(kind):
            raise FormatError(f"node {label(node)}: attribute {attribute.name} must be of type {kind}")
        if kind == "STRING":
            values[attribute.name] = attribute.s.decode("utf-8", "replace")
        else:
            values[attribute.name] = attribute.i if kind == "INT" else tuple(attribute.ints)
    return values


def checked_size(input_size: PerAxis, ndim: int) -> tuple[int, ...]:
    """Return the spatial size of an input, one entry per axis.

    Parameters
    ----------
    input_size : int or sequence of int
        One size for all axes, or one per axis.
    ndim : int
        Number of spatial axes.

    Returns
    -------
    tuple of int
        The size.

    Raises
    ------
    ModelError
        If it has another number of axes, or an entry is no integer from 1.
    """
    try:
        return per_axis("input_size", input_size, ndim, at_least=1)
    except GeometryError as error:
        raise ModelError(str(error)) from error


def label(node: NodeProto) -> str:
    """Return type and name of a node, for messages.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.

    Returns
    -------
    str
        Such as "Conv 'stem'".
    """
    return f"{node.op_type} {node.name!r}"
