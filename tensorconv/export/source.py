"""Bytes in memory or a file on disk, opened the same way."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

from tensorconv.errors import KernelTypeError

Source = bytes | str | os.PathLike[str]


def opened(source: Source) -> BinaryIO:
    """Open bytes or a path for reading.

    Parameters
    ----------
    source : bytes, str or path
        The content, or where it is.

    Returns
    -------
    BinaryIO
        A seekable file; the caller closes it.

    Raises
    ------
    KernelTypeError
        If it is neither bytes nor a path.
    """
    if not isinstance(source, (bytes, str, os.PathLike)):
        raise KernelTypeError(f"a dumped file must be given as bytes or a path, got {type(source).__name__}")
    return io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")


def size_of(file: BinaryIO) -> int:
    """Return the length of an open file and go back to its start.

    Parameters
    ----------
    file : BinaryIO
        The file.

    Returns
    -------
    int
        Its number of bytes.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size
