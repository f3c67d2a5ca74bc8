"""The convolutions of an ONNX graph, each with all nodes that apply it, and the fully connected layers on request."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto

from tensorconv.arrays import Array
from tensorconv.errors import ModelError, TensorconvError
from tensorconv.export.onnx_node import label, read_convolution
from tensorconv.export.onnx_tensors import STANDARD
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer
from tensorconv.models.found import SkippedLayer
from tensorconv.models.network import Site, StoredSite
from tensorconv.models.onnx_fold import fold_bias, fold_norm, row
from tensorconv.models.onnx_hidden import CONVOLUTIONS, hidden
from tensorconv.models.onnx_stored import StoredGraph, input_name, number
from tensorconv.models.onnx_walk import node_name

Shape = tuple[int, ...]
LINEAR = ("Gemm", "MatMul")
_RELATED = {
    "ConvInteger": "its numbers are integers; compress the network before it is quantized",
    "QLinearConv": "its numbers are integers; compress the network before it is quantized",
    "DeformConv": "its taps move with the data, so that it is no convolution",
    "FusedConv": "a runtime has fused it with its activation; compress the network before it is optimized",
    "NhwcFusedConv": "a runtime has fused it with its activation; compress the network before it is optimized",
}


@dataclass(frozen=True)
class Use:
    """One place where a graph applies a convolution.

    Parameters
    ----------
    nodes : tuple of int
        Places of the nodes: the convolution, then what is folded into it.
    data : str
        Name of its input.
    output : str
        Name of what the last of the nodes gives.
    shape : tuple of int
        Shape of its input on the example batch.
    """

    nodes: tuple[int, ...]
    data: str
    output: str
    shape: Shape


@dataclass(frozen=True, eq=False)
class OnnxSite:
    """One convolution and all its uses.

    Parameters
    ----------
    name : str
        Its name, unique in the network.
    held : ConvLayer or callable
        The convolution, or what reads it.
    operator : {"Conv", "ConvTranspose", "Gemm", "MatMul"}
        Type of its nodes.
    uses : tuple of Use
        Its uses.
    """

    name: str
    held: ConvLayer | Callable[[], ConvLayer]
    operator: str
    uses: tuple[Use, ...]

    @property
    def layer(self) -> ConvLayer:
        """The convolution."""
        return self.held if isinstance(self.held, ConvLayer) else self.held()

    @property
    def linear(self) -> bool:
        """Whether it is a fully connected layer."""
        return self.operator in LINEAR

    @property
    def site(self) -> Site:
        """What the planner sees of it."""
        sizes = tuple(spatial_size(use.shape, self.linear) for use in self.uses)
        if isinstance(self.held, ConvLayer):
            return Site(self.name, self.held, sizes, self.linear)
        return StoredSite(self.name, self.held, sizes, self.linear)


def find_sites(
    model: ModelProto, stored: StoredGraph, shapes: Mapping[str, Shape], *, linear: bool, unknown: str
) -> tuple[tuple[OnnxSite, ...], tuple[SkippedLayer, ...]]:
    """Return the convolutions of a model; what is in other files is read again at each use, the last layer kept.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.
    stored : StoredGraph
        Its graph.
    shapes : mapping of str to tuple of int
        Shapes of values on the example batch.
    linear : bool
        Whether fully connected layers are wanted, too.
    unknown : str
        Why some shapes are not known.

    Returns
    -------
    sites : tuple of OnnxSite
        Those that can be replaced, in the order of their first use.
    skipped : tuple of SkippedLayer
        Those that cannot, with reasons.
    """
    kinds = CONVOLUTIONS + (LINEAR if linear else ())
    uses: dict[tuple[Any, ...], list[Use]] = {}
    layers: dict[tuple[Any, ...], tuple[ConvLayer | None, str]] = {}  # None where it is read again
    skipped = []

    @lru_cache(maxsize=1)
    def read(place: int, name: str) -> ConvLayer:
        _, layer, _ = _read(stored, place, model.graph.node[place], shapes, unknown)
        return replace(layer, name=name)

    for i, node in enumerate(model.graph.node):
        if node.op_type in _RELATED:
            skipped.append(SkippedLayer(node_name(node), _RELATED[node.op_type]))
        if node.op_type not in kinds or node.domain not in STANDARD or _is_product(node, stored):
            continue
        try:
            key, layer, use = _read(stored, i, node, shapes, unknown)
        except TensorconvError as error:
            skipped.append(SkippedLayer(node_name(node), str(error)))
            continue
        layers.setdefault(key, (None if stored.is_apart(input_name(node, 1)) else layer, node.op_type))
        uses.setdefault(key, []).append(use)
    sites: dict[str, OnnxSite] = {}
    for key, (first_layer, operator) in layers.items():
        place = uses[key][0].nodes[0]
        first = model.graph.node[place]
        name = node_name(first)
        while name in sites:
            name = first.output[0] if name == first.name else f"{name}'"
        held = partial(read, place, name) if first_layer is None else replace(first_layer, name=name)
        sites[name] = OnnxSite(name, held, operator, tuple(uses[key]))
    return tuple(sites.values()), (*skipped, *hidden(model))


def wanted_shapes(model: ModelProto, *, linear: bool) -> list[str]:
    """Return the values whose shapes :func:`find_sites` needs.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.
    linear : bool
        Whether fully connected layers are wanted, too.

    Returns
    -------
    list of str
        Names, each once.
    """
    kinds = CONVOLUTIONS + (LINEAR if linear else ())
    nodes = (node for node in model.graph.node if node.op_type in kinds and node.domain in STANDARD)
    return list(dict.fromkeys(name for node in nodes if (name := input_name(node, 0))))


def spatial_size(shape: Shape, linear: bool) -> Shape:
    """Return the spatial size of an input.

    Parameters
    ----------
    shape : tuple of int
        Shape of the value in the graph.
    linear : bool
        Whether a fully connected layer reads it, whose channels are last.

    Returns
    -------
    tuple of int
        The size; of a fully connected layer the number of rows per entry of the batch.
    """
    return (math.prod(shape[1:-1]),) if linear else shape[2:]


def channels_second(value: Array, linear: bool) -> Array:
    """Return a value as (B, C, L1..LN).

    Parameters
    ----------
    value : ndarray
        What a site takes or gives.
    linear : bool
        Whether the site is a fully connected layer, which has its channels last.

    Returns
    -------
    ndarray
        The value; of a fully connected layer, all axes between batch and channels are one.
    """
    if not linear:
        return value
    return np.moveaxis(value.reshape(value.shape[0], -1, value.shape[-1]), 2, 1)


def _read(
    stored: StoredGraph, place: int, node: NodeProto, shapes: Mapping[str, Shape], unknown: str
) -> tuple[tuple[Any, ...], ConvLayer, Use]:
    """Return a node with what is folded into it as a key, equal for nodes that do the same, a layer and a use."""
    data, weights, bias = (input_name(node, i) for i in range(3))
    if not data or not weights or len(node.output) != 1:
        raise ModelError(f"{label(node)} must have two inputs, data and weights, and one output")
    kernel = stored.array(weights, "weights")
    if data not in shapes:
        raise ModelError(f"the size of its input {data!r} is not known: {unknown}")
    shape = shapes[data]
    output = node.output[0]
    numbers: tuple[float, ...] = ()
    if node.op_type in CONVOLUTIONS:
        added = stored.array(bias, "bias") if bias else None
        if len(shape) != kernel.ndim or min(shape) < 1:
            raise ModelError(f"its input {data!r} has shape {shape} on the example batch, its weights {kernel.shape}")
        layer = read_convolution(node, kernel, added, shape[2:])
        folded = fold_norm(stored, layer, output)
    else:
        layer, numbers = _linear_layer(stored, node, shape)
        folded = fold_bias(stored, layer, output, len(shape)) if layer.bias is None else None
        if folded is None and len(shape) == 2:  # a batch norm has its channels second
            folded = fold_norm(stored, layer, output)
    if shape[-1 if node.op_type in LINEAR else 1] != layer.in_channels:
        raise ModelError(
            f"its input {data!r} has shape {shape} on the example batch, it takes {layer.in_channels} channels"
        )
    key = (node.op_type, layer.geometry, stored.key(weights), stored.key(bias), numbers, folded and folded.key)
    if folded is None:
        return key, layer, Use((place,), data, output, shape)
    last = stored.graph.node[folded.node].output[0]
    return key, folded.layer, Use((place, folded.node), data, last, shape)


def _linear_layer(stored: StoredGraph, node: NodeProto, shape: Shape) -> tuple[ConvLayer, tuple[float, ...]]:
    """Return a Gemm or MatMul as a pointwise layer along one axis, and its numbers."""
    matrix = stored.array(node.input[1], "weights")
    if matrix.ndim != 2 or len(shape) < 2 or min(shape) < 1:
        raise ModelError(f"it multiplies shape {shape} by weights of shape {matrix.shape}; they must be a matrix")
    name = input_name(node, 2)
    numbers: tuple[float, ...] = ()
    bias = None
    if node.op_type == "Gemm":
        numbers = tuple(number(node, key, default) for key, default in _GEMM.items())
        turned, transposed, alpha, beta = numbers
        if turned:
            raise ModelError("it transposes its data (transA); only its weights may be transposed")
        matrix = matrix if transposed else matrix.T
        matrix = matrix if alpha == 1 else (matrix * alpha).astype(matrix.dtype)
        if name:
            bias = row(stored.array(name, "bias"), matrix.shape[0], 2)
            bias = bias if beta == 1 else (bias * beta).astype(bias.dtype)
    else:
        matrix = matrix.T
    return ConvLayer(matrix[:, :, None], ConvGeometry.of(1), bias), numbers


_GEMM = {"transA": 0.0, "transB": 0.0, "alpha": 1.0, "beta": 1.0}


def _is_product(node: NodeProto, stored: StoredGraph) -> bool:
    """Whether a MatMul multiplies two computed values: no layer at all."""
    return node.op_type == "MatMul" and input_name(node, 1) not in stored.tensors
