"""Scatter: mean and centred second moments of a stream of vectors, as sums of squares or their triangular root."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack, solve_triangular

from tensorconv.arrays import Array

_EPS = float(np.finfo(np.float64).eps)
_BLOCK = 256  # rows that are mirrored at a time


@dataclass(frozen=True, eq=False)
class Scatter:
    """What is kept of a stream of vectors, group by group: number, mean, and squares about the mean.

    Each chunk is centred by its own mean, and the distance of the means counts as one vector more (Chan, Golub and
    LeVeque, 1979). Means are kept relative to that of the first chunk. So nothing cancels, however far the mean is from
    zero. The triangular root never squares the vectors at all.

    Parameters
    ----------
    counts : ndarray of int64, shape (G,)
        Number of vectors.
    origin : ndarray, shape (G, m)
        Mean vector of the first chunk.
    offset : ndarray, shape (G, m)
        Mean of all vectors, from there.
    matrix : ndarray, shape (G, m, m)
        Upper triangle of the sum of the outer products of the centred vectors, the entries below it of no meaning; or
        the upper triangular R with ``R.T @ R`` that sum.
    square_root : bool
        Whether it is R.
    """

    counts: NDArray[np.int64]
    origin: Array
    offset: Array
    matrix: Array
    square_root: bool

    @classmethod
    def zeros(cls, n_groups: int, size: int, *, square_root: bool) -> Scatter:
        """Return the scatter of no vectors.

        Parameters
        ----------
        n_groups : int
            Number of groups.
        size : int
            Length m of the vectors.
        square_root : bool
            Whether to keep the triangular root.

        Returns
        -------
        Scatter
            Zeros.
        """
        counts, origin, offset = np.zeros(n_groups, np.int64), np.zeros((n_groups, size)), np.zeros((n_groups, size))
        return cls(counts, origin, offset, np.zeros((n_groups, size, size)), square_root)

    @property
    def mean(self) -> Array:
        """Mean vector, (G, m)."""
        return self.origin + self.offset

    def copy(self) -> Scatter:
        """Return a copy that can be added to.

        Returns
        -------
        Scatter
            With arrays of its own.
        """
        origin, offset = self.origin.copy(), self.offset.copy()
        return Scatter(self.counts.copy(), origin, offset, self.matrix.copy(), self.square_root)

    def add(self, groups: slice, columns: Array) -> None:
        """Add vectors, in place.

        Parameters
        ----------
        groups : slice
            The groups that they belong to, all with as many vectors before.
        columns : ndarray, shape (g, m, p + 1)
            One vector per column, the last column free; overwritten.
        """
        vectors = columns[:, :, :-1]
        if not self.counts[groups].any():
            self.origin[groups] = vectors.mean(axis=2)
        vectors -= self.origin[groups, :, None]
        offset = vectors.mean(axis=2)
        vectors -= offset[:, :, None]
        self._add_centred(groups, vectors.shape[2], offset, columns)

    def merge(self, other: Scatter) -> None:
        """Add all vectors of another scatter, in place.

        Parameters
        ----------
        other : Scatter
            Of the same groups, length and form; left as it is.
        """
        if self.square_root:
            columns = np.empty((*self.offset.shape, self.offset.shape[1] + 1))
            columns[:, :, :-1] = np.swapaxes(other.matrix, 1, 2)
        else:
            self.matrix[...] += other.matrix
            columns = np.empty((*self.offset.shape, 1))
        offset = other.origin - self.origin + other.offset
        self._add_centred(slice(None), int(other.counts[0]), offset, columns)

    def covariance(self) -> Array:
        """Return the covariance: the mean of the outer products of the centred vectors.

        Returns
        -------
        ndarray, shape (G, m, m)
            Symmetric.
        """
        sums: Array = np.swapaxes(self.matrix, 1, 2) @ self.matrix if self.square_root else _mirrored(self.matrix)
        sums /= int(self.counts[0])
        return sums

    def regression(self, n: int) -> tuple[Array, Array, Array]:
        """Return what a linear map from the first n entries of the vectors to the others has to fit.

        Parameters
        ----------
        n : int
            Number of entries that the map takes.

        Returns
        -------
        root : ndarray, shape (G, k, n)
            ``root.T @ root`` is the covariance of these entries. Of sums of squares, directions are left out whose
            variance is rounding.
        seen : ndarray, shape (G, k, m - n)
            ``root.T @ seen`` is their covariance with the others.
        missed : ndarray, shape (G,)
            The variance that the best map leaves: a map M leaves ``||seen - root M.T||^2 + missed``.
        """
        if self.square_root:
            r = self.matrix / math.sqrt(int(self.counts[0]))
            return r[:, :n, :n], r[:, :n, n:], np.sum(r[:, n:, n:] ** 2, axis=(1, 2))
        covariance = self.covariance()
        variance = np.trace(covariance[:, n:, n:], axis1=1, axis2=2)
        factors = [_pivoted_cholesky(part[:n, :n]) for part in covariance]
        rank = max(1, *(len(triangle) for triangle, _ in factors))
        root, seen = (np.zeros((len(factors), rank, size)) for size in (n, covariance.shape[2] - n))
        for g, (triangle, order) in enumerate(factors):
            k = len(triangle)
            root[g, :k, order] = triangle.T
            if k:
                across = covariance[g, order[:k], n:]
                seen[g, :k] = solve_triangular(triangle[:, :k], across, trans="T", check_finite=False)
        return root, seen, np.maximum(0.0, variance - np.sum(seen**2, axis=(1, 2)))

    def _add_centred(self, groups: slice, count: int, offset: Array, columns: Array) -> None:
        """Add vectors of this number and mean, given as columns whose outer products sum to their own scatter."""
        before = int(self.counts[groups][0])
        step = offset - self.offset[groups]
        columns[:, :, -1] = math.sqrt(before / (before + count) * count) * step
        if self.square_root:
            _fold(self.matrix[groups], columns)
        else:
            for sums, rows in zip(self.matrix[groups], np.swapaxes(columns, 1, 2), strict=True):
                blas.dsyrk(1.0, rows, beta=1.0, c=sums.T, trans=1, lower=1, overwrite_c=1)
        self.offset[groups] += count / (before + count) * step
        self.counts[groups] += count


def _fold(roots: Array, columns: Array) -> None:
    """Replace each upper triangular R by that of the stack of R and the rows ``columns.T``; both are overwritten."""
    n = roots.shape[1]
    n_at_a_time = min(n, 32, max(8, n // 16))  # columns of a block of the QR: the fastest found
    for root, rows in zip(roots, np.swapaxes(columns, 1, 2), strict=True):
        root[...] = lapack.dtpqrt(0, n_at_a_time, root, rows, overwrite_b=True)[0]


def _mirrored(upper: Array) -> Array:
    """Return the symmetric matrices of which these are the upper triangles."""
    whole = upper.copy()
    for low in range(0, whole.shape[1], _BLOCK):
        rows, stop = slice(low, low + _BLOCK), low + _BLOCK
        corner = np.triu(whole[:, rows, rows])
        whole[:, rows, rows] = corner + np.swapaxes(np.triu(corner, 1), 1, 2)
        whole[:, stop:, rows] = np.swapaxes(whole[:, rows, stop:], 1, 2)
    return whole


def _pivoted_cholesky(matrix: Array) -> tuple[Array, NDArray[np.intp]]:
    """Return R (k, n) and an order of entries with ``R.T @ R`` the matrix in that order; it may be overwritten.

    R is upper triangular with a falling diagonal. It ends where no entry has more variance left than rounding
    (Hammarling, Higham and Lucas, 2007, "LAPACK-style codes for pivoted Cholesky and QR updating").
    """
    n = len(matrix)
    noise = n * _EPS * float(np.diag(matrix).max())
    lower, order, rank, _ = lapack.dpstrf(matrix.T, tol=noise, lower=1, overwrite_a=1)
    triangle = lower.T[:rank]
    for row in range(1, rank):
        triangle[row, :row] = 0
    return triangle, order - 1
