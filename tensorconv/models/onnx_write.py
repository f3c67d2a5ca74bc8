"""Sequences as ONNX nodes in the words of a given operator set: convolutions, or matrix products of dense layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from onnx import NodeProto, TensorProto, helper

from tensorconv.arrays import Array
from tensorconv.errors import ModelError
from tensorconv.export.onnx import nodes
from tensorconv.export.onnx_tensors import read_tensor, write_tensor
from tensorconv.layers import ConvLayer, ConvSequence, PadLayer

Written = tuple[list[NodeProto], list[TensorProto]]
_PAD_HAS_INPUTS = 11
_PAD_WRAPS = 19
_GEMM_WITHOUT_BIAS = 11
_FIRST_BFLOAT16 = 22


def write_convolutions(sequence: ConvSequence, opset: int, data: str, output: str, prefix: str) -> Written:
    """Return a sequence as nodes and initializers.

    Parameters
    ----------
    sequence : ConvSequence
        The sequence.
    opset : int
        Version of the operator set.
    data : str
        Name of the input.
    output : str
        Name of the output.
    prefix : str
        What all other names start with.

    Returns
    -------
    nodes : list of onnx.NodeProto
        The nodes in order, each with a name.
    initializers : list of onnx.TensorProto
        Kernels, bias and paddings.

    Raises
    ------
    ModelError
        If the operator set is too old.
    """
    wraps = any(isinstance(layer, PadLayer) and layer.mode == "circular" for layer in sequence.layers)
    _check_opset(opset, _PAD_WRAPS if wraps else 0, "circular padding")
    _check_opset(opset, _FIRST_BFLOAT16 if sequence.dtype.name == "bfloat16" else 0, "convolutions in bfloat16")
    unnamed = ConvSequence(tuple(replace(layer, name="") for layer in sequence.layers))
    written, tensors = nodes(unnamed, data, output, prefix)
    if opset < _PAD_HAS_INPUTS:
        tensors = _pads_as_attributes(written, tensors)
    return _named(written, prefix), tensors


def write_linear(sequence: ConvSequence, operator: str, opset: int, data: str, output: str, prefix: str) -> Written:
    """Return a sequence of pointwise layers as matrix products.

    Parameters
    ----------
    sequence : ConvSequence
        Layers of one tap, stride 1, no padding, one group.
    operator : {"Gemm", "MatMul"}
        Type of the nodes; a MatMul takes data with any number of axes, and its bias is added by an Add.
    opset : int
        Version of the operator set.
    data : str
        Name of the input.
    output : str
        Name of the output.
    prefix : str
        What all other names start with.

    Returns
    -------
    nodes : list of onnx.NodeProto
        The nodes in order, each with a name.
    initializers : list of onnx.TensorProto
        Matrices and bias.

    Raises
    ------
    ModelError
        If a layer is not pointwise.
    """
    written: list[NodeProto] = []
    tensors: list[TensorProto] = []
    value = data
    for i, layer in enumerate(sequence.layers):
        if not isinstance(layer, ConvLayer) or not _is_pointwise(layer):
            raise ModelError(
                f"layer {i} of the sequence, {layer}, is no fully connected layer; it must have one tap, stride 1, no "
                "padding and one group"
            )
        matrix = layer.kernel.reshape(layer.kernel.shape[:2]).T
        inputs = [value, _tensor(tensors, f"{prefix}{i}.kernel", matrix)]
        bias = layer.bias
        if bias is None and operator == "Gemm" and opset < _GEMM_WITHOUT_BIAS:
            bias = np.zeros(1, layer.dtype)
        added = [] if bias is None else [_tensor(tensors, f"{prefix}{i}.bias", bias)]
        value = f"{prefix}{i}.product"
        written.append(helper.make_node(operator, inputs + (added if operator == "Gemm" else []), [value]))
        if added and operator == "MatMul":
            written.append(helper.make_node("Add", [value, *added], [f"{prefix}{i}.output"]))
            value = written[-1].output[0]
    written[-1].output[0] = output
    return _named(written, prefix), tensors


def _is_pointwise(layer: ConvLayer) -> bool:
    geometry = layer.geometry
    plain = geometry.groups == 1 and not geometry.transposed and not any(any(pair) for pair in geometry.padding)
    return plain and {*layer.kernel_size, *geometry.stride} == {1}


def _check_opset(opset: int, first: int, what: str) -> None:
    if opset < first:
        raise ModelError(
            f"the network's operator set {opset} has no {what}, which came with {first}; convert the network by "
            "onnx.version_converter or leave this replacement out"
        )


def _pads_as_attributes(written: Sequence[NodeProto], tensors: Sequence[TensorProto]) -> list[TensorProto]:
    """Move the amounts of padding from inputs into attributes, and return the initializers that are left."""
    stored = {tensor.name: tensor for tensor in tensors}
    for node in written:
        if node.op_type == "Pad":
            name = node.input.pop()
            node.attribute.append(helper.make_attribute("pads", read_tensor(name, stored.pop(name)).tolist()))
    return list(stored.values())


def _named(written: list[NodeProto], prefix: str) -> list[NodeProto]:
    for i, node in enumerate(written):
        node.name = f"{prefix}node{i}"
    return written


def _tensor(tensors: list[TensorProto], name: str, array: Array) -> str:
    tensors.append(TensorProto())
    write_tensor(tensors[-1], name, array)
    return name
