"""Truncated singular value decompositions of stacks of matrices, through the Gram matrix of the small side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import RankError

Array = NDArray[Any]
# Squaring loses singular values below sqrt(u) of the largest; above this share their vectors keep half the digits.
SAFE_SHARE = 1e-5


def truncated_svd(matrices: Array, rank: int | None = None) -> tuple[Array, Array, Array]:
    """Return the leading singular triplets of a matrix or a stack of matrices.

    The eigenvectors of the Gram matrix of the smaller side are the singular vectors of that side; the other side is
    the projection onto them, so that ``u @ (s * vh)`` is exact at full rank whatever the conditioning. Where a wanted
    singular value is below 1e-5 of the largest, LAPACK's SVD of the matrix itself takes over.

    Parameters
    ----------
    matrices : ndarray, shape (..., m, n)
        Real matrices; computed in float64.
    rank : int, optional
        Number of triplets, from 1 to min(m, n); all if not given.

    Returns
    -------
    u : ndarray, shape (..., m, rank)
        Left singular vectors; the entry of largest magnitude of each is positive.
    s : ndarray, shape (..., rank)
        Singular values, falling.
    vh : ndarray, shape (..., rank, n)
        Right singular vectors as rows.

    Raises
    ------
    RankError
        If the rank is out of range.

    Examples
    --------
    >>> u, s, vh = truncated_svd(np.diag([3.0, 2.0, 1.0]), 2)
    >>> s
    array([3., 2.])
    """
    a = np.asarray(matrices, np.float64)
    m, n = a.shape[-2:]
    if rank is None:
        rank = min(m, n)
    if not 1 <= rank <= min(m, n):
        raise RankError(f"rank must be between 1 and {min(m, n)} = min{(m, n)}, got {rank}")
    if m > n:
        v, s, uh = truncated_svd(np.swapaxes(a, -1, -2), rank)
        return _positive(np.swapaxes(uh, -1, -2), s, np.swapaxes(v, -1, -2))
    u = np.linalg.eigh(a @ np.swapaxes(a, -1, -2))[1][..., : -rank - 1 : -1]
    projected = np.swapaxes(u, -1, -2) @ a
    s = np.linalg.norm(projected, axis=-1)
    unsafe = s[..., -1] <= SAFE_SHARE * s[..., 0]
    if np.any(unsafe):
        u, s, projected = u.copy(), s.copy(), projected.copy()
        full_u, full_s, full_vh = np.linalg.svd(a[unsafe], full_matrices=False)
        u[unsafe], s[unsafe] = full_u[..., :rank], full_s[..., :rank]
        projected[unsafe] = full_s[..., :rank, None] * full_vh[..., :rank, :]
        vh = projected / np.where(s > 0, s, 1)[..., None]
        vh[unsafe] = full_vh[..., :rank, :]
    else:
        vh = projected
        vh /= s[..., None]
    return _positive(u, s, vh)


def singular_values(matrices: Array) -> Array:
    """Return all singular values of a stack of matrices, falling, by the Gram matrix of the smaller side.

    Parameters
    ----------
    matrices : ndarray, shape (..., m, n)
        Real matrices; computed in float64.

    Returns
    -------
    ndarray, shape (..., min(m, n))
        The singular values; those below 1e-8 of the largest are noise.
    """
    a = np.asarray(matrices, np.float64)
    gram = a @ np.swapaxes(a, -1, -2) if a.shape[-2] <= a.shape[-1] else np.swapaxes(a, -1, -2) @ a
    return np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[..., ::-1], 0))


def _positive(u: Array, s: Array, vh: Array) -> tuple[Array, Array, Array]:
    """Flip signs so that the entry of largest magnitude of every left vector is positive."""
    peak = np.take_along_axis(u, np.abs(u).argmax(axis=-2, keepdims=True), axis=-2)
    sign = np.where(peak < 0, -1.0, 1.0)
    return u * sign, s, vh * np.swapaxes(sign, -1, -2)
