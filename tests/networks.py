"""Small ONNX networks for the tests, built node by node, and their execution by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def one_node(
    op_type: str,
    kernel: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    input_shape: Sequence[int | str | None],
    name: str = "only",
    **attributes: Any,
) -> onnx.ModelProto:
    """Return a network of one Conv or ConvTranspose, kernel in ONNX's layout."""
    tensors = {"w": kernel} if bias is None else {"w": kernel, "b": bias}
    node = helper.make_node(op_type, ["x", *tensors], ["y"], name=name, **attributes)
    return network([node], tensors, input_shape)


def network(
    nodes: Sequence[onnx.NodeProto],
    tensors: dict[str, np.ndarray],
    input_shape: Sequence[int | str | None],
    output: str = "y",
) -> onnx.ModelProto:
    """Return a network from x to one output."""
    kind = helper.np_dtype_to_tensor_dtype(next(iter(tensors.values())).dtype) if tensors else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", kind, input_shape)],
        [helper.make_tensor_value_info(output, kind, [None] * len(input_shape))],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(model: onnx.ModelProto, path: Path) -> Path:
    """Write a network to a file and return its path."""
    onnx.save(model, str(path))
    return path


def run(model: onnx.ModelProto | Path, x: np.ndarray) -> np.ndarray:
    """Execute a network of one input and one output by ONNX Runtime."""
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]
