"""Exporter "onnx": a sequence as an ONNX model of Conv and ConvTranspose nodes, or as nodes for a larger graph."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, defs, helper

from tensorconv.arrays import Array
from tensorconv.errors import UnsupportedExportError
from tensorconv.export.onnx_channels import write_channelwise, write_order
from tensorconv.export.onnx_reader import load
from tensorconv.export.onnx_tensors import TYPES, write_tensor
from tensorconv.export.padding import Convolution, Pairs, split_padding
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import is_integer
from tensorconv.layers import ChannelwiseLayer, ConvSequence, PadLayer, PermuteLayer, as_sequence, swap_channels
from tensorconv.layers.pad import NUMPY_MODES

__all__ = ["dump", "load", "nodes"]

_DOMAIN = "tensorconv"
_FIRST_OPSET = {"float16": 11, "bfloat16": 22, "float32": 11, "float64": 11, "circular padding": 19}
_DEFAULT_OPSET = 17
_FIRST_IR_WITH_FUNCTIONS = 8


def dump(sequence: Any, opset: int | None = None, function: str | None = None) -> ModelProto:
    """Return a sequence as an ONNX model with one input and one output, of any batch and spatial size.

    Padding is explicit, never ``auto_pad``. What the runtimes have differs: ONNX Runtime's CPU kernels run float32, and
    any number of spatial axes.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write.
    opset : int, optional
        Version of the operator set, at least 11; 19 for circular padding, 22 for bfloat16. Without it 17, or what the
        sequence needs.
    function : str, optional
        Name of a function of the model, in the domain "tensorconv", that is to hold the nodes; the graph then calls it
        once, with the input, the kernels, the bias and the amounts of padding, which stay initializers of the graph.

    Returns
    -------
    onnx.ModelProto
        The model, with the oldest file version that has this operator set, so that older runtimes read it too. A
        layer's name is its node's name where it is unique.

    Raises
    ------
    UnsupportedExportError
        If the operator set does not have the data type or the padding, or the installed onnx not the operator set; or
        if the function's name is no identifier.
    """
    sequence = as_sequence(sequence)
    opset_id = helper.make_opsetid("", _checked_opset(sequence, opset))
    model = ModelProto(producer_name="tensorconv", ir_version=helper.find_min_ir_version_for([opset_id]))
    model.opset_import.append(opset_id)
    graph = model.graph
    graph.name = "tensorconv"
    graph.input.append(_value_info("input", sequence, sequence.in_channels))
    graph.output.append(_value_info("output", sequence, sequence.out_channels))
    node_list = _write(sequence, graph, "input", "output", "")
    if function is None:
        graph.node.extend(node_list)
        return model
    if not str(function).isidentifier():
        raise UnsupportedExportError(f"function must be an identifier, such as 'separable', got {function!r}")
    inputs = ["input", *(tensor.name for tensor in graph.initializer)]
    graph.node.append(helper.make_node(function, inputs, ["output"], name=function, domain=_DOMAIN))
    model.functions.append(helper.make_function(_DOMAIN, function, inputs, ["output"], node_list, [opset_id]))
    model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    model.ir_version = max(model.ir_version, _FIRST_IR_WITH_FUNCTIONS)
    return model


def nodes(sequence: Any, input_name: str, output_name: str, prefix: str) -> tuple[list[NodeProto], list[TensorProto]]:
    """Return a sequence as nodes and initializers to put into a larger graph of operator set 11 or later.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write; circular padding needs operator set 19, bfloat16 22.
    input_name : str
        Name of the value that is the input.
    output_name : str
        Name of the value that is to be the output.
    prefix : str
        What the names of all values and nodes in between start with, so that they are unique in the graph.

    Returns
    -------
    nodes : list of onnx.NodeProto
        The nodes, in the order of execution.
    initializers : list of onnx.TensorProto
        Kernels, bias and paddings.
    """
    graph = GraphProto()
    return _write(as_sequence(sequence), graph, input_name, output_name, prefix), list(graph.initializer)


def _write(
    sequence: ConvSequence, graph: GraphProto, input_name: str, output_name: str, prefix: str
) -> list[NodeProto]:
    """Return the nodes of a sequence and add their initializers to a graph, each array copied once."""
    node_list: list[NodeProto] = []
    names = [layer.name or (str(i) if prefix else "") for i, layer in enumerate(sequence.layers)]
    names = [prefix + name if names.count(name) == 1 else "" for name in names]  # runtimes refuse two nodes of one name
    i = -1
    crops = False  # a step after a transposed convolution belongs to it
    for step in split_padding(sequence, _says, framework="onnx", adds_bias=True):
        if isinstance(step, (Convolution, PadLayer, PermuteLayer, ChannelwiseLayer)):
            i += 1
        value = f"{prefix}{i}"
        if isinstance(step, Convolution):
            node = _convolution_node(graph, step, value, names[i])
        elif isinstance(step, PadLayer):
            node = _pad_node(graph, step.padding, NUMPY_MODES[step.mode], value, names[i])
        elif isinstance(step, PermuteLayer):
            node = write_order(graph, step, value, names[i])
        elif isinstance(step, ChannelwiseLayer):
            *inner, node = write_channelwise(graph, step, value, names[i])
            node_list += inner
        elif isinstance(step, np.ndarray):
            node = _bias_node(graph, step, sequence.ndim, value)
        else:
            node = _pad_node(graph, step, "constant", f"{value}.after" if crops else f"{prefix}{i + 1}.before")
        crops = isinstance(step, Convolution) and step.layer.geometry.transposed
        node_list.append(node)
    for before, after in itertools.pairwise(node_list):
        after.input[0] = before.output[0]
    node_list[0].input[0] = input_name
    node_list[-1].output[0] = output_name
    return node_list


def _says(axis: ConvGeometry) -> bool:
    """Whether Conv or ConvTranspose has this geometry; output_padding below the stride is what all runtimes take."""
    ((low, high),) = axis.padding
    return low >= 0 and high > (-axis.stride[0] if axis.transposed else -1)


def _convolution_node(graph: GraphProto, step: Convolution, value: str, name: str) -> NodeProto:
    layer, geometry = step.layer, step.layer.geometry
    kernel = swap_channels(layer.kernel, geometry.groups) if geometry.transposed else layer.kernel
    inputs = ["", _add_initializer(graph, f"{value}.kernel", kernel)]
    if step.bias is not None:
        inputs.append(_add_initializer(graph, f"{value}.bias", step.bias))
    highs = [high for _, high in step.padding]
    attributes: dict[str, Any] = {
        "kernel_shape": layer.kernel_size,
        "strides": geometry.stride,
        "pads": [low for low, _ in step.padding] + [max(high, 0) for high in highs],
        "dilations": geometry.dilation,
        "group": geometry.groups,
    }
    if geometry.transposed:
        attributes["output_padding"] = [max(-high, 0) for high in highs]
    kind = "ConvTranspose" if geometry.transposed else "Conv"
    return helper.make_node(kind, inputs, [f"{value}.convolved"], name=name, **attributes)


def _pad_node(graph: GraphProto, pairs: Pairs, mode: str, value: str, name: str = "") -> NodeProto:
    lows, highs = [low for low, _ in pairs], [high for _, high in pairs]
    sides = np.array([0, 0, *lows, 0, 0, *highs], np.int64)  # batch and channels are not padded
    pads = _add_initializer(graph, f"{value}.pads", sides)
    return helper.make_node("Pad", ["", pads], [f"{value}.padded"], name=name, mode=mode)


def _bias_node(graph: GraphProto, bias: Array, ndim: int, value: str) -> NodeProto:
    added = _add_initializer(graph, f"{value}.bias", bias.reshape(-1, *(1,) * ndim))
    return helper.make_node("Add", ["", added], [f"{value}.output"])


def _add_initializer(graph: GraphProto, name: str, array: Array) -> str:
    write_tensor(graph.initializer.add(), name, array)
    return name


def _value_info(name: str, sequence: ConvSequence, channels: int) -> ValueInfoProto:
    spatial = [f"{name}_size_{axis + 1}" for axis in range(sequence.ndim)]
    return helper.make_tensor_value_info(name, TYPES[sequence.dtype.name], ["batch", channels, *spatial])


def _checked_opset(sequence: ConvSequence, opset: int | None) -> int:
    needs = [sequence.dtype.name]
    needs += [f"{layer.mode} padding" for layer in sequence.layers if isinstance(layer, PadLayer)]
    need = max(needs, key=lambda what: _FIRST_OPSET.get(what, 0))
    # a package may know an operator set in the making, which it has no IR version for
    versions = [number for domain, number in helper.OP_SET_ID_VERSION_MAP if domain == "ai.onnx"]
    first, last = _FIRST_OPSET[need], min(defs.onnx_opset_version(), max(versions))
    chosen = max(_DEFAULT_OPSET, first) if opset is None else opset
    if not is_integer(chosen) or not first <= chosen <= last:
        raise UnsupportedExportError(
            f"opset must be from {first}, the first for {need}, to {last}, the last of this onnx package, got {chosen}"
        )
    return chosen
