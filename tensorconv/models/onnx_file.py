"""An ONNX file read into a message, and written whole: as one file, or with a second one for its tensors."""

from __future__ import annotations

import hashlib
import importlib
import os
import secrets
from pathlib import Path
from typing import BinaryIO

from onnx import ModelProto

from tensorconv.errors import FormatError, ModelError
from tensorconv.export.files import write_whole
from tensorconv.models.onnx_external import Folder, find_data, is_external, name_data
from tensorconv.models.onnx_walk import tensors_of
from tensorconv.models.stretch import Stretch

_DecodeError: type[Exception] = importlib.import_module("google.protobuf.message").DecodeError
MESSAGE_LIMIT = 2**31 - 1  # bytes that one protocol buffer may have
SMALLEST_EXTERNAL = 1024  # bytes; shape inference reads shapes and axes, which must stay in the model
_NAME_LENGTH = 16  # digits of the content in the name of the second file


def read_model(source: str | os.PathLike[str] | bytes | ModelProto) -> tuple[ModelProto, Path | None]:
    """Return a model and the folder that its external data are in.

    Parameters
    ----------
    source : path, bytes or onnx.ModelProto
        A file, what one holds, or the message itself.

    Returns
    -------
    model : onnx.ModelProto
        The message; the very one that was given.
    folder : Path or None
        The file's folder, known only of a path.

    Raises
    ------
    FormatError
        If the source is no ONNX model.
    FileNotFoundError
        If there is no such file.
    """
    if isinstance(source, ModelProto):
        return _checked(source, "the message"), None
    if isinstance(source, bytes):
        return _checked(_parsed(source, "the bytes"), "the bytes"), None
    if not isinstance(source, (str, os.PathLike)):
        raise FormatError(f"a network is read from a path, bytes or an onnx.ModelProto, got {type(source).__name__}")
    path = Path(source)
    if path.exists() and not path.is_file():
        raise FormatError(f"{path} is no file; name the .onnx file itself")
    if path.exists() and path.stat().st_size > MESSAGE_LIMIT:
        raise FormatError(
            f"{path} has more than {MESSAGE_LIMIT} bytes, which no ONNX file may; its data belong beside it"
        )
    return _checked(_parsed(path.read_bytes(), str(path)), str(path)), path.parent


def _parsed(content: bytes, what: str) -> ModelProto:
    try:
        model = ModelProto()
        model.ParseFromString(content)
    except (_DecodeError, RecursionError) as error:
        raise FormatError(f"{what} cannot be read as an ONNX network: {error}") from error
    return model


def _checked(model: ModelProto, what: str) -> ModelProto:
    if not model.HasField("graph") or not model.graph.node:
        raise FormatError(f"{what} is not an ONNX network: it holds no graph, or one without nodes")
    return model


def file_size(model: ModelProto, folder: Folder, limit: int = MESSAGE_LIMIT) -> int:
    """Return how many bytes the files of a model have.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.
    folder : Path, Added or None
        Where the file is that it was read from, and what was added.
    limit : int
        Bytes that one file may have.

    Returns
    -------
    int
        The size of the file, or of the two files where the data are apart and the name before the content's is empty.

    Raises
    ------
    FormatError
        If external data are lost, short or outside the folder.
    """
    if not is_split(model, limit):
        return int(model.ByteSize())
    small, parts = split_model(model, folder, _data_name("", "0" * _NAME_LENGTH))
    return int(small.ByteSize()) + sum(part.length if isinstance(part, Stretch) else len(part) for part in parts)


def is_split(model: ModelProto, limit: int = MESSAGE_LIMIT) -> bool:
    """Return whether a model has to be, or was, saved in two files.

    Parameters
    ----------
    model : onnx.ModelProto
        The model.
    limit : int
        Bytes that one file may have.

    Returns
    -------
    bool
        Whether a tensor of it is external, or all of it exceeds the limit.
    """
    return any(map(is_external, tensors_of(model))) or sum(len(t.raw_data) for t in tensors_of(model)) > limit


def split_model(model: ModelProto, folder: Folder, name: str) -> tuple[ModelProto, list[bytes | Stretch]]:
    """Return a model whose larger tensors are all in one other file, and what that file is to hold.

    Parameters
    ----------
    model : onnx.ModelProto
        The model; not changed.
    folder : Path, Added or None
        Where its file is, and what was added.
    name : str
        The name that the other file will have.

    Returns
    -------
    model : onnx.ModelProto
        The small file.
    parts : list of bytes or Stretch
        The large file, piece by piece.

    Raises
    ------
    FormatError
        If external data are lost, short or outside the folder.
    """
    small = ModelProto()
    small.CopyFrom(model)
    parts: list[bytes | Stretch] = []
    end = 0
    own = [tensor for tensor in small.graph.initializer if tensor.ByteSize() >= SMALLEST_EXTERNAL]
    for tensor in (*filter(is_external, tensors_of(small)), *(tensor for tensor in own if tensor.raw_data)):
        part: bytes | Stretch
        if is_external(tensor):
            part = find_data(tensor, folder)
            length = part.length
        else:
            data: bytes = tensor.raw_data
            part, length = data, len(data)
        name_data(tensor, name, end, length)
        parts.append(part)
        end += length
    return small, parts


def save_model(path: Path, model: ModelProto, folder: Folder, limit: int = MESSAGE_LIMIT) -> None:
    """Write a model whole or not at all: the data, if apart, first and under a name that tells their content.

    Parameters
    ----------
    path : Path
        Where to.
    model : onnx.ModelProto
        The model.
    folder : Path, Added or None
        Where the file is that it was read from, and what was added.
    limit : int
        Bytes that one file may have.

    Raises
    ------
    FormatError
        If external data are lost, short or outside the folder.
    ModelError
        If what must stay in the small file exceeds the limit.
    """
    if not is_split(model, limit):
        write_whole(path, model.SerializeToString())
        return
    _, parts = split_model(model, folder, "")
    home = path.resolve().parent
    temporary = home / f".tensorconv-{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as file:
            name = _data_name(path.stem, _write_parts(file, parts))
        small, _ = split_model(model, folder, name)
        content = small.SerializeToString()
        if len(content) > limit:
            raise ModelError(f"the model has {len(content)} bytes without its tensors, a file may have {limit}")
        temporary.replace(home / name)
        write_whole(path, content)
    finally:
        temporary.unlink(missing_ok=True)


def _write_parts(file: BinaryIO, parts: list[bytes | Stretch]) -> str:
    """Write parts one after the other, and return a name for what they hold."""
    content = hashlib.sha256()
    for part in parts:
        for chunk in (part,) if isinstance(part, bytes) else part.chunks():
            content.update(chunk)
            file.write(chunk)
    file.flush()
    os.fsync(file.fileno())
    return content.hexdigest()[:_NAME_LENGTH]


def _data_name(stem: str, content: str) -> str:
    return f"{stem}-{content}.data"
