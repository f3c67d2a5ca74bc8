"""Reads the convolutions of a file: plain arrays, a saved sequence, or a network."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from tensorconv.errors import FormatError, ModelError
from tensorconv.models.array_files import read_npy, read_npz, read_safetensors
from tensorconv.models.found import FoundLayer, Reading
from tensorconv.models.onnx_layers import read_onnx

DEFAULT_LAYOUT = "OI*"
_ARRAY_FILES = {".npy": read_npy, ".npz": read_npz, ".safetensors": read_safetensors}
SUFFIXES = (*_ARRAY_FILES, ".onnx")


def read_layers(
    path: str | PathLike[str], *, layout: str | None = None, input_size: Sequence[int] | None = None
) -> list[FoundLayer]:
    """Read the convolutions of a file.

    Parameters
    ----------
    path : path-like
        An .npy (one kernel), .npz or .safetensors (every floating-point array of three axes or more, or the layers of
        a sequence written by :func:`tensorconv.save`), or .onnx (every Conv and ConvTranspose with stored weights).
    layout : str, optional
        Order of the axes of plain arrays, as in :meth:`tensorconv.ConvLayer.of`; "OI*" by default.
    input_size : sequence of int, optional
        Spatial size of the input: of every plain array's convolution, of a sequence, or of a network that leaves it
        open.

    Returns
    -------
    list of FoundLayer
        The layers that could be read; :func:`tensorconv.models.read_file` also tells what was left out and why.

    Raises
    ------
    FormatError
        If the file is broken or of no supported kind.
    KernelError, KernelTypeError
        If the array of an .npy is no kernel.
    ModelError
        If ``layout`` or ``input_size`` contradicts what the file says.
    MissingFrameworkError
        If the package that reads this kind of file is not installed.
    """
    return list(read_file(path, layout=layout, input_size=input_size).layers)


def read_file(
    path: str | PathLike[str], *, layout: str | None = None, input_size: Sequence[int] | None = None
) -> Reading:
    """Read the convolutions of a file, and tell what was left out.

    Parameters
    ----------
    path : path-like
        The file.
    layout : str, optional
        Order of the axes of plain arrays.
    input_size : sequence of int, optional
        Spatial size of the input, as in :func:`tensorconv.read_layers`.

    Returns
    -------
    Reading
        The layers and, with reasons, those that could not be read.

    Raises
    ------
    FormatError, KernelError, KernelTypeError, ModelError, MissingFrameworkError
        As in :func:`tensorconv.read_layers`.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    size = None if input_size is None else tuple(input_size)
    if suffix not in SUFFIXES:
        raise FormatError(f"path must end in one of {', '.join(SUFFIXES)}, got {str(path)!r}")
    order = layout or DEFAULT_LAYOUT
    reading = read_onnx(path, size) if suffix == ".onnx" else _ARRAY_FILES[suffix](path, order, size)
    if layout is not None and any(found.source != "array" for found in reading.layers):
        raise ModelError(f"layout={layout!r} is for plain arrays; {path} says the order of axes itself, leave it out")
    if size is not None and reading.layers and all(found.input_size is None for found in reading.layers):
        raise ModelError(f"input_size {size} has {len(size)} spatial axes, no layer of {path} has; give one per axis")
    return reading
