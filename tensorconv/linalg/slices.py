"""A CP decomposition without iteration: the sorted singular triplets of a tensor's slices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import RankError
from tensorconv.linalg.svd import singular_values, truncated_svd

Array = NDArray[Any]


def slice_svd(tensor: Array, rank: int) -> tuple[Array, list[Array]]:
    """Write a tensor as the largest singular triplets of its slices along the two largest modes.

    Every slice ``tensor[:, :, k]`` (k over all entries of the smaller modes) has its singular value decomposition, and
    a triplet of slice k is a rank-one term whose smaller factors are unit vectors at k. The terms of different slices
    are orthogonal, so keeping the largest of all triplets leaves exactly the energy of the others, and all of them,
    ``prod(shape) / max(shape)``, are exact. A good decomposition of low rank shares terms between slices and needs
    fewer; this one is for ranks where iterating does not pay.

    Parameters
    ----------
    tensor : ndarray
        Real tensor of order 2 or more; computed in float64.
    rank : int
        Number of terms, from 1 to ``prod(shape) / max(shape)``.

    Returns
    -------
    weights : ndarray, shape (rank,)
        Singular values, falling.
    factors : list of ndarray
        One matrix (size, rank) of unit columns per mode.

    Raises
    ------
    RankError
        If the rank is out of range.
    KernelError
        If there are numbers that are not finite.

    Examples
    --------
    >>> tensor = np.arange(24.0).reshape(4, 3, 2)
    >>> weights, (a, b, c) = slice_svd(tensor, 6)
    >>> bool(np.allclose(np.einsum("r,ir,jr,kr->ijk", weights, a, b, c), tensor))
    True
    """
    tensor = np.asarray(tensor)
    slices, order = _slices(tensor)
    most = len(slices) * min(slices.shape[1:])
    if not 1 <= rank <= most:
        raise RankError(f"rank must be between 1 and {most} = prod{tensor.shape} / max{tensor.shape}, got {rank}")
    each = min(rank, *slices.shape[1:])
    u, s, vh = truncated_svd(slices, each)
    chosen = np.argsort(-s, axis=None, kind="stable")[:rank]
    at, index = np.unravel_index(chosen, s.shape)
    small = [tensor.shape[mode] for mode in order[2:]]
    found = [u[at, :, index].T, vh[at, index].T]
    for size, where in zip(small, np.unravel_index(at, small) if small else (), strict=True):
        found.append((np.arange(size)[:, None] == where).astype(np.float64))
    return s.reshape(-1)[chosen], [found[order.index(mode)] for mode in range(tensor.ndim)]


def slice_values(tensor: Array) -> Array:
    """Return the singular values that :func:`slice_svd` chooses from.

    Parameters
    ----------
    tensor : ndarray
        Real tensor of order 2 or more; computed in float64.

    Returns
    -------
    ndarray, shape (prod(shape) / max(shape),)
        Singular values of all slices, falling.
    """
    return np.sort(singular_values(_slices(tensor)[0]), axis=None)[::-1]


def _slices(tensor: Array) -> tuple[Array, list[int]]:
    """Return the slices (K, a, b) of the two largest modes, and the order of the modes: a, b, rest."""
    order = sorted(range(tensor.ndim), key=lambda mode: -tensor.shape[mode])
    moved = np.transpose(tensor, [*order[2:], *order[:2]])
    return moved.reshape(math.prod(moved.shape[:-2]), *moved.shape[-2:]), order
