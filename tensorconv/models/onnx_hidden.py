"""Convolutions of an ONNX network that are not read: those inside branches, loops and functions."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import ModelProto

from tensorconv.export.onnx_tensors import STANDARD
from tensorconv.models.found import SkippedLayer
from tensorconv.models.onnx_walk import inner_nodes, node_name

CONVOLUTIONS = ("Conv", "ConvTranspose")


def hidden(model: ModelProto) -> Iterator[SkippedLayer]:
    """Yield the convolutions of subgraphs and functions, which are not read.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.

    Yields
    ------
    SkippedLayer
        A convolution, and where it is.
    """
    inner = [
        (node, "inside a branch or loop, which may run any number of times") for node in inner_nodes(model.graph.node)
    ]
    for function in model.functions:
        held = (*function.node, *inner_nodes(function.node))
        inner += [(node, "inside a function; inline it by onnx.inliner.inline_local_functions") for node in held]
    for node, reason in inner:
        if node.op_type in CONVOLUTIONS and node.domain in STANDARD:
            yield SkippedLayer(node_name(node), reason)
