"""Shapes of the values of an ONNX graph as far as they follow without running it, and a bound on what it may claim."""

from __future__ import annotations

import math
from collections.abc import Mapping

from onnx import ModelProto, TensorProto, ValueInfoProto, shape_inference

from tensorconv.errors import ModelError
from tensorconv.models.onnx_walk import stored_names

Shape = tuple[int, ...]
LARGEST_VALUE = 2**30  # entries
_SMALL = 1024  # bytes of a stored tensor that may be a shape


def infer_shapes(model: ModelProto, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes of the values where they follow from those of the inputs.

    Parameters
    ----------
    model : onnx.ModelProto
        The model; not changed.
    inputs : mapping of str to tuple of int
        Shapes of inputs, where known.

    Returns
    -------
    dict of str to tuple of int
        The shapes by name.

    Raises
    ------
    ModelError
        If a value would have more than ``LARGEST_VALUE`` entries.
    """
    outline = _outline(model, inputs)
    try:
        graph = shape_inference.infer_shapes(outline, data_prop=True).graph
    except (shape_inference.InferenceError, ValueError, RuntimeError):  # an operator or a claim that it cannot read
        graph = outline.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for value in (*graph.value_info, *graph.output, *graph.input):
        declared = dimensions(value)
        if declared is not None and None not in declared:
            shapes[value.name] = tuple(size for size in declared if size is not None)
    for name, shape in shapes.items():
        if math.prod(shape) > LARGEST_VALUE:
            raise ModelError(
                f"the value {name!r} of the network would have shape {shape}, more than {LARGEST_VALUE} entries; "
                "give a smaller input_size"
            )
    return shapes


def dimensions(value: ValueInfoProto) -> tuple[int | None, ...] | None:
    """Return what is declared of the shape of a value.

    Parameters
    ----------
    value : onnx.ValueInfoProto
        The declaration.

    Returns
    -------
    tuple of (int or None) or None
        Its sizes, None where one is open; None where it is no tensor or its number of axes is open, too.
    """
    declared = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not declared.HasField("shape"):
        return None
    sizes = (int(dim.dim_value) if dim.HasField("dim_value") else 0 for dim in declared.shape.dim)
    return tuple(size if size > 0 else None for size in sizes)


def _outline(model: ModelProto, inputs: Mapping[str, Shape]) -> ModelProto:
    """Return a model without its larger tensors' data, the inputs as small as said."""
    graph = model.graph
    outline = ModelProto(ir_version=model.ir_version)
    outline.opset_import.extend(model.opset_import)
    outline.functions.extend(model.functions)
    outline.graph.name = graph.name
    outline.graph.node.extend(graph.node)
    outline.graph.input.extend(graph.input)
    outline.graph.output.extend(graph.output)
    for tensor in graph.initializer:
        if len(tensor.dims) <= 1 and tensor.ByteSize() <= _SMALL:
            outline.graph.initializer.append(tensor)
        else:
            outline.graph.initializer.append(
                TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type, raw_data=b"")
            )
    for value in outline.graph.input:
        if value.name in inputs and value.name not in stored_names(graph):
            shape = value.type.tensor_type.shape
            shape.ClearField("dim")
            for size in inputs[value.name]:
                shape.dim.add(dim_value=size)
    return outline
