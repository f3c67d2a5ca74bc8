"""The kernels of .npy, .npz and .safetensors files: plain arrays or a saved sequence; nothing is unpickled."""

from __future__ import annotations

import importlib
import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tensorconv.arrays import Array, as_float_array, named_dtype
from tensorconv.errors import FormatError, KernelError, KernelTypeError, MissingFrameworkError
from tensorconv.export.files import load
from tensorconv.layers import ConvLayer
from tensorconv.models.found import FoundLayer, Reading, SkippedLayer

Size = tuple[int, ...]
_SEQUENCE_MEMBER = "sequence"
_KERNEL_MEMBER = re.compile(r"\d+\.kernel")
_SEQUENCE_METADATA = "tensorconv"
_FLOAT_TENSORS = ("F16", "BF16", "F32", "F64")
# all that numpy and zipfile raise for bytes that are not what they should be
BROKEN = (
    ValueError,
    OSError,
    EOFError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npy(path: Path, layout: str, input_size: Size | None) -> Reading:
    """Read the one kernel of an .npy file; it goes by the name of the file.

    Parameters
    ----------
    path : Path
        The file.
    layout : str
        Order of the array's axes.
    input_size : tuple of int or None
        Spatial size of the input, where the caller knows it.

    Returns
    -------
    Reading
        The layer.

    Raises
    ------
    FormatError
        If the file is broken or holds pickled objects.
    KernelError, KernelTypeError
        If the array is no kernel.
    """
    with _opened(path) as array:
        if not isinstance(array, np.ndarray):
            raise FormatError(f"{path} is an archive of arrays, not one array; name it .npz")
        return Reading((_found(path.stem, array, layout, input_size),))


def read_npz(path: Path, layout: str, input_size: Size | None) -> Reading:
    """Read the kernels of an .npz file.

    Parameters
    ----------
    path : Path
        The file.
    layout : str
        Order of the axes of plain arrays.
    input_size : tuple of int or None
        Spatial size of the input: of plain arrays with as many spatial axes, or of a sequence.

    Returns
    -------
    Reading
        The layers of a saved sequence, or every array of three axes or more as a layer.

    Raises
    ------
    FormatError
        If the file is broken.
    """
    with _opened(path) as archive:
        if isinstance(archive, np.ndarray):
            raise FormatError(f"{path} is one array, not an archive of arrays; name it .npy")
        if _SEQUENCE_MEMBER in archive.files and any(map(_KERNEL_MEMBER.fullmatch, archive.files)):
            return Reading.of(_sequence_layers(path, input_size))
        return Reading.of(_members(archive, path, layout, input_size))


def read_safetensors(path: Path, layout: str, input_size: Size | None) -> Reading:
    """Read the kernels of a .safetensors file.

    Parameters
    ----------
    path : Path
        The file.
    layout : str
        Order of the axes of plain arrays.
    input_size : tuple of int or None
        Spatial size of the input: of plain arrays with as many spatial axes, or of a sequence.

    Returns
    -------
    Reading
        The layers of a saved sequence, or every tensor of three axes or more as a layer.

    Raises
    ------
    FormatError
        If the file is broken.
    MissingFrameworkError
        If the package safetensors is not installed.
    """
    try:
        safetensors = importlib.import_module("safetensors")
    except ImportError as error:
        cure = "pip install 'tensorconv[safetensors]'"
        raise MissingFrameworkError(f"reading .safetensors needs the package safetensors: {cure}") from error
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            if _SEQUENCE_METADATA in (file.metadata() or {}):
                return Reading.of(_sequence_layers(path, input_size))
            return Reading.of(_tensors(file, layout, input_size))
    except safetensors.SafetensorError as error:
        raise FormatError(f"{path} cannot be read as .safetensors: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield the array of an .npy, or the open archive of an .npz."""
    with path.open("rb") as file:  # opened here, since numpy leaves a file open that turns out to be broken
        try:
            content = np.load(file, allow_pickle=False)
        except BROKEN as error:
            raise FormatError(
                f"{path} cannot be read as a numpy file: it is broken, of another kind, or holds pickled objects, "
                "which are never loaded"
            ) from error
        yield content


def _members(archive: Any, path: Path, layout: str, input_size: Size | None) -> Iterator[FoundLayer | SkippedLayer]:
    """Yield the arrays of an open .npz that have enough axes."""
    for name in archive.files:
        try:
            array = archive[name]
        except ValueError as error:  # pickled objects, or cut short
            yield SkippedLayer(name, f"cannot be read: {error}")
            continue
        except BROKEN as error:
            raise FormatError(f"{path} is broken at {name!r}: {error}") from error
        if isinstance(array, np.ndarray) and array.ndim >= 3:
            yield _entry(name, array, layout, input_size)


def _tensors(file: Any, layout: str, input_size: Size | None) -> Iterator[FoundLayer | SkippedLayer]:
    """Yield the tensors of an open .safetensors that have enough axes; no other is loaded."""
    for name in file.keys():  # noqa: SIM118 (it is not a dict)
        tensor = file.get_slice(name)
        kind = tensor.get_dtype()
        if len(tensor.get_shape()) < 3:
            continue
        if kind in _FLOAT_TENSORS:
            if kind == "BF16":
                named_dtype("bfloat16")  # numpy knows the type only once its package is loaded
            yield _entry(name, file.get_tensor(name), layout, input_size)
        else:
            yield SkippedLayer(name, f"of type {kind}; readable are {', '.join(_FLOAT_TENSORS)}")


def _sequence_layers(path: Path, input_size: Size | None) -> Iterator[FoundLayer | SkippedLayer]:
    """Yield the layers of a saved sequence, each with the size that the layers before it leave."""
    sequence = load(path)
    size = input_size
    for i, layer in enumerate(sequence):
        if isinstance(layer, ConvLayer):
            yield FoundLayer(layer if layer.name else replace(layer, name=str(i)), size, "sequence")
        else:
            yield SkippedLayer(layer.name or str(i), f"{layer}: a step of its own, no convolution")
        size = None if size is None else layer.output_size(size)


def _entry(name: str, array: Array, layout: str, input_size: Size | None) -> FoundLayer | SkippedLayer:
    """Return an array as a layer, or why its values make no kernel."""
    try:
        kernel = as_float_array(name, array)
    except (KernelError, KernelTypeError) as error:
        return SkippedLayer(name, str(error))
    return _found(name, kernel, layout, input_size)


def _found(name: str, array: Array, layout: str, input_size: Size | None) -> FoundLayer:
    layer = ConvLayer.of(array, layout=layout, name=name)
    fits = input_size is not None and len(input_size) == layer.geometry.ndim
    return FoundLayer(layer, input_size if fits else None, "array")
