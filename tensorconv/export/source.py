"""Bytes in memory or a file on disk, opened the same way."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

Source = bytes | str | os.PathLike[str]


def opened(source: Source) -> BinaryIO:
    """Return a binary file to read from; the caller closes it."""
    return io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")


def size_of(file: BinaryIO) -> int:
    """Return the number of bytes of an open file and go back to its start."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size
