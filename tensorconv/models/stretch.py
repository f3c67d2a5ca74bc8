"""Stretch: a part of a file, read some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tensorconv.errors import FormatError

_CHUNK = 2**24


@dataclass(frozen=True)
class Stretch:
    """Where the bytes of a tensor are: a part of a file.

    Parameters
    ----------
    path : Path
        The file.
    offset : int
        The first byte.
    length : int
        How many there are.
    """

    path: Path
    offset: int
    length: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes, some at a time.

        Yields
        ------
        bytes
            The next of them.

        Raises
        ------
        FormatError
            If the file has changed or cannot be read.
        """
        left = self.length
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                while left and (chunk := file.read(min(left, _CHUNK))):
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise FormatError(f"external data {self.path.name} cannot be read: {error}") from error
        if left:
            raise FormatError(f"external data {self.path.name} ends {left} bytes early; it changed while being read")
