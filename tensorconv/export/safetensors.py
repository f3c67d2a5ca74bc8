"""Exporter "safetensors": the file format of tensors and a JSON header that many frameworks share."""

from __future__ import annotations

import json
import sys
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, deserialize

from tensorconv.arrays import Array, named_dtype
from tensorconv.errors import FormatError
from tensorconv.export.description import FORMAT, describe, parse, parse_json
from tensorconv.export.source import Source, opened, size_of
from tensorconv.layers import ConvSequence, as_sequence

_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
_CODES = {name: code for code, name in _DTYPES.items()}
_LENGTH_BYTES = 8
_MAX_HEADER = 100_000_000


def dump(sequence: Any) -> bytes:
    """Return a sequence as the bytes of a .safetensors file.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write.

    Returns
    -------
    bytes
        The arrays of the exporter "numpy", and its JSON text as the metadata entry "tensorconv".
    """
    text, arrays = describe(as_sequence(sequence))
    header: dict[str, Any] = {"__metadata__": {FORMAT: text}}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _CODES[array.dtype.name], "shape": array.shape, "data_offsets": (start, end)}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % _LENGTH_BYTES)  # so that the arrays are aligned
    # the package's own writer would hold a second copy of all arrays
    return b"".join([len(head).to_bytes(_LENGTH_BYTES, "little"), head, *map(_bits, arrays.values())])


def load(obj: Source) -> ConvSequence:
    """Return the sequence of a .safetensors file, the inverse of :func:`dump`.

    Parameters
    ----------
    obj : bytes, str or path
        The file's bytes, or where it is.

    Returns
    -------
    ConvSequence
        The sequence, bitwise the one that was dumped.

    Raises
    ------
    FormatError
        If the file is broken or holds anything but a sequence's arrays and their description.
    """
    with opened(obj) as file:
        text = _read_text(file)
        file.seek(0)
        content = file.read()
    try:
        tensors = deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise FormatError(f"this is no whole .safetensors file: {error}") from error
    return parse(text, {name: _read_array(name, **tensor) for name, tensor in tensors})


def _bits(array: Array) -> memoryview:
    """Return the bytes of an array in C order, whatever the order of its memory, and little-endian."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return (flat if sys.byteorder == "little" else flat.byteswap()).view(np.uint8).data


def _read_text(file: BinaryIO) -> str:
    """Return the description from the header, before the tensors themselves are read."""
    size = size_of(file)
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if size < _LENGTH_BYTES or length > min(size - _LENGTH_BYTES, _MAX_HEADER):
        raise FormatError(f"this is no .safetensors file: its header claims {length} bytes, the file has {size}")
    header = parse_json(file.read(length))
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    text = metadata.get(FORMAT) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise FormatError(f"the .safetensors file has no metadata entry {FORMAT!r}; was it written by tensorconv?")
    return text


def _read_array(name: str, dtype: str, shape: list[int], data: bytes) -> Array:
    if dtype not in _DTYPES:
        raise FormatError(f"tensor {name} must be of a type among {', '.join(_DTYPES)}, got {dtype}")
    array = np.frombuffer(data, named_dtype(_DTYPES[dtype])).reshape(shape)
    return array if sys.byteorder == "little" else array.byteswap()
