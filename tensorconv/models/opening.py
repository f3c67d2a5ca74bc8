"""Opens a model of any kind as a network, and tells one run from another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorconv
from tensorconv.errors import ModelError
from tensorconv.models.network import Batch, Network

TIMED_MACS = 4e9  # of all convolutions on the images that are timed together


def open_network(
    model: Any, *, data: Any = None, input_size: int | Sequence[int] | None = None, linear: bool = False
) -> Network:
    """Return a model as a network that can be compressed.

    Parameters
    ----------
    model : path, bytes, onnx.ModelProto or torch.nn.Module
        The model.
    data : object, optional
        Data of the user, whose first batch is a torch module's example.
    input_size : int or sequence of int, optional
        Spatial size of the inputs, where the model leaves it open.
    linear : bool
        Whether fully connected layers are looked at.

    Returns
    -------
    Network
        The network.

    Raises
    ------
    ModelError
        If it is none of these, or cannot be read.
    """
    if isinstance(model, (str, os.PathLike)) and Path(model).suffix.lower() != ".onnx":
        raise ModelError(f"model must be an .onnx file, a ModelProto or a torch module, got {os.fspath(model)!r}")
    if any(kind.__module__.startswith("torch.nn") for kind in type(model).__mro__):
        from tensorconv.models.torch_network import TorchNetwork

        return TorchNetwork(model, _first(data), input_size=input_size, linear=linear)
    if isinstance(model, (str, os.PathLike, bytes)) or type(model).__name__ == "ModelProto":
        from tensorconv.models.onnx_network import OnnxNetwork

        network: Network = OnnxNetwork.read(model, input_size=input_size, linear=linear)
        return network
    raise ModelError(f"model must be a path, an onnx.ModelProto or a torch.nn.Module, got {type(model).__name__}")


def identity(network: Network, settings: dict[str, Any], batches: Sequence[Batch] | None) -> dict[str, Any]:
    """Return what tells one run from another: the network, what is asked, the data, and the version.

    Parameters
    ----------
    network : Network
        The network.
    settings : dict
        What is asked, in plain values.
    batches : sequence of dict or None
        The data.

    Returns
    -------
    dict
        Plain values.
    """
    digest = hashlib.sha256()
    for batch in batches or ():
        for name, value in batch.items():
            array = value.detach().cpu().numpy() if hasattr(value, "detach") else value
            digest.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
            digest.update(array.tobytes())
    return {
        "version": tensorconv.__version__,
        "network": network.digest,
        "settings": settings,
        "data": None if batches is None else digest.hexdigest(),
    }


def images_to_time(network: Network, batches: Sequence[Batch] | None) -> int:
    """Return how many images at a time are worth timing.

    Parameters
    ----------
    network : Network
        The network.
    batches : sequence of dict or None
        The data; the example batch where there are none.

    Returns
    -------
    int
        As many as there are in the first batch, halved until the convolutions take a few seconds at most.
    """
    first = batches[0] if batches else network.example
    count = max((len(value) if value.ndim else 1 for value in first.values()), default=1)
    macs = sum(site.layer.macs(size) for site in network.sites for size in site.input_sizes)
    while count > 1 and count * macs > TIMED_MACS:
        count //= 2
    return count


def _first(data: Any) -> Any:
    """Return one image of the first batch, an example that a module of torch can be called with."""
    first = data[0] if isinstance(data, (list, tuple)) and data else data
    return {k: v[:1] for k, v in first.items()} if isinstance(first, dict) else None if first is None else first[:1]
