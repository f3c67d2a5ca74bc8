"""Truncated singular value decompositions of stacks of matrices, through the Gram matrix of the small side."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from tensorconv.errors import RankError
from tensorconv.linalg.scaling import square_safe_scale

Array = NDArray[Any]
# Squaring loses singular values below sqrt(u) of the largest; above this share their vectors keep half the digits.
SAFE_SHARE = 1e-5
STACKED = 512  # up to this size all eigenvectors at once are faster than a few


def truncated_svd(matrices: Array, rank: int | None = None, *, refine: bool = True) -> tuple[Array, Array, Array]:
    """Return the leading singular triplets of a matrix or a stack of matrices.

    The eigenvectors of the Gram matrix of the smaller side are the singular vectors of that side; the other side is
    the projection onto them, so that ``u @ (s * vh)`` is exact at full rank whatever the conditioning. Squaring blurs
    the vectors of singular values far below the largest; with ``refine``, where a wanted one is below 1e-5 of it,
    LAPACK's SVD of the matrix itself takes over.

    Parameters
    ----------
    matrices : ndarray, shape (..., m, n)
        Real matrices; computed in float64.
    rank : int, optional
        Number of triplets, from 1 to min(m, n); all if not given.
    refine : bool
        Whether small singular values matter beyond the product ``u @ (s * vh)``.

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
    scale = square_safe_scale(a)
    if scale != 1:
        u, s, vh = truncated_svd(a / scale, rank, refine=refine)
        return u, s * scale, vh
    if m <= n:
        u, s, vh = _wide_svd(a, rank, refine)
    else:
        v, s, uh = _wide_svd(np.swapaxes(a, -1, -2), rank, refine)
        u, vh = np.swapaxes(uh, -1, -2), np.swapaxes(v, -1, -2)
    sign = peak_signs(u)
    u *= sign
    vh *= np.swapaxes(sign, -1, -2)
    return u, s, vh


def peak_signs(vectors: Array) -> Array:
    """Return the sign of the entry of largest magnitude of each column, +1 for zeros.

    Parameters
    ----------
    vectors : ndarray, shape (..., n, r)
        Columns.

    Returns
    -------
    ndarray, shape (..., 1, r)
        +1.0 or -1.0.
    """
    highest, lowest = vectors.max(axis=-2, keepdims=True), vectors.min(axis=-2, keepdims=True)
    return np.where(-lowest > highest, -1.0, 1.0)


def balanced_svd(matrices: Array, rank: int, *, refine: bool = True) -> tuple[Array, Array]:
    """Return the best factors of a rank, each with the root of the singular values: ``left @ right``.

    Parameters
    ----------
    matrices : ndarray, shape (..., m, n)
        Real matrices; computed in float64.
    rank : int
        Number of components.
    refine : bool
        As in :func:`truncated_svd`.

    Returns
    -------
    left : ndarray, shape (..., m, rank)
        Left factors.
    right : ndarray, shape (..., rank, n)
        Right factors, of the same norm per component.
    """
    u, s, vh = truncated_svd(matrices, rank, refine=refine)
    root = np.sqrt(s)
    u *= root[..., None, :]
    vh *= root[..., :, None]
    return u, vh


def _wide_svd(a: Array, rank: int, refine: bool) -> tuple[Array, Array, Array]:
    """Leading triplets, up to signs, of matrices with no more rows than columns."""
    u = leading_eigenvectors(a @ np.swapaxes(a, -1, -2), rank)
    vh = np.swapaxes(u, -1, -2) @ a
    s = np.sqrt(np.einsum("...rn,...rn->...r", vh, vh))
    vh /= np.where(s > 0, s, 1)[..., None]
    unsafe = s[..., -1] <= SAFE_SHARE * s[..., 0]
    if refine and np.any(unsafe):
        full_u, full_s, full_vh = np.linalg.svd(a[unsafe], full_matrices=False)
        u[unsafe], s[unsafe], vh[unsafe] = full_u[..., :rank], full_s[..., :rank], full_vh[..., :rank, :]
    return u, s, vh


def leading_eigenvectors(grams: Array, rank: int) -> Array:
    """Return the eigenvectors of the largest eigenvalues of symmetric matrices, which are overwritten.

    Parameters
    ----------
    grams : ndarray, shape (..., n, n)
        Symmetric matrices.
    rank : int
        How many, from 1 to n.

    Returns
    -------
    ndarray, shape (..., n, rank)
        Orthonormal columns, by falling eigenvalue.
    """
    n = grams.shape[-1]
    if n <= STACKED:
        return np.ascontiguousarray(np.linalg.eigh(grams)[1][..., : -rank - 1 : -1])
    for index in np.ndindex(grams.shape[:-2]):
        chosen = [n - rank, n - 1]  # the MRRR driver needs no workspace of the matrix' size
        found = scipy.linalg.eigh(
            grams[index].T, subset_by_index=chosen, driver="evr", overwrite_a=True, check_finite=False
        )[1]
        grams[index][:, :rank] = found[:, ::-1]
    return grams[..., :rank]


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
    scale = square_safe_scale(a)
    if scale != 1:
        return scale * singular_values(a / scale)
    gram = a @ np.swapaxes(a, -1, -2) if a.shape[-2] <= a.shape[-1] else np.swapaxes(a, -1, -2) @ a
    values: Array = np.linalg.eigvalsh(gram)[..., ::-1]
    return np.sqrt(np.maximum(values, 0))
