"""Data of the user, from an .npz or .npy file: batches for a network, and the classes of the images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import FormatError, ModelError
from tensorconv.models.array_files import BROKEN
from tensorconv.models.network import Batch

if TYPE_CHECKING:
    from tensorconv.models.onnx_network import OnnxNetwork

_LABELS = "labels"


def read_data(path: Path, network: OnnxNetwork, *, first: int | None = None) -> tuple[list[Batch], Array | None]:
    """Read data for a network.

    Parameters
    ----------
    path : Path
        An .npz with one array per input, by name, or any one array for a network with one input; or an .npy. An array
        of the name "labels" in an .npz, which no input has, is the classes of the images. Nothing is unpickled.
    network : OnnxNetwork
        What the data are for.
    first : int or None
        Number of images in the first batch, the one that latency is measured on, where the network leaves it open; as
        many as in the others if not given.

    Returns
    -------
    batches : list of dict of str to ndarray
        Inputs by name.
    labels : ndarray of int or None
        The classes, in the order of the images.

    Raises
    ------
    FormatError
        If the file is none of these, broken, or holds Python objects.
    ModelError
        If the data do not fit the network, or the labels the data.
    """
    if path.suffix.lower() not in (".npz", ".npy"):
        raise FormatError(f"--data must end in .npz or .npy, got {str(path)!r}; save arrays by numpy.savez")
    named = _arrays(path)
    names = [one.name for one in network.inputs]
    labels = named.pop(_LABELS, None) if _LABELS not in names else None
    if len(names) == 1 and len(named) == 1:
        named = {names[0]: next(iter(named.values()))}
    _check_kinds(path, named, network)
    try:
        batches = network.batches(_apart(named, network, first))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    if labels is not None:
        _check_labels(path, labels, batches)
    return batches, labels


def _arrays(path: Path) -> dict[str, Array]:
    """Return the arrays of a file by name; that of an .npy goes by the file's."""
    try:
        content: Any = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {path.stem: content}
        with content:
            return {name: content[name] for name in content.files}
    except BROKEN as error:
        raise FormatError(f"{path} cannot be read as a numpy file of plain arrays: {error}") from error


def _check_kinds(path: Path, named: dict[str, Array], network: OnnxNetwork) -> None:
    """Refuse integers where the network takes floating-point numbers: how they are scaled is for the user to say."""
    for one in network.inputs:
        array = named.get(one.name)
        if array is not None and array.dtype.kind in "biu" and one.dtype.kind not in "biu":
            raise ModelError(
                f"{path}: the data for input {one.name!r} must be {one.dtype}, got {array.dtype}; convert them as for "
                f'the network\'s training first, as images.astype("{one.dtype}") / 255'
            )


def _apart(named: dict[str, Array], network: OnnxNetwork, first: int | None) -> Any:
    """Return the first images apart from the others, where the network takes any number of them."""
    shapes = [one.shape for one in network.inputs]
    sizes = {array.shape[:1] for array in named.values()}
    if len(sizes) != 1 or any(not shape or shape[0] is not None for shape in shapes):
        return named
    if first is None or sizes.pop() <= (first,):
        return named
    return [{name: array[cut] for name, array in named.items()} for cut in (slice(first), slice(first, None))]


def _check_labels(path: Path, labels: Array, batches: list[Batch]) -> None:
    n = sum(_n_images(batch) for batch in batches)
    if labels.dtype.kind not in "iu" or labels.ndim == 0 or len(labels) != n:
        raise ModelError(
            f"{path}: labels must be integers, one class for each of the {n} images, got {labels.dtype} of shape "
            f"{labels.shape}"
        )


def _n_images(batch: Batch) -> int:
    return max((len(array) for array in batch.values() if array.ndim), default=1)
