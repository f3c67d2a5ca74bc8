"""Reduced-rank regression: the best linear map of low rank from inputs to targets."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from tensorconv.errors import KernelError, RankError
from tensorconv.linalg.finite import check_finite
from tensorconv.linalg.scaling import balance

Array = NDArray[Any]
SINGULAR = 1e-12  # eigenvalues of Gram matrices of features of one size below this share of the largest are noise


def reduced_rank_regression(z: Array, y: Array, rank: int, ridge: float = 0.0) -> tuple[Array, Array, float]:
    """Minimise ``||Z - M Y||^2 + ridge ||M||^2`` over maps M of at most a given rank.

    With the triangular factor ``[[R11, R12], [0, R22]]`` of ``[Y.T, Z.T]``, the best full map is ``R12.T R11^-T``, and
    the best of rank r keeps r terms of the SVD of R12.T on the range of R11. The squared error is the sum of what is
    cut and what no map reaches: sums of squares, so nothing cancels (Izenman, 1975, for the solution). Normal
    equations are never formed: their condition is the square of Y's.

    Parameters
    ----------
    z : ndarray, shape (n, N)
        Targets, one sample per column.
    y : ndarray, shape (c, N)
        Inputs, one sample per column.
    rank : int
        Largest rank of the map, from 1 to min(n, c).
    ridge : float
        Weight of the penalty on the map, at least 0.

    Returns
    -------
    left : ndarray, shape (n, rank)
        First factor of the map.
    right : ndarray, shape (rank, c)
        Second factor: ``M = left @ right``, both of one norm per component.
    error : float
        Square root of the minimum: ``||Z - left right Y||`` if there is no ridge.

    Raises
    ------
    KernelError
        If the arrays do not fit one another or hold NaN or inf, or the ridge is negative.
    RankError
        If the rank is out of range.

    Examples
    --------
    >>> y = np.random.default_rng(0).standard_normal((4, 50))
    >>> left, right, error = reduced_rank_regression(np.outer([1.0, 2.0], [1.0, 0.0, 3.0, 1.0]) @ y, y, 1)
    >>> bool(np.allclose(left @ right, [[1.0, 0.0, 3.0, 1.0], [2.0, 0.0, 6.0, 2.0]])), error < 1e-12
    (True, True)
    """
    targets, inputs = np.asarray(z, np.float64), np.asarray(y, np.float64)
    if targets.ndim != 2 or inputs.ndim != 2 or targets.shape[1] != inputs.shape[1]:
        raise KernelError(
            f"z and y must be matrices with one column per sample, got {targets.shape} and {inputs.shape}"
        )
    if not ridge >= 0:
        raise KernelError(f"ridge must be at least 0, got {ridge}")
    n, c = len(targets), len(inputs)
    if not 1 <= rank <= min(n, c):
        raise RankError(f"rank must be between 1 and {min(n, c)} = min(n, c) for these samples, got {rank}")
    check_finite("z", targets)
    check_finite("y", inputs)
    stacked = np.concatenate([inputs.T, targets.T], axis=1)
    if ridge:
        stacked = np.concatenate([stacked, np.eye(c, n + c) * np.sqrt(ridge)])
    triangle = np.zeros((n + c, n + c))
    found = np.linalg.qr(stacked, mode="r")
    triangle[: len(found)] = found
    basis, scales, range_rows = np.linalg.svd(triangle[:c, :c])
    k = int(np.sum(scales > scales[0] * max(stacked.shape) * np.finfo(np.float64).eps)) if scales[0] else 0
    if k == 0:
        return np.zeros((n, rank)), np.zeros((rank, c)), float(np.linalg.norm(targets))
    seen = basis[:, :k].T @ triangle[:c, c:]  # the targets on the range of the inputs, (k, n)
    missed = basis[:, k:].T @ triangle[:c, c:]
    u, s, vh = np.linalg.svd(seen.T, full_matrices=False)
    error = np.linalg.norm(np.concatenate([missed.ravel(), triangle[c:, c:].ravel(), s[rank:]]))
    left = np.zeros((n, rank))
    right = np.zeros((rank, c))
    m = min(rank, len(s))
    left[:, :m] = u[:, :m] * s[:m]
    right[:m] = (vh[:m] / scales[:k]) @ range_rows[:k]
    balance(left, 1, right, 0)
    return left, right, float(error)


def regressed(gram: Array, cross: Array, limit: int | None) -> Array:
    """Return ``cross @ gram^-1`` on the range of the Gram matrix, cut to a rank in its metric.

    Parameters
    ----------
    gram : ndarray, shape (n, n)
        Gram matrix of features of about one size.
    cross : ndarray, shape (m, n)
        Products of the targets with the features.
    limit : int or None
        Largest rank of the solution.

    Returns
    -------
    ndarray, shape (m, n)
        The least-squares solution.
    """
    is_cut = limit is not None and limit < min(cross.shape)
    if not is_cut:
        with suppress(np.linalg.LinAlgError):
            factor = scipy.linalg.cho_factor(gram, lower=True, check_finite=False)
            if np.min(np.diag(factor[0])) ** 2 > SINGULAR:
                solution: Array = scipy.linalg.cho_solve(factor, cross.T, check_finite=False).T
                return solution
    values, vectors = np.linalg.eigh(gram)
    kept = values > SINGULAR * max(float(values[-1]), 0.0)
    roots = np.sqrt(values[kept])
    whitened = (cross @ vectors[:, kept]) / roots
    if is_cut:
        left = np.linalg.svd(whitened, full_matrices=False)[0][:, :limit]
        whitened = left @ (left.T @ whitened)
    on_range: Array = (whitened / roots) @ vectors[:, kept].T
    return on_range
