"""The Keras layers that a sequence can hold, and the chain of them that a Keras model is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from tensorconv.errors import UnsupportedExportError
from tensorconv.export.keras_channels import STEPS, ChannelwiseConv


def _kinds(name: str, *ndims: int) -> dict[type, int]:
    """Return the Keras layer types of this name with their number of spatial axes."""
    return {getattr(keras.layers, name.format(n)): n for n in ndims}


FORWARD = _kinds("Conv{}D", 1, 2, 3)
SEPARABLE = _kinds("SeparableConv{}D", 1, 2)
TRANSPOSED = _kinds("Conv{}DTranspose", 1, 2, 3)
CONVOLUTIONS = FORWARD | SEPARABLE | TRANSPOSED | _kinds("DepthwiseConv{}D", 1, 2)
ZERO_PADDING = _kinds("ZeroPadding{}D", 1, 2, 3)
CROPPING = _kinds("Cropping{}D", 1, 2, 3)
POOLING = _kinds("MaxPooling{}D", 1, 2, 3)
_NDIMS = CONVOLUTIONS | ZERO_PADDING | CROPPING | POOLING


@dataclass(frozen=True)
class Branches:
    """One transposed convolution per group, between a Split and a Concatenate operation.

    Parameters
    ----------
    layers : tuple of keras.layers.Layer
        The transposed convolutions, in the order of the channels.
    join : keras.layers.Concatenate
        What joins their outputs.
    """

    layers: tuple[Any, ...]
    join: Any


def chain_of(obj: Any) -> tuple[list[Any], int]:
    """Return the layers of a model in the order in which they run.

    Parameters
    ----------
    obj : keras.Sequential, keras.Model or keras.layers.Layer
        A model, or a layer.

    Returns
    -------
    units : list of keras.layers.Layer and Branches
        The layers, each of one of the kinds above and without anything that a sequence does not have.
    ndim : int
        Their number of spatial axes.

    Raises
    ------
    UnsupportedExportError
        If there is another layer, or more than a chain of them.
    """
    units = [obj]
    if type(obj) is keras.Sequential:
        units = list(obj.layers)
    elif _is_keras(obj, "Functional"):
        units = _walked(obj)
    layers = [layer for unit in units for layer in (unit.layers if isinstance(unit, Branches) else (unit,))]
    if not layers:
        raise UnsupportedExportError(f"model {obj.name!r} must have layers, got none; add them first")
    for layer in layers:
        _check_layer(layer)
    kinds: dict[str, set[Any]] = {
        "number of spatial axes": {_ndim(layer) for layer in layers} - {None},
        "data_format": {getattr(layer, "data_format", "channels_last") for layer in layers},  # Cropping1D has none
        "dtype": {layer.compute_dtype for layer in layers},
    }
    for word, found in kinds.items():
        if len(found) > 1:
            raise UnsupportedExportError(
                f"all layers must have one {word}, got {' and '.join(sorted(map(str, found)))}; load the convolutions "
                "one by one"
            )
    if not kinds["number of spatial axes"]:
        raise UnsupportedExportError(f"{obj.name!r} only orders channels; load it together with a convolution")
    return units, kinds["number of spatial axes"].pop()


def _ndim(layer: Any) -> int | None:
    """Return a layer's number of spatial axes, None where it is for any."""
    kind = type(layer)
    return getattr(layer, "rank", None) if kind in STEPS else _NDIMS[kind]


def _check_layer(layer: Any) -> None:
    kind, name = type(layer), getattr(layer, "name", "")
    if kind not in _NDIMS and kind not in STEPS:
        raise UnsupportedExportError(
            f"layer {name!r} must be a Conv, DepthwiseConv, SeparableConv, ConvTranspose, ZeroPadding or Cropping, got "
            f"{kind.__name__}; load the convolutions of a larger model one by one"
        )
    if kind not in CONVOLUTIONS and kind is not ChannelwiseConv:
        return
    if not layer.built:
        raise UnsupportedExportError(f"layer {name!r} has no weights yet; call its build(input_shape) first")
    if getattr(layer, "activation", None) not in (None, keras.activations.linear):
        raise UnsupportedExportError(
            f"layer {name!r} has an activation; a sequence has none: put it into a layer of its own after this one"
        )
    if getattr(layer, "lora_enabled", False):
        raise UnsupportedExportError(
            f"layer {name!r} has LoRA weights; merge them first: save its weights and load them into a plain layer"
        )
    if getattr(layer, "quantization_mode", None) is not None or layer.compute_dtype != layer.variable_dtype:
        raise UnsupportedExportError(
            f"layer {name!r} must compute in the data type of its weights, got the policy {layer.dtype_policy.name}; "
            f"set its dtype_policy to {layer.variable_dtype!r} first"
        )


def _walked(model: Any) -> list[Any]:
    """Return the layers from a functional model's only input to its only output."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UnsupportedExportError(
            f"model {model.name!r} must have one input and one output, got {len(model.inputs)} and "
            f"{len(model.outputs)}; load its convolutions one by one"
        )
    units: list[Any] = []
    tensor = model.outputs[0]
    while not isinstance(_source(tensor)[0], keras.layers.InputLayer):
        operation, inputs = _source(tensor)
        if type(operation) is keras.layers.Concatenate:
            units.append(Branches(tuple(_source(one)[0] for one in inputs), operation))
            inputs = _split_input(units[-1], inputs)
        else:
            units.append(operation)
        if len(inputs) != 1:
            raise UnsupportedExportError(
                f"layer {operation.name!r} must have one input, got {len(inputs)}; load the convolutions one by one"
            )
        (tensor,) = inputs
    return units[::-1]


def _source(tensor: Any) -> tuple[Any, list[Any]]:
    """Return the operation that makes a symbolic tensor, and the tensors that it takes."""
    operation, node, _ = tensor._keras_history
    return operation, list(operation._inbound_nodes[node].input_tensors)


def _split_input(branches: Branches, outputs: list[Any]) -> list[Any]:
    """Return what is split for the branches, if they are the groups of one transposed convolution."""
    kinds = {type(layer) for layer in branches.layers}
    ndim = TRANSPOSED.get(type(branches.layers[0])) if len(kinds) == 1 else None
    parts = [part for output in outputs for part in _source(output)[1]]
    if ndim is not None and len(parts) == len(outputs):
        split, node, _ = parts[0]._keras_history
        channels = 1 if branches.layers[0].data_format == "channels_first" else ndim + 1
        in_order = [tuple(part._keras_history) for part in parts] == [(split, node, i) for i in range(len(parts))]
        if in_order and _is_keras(split, "Split") and len(split._inbound_nodes[node].output_tensors) == len(parts):
            axes = {axis % (ndim + 2) for axis in (split.axis, branches.join.axis)}
            if axes == {channels} and len({part.shape for part in parts}) == 1:
                return _source(parts[0])[1]
    raise UnsupportedExportError(
        f"layer {branches.join.name!r} must join one transposed convolution per equal part of split channels, in "
        "order; load the convolutions one by one"
    )


def _is_keras(obj: Any, name: str) -> bool:
    """Whether it is of a class of Keras that stands under no public name."""
    return type(obj).__name__ == name and type(obj).__module__.partition(".")[0] == "keras"
