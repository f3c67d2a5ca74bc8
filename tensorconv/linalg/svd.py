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
PART = 2**20  # matrix entries of a stack at a time, so that float32 stacks need no whole float64 copy
EVEN = 1e-5  # eigenvalues above this share of the largest are squares of singular values to 1e-11


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
    KernelError
        If there are numbers that are not finite.

    Examples
    --------
    >>> u, s, vh = truncated_svd(np.diag([3.0, 2.0, 1.0]), 2)
    >>> s
    array([3., 2.])
    """
    small, s, large, swapped = _in_parts(matrices, rank, 0.0, refine)
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
    small, s, large, swapped = _in_parts(matrices, rank, 0.5, refine)
    small *= np.sqrt(s)[..., None, :]
    return (np.swapaxes(large, -1, -2), np.swapaxes(small, -1, -2)) if swapped else (small, large)


def _in_parts(matrices: Array, rank: int | None, power: float, refine: bool) -> tuple[Array, Array, Array, bool]:
    """Return singular vectors of the smaller side as columns, singular values, rows, and whether sides were swapped.

    The rows are the singular vectors of the larger side, times their singular values to a power.
    """
    given = np.asarray(matrices)
    m, n = given.shape[-2:]
    if rank is None:
        rank = min(m, n)
    if not 1 <= rank <= min(m, n):
        raise RankError(f"rank must be between 1 and {min(m, n)} = min{(m, n)}, got {rank}")
    wide = given if m <= n else np.swapaxes(given, -1, -2)
    stack = wide.reshape(-1, *wide.shape[-2:]) if wide.ndim != 3 else wide
    small, s = np.empty((len(stack), min(m, n), rank)), np.empty((len(stack), rank))
    large = np.empty((len(stack), rank, max(m, n)))
    step = max(1, PART // (m * n))
    for low in range(0, len(stack), step):
        part = slice(low, low + step)
        _decompose(stack[part].astype(np.float64, copy=False), power, refine, small[part], s[part], large[part])
    outer = wide.shape[:-2]
    return small.reshape(*outer, -1, rank), s.reshape(*outer, rank), large.reshape(*outer, rank, -1), m > n


def _decompose(wide: Array, power: float, refine: bool, small: Array, s: Array, large: Array) -> None:
    """Write what :func:`_in_parts` returns of a stack of float64 matrices."""
    rank = s.shape[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        grams = wide @ np.swapaxes(wide, -1, -2)
    peak = np.einsum("...ii->...i", grams).max(initial=0.0)
    if not SQUARES[0] < peak < SQUARES[1] and (scale := unit_scale(wide, "matrices")) != 1:
        _decompose(wide / scale, power, refine, small, s, large)
        s *= scale
        large *= scale**power
        return
    values = None
    if len(grams[0]) <= STACKED:
        values, vectors = _eigenpairs(grams, rank)
    else:
        vectors = leading_eigenvectors(grams, rank)
    np.multiply(vectors, peak_signs(vectors), out=small)
    rows = np.swapaxes(small, -1, -2)
    if values is not None and not refine and np.all(values[..., -1] > EVEN * values[..., 0]):
        np.sqrt(values, out=s)
        np.matmul(rows * (s ** (power - 1))[..., None], wide, out=large)
        return
    np.matmul(rows, wide, out=large)
    s[:] = np.sqrt(np.einsum("...rn,...rn->...r", large, large))
    unsafe = s[..., -1] <= SAFE_SHARE * s[..., 0] if refine else np.zeros(len(s), bool)
    large *= np.power(s, power - 1, out=np.zeros_like(s), where=s > 0)[..., None]
    if np.any(unsafe):
        u, values, vh = np.linalg.svd(wide[unsafe], full_matrices=False)
        sign = peak_signs(u[..., :rank])
        small[unsafe], s[unsafe] = u[..., :rank] * sign, values[..., :rank]
        large[unsafe] = vh[..., :rank, :] * (np.swapaxes(sign, -1, -2) * s[unsafe][..., None] ** power)


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


def _eigenpairs(grams: Array, rank: int) -> tuple[Array, Array]:
    values, vectors = np.linalg.eigh(grams)
    return values[..., : -rank - 1 : -1], vectors[..., : -rank - 1 : -1]


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
        return np.ascontiguousarray(_eigenpairs(grams, rank)[1])
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
    scale = square_safe_scale(a, "matrices")
    if scale != 1:
        return scale * singular_values(a / scale)
    gram = a @ np.swapaxes(a, -1, -2) if a.shape[-2] <= a.shape[-1] else np.swapaxes(a, -1, -2) @ a
    values: Array = np.linalg.eigvalsh(gram)[..., ::-1]
    return np.sqrt(np.maximum(values, 0))
