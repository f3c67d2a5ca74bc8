"""The generalized singular value decomposition of two matrices with the same columns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from tensorconv.errors import KernelError
from tensorconv.linalg.scaling import unit_scale

Array = NDArray[Any]


class GSVD(NamedTuple):
    """The factors of a paired GSVD: ``A = U @ C @ X.T`` and ``B = V @ S @ X.T``.

    Parameters
    ----------
    U : ndarray, shape (m, m)
        Orthogonal.
    V : ndarray, shape (p, p)
        Orthogonal.
    C : ndarray, shape (m, r)
        At most one entry that is not zero per column and row; ``C.T @ C + S.T @ S`` is the identity.
    S : ndarray, shape (p, r)
        The same for B.
    X : ndarray, shape (n, r)
        Full column rank, r the rank of the stacked matrices.
    """

    U: Array
    V: Array
    C: Array
    S: Array
    X: Array


def gsvd(a: Array, b: Array) -> GSVD:
    """Return the generalized singular value decomposition of a pair of matrices.

    The stacked matrices are decomposed by an SVD, whose left vectors are split by a CS decomposition (Van Loan, 1976;
    Paige and Saunders, 1981). Both are brought to one scale first, and the columns are scaled back in the end.

    Parameters
    ----------
    a : ndarray, shape (m, n)
        The first matrix.
    b : ndarray, shape (p, n)
        The second matrix.

    Returns
    -------
    GSVD
        U, V, C, S and X; the generalized singular values are the quotients of the entries of C and S.

    Raises
    ------
    KernelError
        If the matrices have different numbers of columns, both are zero, or one holds NaN or inf.

    Examples
    --------
    >>> a, b = np.array([[3.0, 0.0]]), np.array([[0.0, 2.0]])
    >>> g = gsvd(a, b)
    >>> bool(np.allclose(g.U @ g.C @ g.X.T, a) and np.allclose(g.V @ g.S @ g.X.T, b))
    True
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise KernelError(
            f"a and b must be matrices with the same number of columns, got {first.shape}, {second.shape}"
        )
    if not first.any() and not second.any():
        raise KernelError("a and b must not both be zero; their GSVD has rank 0")
    alpha, beta = unit_scale(first, "a"), unit_scale(second, "b")
    m, p = len(first), len(second)
    stacked = np.concatenate([first / alpha, second / beta])
    q, s, zt = np.linalg.svd(stacked)
    r = int(np.sum(s > s[0] * max(stacked.shape) * np.finfo(np.float64).eps))
    u, cs, vh = _cosine_sine(q, m, p, r)
    top = max(alpha, beta)
    c, sine = alpha / top * cs[:m, :r], beta / top * cs[m:, :r]
    length = np.hypot(np.abs(c).max(axis=0), np.abs(sine).max(axis=0))  # a column has at most one entry in each
    x = (zt[:r].T * s[:r]) @ vh[:r, :r].T * (top * length)
    return GSVD(u[:m, :m], u[m:, m:], c / length, sine / length, x)


def _cosine_sine(q: Array, m: int, p: int, r: int) -> tuple[Array, Array, Array]:
    """Return u, cs, vh with q = u cs vh, u and vh block diagonal; where r = m + p the blocks are trivial."""
    if r < m + p:
        u, cs, vh = scipy.linalg.cossin(q, p=m, q=r)
        return u, cs, vh
    return np.eye(m + p), np.eye(m + p), q
