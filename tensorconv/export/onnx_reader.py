"""Read an ONNX model that is a plain chain of Conv, ConvTranspose and padding nodes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from tensorconv.arrays import Array, named_dtype
from tensorconv.errors import FormatError, GeometryError, KernelError, KernelTypeError, UnsupportedExportError
from tensorconv.export.padding import Pairs, Step, merge_padding
from tensorconv.export.source import Source, opened
from tensorconv.layers import ConvLayer, ConvSequence

_DTYPES: dict[int, str] = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.INT64: "int64",
}
_CONVOLUTION = {"auto_pad": "STRING", "dilations": "INTS", "group": "INT", "kernel_shape": "INTS", "pads": "INTS"}
_CONVOLUTION["strides"] = "INTS"
_ATTRIBUTES = {
    "Conv": _CONVOLUTION,
    "ConvTranspose": {**_CONVOLUTION, "output_padding": "INTS", "output_shape": "INTS"},
    "Pad": {"mode": "STRING"},
    "Add": {},
}
_MAX_NDIM = 32


def load(obj: ModelProto | Source) -> ConvSequence:
    """Return the sequence of an ONNX model, the inverse of :func:`tensorconv.export.onnx.dump`.

    Parameters
    ----------
    obj : onnx.ModelProto, bytes, str or path
        The model, its bytes, or where it is.

    Returns
    -------
    ConvSequence
        Kernels and bias bitwise the model's; a node's name is the layer's name.

    Raises
    ------
    FormatError
        If the model is broken.
    UnsupportedExportError
        If it is more than a chain of convolutions with explicit zero padding.
    """
    model = obj if isinstance(obj, ModelProto) else _parse(obj)
    if not model.graph.node:
        raise FormatError("the model holds no nodes; is this an ONNX file?")
    try:
        return merge_padding(_steps(model.graph))
    except (GeometryError, KernelError, KernelTypeError) as error:
        raise FormatError(f"the model's nodes make no sequence of convolutions: {error}") from error


def _parse(source: Source) -> ModelProto:
    model = ModelProto()
    with opened(source) as file:
        content = file.read()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise FormatError(f"this is no ONNX model: {error}") from error
    return model


def _steps(graph: GraphProto) -> Iterator[Step]:
    """Yield the steps of a graph after checking that each node reads what the one before it wrote."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in constants]
    outputs = [value.name for value in graph.output]
    if len(inputs) != 1 or len(outputs) != 1 or len(constants) < len(graph.initializer) or graph.sparse_initializer:
        raise UnsupportedExportError(
            f"the model must have one input, one output and distinct dense initializers, got inputs {inputs}, "
            f"outputs {outputs}"
        )
    current = inputs[0]
    for node in graph.node:
        if not node.input or node.input[0] != current or len(node.output) != 1:
            raise UnsupportedExportError(f"node {_label(node)} does not continue the chain at {current!r}")
        yield _step(node, constants)
        current = node.output[0]
    if current != outputs[0]:
        raise UnsupportedExportError(f"the chain ends at {current!r}, the model's output is {outputs[0]!r}")


def _step(node: NodeProto, constants: dict[str, TensorProto]) -> Step:
    if node.op_type not in _ATTRIBUTES or node.domain not in ("", "ai.onnx"):
        raise UnsupportedExportError(
            f"node {_label(node)} must be one of {', '.join(_ATTRIBUTES)}; load a network's convolutions one by one"
        )
    attributes = _read_attributes(node)
    arrays = [_array(name, constants, node) for name in node.input[1:]]
    if node.op_type == "Pad":
        return _read_pad(node, arrays, attributes.get("mode", b"constant"))
    if node.op_type == "Add":
        return _read_bias(node, arrays)
    return _read_convolution(node, arrays, attributes)


def _read_attributes(node: NodeProto) -> dict[str, object]:
    """Return the attributes by name, each checked to be known and of its type."""
    known = _ATTRIBUTES[node.op_type]
    values: dict[str, object] = {}
    for attribute in node.attribute:
        kind = known.get(attribute.name)
        if kind is None or attribute.name in values or attribute.ref_attr_name:
            raise FormatError(f"node {_label(node)} has the unknown or repeated attribute {attribute.name!r}")
        if attribute.type != AttributeProto.AttributeType.Value(kind):
            raise FormatError(f"node {_label(node)}: attribute {attribute.name} must be of type {kind}")
        values[attribute.name] = {"INT": attribute.i, "INTS": tuple(attribute.ints), "STRING": attribute.s}[kind]
    return values


