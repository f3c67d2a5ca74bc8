"""Tensors that an ONNX model keeps in other files: found inside its folder alone, and read."""

from __future__ import annotations

import os
import secrets
import tempfile
import weakref
from pathlib import Path, PurePosixPath, PureWindowsPath

from onnx import ModelProto, TensorProto

from tensorconv.errors import FormatError
from tensorconv.models.onnx_walk import tensors_of
from tensorconv.models.stretch import Stretch


class Added:
    """Tensors that were added to a model with external data: in a temporary file, which goes when this goes.

    Parameters
    ----------
    folder : Path, Added or None
        Where the data of the model before are.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._location = f"added {secrets.token_hex(16)}"  # no model can know it beforehand
        handle, name = tempfile.mkstemp(prefix="tensorconv-", suffix=".data")
        os.close(handle)
        self._path = Path(name)
        weakref.finalize(self, self._path.unlink, missing_ok=True)

    def take(self, tensor: TensorProto) -> None:
        """Move the numbers of a tensor into the file.

        Parameters
        ----------
        tensor : onnx.TensorProto
            The tensor, with raw data; it is changed, and names the file.
        """
        offset, length = self._path.stat().st_size, len(tensor.raw_data)
        with self._path.open("ab") as file:
            file.write(tensor.raw_data)
        name_data(tensor, self._location, offset, length)

    def find(self, tensor: TensorProto) -> Stretch | None:
        """Return where the numbers of a tensor are.

        Parameters
        ----------
        tensor : onnx.TensorProto
            An external tensor.

        Returns
        -------
        Stretch or None
            None where it was not added here.
        """
        fields = {str(entry.key): str(entry.value) for entry in tensor.external_data}
        if fields.get("location") != self._location:
            return None
        return Stretch(self._path, int(fields["offset"]), int(fields["length"]))


Folder = Path | Added | None


def name_data(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Write into a tensor that its numbers are in another file, and drop those that it holds.

    Parameters
    ----------
    tensor : onnx.TensorProto
        The tensor, which is changed.
    location : str
        The file.
    offset, length : int
        Where in it, in bytes.
    """
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


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


def with_data(tensor: TensorProto, folder: Folder) -> TensorProto:
    """Return a tensor that holds its numbers itself.

    Parameters
    ----------
    tensor : onnx.TensorProto
        A tensor; not changed.
    folder : Path, Added or None
        Where the model's file is, and what was added to it.

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


def take_in(tensor: TensorProto, folder: Folder) -> None:
    """Put the numbers of a tensor, if they are in another file, into the tensor.

    Parameters
    ----------
    tensor : onnx.TensorProto
        The tensor, which is changed.
    folder : Path, Added or None
        Where the model's file is, and what was added to it.

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


def with_added(model: ModelProto, folder: Folder) -> ModelProto:
    """Return a copy of a model that holds the tensors that were added to it.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.
    folder : Path, Added or None
        Where the model's file is, and what was added to it.

    Returns
    -------
    onnx.ModelProto
        The copy; other external data stay where they are.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    while isinstance(folder, Added):
        for tensor in copy.graph.initializer:
            if folder.find(tensor):
                take_in(tensor, folder)
        folder = folder.folder
    return copy


def check_data(model: ModelProto, folder: Folder) -> bool:
    """Check that everything that a model keeps in other files is there.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.
    folder : Path, Added or None
        Where the model's file is, and what was added to it.

    Returns
    -------
    bool
        Whether there is any; FormatError is raised if data are lost, short or outside the folder.
    """
    apart = [tensor for tensor in tensors_of(model) if is_external(tensor)]
    for tensor in apart:
        find_data(tensor, folder)
    return bool(apart)


def find_data(tensor: TensorProto, folder: Folder) -> Stretch:
    """Return where the numbers of an external tensor are, without reading them.

    Parameters
    ----------
    tensor : onnx.TensorProto
        An external tensor.
    folder : Path, Added or None
        Where the model's file is, and what was added to it.

    Returns
    -------
    Stretch
        A part of a regular file inside the folder, that has as many bytes.

    Raises
    ------
    FormatError
        If there is no such part.
    """
    if isinstance(folder, Added):
        return folder.find(tensor) or find_data(tensor, folder.folder)
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
