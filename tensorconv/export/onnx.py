"""Exporter "onnx": a sequence as an ONNX model of Conv and ConvTranspose nodes, or as nodes for a larger graph."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, defs, helper

from tensorconv.arrays import Array
from tensorconv.errors import UnsupportedExportError
from tensorconv.export.onnx_reader import load
from tensorconv.export.padding import Pairs, Split, split_padding
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer, ConvSequence, as_sequence, to_layout

__all__ = ["dump", "load", "nodes"]

_TYPES = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}
_FIRST_OPSET = {"float16": 11, "bfloat16": 22, "float32": 11, "float64": 11}
_DEFAULT_OPSET = 17


def dump(sequence: Any, opset: int | None = None) -> ModelProto:
    """Return a sequence as an ONNX model with one input and one output, of any batch and spatial size.

    Padding is explicit, never ``auto_pad``. What the runtimes have differs: ONNX Runtime's CPU kernels run float32, and
    any number of spatial axes.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write.
    opset : int, optional
        Version of the operator set, at least 11; 22 for bfloat16. Without it 17, or 22 for bfloat16.

    Returns
    -------
    onnx.ModelProto
        The model, with the oldest file version that has this operator set, so that older runtimes read it too. A
        layer's name is its node's name where it is unique.

    Raises
    ------
    UnsupportedExportError
        If the operator set does not have the data type, or the installed onnx not the operator set.
    """
    sequence = as_sequence(sequence)
    opset_id = helper.make_opsetid("", _checked_opset(sequence.dtype.name, opset))
    node_list, initializers = nodes(sequence, "input", "output", "")
    graph = helper.make_graph(
        node_list,
        "tensorconv",
        [_value_info("input", sequence, sequence.in_channels)],
        [_value_info("output", sequence, sequence.out_channels)],
        initializers,
    )
    version = helper.find_min_ir_version_for([opset_id])
    return helper.make_model(graph, opset_imports=[opset_id], ir_version=version, producer_name="tensorconv")


def nodes(sequence: Any, input_name: str, output_name: str, prefix: str) -> tuple[list[NodeProto], list[TensorProto]]:
    """Return a sequence as nodes and initializers to put into a larger graph of operator set 11 or later.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write; bfloat16 needs operator set 22.
    input_name : str
        Name of the value that the first node reads.
    output_name : str
        Name of the value that the last node writes.
    prefix : str
        Put before the names of all nodes, initializers and values between, to keep them unique in the graph.

    Returns
    -------
    nodes : list of onnx.NodeProto
        The nodes in order.
    initializers : list of onnx.TensorProto
        Kernels, bias and paddings.
    """
    node_list: list[NodeProto] = []
    initializers: list[TensorProto] = []
    sequence = as_sequence(sequence)
    names = [layer.name or (str(i) if prefix else "") for i, layer in enumerate(sequence)]
    for i, (layer, split) in enumerate(split_padding(sequence, _says)):
        name = prefix + names[i] if names.count(names[i]) == 1 else ""  # runtimes refuse two nodes of one name
        for node, constants in _layer_nodes(layer, split, f"{prefix}{i}", name):
            node_list.append(node)
            initializers.extend(constants)
    for before, after in itertools.pairwise(node_list):
        after.input[0] = before.output[0]
    node_list[0].input[0] = input_name
    node_list[-1].output[0] = output_name
    return node_list, initializers


def _says(axis: ConvGeometry) -> bool:
    """Whether Conv or ConvTranspose has this geometry; output_padding below the stride is what all runtimes take."""
    ((low, high),) = axis.padding
    return low >= 0 and high > (-axis.stride[0] if axis.transposed else -1)


def _layer_nodes(layer: ConvLayer, split: Split, value: str, name: str) -> list[tuple[NodeProto, list[TensorProto]]]:
    """Return every node of a layer with its initializers; the first input of each is left to be filled in."""
    found = []
    if split.before is not None:
        found.append(_pad_node(split.before, f"{value}.before"))
    add_bias = layer.bias is not None and split.extends  # entries that Pad adds need the bias too
    found.append(_convolution_node(layer, split.own, value, name, with_bias=not add_bias))
    if split.after is not None:
        found.append(_pad_node(split.after, f"{value}.after"))
    if layer.bias is not None and add_bias:
        bias = _tensor(f"{value}.bias", layer.bias.reshape(-1, *(1,) * layer.geometry.ndim))
        found.append((helper.make_node("Add", ["", bias.name], [f"{value}.output"]), [bias]))
    return found


def _convolution_node(
    layer: ConvLayer, padding: Pairs, value: str, name: str, *, with_bias: bool
) -> tuple[NodeProto, list[TensorProto]]:
    geometry = layer.geometry
    constants = [
        _tensor(f"{value}.kernel", to_layout(layer.kernel, "IO*" if geometry.transposed else "OI*", layer.geometry))
    ]
    if layer.bias is not None and with_bias:
        constants.append(_tensor(f"{value}.bias", layer.bias))
    highs = [high for _, high in padding]
    attributes: dict[str, Any] = {
        "kernel_shape": layer.kernel_size,
        "strides": geometry.stride,
        "pads": [low for low, _ in padding] + [max(high, 0) for high in highs],
        "dilations": geometry.dilation,
        "group": geometry.groups,
    }
    if geometry.transposed:
        attributes["output_padding"] = [max(-high, 0) for high in highs]
    kind = "ConvTranspose" if geometry.transposed else "Conv"
    inputs = ["", *(tensor.name for tensor in constants)]
    return helper.make_node(kind, inputs, [f"{value}.convolved"], name=name, **attributes), constants


def _pad_node(pairs: Pairs, value: str) -> tuple[NodeProto, list[TensorProto]]:
    lows, highs = [low for low, _ in pairs], [high for _, high in pairs]
    sides = np.array([0, 0, *lows, 0, 0, *highs], np.int64)  # batch and channels are not padded
    pads = TensorProto(
        name=f"{value}.pads", data_type=TensorProto.INT64, dims=sides.shape, raw_data=sides.astype("<i8").tobytes()
    )
    return helper.make_node("Pad", ["", pads.name], [f"{value}.padded"], mode="constant"), [pads]


def _tensor(name: str, array: Array) -> TensorProto:
    size = array.dtype.itemsize
    bits = np.ascontiguousarray(array).view(f"u{size}").astype(f"<u{size}")  # raw data are little-endian
    return TensorProto(name=name, data_type=_TYPES[array.dtype.name], dims=array.shape, raw_data=bits.tobytes())


def _value_info(name: str, sequence: ConvSequence, channels: int) -> ValueInfoProto:
    spatial = [f"{name}_size_{axis + 1}" for axis in range(sequence.layers[0].geometry.ndim)]
    return helper.make_tensor_value_info(name, _TYPES[sequence.dtype.name], ["batch", channels, *spatial])


def _checked_opset(dtype: str, opset: int | None) -> int:
    first, last = _FIRST_OPSET[dtype], defs.onnx_opset_version()
    chosen = max(_DEFAULT_OPSET, first) if opset is None else opset
    if not first <= chosen <= last:
        raise UnsupportedExportError(
            f"opset must be from {first}, the first for {dtype}, to {last}, the last of this onnx package, got {chosen}"
        )
    return chosen
