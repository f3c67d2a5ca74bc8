"""What the graph of an ONNX model must be before it is read or rewritten: every value defined once, none by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from onnx import GraphProto, ModelProto

from tensorconv.errors import FormatError, ModelError
from tensorconv.export.onnx_tensors import STANDARD
from tensorconv.models.onnx_walk import inner_nodes, reads, stored_names

FIRST_OPSET = 7  # from here on arithmetic broadcasts as today, and normalization is told from training as here


def check_model(model: ModelProto) -> None:
    """Check that the values of a model's graph are defined, once, and not by themselves.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.

    Raises
    ------
    FormatError
        If a name is no text, a value is defined twice, never, or by itself; or a function calls itself.
    """
    _check_names(model)
    _check_values(model.graph)
    graph = model.graph
    giver = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    _check_order(
        {i: {giver[name] for name in reads(node) if name in giver} for i, node in enumerate(graph.node)},
        "the values of the graph",
    )
    functions = {(function.domain, function.name) for function in model.functions}
    calls = {}
    for function in model.functions:
        inner = {(node.domain, node.op_type) for node in (*function.node, *inner_nodes(function.node))}
        calls[function.domain, function.name] = inner & functions
    _check_order(calls, "the functions of the model")


def opset(model: ModelProto) -> int:
    """Return the version of ONNX's own operator set that a model uses.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.

    Returns
    -------
    int
        The version.

    Raises
    ------
    ModelError
        If it uses several, none, or one older than 7.
    """
    versions = {entry.version for entry in model.opset_import if entry.domain in STANDARD}
    if len(versions) != 1 or min(versions) < FIRST_OPSET:
        raise ModelError(
            f"the network must import one operator set of ONNX, version {FIRST_OPSET} or later, got "
            f"{sorted(versions) or 'none'}; convert it by onnx.version_converter"
        )
    return int(versions.pop())


def _check_names(model: ModelProto) -> None:
    """Refuse names that are bytes: protocol buffers hand back so what is not UTF-8."""
    graph = model.graph
    values = [one.name for one in (graph, *graph.input, *graph.output, *graph.value_info)] + list(stored_names(graph))
    for node in (*graph.node, *inner_nodes(graph.node), *(n for function in model.functions for n in function.node)):
        values += [node.name, node.op_type, node.domain, *node.input, *node.output]
        values += [attribute.name for attribute in node.attribute]
    values += [text for entry in (*model.functions, *model.metadata_props) for text in _texts(entry)]
    for name in values:
        if not isinstance(name, str):
            raise FormatError(f"the network is broken: the name {name!r} is not UTF-8")


def _texts(entry: object) -> list[object]:
    return [getattr(entry, field) for field in ("key", "value", "name", "domain") if hasattr(entry, field)]


def _check_values(graph: GraphProto) -> None:
    stored = stored_names(graph)
    if len(stored) != len(graph.initializer) + len(graph.sparse_initializer):
        raise FormatError("the network is broken: two initializers have one name")
    defined = stored | {value.name for value in graph.input}
    for node in graph.node:
        for name in filter(None, node.output):
            if name in defined:
                raise FormatError(f"the network is broken: the value {name!r} is defined twice")
            defined.add(name)
    read = {value.name for value in graph.output}.union(*map(reads, graph.node))
    for name in sorted(read - defined):
        raise FormatError(f"the network is broken: the value {name!r} is read and never defined")


def _check_order(before: Mapping[Any, Iterable[Any]], what: str) -> None:
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        raise FormatError(f"the network is broken: {what} depend on themselves in a circle") from error
