"""Tensors that an ONNX model keeps in other files: found inside its folder alone, and read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from onnx import TensorProto

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


def is_external(tensor: TensorProto) -> bool:
    """Return whether the numbers of a tensor are in another file.

    Parameters
    ----------
    tensor : onnx.TensorProto
        The tensor.

    Returns
    -------
    bool
        Whether they are.
    """
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def with_data(tensor: TensorProto, folder: Path | None) -> TensorProto:
    """Return a tensor that holds its numbers itself.

    Parameters
    ----------
    tensor : onnx.TensorProto
        A tensor; not changed.
    folder : Path or None
        Where the model's file is.

    Returns
    -------
    onnx.TensorProto
        The tensor, or a copy of it with what another file holds.

    Raises
    ------
    FormatError
        If its data are lost, short or outside the folder, or there is no folder.
    """
    if not is_external(tensor):
        return tensor
    whole = TensorProto()
    whole.CopyFrom(tensor)
    take_in(whole, folder)
    return whole


def take_in(tensor: TensorProto, folder: Path | None) -> None:
    """Put the numbers of a tensor, if they are in another file, into the tensor.

    Parameters
    ----------
    tensor : onnx.TensorProto
        The tensor, which is changed.
    folder : Path or None
        Where the model's file is.

    Raises
    ------
    FormatError
        If its data are lost, short or outside the folder, or there is no folder.
    """
    if is_external(tensor):
        data = b"".join(find_data(tensor, folder).chunks())
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = data


def find_data(tensor: TensorProto, folder: Path | None) -> Stretch:
    """Return where the numbers of an external tensor are, without reading them.

    Parameters
    ----------
    tensor : onnx.TensorProto
        An external tensor.
    folder : Path or None
        Where the model's file is.

    Returns
    -------
    Stretch
        A part of a regular file inside the folder, that has as many bytes.

    Raises
    ------
    FormatError
        If there is no such part.
    """
    if folder is None:
        raise FormatError(
            f"tensor {tensor.name!r} lies in another file, and only a path says in which folder; read the model by its "
            "path, or by onnx.load, which takes the data in"
        )
    fields = {str(entry.key): str(entry.value) for entry in tensor.external_data}
    location = fields.get("location", "")
    outside = FormatError(
        f"tensor {tensor.name!r} lies in {location!r}, which is no file inside the model's folder; keep the data "
        "beside the model"
    )
    pure = (PurePosixPath(location), PureWindowsPath(location))
    if not location or "\0" in location or any(path.is_absolute() or path.drive or ".." in path.parts for path in pure):
        raise outside
    try:
        home = folder.resolve()
        path = (home / location).resolve()
        if not path.is_relative_to(home) or not path.is_file():
            raise outside
        size = path.stat().st_size
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long
        raise outside from error
    try:
        offset = int(fields.get("offset", "0"))
        length = int(fields["length"]) if "length" in fields else size - offset
    except ValueError as error:
        raise FormatError(f"tensor {tensor.name!r} has an offset or length that is no number: {error}") from error
    if offset < 0 or length < 0 or offset + length > size:
        raise FormatError(
            f"tensor {tensor.name!r} wants {length} bytes at {offset} of {location!r}, which has {size}; the file is "
            "cut short or of another model"
        )
    return Stretch(path, offset, length)