def _read_convolution(node: NodeProto, arrays: list[Array | None], attributes: dict[str, object]) -> ConvLayer:
    transposed = node.op_type == "ConvTranspose"
    if len(arrays) not in (1, 2) or arrays[0] is None or arrays[0].ndim < 3:
        raise FormatError(f"node {_label(node)} must have a kernel of at least 3 axes and at most a bias")
    kernel, bias = arrays[0], arrays[1] if len(arrays) == 2 else None
    if bias is not None and bias.dtype != kernel.dtype:
        raise FormatError(
            f"node {_label(node)}: kernel and bias must be of one type, got {kernel.dtype} and {bias.dtype}"
        )
    ndim = kernel.ndim - 2
    pads, auto_pad = _integers(attributes, "pads", 2 * ndim, 0), attributes.get("auto_pad", b"NOTSET")
    explicit = auto_pad in (b"NOTSET", b"") or (auto_pad == b"VALID" and not any(pads))
    if not explicit or "output_shape" in attributes:
        raise UnsupportedExportError(
            f"node {_label(node)} has auto_pad or output_shape, which depend on the input size; write explicit pads"
        )
    if attributes.get("kernel_shape", kernel.shape[2:]) != kernel.shape[2:]:
        raise FormatError(
            f"node {_label(node)}: kernel_shape {attributes['kernel_shape']} is not that of {kernel.shape}"
        )
    return ConvLayer.of(
        kernel,
        bias,
        stride=_integers(attributes, "strides", ndim, 1),
        padding=_pairs(pads),
        dilation=_integers(attributes, "dilations", ndim, 1),
        groups=attributes.get("group", 1),  # type: ignore[arg-type]  # checked when the attributes were read
        transposed=transposed,
        output_padding=_integers(attributes, "output_padding", ndim, 0),
        layout="IO*" if transposed else "OI*",
        name=node.name,
    )


def _read_pad(node: NodeProto, arrays: list[Array | None], mode: object) -> Pairs:
    if mode != b"constant" or len(arrays) > 2 or (len(arrays) == 2 and arrays[1] is not None and arrays[1].any()):
        raise UnsupportedExportError(f"node {_label(node)} must pad all axes by constant zeros")
    pads = arrays[0] if arrays else None
    if pads is None or pads.dtype != np.int64 or pads.ndim != 1 or pads.size < 6 or pads.size % 2:
        raise FormatError(f"node {_label(node)} must have its pads as an int64 initializer of (low..., high...)")
    pairs = _pairs(tuple(int(side) for side in pads))
    if any(side for pair in pairs[:2] for side in pair):
        raise UnsupportedExportError(f"node {_label(node)} pads the batch or the channels: {pairs}")
    return pairs[2:]


def _read_bias(node: NodeProto, arrays: list[Array | None]) -> Array:
    bias = arrays[0] if len(arrays) == 1 else None
    if bias is None:
        raise FormatError(f"node {_label(node)} must add one initializer")
    return bias


def _integers(attributes: dict[str, object], name: str, length: int, default: int) -> tuple[int, ...]:
    values = attributes.get(name, (default,) * length)
    if not isinstance(values, tuple) or len(values) != length:
        raise FormatError(f"attribute {name} must have {length} entries, got {values}")
    return values


def _pairs(sides: tuple[int, ...]) -> Pairs:
    half = len(sides) // 2
    return tuple(zip(sides[:half], sides[half:], strict=True))


def _array(name: str, constants: dict[str, TensorProto], node: NodeProto) -> Array | None:
    """Return the initializer of this name, after checking that it holds as many bytes as its shape says."""
    if name == "":
        return None
    if name not in constants:
        raise UnsupportedExportError(f"node {_label(node)} reads {name!r}, which is no initializer of the model")
    tensor = constants[name]
    if tensor.data_location == TensorProto.EXTERNAL:
        raise UnsupportedExportError(f"initializer {name} lies in another file; read the model by onnx.load first")
    if tensor.data_type not in _DTYPES or len(tensor.dims) > _MAX_NDIM or any(size < 1 for size in tensor.dims):
        raise FormatError(
            f"initializer {name} must be a non-empty float or int64 tensor, got shape {list(tensor.dims)}"
        )
    if not tensor.HasField("raw_data"):
        return _unpacked(tensor)
    dtype = np.dtype(np.int64) if tensor.data_type == TensorProto.INT64 else named_dtype(_DTYPES[tensor.data_type])
    if math.prod(tensor.dims) * dtype.itemsize != len(tensor.raw_data):
        raise FormatError(f"initializer {name} of shape {list(tensor.dims)} holds {len(tensor.raw_data)} bytes")
    bits = np.frombuffer(tensor.raw_data, f"<u{dtype.itemsize}").astype(f"u{dtype.itemsize}")  # raw data: little-endian
    return bits.view(dtype).reshape(tuple(tensor.dims))


def _unpacked(tensor: TensorProto) -> Array:
    """Return a tensor whose numbers stand in a typed list, as other writers of ONNX files store them."""
    if tensor.data_type == TensorProto.BFLOAT16:
        raise UnsupportedExportError(f"initializer {tensor.name}: bfloat16 is read from raw_data only")
    try:
        array: Array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise FormatError(f"initializer {tensor.name} is broken: {error}") from error
    return array


def _label(node: NodeProto) -> str:
    return f"{node.op_type} {node.name!r}"
