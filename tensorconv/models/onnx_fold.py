"""What follows a convolution of an ONNX graph and is one with it: a batch norm, or an addition of a bias."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto

from tensorconv.arrays import Array
from tensorconv.errors import KernelError, TensorconvError
from tensorconv.export.onnx_tensors import STANDARD
from tensorconv.layers import ConvLayer
from tensorconv.models.onnx_stored import StoredGraph, input_name, number


@dataclass(frozen=True, eq=False)
class Folded:
    """A layer with the node after it folded in.

    Parameters
    ----------
    layer : ConvLayer
        The layer.
    node : int
        Place of the node in the graph.
    key : tuple
        What tells its stored tensors and numbers from others'.
    """

    layer: ConvLayer
    node: int
    key: tuple[float, ...]


def fold_norm(stored: StoredGraph, layer: ConvLayer, output: str) -> Folded | None:
    """Return a convolution with the batch norm that follows it.

    In inference a batch norm is y = (x - mean) scale / sqrt(variance + epsilon) + shift, one scale and one shift per
    channel; both are computed in float64 and rounded to the layer's type.

    Parameters
    ----------
    stored : StoredGraph
        The graph.
    layer : ConvLayer
        The convolution.
    output : str
        Name of what it gives.

    Returns
    -------
    Folded or None
        None where something else reads the output too, is no batch norm, or one that learns.
    """
    place = stored.only_reader(output)
    node = None if place is None else stored.graph.node[place]
    if place is None or node is None or not _is(node, "BatchNormalization") or input_name(node, 0) != output:
        return None
    names = [input_name(node, i) for i in range(1, 5)]
    try:
        epsilon = number(node, "epsilon", 1e-5)
        if not _infers(node):
            return None
        scale, shift, mean, variance = (stored.array(name, "batch norm").astype(np.float64) for name in names)
        if any(array.shape != (layer.out_channels,) for array in (scale, shift, mean, variance)):
            return None
        with np.errstate(all="ignore"):  # what is not finite is refused by the layer
            factor = scale / np.sqrt(variance + epsilon)
            kernel = layer.kernel.astype(np.float64) * factor.reshape(-1, *(1,) * (layer.kernel.ndim - 1))
            bias = shift + factor * ((0.0 if layer.bias is None else layer.bias.astype(np.float64)) - mean)
            folded = replace(layer, kernel=kernel.astype(layer.dtype), bias=bias.astype(layer.dtype))
    except TensorconvError:  # then the batch norm stays
        return None
    return Folded(folded, place, (*map(stored.key, names), epsilon))


def fold_bias(stored: StoredGraph, layer: ConvLayer, output: str, ndim: int) -> Folded | None:
    """Return a fully connected layer with the bias that an Add after it adds.

    Parameters
    ----------
    stored : StoredGraph
        The graph.
    layer : ConvLayer
        The layer, without bias.
    output : str
        Name of what it gives.
    ndim : int
        Number of axes of what it gives.

    Returns
    -------
    Folded or None
        None where something else reads the output too, or is no such addition.
    """
    place = stored.only_reader(output)
    if place is None or not _is(stored.graph.node[place], "Add"):
        return None
    others = [name for name in stored.graph.node[place].input if name != output]
    if len(others) != 1 or others[0] not in stored.tensors:
        return None
    try:
        bias = row(stored.array(others[0], "bias"), layer.out_channels, ndim)
        folded = replace(layer, bias=bias)
    except TensorconvError:  # then the addition stays
        return None
    return Folded(folded, place, (stored.key(others[0]),)) if bias.dtype == layer.dtype else None


def row(array: Array, size: int, ndim: int) -> Array:
    """Return an array that is broadcast along the last axis as one number per channel.

    Parameters
    ----------
    array : ndarray, shape (), (size,), (1, size) and so on
        The array.
    size : int
        Number of channels.
    ndim : int
        Number of axes of what it is added to, at most which it has.

    Returns
    -------
    ndarray, shape (size,)
        The numbers.

    Raises
    ------
    KernelError
        If it is of another shape.
    """
    last = array.shape[-1] if array.ndim else 1
    if array.ndim > ndim or array.size != last or last not in (1, size):
        raise KernelError(
            f"bias must have one entry per out-channel, {size}, in its last axis, got shape {array.shape}"
        )
    return np.broadcast_to(array.reshape(-1), (size,))


def _is(node: NodeProto, kind: str) -> bool:
    return node.op_type == kind and node.domain in STANDARD


def _infers(node: NodeProto) -> bool:
    """Whether a batch norm uses its stored means and variances, one per channel."""
    learns = number(node, "training_mode", 0) or any(node.output[1:])
    return not learns and number(node, "spatial", 1) == 1
