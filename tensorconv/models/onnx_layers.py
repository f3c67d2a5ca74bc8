"""The convolutions of an ONNX network: every Conv and ConvTranspose whose weights are stored in it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorconv.arrays import Array
from tensorconv.errors import FormatError, MissingFrameworkError, ModelError, TensorconvError
from tensorconv.layers import ConvLayer
from tensorconv.models.found import FoundLayer, Reading, SkippedLayer
from tensorconv.models.onnx_geometry import onnx_geometry

Size = tuple[int, ...]
OPERATORS = ("Conv", "ConvTranspose")
READABLE_TYPES = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")


def read_onnx(path: Path, input_size: Size | None = None) -> Reading:
    """Read the convolutions of an ONNX network.

    Parameters
    ----------
    path : Path
        The file; weights kept beside it are loaded too.
    input_size : tuple of int, optional
        Spatial size of the network's input, where the network leaves it open.

    Returns
    -------
    Reading
        The layers with complete geometry, and those left out: weights that are computed, of another type than a
        floating-point one, or a geometry that depends on an unknown size.

    Raises
    ------
    FormatError
        If the file is not an ONNX network, or its weights cannot be loaded.
    ModelError
        If ``input_size`` fits no input of the network or contradicts it.
    MissingFrameworkError
        If the package onnx is not installed.
    """
    model = _load_model(path)
    if input_size is not None:
        _fix_input(model.graph, input_size)
    sizes = _spatial_sizes(model)
    tensors = _constants(model.graph)
    found = (_entry(node, tensors, sizes, path.parent) for node in _convolutions(model.graph))
    return Reading.of((*found, *_hidden(model)))


def _load_model(path: Path) -> Any:
    """Parse an ONNX file without loading the weights that are stored beside it."""
    try:
        onnx = importlib.import_module("onnx")
        message = importlib.import_module("google.protobuf.message")
    except ImportError as error:
        raise MissingFrameworkError("reading .onnx needs the package onnx: pip install 'tensorconv[onnx]'") from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    except message.DecodeError as error:
        raise FormatError(f"{path} cannot be read as an ONNX network: {error}") from error
    if not model.HasField("graph"):
        raise FormatError(f"{path} is not an ONNX network: it holds no graph")
    return model


def _entry(node: Any, tensors: Mapping[str, Any], sizes: Mapping[str, Size], folder: Path) -> FoundLayer | SkippedLayer:
    """Return a node as a layer, or why it cannot be read."""
    name = node.name or (node.output[0] if node.output else node.op_type)
    try:
        return _found(node, name, tensors, sizes, folder)
    except TensorconvError as error:
        return SkippedLayer(name, str(error))


def _found(node: Any, name: str, tensors: Mapping[str, Any], sizes: Mapping[str, Size], folder: Path) -> FoundLayer:
    """Return the layer of a node, or raise an error that says why it cannot be read."""
    if len(node.input) < 2:
        raise ModelError(f"{node.op_type} has {len(node.input)} inputs, it needs data and weights")
    kernel = _array(tensors, node.input[1], "weights", folder)
    bias = _array(tensors, node.input[2], "bias", folder) if len(node.input) > 2 and node.input[2] else None
    if kernel.ndim < 3:
        raise ModelError(
            f"the weights have shape {kernel.shape}, a convolution's have two channel and the spatial axes"
        )
    transposed = node.op_type == "ConvTranspose"
    inferred = sizes.get(node.input[0], ())
    size = inferred if len(inferred) == kernel.ndim - 2 else None
    geometry = onnx_geometry(transposed, _attributes(node), kernel.shape[2:], size)
    layer = ConvLayer.of(
        kernel,
        bias,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=geometry.groups,
        transposed=transposed,
        layout="IO*" if transposed else "OI*",
        name=name,
    )
    return FoundLayer(layer, size, "network")


def _attributes(node: Any) -> dict[str, int | str | Size]:
    """Return the attributes that a convolution may have, each as the plain value of its type."""
    values: dict[str, int | str | Size] = {}
    for attribute in node.attribute:
        if attribute.name == "auto_pad":
            values["auto_pad"] = attribute.s.decode("utf-8", "replace")
        elif attribute.name == "group":
            values["group"] = attribute.i
        else:
            values[attribute.name] = tuple(attribute.ints)
    return values


def _array(tensors: Mapping[str, Any], name: str, what: str, folder: Path) -> Array:
    """Return a stored tensor as an array."""
    if name not in tensors:
        raise ModelError(f"{what} {name!r}: computed in the network, not stored in it")
    onnx = importlib.import_module("onnx")
    tensor = tensors[name]
    kind = onnx.TensorProto.DataType.Name(tensor.data_type)
    if kind not in READABLE_TYPES:
        raise ModelError(f"{what} {name!r}: of type {kind}; readable are {', '.join(READABLE_TYPES)}")
    try:
        array: Array = onnx.numpy_helper.to_array(tensor, base_dir=str(folder))
    except (OSError, ValueError, TypeError, onnx.checker.ValidationError) as error:  # lost, short or outside the folder
        raise FormatError(f"{what} {name!r}: cannot be loaded: {error}") from error
    return array


def _convolutions(graph: Any) -> Iterator[Any]:
    return (node for node in graph.node if node.op_type in OPERATORS and node.domain in ("", "ai.onnx"))


def _hidden(model: Any) -> Iterator[SkippedLayer]:
    """Yield the convolutions of subgraphs and functions, which are not read."""
    bodies = [*_subgraphs(model.graph), *model.functions]
    while bodies:
        body = bodies.pop()
        bodies += _subgraphs(body)
        for node in _convolutions(body):
            reason = "inside a branch, loop or function; only the main graph is read"
            yield SkippedLayer(node.name or node.op_type, reason)


def _subgraphs(body: Any) -> list[Any]:
    attributes = [attribute for node in body.node for attribute in node.attribute]
    return [a.g for a in attributes if a.HasField("g")] + [graph for a in attributes for graph in a.graphs]


def _constants(graph: Any) -> dict[str, Any]:
    """Return every stored tensor by name: initializers, Constant nodes, and those that Identity nodes rename."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:  # a graph is sorted: what a node reads was made before it
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.HasField("t"):
                    tensors[node.output[0]] = attribute.t
        elif node.op_type == "Identity" and node.input and node.output and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    return tensors


def _spatial_sizes(model: Any) -> dict[str, Size]:
    """Return the spatial size of every value of the graph where shape inference finds it."""
    onnx = importlib.import_module("onnx")
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, ValueError):  # an operator it cannot read: sizes stay unknown
        graph = model.graph
    sizes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        size = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim[2:])
        if size and min(size) > 0:
            sizes[value.name] = size
    return sizes


def _fix_input(graph: Any, input_size: Size) -> None:
    """Write the spatial size into the inputs of the graph that have as many spatial axes."""
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    fitting = [value for value in inputs if len(value.type.tensor_type.shape.dim) == len(input_size) + 2]
    if not fitting:
        names = ", ".join(value.name for value in inputs)
        raise ModelError(
            f"input_size {input_size} has {len(input_size)} spatial axes, no input of the network has ({names})"
        )
    for value in fitting:
        for dim, size in zip(value.type.tensor_type.shape.dim[2:], input_size, strict=True):
            if dim.dim_value not in (0, size):
                raise ModelError(
                    f"input_size {input_size} contradicts the network, whose input {value.name!r} has a fixed size; "
                    "leave input_size out"
                )
            dim.dim_value = size
