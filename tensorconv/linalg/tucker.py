"""Tucker decompositions: sequentially truncated HOSVD, and HOOI, which refines it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import RankError
from tensorconv.linalg.scaling import square_safe_scale
from tensorconv.linalg.svd import leading_eigenvectors, peak_signs

Array = NDArray[Any]
CHUNK = 2**18  # tensor entries unfolded at a time


def hosvd(tensor: Array, ranks: Sequence[int], *, rotate: bool = False) -> tuple[Array, list[Array]]:
    """Return the sequentially truncated higher-order SVD.

    Each mode is projected onto the leading left singular vectors of its unfolding, after the modes before it were
    (Vannieuwenhoven, Vandebril, Meerbergen, 2012, Algorithm 1), the mode that shrinks most first. The squared error is
    the energy discarded on the way; it is at most N times that of the best approximation.

    Parameters
    ----------
    tensor : ndarray
        Real tensor of any order; computed in float64.
    ranks : sequence of int
        One rank per mode, from 1 to the mode's size.
    rotate : bool
        Whether modes of full rank are turned to their singular vectors too, which makes the core all-orthogonal; they
        keep their axes otherwise, and their factor is the identity.

    Returns
    -------
    core : ndarray, shape ranks
        The core; the tensor's own memory where nothing is truncated or rotated.
    factors : list of ndarray
        One matrix (size, rank) with orthonormal columns per mode.

    Raises
    ------
    RankError
        If there is not one rank per mode, or one is out of range.

    Examples
    --------
    >>> tensor = np.arange(24.0).reshape(2, 3, 4)
    >>> core, factors = hosvd(tensor, (2, 2, 2))
    >>> bool(np.allclose(multi_mode_product(core, factors), tensor))
    True
    """
    core = np.asarray(tensor, np.float64)
    sizes = core.shape
    if len(ranks) != core.ndim or any(not 1 <= r <= n for r, n in zip(ranks, sizes, strict=False)):
        raise RankError(f"ranks must be one per mode, from 1 to its size in {sizes}, got {tuple(ranks)}")
    scale = square_safe_scale(core)
    if scale != 1:
        core, factors = hosvd(core / scale, ranks, rotate=rotate)
        return core * scale, factors
    factors = [np.empty(0)] * core.ndim
    for mode in sorted(range(core.ndim), key=lambda m: ranks[m] / sizes[m]):
        if ranks[mode] == sizes[mode] and not rotate:
            factors[mode] = np.eye(sizes[mode])
        else:
            factors[mode] = leading_vectors(core, mode, ranks[mode])
            core = mode_product(core, factors[mode].T, mode)
    return core, factors


def hooi(tensor: Array, ranks: Sequence[int], *, n_iter: int = 2) -> tuple[Array, list[Array]]:
    """Refine the sequentially truncated HOSVD by higher-order orthogonal iteration.

    Parameters
    ----------
    tensor : ndarray
        Real tensor of any order; computed in float64.
    ranks : sequence of int
        One rank per mode, from 1 to the mode's size.
    n_iter : int
        Sweeps over the truncated modes; the error never grows with a sweep (De Lathauwer, De Moor, Vandewalle, 2000).

    Returns
    -------
    core : ndarray, shape ranks
        The core.
    factors : list of ndarray
        One matrix (size, rank) with orthonormal columns per mode.

    Raises
    ------
    RankError
        If there is not one rank per mode, or one is out of range.
    """
    data = np.asarray(tensor, np.float64)
    scale = square_safe_scale(data)
    if scale != 1:
        core, factors = hooi(data / scale, ranks, n_iter=n_iter)
        return core * scale, factors
    core, factors = hosvd(data, ranks)
    truncated = [m for m in range(data.ndim) if ranks[m] < data.shape[m]]
    if len(truncated) < 2 or n_iter < 1:  # one truncated mode: the HOSVD is the truncated SVD, which is optimal
        return core, factors
    for _ in range(n_iter):
        for mode in truncated:
            core = data
            for other in sorted((m for m in truncated if m != mode), key=lambda m: ranks[m] / data.shape[m]):
                core = mode_product(core, factors[other].T, other)
            factors[mode] = leading_vectors(core, mode, ranks[mode])
    return mode_product(core, factors[truncated[-1]].T, truncated[-1]), factors


def multi_mode_product(tensor: Array, matrices: Sequence[Array]) -> Array:
    """Multiply a tensor by one matrix per mode.

    Parameters
    ----------
    tensor : ndarray
        The tensor.
    matrices : sequence of ndarray
        One matrix (new size, size) per mode.

    Returns
    -------
    ndarray
        The product.
    """
    for mode in sorted(range(tensor.ndim), key=lambda m: matrices[m].shape[0] / matrices[m].shape[1]):
        tensor = mode_product(tensor, matrices[mode], mode)
    return tensor


def mode_product(tensor: Array, matrix: Array, mode: int) -> Array:
    """Multiply one mode of a tensor by a matrix.

    Parameters
    ----------
    tensor : ndarray
        The tensor.
    matrix : ndarray, shape (new size, size)
        The matrix.
    mode : int
        The mode.

    Returns
    -------
    ndarray
        The tensor with this mode's new size.
    """
    size = tensor.shape
    if mode == tensor.ndim - 1:
        return tensor @ matrix.T
    product = matrix @ tensor.reshape(math.prod(size[:mode]), size[mode], -1)
    return product.reshape(*size[:mode], len(matrix), *size[mode + 1 :])


def leading_vectors(tensor: Array, mode: int, rank: int) -> Array:
    """Return the leading left singular vectors of one unfolding, from its Gram matrix.

    Parameters
    ----------
    tensor : ndarray
        The tensor, float64.
    mode : int
        The mode whose unfolding is meant.
    rank : int
        Number of vectors.

    Returns
    -------
    ndarray, shape (size, rank)
        Orthonormal columns; the entry of largest magnitude of each is positive.
    """
    n = tensor.shape[mode]
    slices = tensor.reshape(math.prod(tensor.shape[:mode]), n, -1)
    step = max(1, CHUNK // max(1, slices[0].size))
    gram = np.zeros((n, n))
    for start in range(0, len(slices), step):  # a part at a time: the unfolding itself would be a copy of the tensor
        part = np.moveaxis(slices[start : start + step], 1, 0).reshape(n, -1)
        gram += part @ part.T
    vectors = leading_eigenvectors(gram, rank)
    vectors *= peak_signs(vectors)
    return vectors
