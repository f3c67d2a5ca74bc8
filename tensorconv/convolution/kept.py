"""Memory that a thread keeps: memory given back and taken anew is cleared by the system, which takes long."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from tensorconv.arrays import Array, aligned_empty

_BUFFERS = threading.local()


def kept(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return one of the thread's buffers, made larger where it has to be.

    Parameters
    ----------
    name : str
        Which.
    shape : tuple of int
        The shape that is wanted.
    dtype : dtype
        The type that is wanted.

    Returns
    -------
    ndarray
        Whatever is in it; it is the thread's until it asks for the same again.
    """
    buffers: dict[str, Array] = _BUFFERS.__dict__
    n_bytes = math.prod(shape) * dtype.itemsize
    if name not in buffers or buffers[name].nbytes < n_bytes:
        buffers[name] = aligned_empty((n_bytes,), np.dtype("uint8"))
    return buffers[name][:n_bytes].view(dtype).reshape(shape)
