"""ONNX tensors as arrays: bits as they are stored, sizes checked before memory is taken, external data found."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto
from onnx.checker import ValidationError
from onnx.external_data_helper import load_external_data_for_tensor

from tensorconv.arrays import Array, named_dtype
from tensorconv.errors import FormatError, UnsupportedExportError

TYPES: dict[str, int] = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}
_NAMES = {number: name for name, number in TYPES.items()} | {TensorProto.INT64: "int64"}
_LISTS = {"float16": "int32_data", "bfloat16": "int32_data", "float32": "float_data", "float64": "double_data"}
_LISTS["int64"] = "int64_data"
_MAX_NDIM = 32
STANDARD = ("", "ai.onnx")  # the two names of the domain of ONNX's own operators


def write_tensor(tensor: TensorProto, name: str, array: Array) -> None:
    """Write an array into an empty tensor.

    Parameters
    ----------
    tensor : onnx.TensorProto
        The tensor, best where it is to stay: assembling messages from others copies them.
    name : str
        Its name.
    array : ndarray
        Floats of a type in ``TYPES``, or int64, in any memory order.
    """
    tensor.name = name
    tensor.data_type = TYPES.get(array.dtype.name, TensorProto.INT64)
    tensor.dims.extend(array.shape)
    tensor.raw_data = (array if sys.byteorder == "little" else array.byteswap()).tobytes()


def read_tensor(name: str, tensor: TensorProto, folder: Path | None = None) -> Array:
    """Return a tensor as an array.

    Parameters
    ----------
    name : str
        What the nodes call it, for messages.
    tensor : onnx.TensorProto
        The tensor; not changed.
    folder : Path, optional
        Where the model's file is, for data that lie beside it.

    Returns
    -------
    ndarray
        Floats or int64, bitwise as stored; maybe read-only.

    Raises
    ------
    FormatError
        If the tensor is empty, of another type, or holds fewer or more numbers than its shape says; or its external
        data are lost, short or outside the folder.
    UnsupportedExportError
        If it has external data and the folder is not known.
    """
    kind = _NAMES.get(tensor.data_type)
    if kind is None or len(tensor.dims) > _MAX_NDIM or any(size < 1 for size in tensor.dims):
        raise FormatError(
            f"initializer {name} must be a non-empty float or int64 tensor, got shape {list(tensor.dims)} of type "
            f"{_type_name(tensor.data_type)}"
        )
    dtype = np.dtype(np.int64) if kind == "int64" else named_dtype(kind)
    if tensor.data_location == TensorProto.EXTERNAL:
        tensor = _with_external_data(name, tensor, folder)
    if tensor.HasField("raw_data"):
        bits = np.frombuffer(tensor.raw_data, np.uint8)
        if sys.byteorder == "big":
            bits = bits.reshape(-1, dtype.itemsize)[:, ::-1].ravel()
    else:
        bits = _listed(name, tensor, kind).view(np.uint8)
    if math.prod(tensor.dims) * dtype.itemsize != bits.size:
        raise FormatError(f"initializer {name} of shape {list(tensor.dims)} holds {bits.size} bytes")
    return bits.view(dtype).reshape(tuple(tensor.dims))


def stored_tensors(tensors: Mapping[str, TensorProto], nodes: Iterable[NodeProto]) -> dict[str, TensorProto]:
    """Return every stored tensor that nodes may read, by name.

    Parameters
    ----------
    tensors : mapping of str to onnx.TensorProto
        The initializers.
    nodes : iterable of onnx.NodeProto
        The nodes of the graph, sorted as ONNX asks.

    Returns
    -------
    dict of str to onnx.TensorProto
        The initializers, the values of Constant nodes, and those of either that Identity nodes rename.
    """
    found = dict(tensors)
    for node in nodes:
        if node.domain not in STANDARD:
            continue
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.HasField("t"):
                    found[node.output[0]] = attribute.t
        elif node.op_type == "Identity" and node.input and node.output and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _listed(name: str, tensor: TensorProto, kind: str) -> Array:
    """Return the numbers of a typed list, as other writers of ONNX files store them, in the tensor's own type."""
    field = _LISTS[kind]
    if field != "int32_data":
        return np.array(getattr(tensor, field), kind)
    halves = np.array(tensor.int32_data, np.int64)
    if np.any((halves < 0) | (halves > np.iinfo(np.uint16).max)):
        raise FormatError(f"initializer {name} is broken: int32_data must hold 16 bits per number")
    return halves.astype(np.uint16)


def _with_external_data(name: str, tensor: TensorProto, folder: Path | None) -> TensorProto:
    """Return a copy of a tensor that holds its external data; onnx itself refuses paths out of the folder."""
    if folder is None:
        raise UnsupportedExportError(
            f"initializer {name} lies in another file; load the model by its path, or read it by onnx.load first"
        )
    whole = TensorProto()
    whole.CopyFrom(tensor)
    try:
        load_external_data_for_tensor(whole, str(folder))
    except (OSError, ValueError, TypeError, OverflowError, MemoryError, RuntimeError, ValidationError) as error:
        raise FormatError(f"initializer {name} cannot be loaded from its file: {error}") from error
    return whole


def _type_name(number: int) -> str:
    known = number in TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(number)) if known else str(number)
