"""Sequences in place of convolutions of an ONNX model; what they do not touch stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from tensorconv.errors import GeometryError, ModelError
from tensorconv.export.onnx_tensors import STANDARD
from tensorconv.layers import ConvSequence, as_sequence
from tensorconv.models.onnx_check import opset
from tensorconv.models.onnx_file import SMALLEST_EXTERNAL
from tensorconv.models.onnx_sites import OnnxSite, spatial_size
from tensorconv.models.onnx_walk import all_names, reads, stored_names
from tensorconv.models.onnx_write import Written, write_convolutions, write_linear

_FIRST_IR_WITHOUT_INPUTS = 4  # before it, every initializer is an input of the graph, too
_RECORD = "tensorconv"


def rewrite(
    model: ModelProto,
    sites: Iterable[tuple[OnnxSite, ConvSequence]],
    record: str = "",
    store: Callable[[TensorProto], None] | None = None,
) -> ModelProto:
    """Return a model with sequences at some sites.

    Parameters
    ----------
    model : onnx.ModelProto
        The model; not changed.
    sites : iterable of (OnnxSite, ConvSequence)
        What comes where, taken one after the other. New nodes and initializers are named after the site; the name of a
        site's output stays.
    record : str
        Text that goes into the metadata under "tensorconv"; none where it is empty.
    store : callable, optional
        Takes the numbers out of a large new tensor; by default they stay in the model.

    Returns
    -------
    onnx.ModelProto
        The new model; the stored tensors that only replaced nodes have read are left out.

    Raises
    ------
    ModelError
        If a sequence does not fit, or the model's operator set cannot say it.
    """
    new = ModelProto()
    new.CopyFrom(model)
    _splice(new, sites, store)
    if record:
        _drop(new.metadata_props, {_RECORD})
        new.metadata_props.add(key=_RECORD, value=record)
    return new


def check_fit(site: OnnxSite, sequence: ConvSequence) -> None:
    """Check that a sequence can take the place of a convolution.

    Parameters
    ----------
    site : OnnxSite
        Where it is to go.
    sequence : ConvSequence
        What is to go there.

    Raises
    ------
    ModelError
        If it takes or gives another number of channels, axes or positions, or is of another type.
    """
    layer = site.layer
    had = (layer.dtype, layer.ndim, layer.in_channels, layer.out_channels)
    got = (sequence.dtype, sequence.ndim, sequence.in_channels, sequence.out_channels)
    if had != got:
        raise ModelError(
            f"sequence {site.name!r} must have the type, spatial axes, in- and out-channels {_listed(had)}, got "
            f"{_listed(got)}"
        )
    for use in site.uses:
        size = spatial_size(use.shape, site.linear)
        try:
            sizes = layer.output_size(size), sequence.output_size(size)
        except GeometryError as error:
            raise ModelError(f"sequence {site.name!r} does not take the input size {size}: {error}") from error
        if sizes[0] != sizes[1]:
            raise ModelError(f"sequence {site.name!r} must give size {sizes[0]} from {size}, got {sizes[1]}")


def _listed(values: tuple[object, ...]) -> str:
    return ", ".join(map(str, values))


def _splice(
    model: ModelProto, sites: Iterable[tuple[OnnxSite, ConvSequence]], store: Callable[[TensorProto], None] | None
) -> None:
    graph, version = model.graph, opset(model)
    names = all_names(model)
    written: dict[int, list[NodeProto]] = {}
    gone: set[int] = set()
    tensors: list[TensorProto] = []
    for site, given in sites:
        sequence = as_sequence(given)
        check_fit(site, sequence)
        new_nodes, new_tensors = _uses(site, sequence, version, names)
        names |= {name for node_list in new_nodes for node in node_list for name in (node.name, *node.output)}
        names |= {tensor.name for tensor in new_tensors}
        for tensor in new_tensors:
            if store is not None and len(tensor.raw_data) >= SMALLEST_EXTERNAL:
                store(tensor)
        tensors += new_tensors
        for use, node_list in zip(site.uses, new_nodes, strict=True):
            written[use.nodes[0]] = node_list
            gone.update(use.nodes)
    if not written:
        return
    old = list(graph.node)
    kept = [node for i, old_node in enumerate(old) for node in written.get(i, () if i in gone else (old_node,))]
    kept = _without_unread(graph, kept, {name for i in gone for name in old[i].input})
    lost = {name for node in old for name in node.output} - {name for node in kept for name in node.output}
    del graph.node[:]
    graph.node.extend(kept)
    lost |= _drop_tensors(graph, {name for node in old for name in reads(node)})
    for entries in (graph.value_info, graph.quantization_annotation):
        _drop(entries, lost)
    graph.initializer.extend(tensors)
    if model.ir_version < _FIRST_IR_WITHOUT_INPUTS:
        graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in tensors)


def _uses(
    site: OnnxSite, sequence: ConvSequence, version: int, names: set[str]
) -> tuple[list[list[NodeProto]], list[TensorProto]]:
    """Return the nodes of every use of a site, and the initializers that they share."""
    node_lists: list[list[NodeProto]] = []
    tensors: list[TensorProto] = []
    shared: dict[str, str] = {}
    taken = set(names)
    for i, use in enumerate(site.uses):
        prefix = _free_prefix(site.name if i == 0 else f"{site.name}.use{i}", taken)
        taken.add(prefix)
        node_list, new = _written(site, sequence, version, use.data, use.output, prefix)
        if i == 0:
            tensors = new
        shared = {tensor.name: first.name for tensor, first in zip(new, tensors, strict=True)}
        for node in node_list:
            for place, name in enumerate(node.input):
                node.input[place] = shared.get(name, name)
        node_lists.append(node_list)
    return node_lists, tensors


def _written(site: OnnxSite, sequence: ConvSequence, version: int, data: str, output: str, prefix: str) -> Written:
    if site.linear:
        return write_linear(sequence, site.operator, version, data, output, prefix)
    return write_convolutions(sequence, version, data, output, prefix)


def _free_prefix(name: str, taken: set[str]) -> str:
    """Return a beginning that no name has."""
    prefix = f"{name}."
    i = 1
    while any(other.startswith(prefix) for other in taken):
        i += 1
        prefix = f"{name}.{i}."
    return prefix


def _without_unread(graph: GraphProto, nodes: list[NodeProto], suspects: set[str]) -> list[NodeProto]:
    """Return the nodes without the Constant and Identity nodes that give suspects and that nothing reads any more."""
    while True:
        read = {value.name for value in graph.output}.union(*map(reads, nodes))
        idle = [
            node
            for node in nodes
            if node.op_type in ("Constant", "Identity")
            and node.domain in STANDARD
            and node.output
            and node.output[0] in suspects
            and node.output[0] not in read
        ]
        if not idle:
            return nodes
        suspects = suspects.union(*(node.input for node in idle))
        dropped = {id(node) for node in idle}
        nodes = [node for node in nodes if id(node) not in dropped]


def _drop_tensors(graph: GraphProto, once_read: set[str]) -> set[str]:
    """Drop the initializers that were read and are not any more, as inputs too, and return their names."""
    read = {value.name for value in graph.output}.union(*map(reads, graph.node))
    unread = (stored_names(graph) & once_read) - read
    for entries in (graph.initializer, graph.input):
        _drop(entries, unread)
    return unread


def _entry_name(entry: object) -> str:
    return str(
        next(value for field in ("name", "tensor_name", "key") if (value := getattr(entry, field, None)) is not None)
    )


def _drop(entries: Any, names: set[str]) -> None:
    """Delete the messages with these names from a repeated field; the others are not copied."""
    for i in range(len(entries) - 1, -1, -1):
        if _entry_name(entries[i]) in names:
            del entries[i]
