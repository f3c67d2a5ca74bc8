"""The file of patch statistics: an .npz archive with the layer inside, read without pickle and checked whole."""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import FormatError
from tensorconv.export import npz
from tensorconv.export.description import parse_json
from tensorconv.export.files import write_whole
from tensorconv.export.source import opened, size_of
from tensorconv.layers import ConvLayer
from tensorconv.scatter import Scatter

_FORMAT, _VERSION = "tensorconv patch statistics", 1
_FIELDS: dict[str, tuple[type, ...]] = {
    "format": (str,),
    "version": (int,),
    "n_samples": (int,),
    "square_root": (bool,),
    "targets": (bool, type(None)),
    "shrinkage": (float, type(None)),
}
_ARRAYS = ("origin", "offset", "matrix")
_MAGIC = b"\x93NUMPY\x01\x00"
_BROKEN = (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True, eq=False)
class Content:
    """What a file of patch statistics holds.

    Parameters
    ----------
    layer : ConvLayer
        The layer.
    square_root : bool
        The form.
    shrinkage : float or None
        The shrinkage; None for the automatic one.
    targets : bool or None
        Whether there are targets; None before any data.
    scatter : Scatter or None
        The sums; None before any data.
    """

    layer: ConvLayer
    square_root: bool
    shrinkage: float | None
    targets: bool | None
    scatter: Scatter | None


def write(path: str | os.PathLike[str], content: Content) -> None:
    """Write a file whole or not at all.

    Parameters
    ----------
    path : str or path
        Where to.
    content : Content
        What to write.
    """
    scatter = content.scatter
    fields = {
        "format": _FORMAT,
        "version": _VERSION,
        "n_samples": 0 if scatter is None else int(scatter.counts[0]),
        "square_root": content.square_root,
        "targets": content.targets,
        "shrinkage": content.shrinkage,
    }
    members = {"statistics.json": json.dumps(fields).encode(), "layer.npz": npz.dump(content.layer)}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, text in members.items():
            archive.writestr(zipfile.ZipInfo(name), text)
        for name in () if scatter is None else _ARRAYS:
            array = getattr(scatter, name).astype("<f8", copy=False)
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
    write_whole(path, file.getvalue())


def read(path: str | os.PathLike[str]) -> Content:
    """Read what :func:`write` wrote.

    Parameters
    ----------
    path : str or path
        Where the file is.

    Returns
    -------
    Content
        Bitwise what was written.

    Raises
    ------
    FormatError
        If the file is broken or of another kind.
    """
    with opened(path) as file:
        members = _members(file)
    fields = _fields(members.pop("statistics.json", b"null"))
    sequence = npz.load(members.pop("layer.npz", b""))
    if len(sequence) != 1:
        raise FormatError(f"statistics are of one layer, the file holds {len(sequence)}")
    (layer,) = sequence.convolutions
    options = (layer, fields["square_root"], fields["shrinkage"], fields["targets"])
    n_samples, n_groups = fields["n_samples"], layer.geometry.groups
    wanted = {f"{name}.npy" for name in _ARRAYS} if n_samples else set()
    if members.keys() != wanted or (fields["targets"] is not None) != bool(n_samples):
        raise FormatError(f"statistics of {n_samples} positions hold {sorted(wanted)}, got {sorted(members)}")
    if not n_samples:
        return Content(*options, None)
    size = layer.kernel[0].size + (layer.out_channels // n_groups if fields["targets"] else 0)
    origin, offset = (_array(f"{name}.npy", members, (n_groups, size)) for name in _ARRAYS[:2])
    matrix = _array(f"{_ARRAYS[2]}.npy", members, (n_groups, size, size))
    return Content(
        *options, Scatter(np.full(n_groups, n_samples, np.int64), origin, offset, matrix, fields["square_root"])
    )


def _members(file: BinaryIO) -> dict[str, bytes]:
    """Return the bytes of every member, after checking that together they fit into the file."""
    size = size_of(file)
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            stored = all(info.compress_type == zipfile.ZIP_STORED and info.header_offset >= 0 for info in infos)
            if not stored or sum(info.file_size for info in infos) > size:
                raise FormatError("members of a file of patch statistics are stored as they are; was it repacked?")
            members = {info.filename: archive.read(info) for info in infos}
    except FormatError:
        raise
    except _BROKEN as error:
        raise FormatError(f"this is no whole file of patch statistics: {error}") from error
    if len(members) < len(infos):
        raise FormatError("a member stands twice in the file")
    return members


def _fields(text: bytes) -> dict[str, Any]:
    fields = parse_json(text)
    if not isinstance(fields, dict) or fields.get("format") != _FORMAT:
        raise FormatError("the file holds no patch statistics; was it written by PatchStatistics.save?")
    if fields.get("version") != _VERSION:
        raise FormatError(
            f"version must be {_VERSION}, got {fields.get('version')!r}; a newer tensorconv may have written this"
        )
    if fields.keys() != _FIELDS.keys() or any(type(fields[key]) not in kinds for key, kinds in _FIELDS.items()):
        raise FormatError(f"the description must hold {', '.join(_FIELDS)} of their types, got {fields}")
    shrinkage = fields["shrinkage"]
    if not 0 <= fields["n_samples"] < 2**62 or not (shrinkage is None or 0 <= shrinkage <= 1):
        raise FormatError(f"n_samples must be at least 0 and shrinkage from 0 to 1, got {fields}")
    return fields


def _array(name: str, members: Mapping[str, bytes], shape: tuple[int, ...]) -> Array:
    """Return a copy of an array of float64, whose shape is known, in numpy's file format 1.0."""
    content = members[name]
    start = len(_MAGIC) + 2 + int.from_bytes(content[len(_MAGIC) : len(_MAGIC) + 2], "little")
    header = content[len(_MAGIC) + 2 : start].decode("latin-1").rstrip()
    expected = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    if not content.startswith(_MAGIC) or header != expected or len(content) - start != 8 * math.prod(shape):
        raise FormatError(
            f"{name} must be a float64 array of shape {shape}, which the layer and the description ask for"
        )
    array = np.frombuffer(content, "<f8", offset=start).reshape(shape).astype(np.float64)
    if not np.isfinite(array).all():
        raise FormatError(f"{name} must hold finite numbers only, got NaN or inf")
    return array
