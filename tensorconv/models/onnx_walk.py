"""What an ONNX model holds, wherever it is: nodes, names and tensors of graphs, subgraphs and functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto


def node_name(node: NodeProto) -> str:
    """Return what a node is called: its name, or that of what it gives.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.

    Returns
    -------
    str
        The name.
    """
    return str(node.name or (node.output[0] if node.output else node.op_type))


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs that a node holds: branches, the body of a loop.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.

    Yields
    ------
    onnx.GraphProto
        A graph.
    """
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def inner_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Yield the nodes in the graphs that nodes hold, to any depth.

    Parameters
    ----------
    nodes : iterable of onnx.NodeProto
        The nodes; they are not yielded themselves.

    Yields
    ------
    onnx.NodeProto
        A node of a subgraph.
    """
    for node in nodes:
        for graph in subgraphs(node):
            yield from graph.node
            yield from inner_nodes(graph.node)


def reads(node: NodeProto) -> set[str]:
    """Return the names of the values of its own graph that a node reads, those that its subgraphs read included.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.

    Returns
    -------
    set of str
        The names.
    """
    names = {name for name in node.input if name}
    for graph in subgraphs(node):
        read = {value.name for value in graph.output}.union(*(reads(inner) for inner in graph.node))
        names |= read - gives(graph)
    return names


def gives(graph: GraphProto) -> set[str]:
    """Return the names of all values that a graph, without its subgraphs, defines.

    Parameters
    ----------
    graph : onnx.GraphProto
        The graph.

    Returns
    -------
    set of str
        Inputs, initializers and the outputs of nodes.
    """
    names = {value.name for value in graph.input} | stored_names(graph)
    return names.union(*(node.output for node in graph.node)) - {""}


def stored_names(graph: GraphProto) -> set[str]:
    """Return the names of the initializers of a graph.

    Parameters
    ----------
    graph : onnx.GraphProto
        The graph.

    Returns
    -------
    set of str
        Dense and sparse ones.
    """
    return {tensor.name for tensor in graph.initializer} | {sparse.values.name for sparse in graph.sparse_initializer}


def all_names(model: ModelProto) -> set[str]:
    """Return every name of a value or a node in the graph of a model and its subgraphs.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.

    Returns
    -------
    set of str
        What new names must differ from.
    """
    names: set[str] = set()
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        names |= gives(graph) | {value.name for value in (*graph.value_info, *graph.output)}
        for node in graph.node:
            names |= {node.name, *node.input}
            graphs += subgraphs(node)
    return names - {""}


def tensors_of(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor of a model: initializers and attributes, those of subgraphs and functions included.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.

    Yields
    ------
    onnx.TensorProto
        A tensor, the message itself.
    """
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)
        for attribute in function.attribute_proto:
            yield from _attribute_tensors(attribute)
    for training in model.training_info:
        yield from _graph_tensors(training.initialization)
        yield from _graph_tensors(training.algorithm)


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from _sparse_tensors(sparse)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from _attribute_tensors(attribute)


def _attribute_tensors(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    if attribute.HasField("g"):
        yield from _graph_tensors(attribute.g)
    if attribute.HasField("sparse_tensor"):
        yield from _sparse_tensors(attribute.sparse_tensor)
    yield from attribute.tensors
    for graph in attribute.graphs:
        yield from _graph_tensors(graph)
    for sparse in attribute.sparse_tensors:
        yield from _sparse_tensors(sparse)


def _sparse_tensors(sparse: SparseTensorProto) -> Iterator[TensorProto]:
    yield sparse.values
    yield sparse.indices
