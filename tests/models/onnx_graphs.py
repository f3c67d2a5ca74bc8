"""ONNX graphs for tests: built node by node, with whole numbers in them so that no rounding blurs a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

import tensorconv as tc

IR = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10}


def whole(shape: Sequence[int], seed: int = 0, dtype: str = "float32") -> np.ndarray:
    """Return whole numbers from -3 to 3."""
    return np.random.default_rng(seed).integers(-3, 4, tuple(shape)).astype(dtype)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """Return a node; names of values are separated by spaces, its own name is that of its first output."""
    return helper.make_node(kind, inputs.split(), outputs.split(), name=f"/{outputs.split()[0]}", **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None] | None],
    outputs: str,
    stored: Mapping[str, np.ndarray],
    *,
    opset: int = 17,
    dtype: str = "float32",
) -> onnx.ModelProto:
    """Return a model with decorations that must survive: texts, metadata, declared shapes of no consequence."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    values = [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()]
    results = [helper.make_tensor_value_info(name, kind, None) for name in outputs.split()]
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    ir_version = IR.get(opset, 10)
    if ir_version < 4:
        values += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    graph = helper.make_graph(list(nodes), "graph", values, results, tensors, doc_string="a graph")
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    inferred = onnx.shape_inference.infer_shapes(made).graph.output
    for value, found in zip(made.graph.output, inferred, strict=True):
        value.CopyFrom(found)  # the checker asks for a shape
    made.producer_name, made.doc_string = "tests", "a model"
    made.metadata_props.add(key="author", value="somebody")
    return made


def small(opset: int = 17, size: Sequence[int | str | None] = (8, 8)) -> onnx.ModelProto:
    """Return conv - batch norm - relu - conv - relu - sum of both."""
    stored = {
        "w1": whole((4, 3, 3, 3), 1),
        "b1": whole((4,), 2),
        "scale": np.array([1, 2, -1, 4], "float32"),
        "shift": whole((4,), 3),
        "mean": whole((4,), 4),
        "variance": np.array([1, 4, 1, 16], "float32"),
        "w2": whole((4, 4, 3, 3), 5),
    }
    nodes = [
        node("Conv", "x w1 b1", "c1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c1 scale shift mean variance", "n1", epsilon=0.0),
        node("Relu", "n1", "r1"),
        node("Conv", "r1 w2", "c2", pads=[1, 1, 1, 1]),
        node("Add", "r1 c2", "y"),
    ]
    return model(nodes, {"x": ["batch", 3, *size]}, "y", stored, opset=opset)


def through_identity(layer: tc.ConvLayer) -> tc.ConvSequence:
    """Return a layer behind a pointwise convolution that changes nothing; exact, and two layers."""
    channels = layer.in_channels
    kernel = np.eye(channels, dtype=layer.dtype).reshape(channels, channels, *(1,) * layer.ndim)
    return tc.ConvSequence((tc.ConvLayer.of(kernel), layer))


def same_nodes(old: onnx.ModelProto, new: onnx.ModelProto, gone: set[str]) -> None:
    """Check that all nodes but those with these names are in the new model, equal and in order."""
    kept = [n for n in old.graph.node if n.name not in gone]
    names = {n.name for n in kept}
    assert [n for n in new.graph.node if n.name in names] == kept
