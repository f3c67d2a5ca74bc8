"""Exporter "npz": numpy's own file of arrays, read without pickle and without trusting what the file claims."""

from __future__ import annotations

import io
import math
import re
import zipfile
from typing import Any, BinaryIO

import numpy as np

from tensorconv.arrays import Array, named_dtype
from tensorconv.errors import FormatError
from tensorconv.export.description import describe, parse
from tensorconv.export.source import Source, opened, size_of
from tensorconv.layers import ConvSequence, as_sequence

_MEMBER = re.compile(r"(sequence|[0-9]{1,9}\.(?:kernel|bias))\.npy")
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(r"\{'descr': '([<>][a-zA-Z][0-9]{1,18})', 'fortran_order': False, 'shape': \(([0-9, ]*)\), \} *\n")
_FLOATS = ("f2", "f4", "f8")
_BFLOAT16_BITS = "u2"
_MAX_NDIM = 32
_BROKEN = (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError)


def dump(sequence: Any) -> bytes:
    """Return a sequence as the bytes of an .npz file, the same bytes for the same sequence.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write.

    Returns
    -------
    bytes
        An uncompressed archive that ``numpy.load`` reads without pickle: the arrays of the exporter "numpy", bfloat16
        as its bits in uint16.
    """
    text, arrays = describe(as_sequence(sequence))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in {"sequence": np.array(text), **arrays}.items():
            bits = array.view(np.uint16) if array.dtype.name == "bfloat16" else array
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, bits, version=(1, 0), allow_pickle=False)
    return file.getvalue()


def load(obj: Source) -> ConvSequence:
    """Return the sequence of an .npz file, the inverse of :func:`dump`.

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
        If the file is broken, compressed, or holds anything but a sequence's arrays; no more memory is taken than the
        file is long, and nothing is unpickled.
    """
    with opened(obj) as file:
        members = _read_members(file)
    if "sequence" not in members:
        raise FormatError("the .npz file holds no member sequence.npy; was it written by tensorconv?")
    text = _read_text(members.pop("sequence"))
    return parse(text, {name: _read_array(name, content) for name, content in members.items()})


def _read_members(file: BinaryIO) -> dict[str, bytes]:
    """Return the bytes of every member, after checking that together they fit into the file."""
    size = size_of(file)
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            _check_members(infos, size)
            return {info.filename.removesuffix(".npy"): archive.read(info) for info in infos}
    except FormatError:
        raise
    except _BROKEN as error:
        raise FormatError(f"this is no whole .npz file: {error}") from error


def _check_members(infos: list[zipfile.ZipInfo], size: int) -> None:
    for info in infos:
        if _MEMBER.fullmatch(info.orig_filename) is None:
            raise FormatError(f"member {info.orig_filename!r} is none of a sequence's; expected names as 0.kernel.npy")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise FormatError(
                f"member {info.filename} is compressed; only uncompressed ones, as tensorconv writes, are read"
            )
        if info.header_offset < 0:
            raise FormatError(f"member {info.filename} starts before the file does")
    if len({info.filename for info in infos}) < len(infos):
        raise FormatError("a member stands twice in the .npz file")
    claimed = sum(info.file_size for info in infos)
    if claimed > size:
        raise FormatError(f"members claim {claimed} bytes, the whole .npz file has {size}")


def _read_header(name: str, content: bytes) -> tuple[str, tuple[int, ...], bytes]:
    """Return type code, shape and data of an array in numpy's file format, version 1.0, in C order."""
    end = len(_MAGIC) + 2
    start = end + int.from_bytes(content[len(_MAGIC) : end], "little")
    header = _HEADER.fullmatch(content[end:start].decode("latin-1"))
    if not content.startswith(_MAGIC) or header is None:
        raise FormatError(f"member {name}.npy is not a C-ordered array of floats or text in numpy's format 1.0")
    numbers = header[2].replace(" ", "").split(",")
    if any(len(number) > 18 for number in numbers):
        raise FormatError(f"member {name}.npy claims the impossible shape ({header[2]})")
    return header[1], tuple(int(number) for number in numbers if number), content[start:]


def _read_array(name: str, content: bytes) -> Array:
    code, shape, data = _read_header(name, content)
    if code[1:] not in (*_FLOATS, _BFLOAT16_BITS):
        raise FormatError(f"member {name}.npy must hold floats (bfloat16 as uint16 bits), got type {code}")
    dtype = np.dtype(code)
    if len(shape) > _MAX_NDIM or math.prod(shape) * dtype.itemsize != len(data):
        raise FormatError(f"member {name}.npy claims shape {shape} of type {code}, but holds {len(data)} bytes")
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(np.uint16).view(named_dtype("bfloat16")) if code[1:] == _BFLOAT16_BITS else array


def _read_text(content: bytes) -> str:
    code, shape, data = _read_header("sequence", content)
    if code[1] != "U" or shape != () or 4 * int(code[2:]) != len(data):
        raise FormatError(f"member sequence.npy must hold one text, got type {code}, shape {shape}, {len(data)} bytes")
    try:
        return data.decode("utf-32-le" if code[0] == "<" else "utf-32-be")
    except UnicodeDecodeError as error:
        raise FormatError(f"member sequence.npy holds no text: {error}") from error
