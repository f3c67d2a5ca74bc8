"""The description of a sequence as JSON text beside its arrays: written here, and parsed strictly by one parser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tensorconv.arrays import FLOATS, Array
from tensorconv.errors import FormatError, GeometryError, KernelError, KernelTypeError
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import (
    ChannelwiseLayer,
    ConvLayer,
    ConvSequence,
    PadLayer,
    PermuteLayer,
    Step,
    from_layout,
    to_layout,
)

FORMAT = "tensorconv"
VERSION = 1
_HEAD = {"format": str, "version": int, "layers": list}
_FIELDS: dict[str, type] = {
    "name": str,
    "dtype": str,
    "layout": str,
    "stride": list,
    "padding": list,
    "dilation": list,
    "groups": int,
    "transposed": bool,
    "bias": bool,
    "entries": str,
}
_PAD_FIELDS: dict[str, type] = {"name": str, "mode": str, "padding": list}
_ORDER_FIELDS: dict[str, type] = {"name": str, "order": list}
_CHANNEL_FIELDS = {"in_channels": int, **_FIELDS}
del _CHANNEL_FIELDS["entries"]
# a step is told by a field that no other has
_KINDS: dict[str, dict[str, type]] = {"mode": _PAD_FIELDS, "order": _ORDER_FIELDS, "in_channels": _CHANNEL_FIELDS}


def describe(sequence: ConvSequence, layout: str | Callable[[ConvLayer], str] = "OI*") -> tuple[str, dict[str, Array]]:
    """Return a sequence as JSON text and named arrays.

    Parameters
    ----------
    sequence : ConvSequence
        The sequence.
    layout : str or callable
        Order of O, I and * in the kernels, as in :meth:`ConvLayer.of`, or a function that says it for each layer.

    Returns
    -------
    text : str
        Geometry, names and data types, in ASCII.
    arrays : dict of str to ndarray
        "0.kernel", "1.kernel", ... and the last layer's bias, as "1.bias"; C-contiguous, read-only where they are the
        sequence's own memory.

    Raises
    ------
    KernelError
        If the layout is not an order of O, I and *.
    """
    arrays = {}
    layers: list[dict[str, Any]] = []
    for i, layer in enumerate(sequence):
        if isinstance(layer, PadLayer):
            layers.append({"name": layer.name, "mode": layer.mode, "padding": layer.padding})
            continue
        if isinstance(layer, PermuteLayer):
            layers.append({"name": layer.name, "order": layer.order})
            continue
        one = layer if isinstance(layer, ConvLayer) else layer.view
        order = layout if isinstance(layout, str) else layout(one)
        arrays[f"{i}.kernel"] = to_layout(one.kernel, order, one.geometry)
        layers.append(_describe_layer(layer, one.geometry, order))
        if layer.bias is not None:
            arrays[f"{i}.bias"] = layer.bias
    return json.dumps({"format": FORMAT, "version": VERSION, "layers": layers}), arrays


def parse(text: str, arrays: Mapping[str, Array]) -> ConvSequence:
    """Return the sequence that a text and its arrays describe, the inverse of :func:`describe`.

    Parameters
    ----------
    text : str
        The JSON text.
    arrays : mapping of str to ndarray
        Exactly the arrays that the text speaks of.

    Returns
    -------
    ConvSequence
        The sequence.

    Raises
    ------
    FormatError
        If the text is of another version, says too little, too much or something wrong, or the arrays do not fit it.
    """
    head = parse_json(text)
    version = head.get("version") if isinstance(head, dict) else None
    if isinstance(version, int) and version != VERSION:
        raise FormatError(f"version must be {VERSION}, got {version}; a newer tensorconv may have written this")
    _check_fields("the description", head, _HEAD)
    if head["format"] != FORMAT:
        raise FormatError(f"format must be {FORMAT!r}, got {head['format']!r}")
    for i, fields in enumerate(head["layers"]):
        _check_fields(f"layer {i}", fields, _kind(fields))
    wanted = set(_array_names(head["layers"]))
    if wanted != set(arrays):
        missing, extra = sorted(wanted - set(arrays)), sorted(map(str, set(arrays) - wanted))
        raise FormatError(f"arrays must be those the description names; missing {missing}, not named {extra}")
    try:
        return ConvSequence(tuple(_parse_layer(i, fields, arrays) for i, fields in enumerate(head["layers"])))
    except (GeometryError, KernelError, KernelTypeError) as error:
        raise FormatError(f"the description and its arrays make no sequence: {error}") from error


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text says, refusing repeated keys.

    Parameters
    ----------
    text : str or bytes
        The text.

    Returns
    -------
    Any
        Dicts, lists, strings and numbers.

    Raises
    ------
    FormatError
        If it is not JSON, or an object says one key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the description is not JSON text: {error}") from error


def _describe_layer(layer: ConvLayer | ChannelwiseLayer, geometry: ConvGeometry, layout: str) -> dict[str, Any]:
    own = {"entries": layer.entries} if isinstance(layer, ConvLayer) else {"in_channels": layer.in_channels}
    return {
        "name": layer.name,
        "dtype": layer.dtype.name,
        "layout": layout,
        "stride": geometry.stride,
        "padding": geometry.padding,
        "dilation": geometry.dilation,
        "groups": geometry.groups,
        "transposed": geometry.transposed,
        "bias": layer.bias is not None,
        **own,
    }


def _kind(fields: Any) -> dict[str, type]:
    """Return the fields that a step must have."""
    found = [kind for key, kind in _KINDS.items() if isinstance(fields, dict) and key in fields]
    return found[0] if found else _FIELDS


def _parse_layer(i: int, fields: dict[str, Any], arrays: Mapping[str, Array]) -> Step:
    kind = _kind(fields)
    if kind is _ORDER_FIELDS:
        return PermuteLayer(fields["order"], fields["name"])
    if not all(isinstance(pair, list) for pair in fields["padding"]):
        raise FormatError(f"layer {i}: padding must be [low, high] pairs, got {fields['padding']}")
    if kind is _PAD_FIELDS:
        return PadLayer(fields["padding"], fields["mode"], fields["name"])
    geometry = ConvGeometry(*(fields[key] for key in ("stride", "padding", "dilation", "groups", "transposed")))
    kernel = _checked(f"{i}.kernel", arrays, fields["dtype"])
    if kernel.ndim < 3:
        raise FormatError(f"{i}.kernel must have at least 3 axes, got shape {kernel.shape}")
    bias = _checked(f"{i}.bias", arrays, fields["dtype"]) if fields["bias"] else None
    kernel = from_layout(kernel, fields["layout"], geometry)
    if kind is _CHANNEL_FIELDS:
        if kernel.shape[1] != 1:
            raise FormatError(f"{i}.kernel must have one in-channel over channels and space, got {kernel.shape[1]}")
        return ChannelwiseLayer(kernel[:, 0], fields["in_channels"], geometry, bias, fields["name"])
    return ConvLayer(kernel, geometry, bias, fields["name"], fields["entries"])


def _checked(name: str, arrays: Mapping[str, Array], dtype: str) -> Array:
    """Return the array of a name if it is one, of the data type that the description says."""
    if dtype not in FLOATS:
        raise FormatError(f"dtype must be one of {', '.join(FLOATS)}, got {dtype!r}")
    array = arrays[name]
    if not isinstance(array, np.ndarray) or array.dtype.name != dtype:
        raise FormatError(f"{name} must be a {dtype} array, got {getattr(array, 'dtype', type(array).__name__)}")
    return array


def _check_fields(what: str, value: Any, fields: Mapping[str, type]) -> None:
    """Refuse anything but an object with exactly these fields, each of exactly its type."""
    if not isinstance(value, dict):
        raise FormatError(f"{what} must be a JSON object, got {type(value).__name__}")
    if value.keys() != fields.keys():
        missing, extra = sorted(fields.keys() - value.keys()), sorted(value.keys() - fields.keys())
        raise FormatError(f"{what} must have the fields {', '.join(fields)}; missing {missing}, unknown {extra}")
    for key, kind in fields.items():
        if type(value[key]) is not kind:
            raise FormatError(f"{what}: {key} must be of type {kind.__name__}, got {value[key]!r}")


def _array_names(layers: list[dict[str, Any]]) -> Iterator[str]:
    for i, fields in enumerate(layers):
        if "bias" not in fields:  # a step without arrays
            continue
        yield f"{i}.kernel"
        if fields["bias"]:
            yield f"{i}.bias"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise FormatError(f"a key stands twice among {sorted(key for key, _ in pairs)}")
    return dict(pairs)
