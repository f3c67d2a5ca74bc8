"""Puts sequences into an ONNX network in place of its convolutions, and leaves everything else as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx

from tensorconv.errors import ModelError
from tensorconv.export.onnx import nodes
from tensorconv.layers import ConvSequence


def splice(model: onnx.ModelProto, sequences: Mapping[str, ConvSequence]) -> onnx.ModelProto:
    """Return a network whose named nodes are replaced by sequences.

    Parameters
    ----------
    model : onnx.ModelProto
        The network; not changed.
    sequences : mapping of str to ConvSequence
        Name of a node to what comes in its place. The new nodes and weights are named after it.

    Returns
    -------
    onnx.ModelProto
        The new network, checked: the outputs of the replaced nodes keep their names, and the weights of those nodes
        that nothing else reads are left out.

    Raises
    ------
    ModelError
        If a name is not that of exactly one node, or the new network is not valid.
    """
    names = [node.name for node in model.graph.node]
    for name in sequences:
        if names.count(name) != 1:
            raise ModelError(f"sequences must name one node each, {names.count(name)} nodes are named {name!r}")
    spliced = onnx.ModelProto()
    spliced.CopyFrom(model)
    graph = spliced.graph
    del graph.node[:], graph.initializer[:]
    weights = list(model.graph.initializer)
    replaced = {name for node in model.graph.node if node.name in sequences for name in node.input}
    for node in model.graph.node:
        if node.name not in sequences:
            graph.node.append(node)
            continue
        unnamed = ConvSequence(tuple(replace(layer, name="") for layer in sequences[node.name]))
        new_nodes, new_weights = nodes(unnamed, node.input[0], node.output[0], f"{node.name}.")
        graph.node.extend(new_nodes)
        weights += new_weights
    unread = replaced - {name for node in graph.node for name in node.input}
    graph.initializer.extend(tensor for tensor in weights if tensor.name not in unread)
    try:
        onnx.checker.check_model(spliced, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the spliced network is not valid: {error}") from error
    return spliced
