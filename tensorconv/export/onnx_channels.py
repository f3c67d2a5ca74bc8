"""ONNX nodes of the steps along the channels: Gather for an order, a Conv between reshapes for a channel-wise one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from onnx import GraphProto, NodeProto, helper

from tensorconv.arrays import Array
from tensorconv.errors import FormatError, KernelError, UnsupportedExportError
from tensorconv.export.onnx_node import label, read_attributes, read_convolution
from tensorconv.export.onnx_tensors import write_tensor
from tensorconv.layers import ChannelwiseLayer, PermuteLayer

BEFORE, AFTER = ("Transpose", "Reshape", "Transpose"), ("Transpose", "Reshape", "Transpose")


def write_order(graph: GraphProto, layer: PermuteLayer, value: str, name: str) -> NodeProto:
    """Return the node of an order of channels and add its initializer.

    Parameters
    ----------
    graph : onnx.GraphProto
        Receives the initializer.
    layer : PermuteLayer
        The order.
    value : str
        What the names of its values start with.
    name : str
        Name of the node.

    Returns
    -------
    onnx.NodeProto
        A Gather; its first input is left to be filled in.
    """
    order = _add(graph, f"{value}.order", np.array(layer.order, np.int64))
    return helper.make_node("Gather", ["", order], [f"{value}.ordered"], name=name, axis=1)


def read_order(node: NodeProto, order: Array | None) -> PermuteLayer:
    """Return the order of channels that a Gather is.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.
    order : ndarray or None
        Its indices.

    Returns
    -------
    PermuteLayer
        The step.

    Raises
    ------
    UnsupportedExportError
        If it gathers something else than every channel once.
    """
    axis = read_attributes(node).get("axis", 0)
    if axis != 1 or order is None or order.dtype != np.int64 or order.ndim != 1:
        raise UnsupportedExportError(
            f"node {label(node)} must gather channels, axis 1, by a list of int64, got axis {axis}; load the rest of "
            "the network apart"
        )
    try:
        return PermuteLayer(tuple(order.tolist()), node.name)
    except (KernelError, ValueError) as error:
        raise UnsupportedExportError(f"node {label(node)} does not gather every channel once: {error}") from error


def write_channelwise(graph: GraphProto, layer: ChannelwiseLayer, value: str, name: str) -> list[NodeProto]:
    """Return the nodes of a channel-wise convolution and add their initializers.

    The channels become a spatial axis and the maps become channels again; zeros in the shapes of a Reshape stand for
    the axis at the same place, so both are moved behind the spatial axes for it.

    Parameters
    ----------
    graph : onnx.GraphProto
        Receives the initializers.
    layer : ChannelwiseLayer
        The step.
    value : str
        What the names of its values start with.
    name : str
        Name of the Conv node.

    Returns
    -------
    list of onnx.NodeProto
        The nodes; the first input of each is left to be filled in.
    """
    geometry, ndim = layer.geometry, layer.ndim
    perms, shapes = _moves(layer)
    nodes = [
        helper.make_node("Transpose", [""], [f"{value}.last"], perm=perms[0]),
        helper.make_node("Reshape", ["", _add(graph, f"{value}.viewed", shapes[0])], [f"{value}.view"]),
        helper.make_node("Transpose", [""], [f"{value}.axes"], perm=perms[1]),
    ]
    pads = [low for low, _ in geometry.padding] + [high for _, high in geometry.padding]
    if min(pads) < 0:
        sides = np.array([0, 0, *pads[: ndim + 1], 0, 0, *pads[ndim + 1 :]], np.int64)
        nodes.append(helper.make_node("Pad", ["", _add(graph, f"{value}.pads", sides)], [f"{value}.padded"]))
        pads = [0] * len(pads)
    nodes += [
        helper.make_node(
            "Conv",
            ["", _add(graph, f"{value}.kernel", layer.kernel[:, None])],
            [f"{value}.convolved"],
            name=name,
            kernel_shape=layer.kernel.shape[1:],
            strides=geometry.stride,
            pads=pads,
            dilations=geometry.dilation,
            group=1,
        ),
        helper.make_node("Transpose", [""], [f"{value}.maps"], perm=perms[2]),
        helper.make_node("Reshape", ["", _add(graph, f"{value}.joined", shapes[1])], [f"{value}.channels"]),
        helper.make_node("Transpose", [""], [f"{value}.first"], perm=perms[3]),
    ]
    if layer.bias is not None:
        bias = _add(graph, f"{value}.bias", layer.bias.reshape(-1, *(1,) * ndim))
        nodes.append(helper.make_node("Add", ["", bias], [f"{value}.output"]))
    return nodes


def channelwise_nodes(nodes: Sequence[NodeProto]) -> int:
    """Return how many of the nodes make a channel-wise convolution.

    Parameters
    ----------
    nodes : sequence of onnx.NodeProto
        The nodes that are left.

    Returns
    -------
    int
        Their number, 0 where they begin with something else.
    """
    kinds = tuple(node.op_type for node in nodes[:9])
    for padded in ((), ("Pad",)):
        wanted = (*BEFORE, *padded, "Conv", *AFTER)
        if kinds[: len(wanted)] == wanted:
            return len(wanted) + (kinds[len(wanted) : len(wanted) + 1] == ("Add",))
    return 0


def read_channelwise(nodes: Sequence[NodeProto], array: Callable[[NodeProto], Array]) -> ChannelwiseLayer:
    """Return the channel-wise convolution that nodes make.

    Parameters
    ----------
    nodes : sequence of onnx.NodeProto
        As many as :func:`channelwise_nodes` says.
    array : callable
        From a node, the array that is its second input.

    Returns
    -------
    ChannelwiseLayer
        The step.

    Raises
    ------
    UnsupportedExportError
        If they reshape anything else than channels into an axis and back.
    FormatError
        If an attribute or a shape is invalid.
    """
    named = {node.op_type: node for node in nodes if node.op_type not in ("Transpose", "Reshape")}
    one = read_convolution(named["Conv"], array(named["Conv"]), name=named["Conv"].name)
    reshapes = [array(node) for node in nodes if node.op_type == "Reshape"]
    perms = [read_attributes(node).get("perm") for node in nodes if node.op_type == "Transpose"]
    geometry, bias = one.geometry, None
    if "Pad" in named:
        sides = [int(side) for side in array(named["Pad"])]
        half = len(sides) // 2
        pairs = tuple(zip(sides[:half], sides[half:], strict=True))
        twice = any(any(pair) for pair in geometry.padding)
        if read_attributes(named["Pad"]) or half != one.ndim + 2 or any(any(pair) for pair in pairs[:2]) or twice:
            raise UnsupportedExportError(
                f"node {label(named['Pad'])} must pad channels and space by zeros, before a Conv that does not pad"
            )
        geometry = type(geometry)(geometry.stride, pairs[2:], geometry.dilation, geometry.groups)
    if "Add" in named:
        bias = array(named["Add"])
        if bias.shape != (bias.size, *(1,) * (one.ndim - 1)):
            raise UnsupportedExportError(f"node {label(named['Add'])} must add one number per channel")
        bias = bias.reshape(-1)
    if reshapes[0].size < 1 or one.kernel.shape[1] != 1:
        raise FormatError(f"node {label(nodes[1])} must make one channel of all")
    layer = ChannelwiseLayer(one.kernel[:, 0], int(reshapes[0][-1]), geometry, bias, one.name)
    wanted_perms, wanted_shapes = _moves(layer)
    same = all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(reshapes, wanted_shapes, strict=True))
    if perms != wanted_perms or not same:
        raise UnsupportedExportError(
            f"nodes {', '.join(map(label, nodes))} are no channel-wise convolution; load the convolutions one by one"
        )
    return layer


def _moves(layer: ChannelwiseLayer) -> tuple[list[tuple[int, ...]], tuple[Array, Array]]:
    """Return the orders of axes and the shapes of the nodes of a layer, for any batch and spatial size."""
    n = layer.ndim
    space = tuple(range(1, n + 1))
    perms = [(0, *range(2, n + 2), 1), (0, n + 1, n + 2, *space), (0, *range(3, n + 3), 1, 2), (0, n + 1, *space)]
    kept = [0] * (n + 1)
    shapes = [*kept, 1, layer.in_channels], [*kept, layer.out_channels]
    return perms, (np.array(shapes[0], np.int64), np.array(shapes[1], np.int64))


def _add(graph: GraphProto, name: str, array: Array) -> str:
    write_tensor(graph.initializer.add(), name, array)
    return name
