"""Memory that stays: memory given back to the system and taken anew is cleared, which can take as long as a layer.

Threads keep some for what lies between layers. Outputs are given away; they come back when nobody holds them any more.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from typing import Any

import numpy as np

from tensorconv.arrays import Array, aligned_empty

SMALLEST_LENT = 2**16  # bytes of an array below which the system keeps memory at hand
FREE_BYTES = 2**22  # of arrays that ended, and wait for the next of their size

_BUFFERS = threading.local()
_FREE: deque[Array] = deque()
_LENT: dict[int, weakref.ref[Array]] = {}


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


def lent(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return a new array, in memory that is taken again for another one as soon as nobody holds any view of it.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    dtype : dtype
        Its type.

    Returns
    -------
    ndarray
        The array, whose values are arbitrary.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    if not SMALLEST_LENT <= n_bytes <= FREE_BYTES:
        return aligned_empty(shape, dtype)
    memory = _taken(n_bytes)
    if memory is None:
        memory = aligned_empty((n_bytes,), np.dtype("uint8"))
    array = np.frombuffer(memory.data, dtype)  # which all views of it hold, not what is below it
    reference = weakref.ref(array, lambda ended: _give_back(ended, memory))
    _LENT[id(reference)] = reference
    return array.reshape(shape)


def _taken(n_bytes: int) -> Array | None:
    """Return free memory of a size; threads may be here at once, and arrays end meanwhile."""
    for _ in range(len(_FREE)):
        try:
            memory = _FREE.popleft()
        except IndexError:
            return None
        if memory.nbytes == n_bytes:
            return memory
        _FREE.append(memory)
    return None


def _give_back(reference: weakref.ref[Array], memory: Array) -> None:
    del _LENT[id(reference)]
    _FREE.append(memory)
    while sum(free.nbytes for free in tuple(_FREE)) > FREE_BYTES:
        _FREE.popleft()
