"""The singular value decomposition in given metrics of rows and columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import KernelError
from tensorconv.linalg.finite import check_finite

Array = NDArray[Any]


def metric_svd(
    a: Array, row_metric: Array | None = None, column_metric: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return the singular value decomposition in the metrics M of the rows and W of the columns.

    ``A = U diag(s) Vh`` with ``U.T M U = I`` and ``Vh W Vh.T = I``: truncated to r terms it is the best approximation
    of rank r in the norm ``trace(M E W E.T)``, with squared error ``sum_{i>r} s_i^2`` (Abdi, "Singular value
    decomposition and generalized singular value decomposition", 2007). With factors ``M = L L.T`` and ``W = K K.T``
    it is the SVD of ``L.T A K``. Where a metric is singular, A is given back on its range only, which is all that the
    norm sees.

    Parameters
    ----------
    a : ndarray, shape (m, n)
        The matrix.
    row_metric : ndarray, shape (m, m) or (m,), optional
        Symmetric positive semidefinite, or its diagonal; the identity if not given.
    column_metric : ndarray, shape (n, n) or (n,), optional
        The same for the columns.

    Returns
    -------
    u : ndarray, shape (m, k)
        Left vectors, orthonormal in the row metric.
    s : ndarray, shape (k,)
        Singular values, falling.
    vh : ndarray, shape (k, n)
        Right vectors as rows, orthonormal in the column metric.

    Raises
    ------
    KernelError
        If a metric has the wrong shape, is not symmetric, or has a negative eigenvalue; if there is NaN or inf.

    Examples
    --------
    >>> u, s, vh = metric_svd(np.eye(2), row_metric=np.array([4.0, 1.0]))
    >>> s
    array([2., 1.])
    """
    matrix = np.asarray(a, np.float64)
    if matrix.ndim != 2:
        raise KernelError(f"a must be a matrix, got shape {matrix.shape}")
    check_finite("a", matrix)
    left, left_inverse = _factor("row_metric", row_metric, matrix.shape[0])
    right, right_inverse = _factor("column_metric", column_metric, matrix.shape[1])
    p, s, qh = np.linalg.svd(left.T @ matrix @ right, full_matrices=False)
    return left_inverse.T @ p, s, qh @ right_inverse


def _factor(name: str, metric: Array | None, n: int) -> tuple[Array, Array]:
    """Return L (n, k) with metric = L L.T on k dimensions of full rank, and its left inverse (k, n)."""
    if metric is None:
        return np.eye(n), np.eye(n)
    given = np.asarray(metric, np.float64)
    full = np.diag(given) if given.ndim == 1 else given
    if full.shape != (n, n):
        raise KernelError(f"{name} must have shape ({n}, {n}) or ({n},) to fit the matrix, got {given.shape}")
    check_finite(name, full)
    if np.abs(full - full.T).max() > 1e-8 * np.abs(full).max():
        raise KernelError(f"{name} must be symmetric; take (m + m.T) / 2 if it nearly is")
    values, vectors = np.linalg.eigh((full + full.T) / 2)
    noise = n * np.finfo(np.float64).eps * float(np.abs(values).max())
    if values[0] < -10 * noise:
        raise KernelError(f"{name} must be positive semidefinite, got the eigenvalue {values[0]:.3g}")
    kept = values > noise
    root = np.sqrt(values[kept])
    return vectors[:, kept] * root, (vectors[:, kept] / root).T
