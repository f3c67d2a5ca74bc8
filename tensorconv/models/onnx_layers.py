"""The convolutions of an ONNX network: every Conv and ConvTranspose whose weights are stored in it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorconv.arrays import Array
from tensorconv.errors import MissingFrameworkError, ModelError, TensorconvError
from tensorconv.models.found import FoundLayer, Reading, SkippedLayer

Size = tuple[int, ...]
OPERATORS = ("Conv", "ConvTranspose")


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
    try:  # onnx, which no other kind of file needs
        from tensorconv.export.onnx_tensors import stored_tensors
        from tensorconv.models.onnx_file import read_model
        from tensorconv.models.onnx_hidden import hidden
    except ImportError as error:
        raise MissingFrameworkError("reading .onnx needs the package onnx: pip install 'tensorconv[onnx]'") from error
    model, folder = read_model(path)
    if input_size is not None:
        _fix_input(model.graph, input_size)
    sizes = _spatial_sizes(model)
    tensors = stored_tensors({tensor.name: tensor for tensor in model.graph.initializer}, model.graph.node)
    found = (_entry(node, tensors, sizes, folder or path.parent) for node in _convolutions(model.graph))
    return Reading.of((*found, *hidden(model)))


def _entry(node: Any, tensors: Mapping[str, Any], sizes: Mapping[str, Size], folder: Path) -> FoundLayer | SkippedLayer:
    """Return a node as a layer, or why it cannot be read."""
    name = node.name or (node.output[0] if node.output else node.op_type)
    try:
        return _found(node, name, tensors, sizes, folder)
    except TensorconvError as error:
        return SkippedLayer(name, str(error))


def _found(node: Any, name: str, tensors: Mapping[str, Any], sizes: Mapping[str, Size], folder: Path) -> FoundLayer:
    """Return the layer of a node, or raise an error that says why it cannot be read."""
    from tensorconv.export.onnx_node import read_convolution

    if len(node.input) < 2:
        raise ModelError(f"{node.op_type} has {len(node.input)} inputs, it needs data and weights")
    kernel = _array(tensors, node.input[1], "weights", folder)
    bias = _array(tensors, node.input[2], "bias", folder) if len(node.input) > 2 and node.input[2] else None
    inferred = sizes.get(node.input[0], ())
    size = inferred if len(inferred) == kernel.ndim - 2 else None
    return FoundLayer(read_convolution(node, kernel, bias, size, name), size, "network")


def _array(tensors: Mapping[str, Any], name: str, what: str, folder: Path) -> Array:
    """Return a stored tensor as an array."""
    from tensorconv.export.onnx_tensors import read_tensor

    if name not in tensors:
        raise ModelError(f"{what} {name!r}: computed in the network, not stored in it")
    return read_tensor(name, tensors[name], folder)


def _convolutions(graph: Any) -> Iterator[Any]:
    return (node for node in graph.node if node.op_type in OPERATORS and node.domain in ("", "ai.onnx"))


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
