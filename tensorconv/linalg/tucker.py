"""Tucker decompositions: sequentially truncated HOSVD, and HOOI, which refines it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import RankError

Array = NDArray[Any]


def hosvd(tensor: Array, ranks: Sequence[int]) -> tuple[Array, list[Array]]:
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
    factors: list[Array] = [np.empty(0)] * core.ndim
    for mode in sorted(range(core.ndim), key=lambda m: ranks[m] / sizes[m]):
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
    core, factors = hosvd(tensor, ranks)
    data = np.asarray(tensor, np.float64)
    truncated = [m for m in range(data.ndim) if ranks[m] < data.shape[m]]
    if len(truncated) < 2:  # one truncated mode: the HOSVD is the truncated SVD, which is optimal
        return core, factors
    for _ in range(n_iter):
        for mode in truncated:
            partial = multi_mode_product(data, [f.T for f in factors], skip=mode)
            factors[mode] = leading_vectors(partial, mode, ranks[mode])
            core = mode_product(partial, factors[mode].T, mode)
    return core, factors


def multi_mode_product(tensor: Array, matrices: Sequence[Array], *, skip: int | None = None) -> Array:
    """Multiply a tensor by one matrix per mode.

    Parameters
    ----------
    tensor : ndarray
        The tensor.
    matrices : sequence of ndarray
        One matrix (new size, size) per mode.
    skip : int, optional
        A mode to leave as it is.

    Returns
    -------
    ndarray
        The product.
    """
    modes = [m for m in range(tensor.ndim) if m != skip]
    for mode in sorted(modes, key=lambda m: matrices[m].shape[0] / matrices[m].shape[1]):
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
    return np.moveaxis(np.tensordot(matrix, tensor, axes=(1, mode)), 0, mode)


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
    others = [m for m in range(tensor.ndim) if m != mode]
    gram = np.tensordot(tensor, tensor, axes=(others, others))
    vectors = np.linalg.eigh(gram)[1][:, : -rank - 1 : -1]
    peak = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0, keepdims=True), axis=0)
    return np.ascontiguousarray(vectors * np.where(peak < 0, -1.0, 1.0))
