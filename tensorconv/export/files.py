"""Save a sequence to a file and load it, the format chosen by the suffix."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from tensorconv import export
from tensorconv.errors import FormatError
from tensorconv.layers import ConvSequence

_TARGETS = {".npz": "npz", ".safetensors": "safetensors", ".onnx": "onnx"}
SUFFIXES = tuple(_TARGETS)


def save(path: str | os.PathLike[str], sequence: Any) -> None:
    """Save a sequence, whole or not at all: an interrupted save leaves the old file as it was.

    Parameters
    ----------
    path : str or path
        Where to; the suffix .npz, .safetensors or .onnx chooses the format.
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to save.

    Raises
    ------
    FormatError
        If the suffix is another.
    MissingFrameworkError
        If the format's package is not installed.

    Examples
    --------
    >>> import tempfile, numpy as np, tensorconv as tc
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tc.save(f"{folder}/layer.npz", tc.ConvLayer.of(np.ones((8, 4, 3, 3)), padding=1, name="conv1"))
    ...     print(tc.load(f"{folder}/layer.npz"))
    layer  channels  kernel  geometry             parameters
    conv1  4 -> 8    3x3     stride 1, padding 1         288
    """
    dumped = export.dump(sequence, check_suffix(path))
    content = dumped if isinstance(dumped, bytes) else dumped.SerializeToString()
    write_whole(path, content)


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all: to a temporary name beside it, then renamed.

    Parameters
    ----------
    path : str or path
        Where to.
    content : bytes
        What the file is to hold.
    """
    final = Path(path).resolve()  # a link stays a link, to the new content
    temporary = final.with_name(f".tensorconv-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> ConvSequence:
    """Load a sequence from a file.

    Parameters
    ----------
    path : str or path
        A file with the suffix .npz, .safetensors or .onnx.

    Returns
    -------
    ConvSequence
        The sequence, bitwise the one that was saved.

    Raises
    ------
    FormatError
        If the suffix is another, or the file is broken or of another kind than its suffix says.
    FileNotFoundError
        If there is no such file.
    UnsupportedExportError
        If an ONNX model is more than a chain of convolutions.
    """
    return export.load(Path(path), check_suffix(path))


def check_suffix(path: str | os.PathLike[str]) -> str:
    """Return the exporter that the suffix of a path chooses, before any work is done for it.

    Parameters
    ----------
    path : str or path
        Where a sequence is to be saved, or is.

    Returns
    -------
    str
        Name of the exporter.

    Raises
    ------
    FormatError
        If the suffix is none of .npz, .safetensors and .onnx.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _TARGETS:
        raise FormatError(
            f"path must end in one of {', '.join(_TARGETS)}, which chooses the format, got {os.fspath(path)!r}"
        )
    return _TARGETS[suffix]
