"""A tensor as the two large matrix products of a CP sweep need it, and its true residual."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.linalg.svd import leading_eigenvectors

Array = NDArray[Any]
CHUNK = 2**20  # tensor entries reconstructed at a time


class Problem:
    """A tensor of modes (a, b, rest..), a and b the largest, held once, as (a, K, b): both products see it as a matrix.

    Parameters
    ----------
    tensor : ndarray
        A float32 tensor, which makes the large products float32, or a float64 one.
    scale : float
        What to divide it by.
    ridge : float
        Share of their mean that is added to the diagonal of the normal equations.
    """

    def __init__(self, tensor: Array, scale: float, ridge: float) -> None:
        n_a, n_b, *small = self.sizes = tensor.shape
        self.small, self.n_small, self.ridge, self.dtype = tuple(small), math.prod(small), ridge, tensor.dtype
        data = np.empty((n_a, *small, n_b), tensor.dtype)
        np.divide(np.moveaxis(tensor, 1, -1), scale, out=data)
        self.wide, self.tall = data.reshape(n_a, -1), data.reshape(-1, n_b)
        step = max(1, CHUNK // self.wide.shape[1])
        parts = (self.wide[start : start + step].astype(np.float64) for start in range(0, n_a, step))
        self.squared_norm = sum(float(np.vdot(part, part)) for part in parts)
        axes = range(len(small))
        self.along = [[small[i] if axis == i else 1 for axis in axes] for i in axes]  # small factors on their grid
        self.others = [tuple(axis for axis in axes if axis != i) for i in axes]
        edges = np.cumsum([0, *self.sizes])
        self.rows = [slice(low, high) for low, high in itertools.pairwise(edges)]

    def onto_b(self, a: Array) -> Array:
        """Contract mode a.

        Parameters
        ----------
        a : ndarray, shape (a, R)
            The first factor.

        Returns
        -------
        ndarray, shape (K, b, R)
            The products, in the tensor's type.
        """
        products: Array = (self.wide.T @ a.astype(self.dtype)).reshape(self.n_small, self.sizes[1], -1)
        return products

    def onto_a(self, b: Array) -> Array:
        """Contract mode b.

        Parameters
        ----------
        b : ndarray, shape (b, R)
            The second factor.

        Returns
        -------
        ndarray, shape (a, K, R)
            The products, in the tensor's type.
        """
        products: Array = (self.tall @ b.astype(self.dtype)).reshape(self.sizes[0], self.n_small, -1)
        return products

    def parts(self, stacked: Array) -> list[Array]:
        """Return the factors that are stacked row by row.

        Parameters
        ----------
        stacked : ndarray, shape (sum of sizes, R)
            All rows.

        Returns
        -------
        list of ndarray
            Views, one per mode.
        """
        return [stacked[rows] for rows in self.rows]

    def relative(self, squared: float) -> float:
        """Return the relative error of a squared one.

        Parameters
        ----------
        squared : float
            Squared norm of a residual, maybe below 0 by rounding.

        Returns
        -------
        float
            Its root over the tensor's norm; 0 for a zero tensor.
        """
        return math.sqrt(max(squared, 0.0) / self.squared_norm) if self.squared_norm else 0.0

    def true_error(self, factors: Sequence[Array]) -> float:
        """Return the relative residual from the tensor itself; the formula from inner products cancels near zero.

        Parameters
        ----------
        factors : sequence of ndarray
            One per mode.

        Returns
        -------
        float
            The residual.
        """
        a, b, *rest = factors
        right = (khatri_rao(rest, a.shape[1])[:, None, :] * b).reshape(-1, a.shape[1]).T
        step, squared = max(1, CHUNK // self.wide.shape[1]), 0.0
        for start in range(0, len(a), step):
            residual = a[start : start + step] @ right
            residual -= self.wide[start : start + step]
            squared += float(np.vdot(residual, residual))
        return self.relative(squared)

    def compressed(self, rank: int) -> tuple[Problem, list[Array], float]:
        """Project the two large modes onto at most ``rank`` leading singular vectors each.

        Parameters
        ----------
        rank : int
            Size of the projected modes.

        Returns
        -------
        core : Problem
            The smaller tensor.
        bases : list of ndarray
            Orthonormal columns that lift factors of the core.
        lost : float
            Squared error of the projection, which adds to that of a CP of the core.
        """
        n_a, n_b = self.sizes[:2]
        onto_a = leading_eigenvectors((self.wide @ self.wide.T).astype(np.float64), min(rank, n_a))
        tall = (onto_a.T.astype(self.dtype) @ self.wide).reshape(-1, n_b)
        onto_b = leading_eigenvectors((tall.T @ tall).astype(np.float64), min(rank, n_b))
        core = (tall @ onto_b.astype(self.dtype)).reshape(onto_a.shape[1], *self.small, -1)
        problem = Problem(np.moveaxis(core, -1, 1), 1.0, self.ridge)
        return problem, [onto_a, onto_b], max(self.squared_norm - problem.squared_norm, 0.0)


def khatri_rao(factors: Sequence[Array], rank: int) -> Array:
    """Return the columnwise Kronecker product.

    Parameters
    ----------
    factors : sequence of ndarray
        Matrices (size, R).
    rank : int
        R, for an empty sequence.

    Returns
    -------
    ndarray, shape (product of sizes, R)
        The product; a row of ones for no factor.
    """
    product = np.ones((1, rank))
    for factor in factors:
        product = (product[:, None, :] * factor).reshape(-1, rank)
    return product
