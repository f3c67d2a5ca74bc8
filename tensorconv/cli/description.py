"""Layers, sequences and reports as values for JSON."""

from __future__ import annotations

from typing import Any

from tensorconv.layers import ConvLayer, ConvSequence, PadLayer, PermuteLayer, Step


def describe_layer(layer: ConvLayer) -> dict[str, Any]:
    """Return what there is to say about a layer, but for its numbers.

    Parameters
    ----------
    layer : ConvLayer
        The layer.

    Returns
    -------
    dict
        Name, shape, geometry and parameters.
    """
    geometry = layer.geometry
    return {
        "layer": layer.name,
        "kernel": list(layer.kernel.shape),
        "dtype": layer.dtype.name,
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "stride": list(geometry.stride),
        "padding": [list(pair) for pair in geometry.padding],
        "dilation": list(geometry.dilation),
        "groups": geometry.groups,
        "transposed": geometry.transposed,
        "bias": layer.bias is not None,
        "parameters": layer.n_parameters,
        "entries": layer.entries,
    }


def describe_sequence(sequence: ConvSequence) -> list[dict[str, Any]]:
    """Return what there is to say about every layer of a sequence.

    Parameters
    ----------
    sequence : ConvSequence
        The sequence.

    Returns
    -------
    list of dict
        One entry per layer, in order.
    """
    return [_describe(layer) for layer in sequence]


def _describe(layer: Step) -> dict[str, Any]:
    if isinstance(layer, PadLayer):
        return {"layer": layer.name, "mode": layer.mode, "padding": [list(pair) for pair in layer.padding]}
    if isinstance(layer, PermuteLayer):
        return {"layer": layer.name, "order": list(layer.order)}
    if isinstance(layer, ConvLayer):
        return describe_layer(layer)
    described = describe_layer(layer.view)
    return described | {
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "bias": layer.bias is not None,
        "parameters": layer.n_parameters,
        "channelwise": True,
    }
