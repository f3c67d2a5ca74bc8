"""Truncated singular value decompositions of stacks of matrices, through the Gram matrix of the small side."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from tensorconv.errors import RankError
from tensorconv.linalg.scaling import square_safe_scale, unit_scale

Array = NDArray[Any]
# Squaring loses singular values below sqrt(u) of the largest; above this share their vectors keep half the digits.
SAFE_SHARE = 1e-5
SQUARES = (1e-200, 1e200)  # where sums of squares are safe
FEW, OVERSAMPLED = 32, 8  # ranks below a 32nd of the matrix are few; columns that the random block has more than those
SETTLED = 1e-10  # share of the energy left out that one more block may still add
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
        Left singular vectors.
    s : ndarray, shape (..., rank)
        Singular values, falling.
    vh : ndarray, shape (..., rank, n)
        Right singular vectors as rows. On the smaller side, the left one of square matrices, the entry of largest
        magnitude of every vector is positive.

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
    wide, small, s, large, swapped = _sides(matrices, rank)
    large *= np.divide(1, s, out=np.zeros_like(s), where=s > 0)[..., None]
    unsafe = s[..., -1] <= SAFE_SHARE * s[..., 0]
    if refine and np.any(unsafe):
        u, values, vh = np.linalg.svd(wide[unsafe], full_matrices=False)
        n = s.shape[-1]
        sign = peak_signs(u[..., :n])
        small[unsafe], s[unsafe] = u[..., :n] * sign, values[..., :n]
        large[unsafe] = vh[..., :n, :] * np.swapaxes(sign, -1, -2)
    return (np.swapaxes(large, -1, -2), s, np.swapaxes(small, -1, -2)) if swapped else (small, s, large)


def balanced_svd(matrices: Array, rank: int, *, refine: bool = True) -> tuple[Array, Array]:
    """Return the best factors of a rank, each with the root of the singular values: ``left @ right``.

    Parameters
    ----------
    matrices : ndarray, shape (..., m, n)
        As in :func:`truncated_svd`.
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
    if refine:
        u, s, vh = truncated_svd(matrices, rank)
        root = np.sqrt(s)
        return u * root[..., None, :], vh * root[..., None]
    _, small, s, large, swapped = _sides(matrices, rank)
    root = np.sqrt(s)
    small *= root[..., None, :]
    large *= np.divide(1, root, out=np.zeros_like(s), where=s > 0)[..., None]
    return (np.swapaxes(large, -1, -2), np.swapaxes(small, -1, -2)) if swapped else (small, large)


def _sides(matrices: Array, rank: int | None) -> tuple[Array, Array, Array, Array, bool]:
    """Return what the Gram matrix of the smaller side tells.

    Returns the matrices with this side as rows, its singular vectors as columns, the singular values, the projection
    onto the vectors (rows: singular value times other singular vector), and whether rows and columns were swapped.
    """
    a = np.asarray(matrices, np.float64)
    m, n = a.shape[-2:]
    if rank is None:
        rank = min(m, n)
    if not 1 <= rank <= min(m, n):
        raise RankError(f"rank must be between 1 and {min(m, n)} = min{(m, n)}, got {rank}")
    wide = a if m <= n else np.swapaxes(a, -1, -2)
    with np.errstate(over="ignore", invalid="ignore"):
        grams = wide @ np.swapaxes(wide, -1, -2)
    peak = np.einsum("...ii->...i", grams).max(initial=0.0)
    if not SQUARES[0] < peak < SQUARES[1] and np.isfinite(a).all() and (scale := unit_scale(a)) != 1:
        wide, small, s, large, swapped = _sides(a / scale, rank)
        return wide * scale, small, s * scale, large * scale, swapped
    small = leading_eigenvectors(grams, rank)
    small *= peak_signs(small)
    large = np.swapaxes(small, -1, -2) @ wide
    return wide, small, np.sqrt(np.einsum("...rn,...rn->...r", large, large)), large, m > n


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


def leading_eigenvectors(grams: Array, rank: int) -> Array:
    """Return the eigenvectors of the largest eigenvalues of symmetric matrices, which are overwritten.

    Few eigenvectors of a large matrix come from a randomized block Krylov space (Musco and Musco, 2015, Algorithm 2),
    grown until the eigenvalues stand still; all others from LAPACK.

    Parameters
    ----------
    grams : ndarray, shape (..., n, n)
        Symmetric matrices without negative eigenvalues.
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
        found = _krylov_eigenvectors(grams[index], rank) if FEW * rank <= n else None
        if found is None:
            chosen = [n - rank, n - 1]  # the MRRR driver needs no workspace of the matrix' size
            found = scipy.linalg.eigh(
                grams[index].T, subset_by_index=chosen, driver="evr", overwrite_a=True, check_finite=False
            )[1][:, ::-1]
        grams[index][:, :rank] = found
    return grams[..., :rank]


def _krylov_eigenvectors(gram: Array, rank: int) -> Array | None:
    """Return the leading eigenvectors, or None where a space of half the dimension does not settle them."""
    n, block = len(gram), rank + OVERSAMPLED
    basis = np.linalg.qr(gram @ np.random.default_rng(0).standard_normal((n, block)))[0]
    image, trace, before = gram @ basis, float(np.trace(gram)), -np.inf
    while basis.shape[1] + block <= n // 2:
        values, vectors = np.linalg.eigh(basis.T @ image)
        captured = float(values[-rank:].sum())
        if captured - before <= max(SETTLED * (trace - captured), 16 * np.finfo(float).eps * trace):
            return np.asarray(basis @ vectors[:, : -rank - 1 : -1])
        before, new = captured, image[:, -block:]
        for _ in range(2):  # once more where the first pass leaves little but rounding
            new = np.linalg.qr(new - basis @ (basis.T @ new))[0]
        basis, image = np.hstack([basis, new]), np.hstack([image, gram @ new])
    return None


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
