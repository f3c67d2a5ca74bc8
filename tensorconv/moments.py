"""Moments: what a fit to responses needs to know of a layer's data, in square-root form so that nothing cancels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg

from tensorconv.arrays import Array

RANGE = 1e-10  # directions of the data below this share of the largest spread say nothing about a kernel
CONDITIONED = 1e-6  # shrinkage from which on a covariance may be factorized itself


@dataclass(frozen=True, eq=False)
class Moments:
    """Means and covariances of input patches and targets, group by group.

    A patch is the vector of the n = I K input entries that one output position of one group sees, in the kernel's
    order (I, K1..KN); a target is what the O outputs of the group should be there. A layer ``y = M x + b`` with the
    best b has the mean squared error ``||seen - root M.T||^2 + missed``, a sum of squares.

    Parameters
    ----------
    n_samples : int
        Number of output positions, over all images.
    mean : ndarray, shape (G, n)
        Mean patch.
    root : ndarray, shape (G, m, n)
        ``root.T @ root`` is the covariance of the patches.
    target_mean : ndarray, shape (G, O)
        Mean target.
    seen : ndarray, shape (G, m, O)
        ``root.T @ seen`` is the covariance of patches with targets.
    missed : ndarray, shape (G,)
        Mean squared distance of the centred targets from the best linear map of the patches.
    kernel : ndarray, shape (G, O, n)
        The layer's own kernel W.
    shrinkage : float
        Share of a multiple of the identity in the covariance that fits go by, from 0 to 1.
    """

    n_samples: int
    mean: Array
    root: Array
    target_mean: Array
    seen: Array
    missed: Array
    kernel: Array
    shrinkage: float

    @property
    def energy(self) -> float:
        """Mean squared norm of the targets, all groups together, their means included."""
        squares = np.sum(self.seen**2) + np.sum(self.missed) + np.sum(self.target_mean**2)
        return float(squares)

    @property
    def problem(self) -> tuple[Array, Array]:
        """What fits minimise: roots (G, n, n) of the shrunk covariance, and target kernels (G, O, n).

        With the covariance ``(1 - s) C + s trace(C) / n I``, and as if the part that is the identity had been seen
        through the kernel W, ``||(T - M) root.T||^2`` is, but for a constant,
        ``(1 - s) E ||z - M x - b||^2 + s trace(C) / n ||M - W||^2``: the error of the responses with some of the
        kernel's own, which rules where the data say nothing. T is W itself where the targets are W's own responses.
        """
        return self.roots, self.targets

    @cached_property
    def metrics(self) -> Array:
        """The shrunk covariances, (G, n, n)."""
        n = self.root.shape[2]
        products = np.empty((len(self.root), n, n))
        for root, product in zip(self.root, products, strict=True):
            np.matmul(root.T, root, out=product)
            spread = np.trace(product) / n
            product *= 1 - self.shrinkage
            product[np.diag_indices(n)] += self.shrinkage * spread
        return products

    @cached_property
    def roots(self) -> Array:
        """Roots R of the shrunk covariances ``R.T @ R``, (G, n, n)."""
        if self.is_conditioned:
            return np.stack([scipy.linalg.cholesky(metric, check_finite=False) for metric in self.metrics])
        return self._by_rows[0]

    @cached_property
    def targets(self) -> Array:
        """The target kernels T, (G, O, n)."""
        unexplained = [s - r @ k.T for s, r, k in zip(self.seen, self.root, self.kernel, strict=True)]
        if not any(part.any() for part in unexplained):
            return self.kernel
        if not self.is_conditioned:
            return self._by_rows[1]
        targets = self.kernel.copy()
        for g, (root, part) in enumerate(zip(self.root, unexplained, strict=True)):
            right = (1 - self.shrinkage) * (root.T @ part)
            targets[g] += scipy.linalg.solve(self.metrics[g], right, assume_a="pos", check_finite=False).T
        return targets

    @cached_property
    def is_conditioned(self) -> bool:
        """Whether the share of the identity lets the covariance be squared and factorized without loss.

        Its condition is below ``n / share`` then. A backward stable solution has, in the metric itself, a relative
        error of u times the root of that, as one by a QR decomposition of the roots has.
        """
        return self.shrinkage >= CONDITIONED and all(root.any() for root in self.root)

    @cached_property
    def _by_rows(self) -> tuple[Array, Array]:
        """Roots and targets by a QR decomposition of all rows, for any condition."""
        share, n = self.shrinkage, self.root.shape[2]
        roots, targets = np.zeros((len(self.root), n, n)), self.kernel.copy()
        for g, (root, seen, kernel) in enumerate(zip(self.root, self.seen, self.kernel, strict=True)):
            unexplained = seen - root @ kernel.T
            columns = [root, unexplained] if unexplained.any() else [root]
            rows = math.sqrt(1 - share) * np.concatenate(columns, axis=1)
            if share:
                rows = np.concatenate([rows, math.sqrt(share / n) * np.linalg.norm(root) * np.eye(n, rows.shape[1])])
            triangle: Array = np.asarray(np.linalg.qr(rows, mode="r"))[:n]
            roots[g, : len(triangle)] = triangle[:, :n]
            if len(columns) > 1:
                targets[g] += _least_squares(triangle[:, :n], triangle[:, n:]).T
        return roots, targets

    def best_bias(self, kernel: Array) -> Array:
        """Return the bias with which a kernel's mean response is the mean target.

        Parameters
        ----------
        kernel : ndarray, shape (G, O, n)
            Any kernel.

        Returns
        -------
        ndarray, shape (G, O)
            ``target_mean - kernel @ mean``.
        """
        bias: Array = self.target_mean - np.einsum("gon,gn->go", kernel, self.mean)
        return bias

    def response_error(self, kernel: Array, bias: Array) -> float:
        """Return the relative error of the responses of a kernel and bias, on the data themselves.

        Parameters
        ----------
        kernel : ndarray, shape (G, O, n)
            Any kernel, float64.
        bias : ndarray, shape (G, O)
            Any bias.

        Returns
        -------
        float
            ``sqrt(E ||z - M x - b||^2 / E ||z||^2)``; 0.0 if both are zero, inf if only the targets are.
        """
        lost = np.sum((self.seen - self.root @ np.swapaxes(kernel, 1, 2)) ** 2) + np.sum(self.missed)
        lost += np.sum((self.best_bias(kernel) - bias) ** 2)
        energy = self.energy
        return math.sqrt(float(lost) / energy) if energy else (math.inf if lost else 0.0)


def approximating_shrinkage(root: Array, n_independent: float) -> float:
    """Return the oracle approximating shrinkage of a covariance (Chen, Wiesel, Eldar, Hero, 2010, eq. 23).

    It minimises the expected squared distance from the true covariance, for Gaussian samples.

    Parameters
    ----------
    root : ndarray, shape (G, m, n)
        Square roots of covariances; the largest shrinkage of them is returned.
    n_independent : float
        Number of independent samples.

    Returns
    -------
    float
        From 0 to 1.
    """
    n = root.shape[2]
    found = 0.0
    for part in root:
        scale = float(np.abs(part).max(initial=0.0)) or 1.0
        part = part / scale
        gram = part @ part.T if len(part) < n else part.T @ part
        found = max(found, _shrinkage(float(np.trace(gram)), float(np.vdot(gram, gram)), n, n_independent))
    return found


def covariance_shrinkage(covariance: Array, n_independent: float) -> float:
    """Return what :func:`approximating_shrinkage` does, of the covariances themselves.

    Parameters
    ----------
    covariance : ndarray, shape (G, n, n)
        Covariances; the largest shrinkage of them is returned.
    n_independent : float
        Number of independent samples.

    Returns
    -------
    float
        From 0 to 1.
    """
    found = 0.0
    for part in covariance:
        n, scale = len(part), float(np.diag(part).max()) or 1.0
        squares = sum(float(np.vdot(row, row)) for row in (line / scale for line in part))
        found = max(found, _shrinkage(float(np.trace(part)) / scale, squares, n, n_independent))
    return found


def _shrinkage(trace: float, squares: float, n: int, n_independent: float) -> float:
    """Return the shrinkage of a covariance of this trace and squared norm."""
    spread = (n_independent + 1 - 2 / n) * (squares - trace**2 / n)
    wanted = (1 - 2 / n) * squares + trace**2
    return min(1.0, wanted / spread) if spread > 0 else float(wanted > 0 and n > 1)


def _least_squares(triangle: Array, right: Array) -> Array:
    """Return the least-squares solution of smallest norm, by substitution where the triangle is well conditioned."""
    diagonal = np.abs(np.diag(triangle))
    if len(triangle) == triangle.shape[1] and diagonal.min() > 1e-8 * diagonal.max():
        solution: Array = scipy.linalg.solve_triangular(triangle, right, check_finite=False)
        return solution
    return np.asarray(np.linalg.lstsq(triangle, right, rcond=RANGE)[0])
