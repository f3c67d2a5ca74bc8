"""Whitening: axes of a kernel times the roots of what the metric of the patches is along them alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tensorconv.factorizations.scheme import Array

Term = tuple[str, Array]
Terms = list[Term]
FLOOR = 1e-8  # of a metric, as a share of its largest eigenvalue: it only changes coordinates


@dataclass(frozen=True, eq=False)
class Whitening:
    """Roots of the metrics of some modes, with which a Kronecker product of these metrics becomes the identity.

    Parameters
    ----------
    roots : dict of str to (ndarray, ndarray)
        Per mode, the letters of one or several axes together: the symmetric root, and its inverse.
    """

    roots: Mapping[str, tuple[Array, Array]]

    @classmethod
    def of(cls, metric: Array, sizes: Mapping[str, int], modes: Sequence[str], *, diagonal: bool = False) -> Whitening:
        """Return the whitening of a metric.

        Parameters
        ----------
        metric : ndarray, shape (n, n)
            Symmetric positive semidefinite matrix over all axes together.
        sizes : dict of str to int
            Letters of the axes and their sizes, in order.
        modes : sequence of str
            Letters of axes that are whitened together.
        diagonal : bool
            Whether roots are diagonal, so that nothing is mixed.

        Returns
        -------
        Whitening
            Of these modes. The first has the size of the metric, the others are of mean one.
        """
        grid, n = metric.reshape(*sizes.values(), *sizes.values()), len(sizes)
        found: dict[str, tuple[Array, Array]] = {}
        for mode in modes:
            labels = [*range(n), *(n + a if c in mode else a for a, c in enumerate(sizes))]
            kept = [a for a, c in enumerate(sizes) if c in mode]
            size = math.prod(sizes[c] for c in mode)
            alone = np.einsum(grid, labels, kept + [n + a for a in kept]).reshape(size, size) * (size / len(metric))
            if diagonal:
                alone = np.diag(np.diag(alone))
            values, vectors = np.linalg.eigh(alone)
            top = float(values[-1])
            roots = np.sqrt(np.maximum(values, FLOOR * top)) if top > 0 else np.ones(size)
            if found:
                roots /= math.sqrt(float(np.mean(roots**2)))
            found[mode] = (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T
        return cls(found)

    def applied(self, kernel: Term) -> Term:
        """Return a kernel with whitened modes.

        Parameters
        ----------
        kernel : (str, ndarray)
            Letters of the axes, and the kernel.

        Returns
        -------
        (str, ndarray)
            The same letters, and the product with the roots.
        """
        for mode, (root, _) in self.roots.items():
            kernel = _times(kernel, mode, root)
        return kernel

    def restored(self, terms: Terms) -> Terms:
        """Return the factors of a kernel from those of the kernel with whitened modes.

        Parameters
        ----------
        terms : list of (str, ndarray)
            Letters and factors.

        Returns
        -------
        list of (str, ndarray)
            The first factor that has a mode is multiplied by the inverse of the root.
        """
        for mode, (_, inverse) in self.roots.items():
            first = next(j for j, (letters, _) in enumerate(terms) if mode[0] in letters)
            terms = [*terms[:first], _times(terms[first], mode, inverse), *terms[first + 1 :]]
        return terms


def _times(term: Term, mode: str, matrix: Array) -> Term:
    """Multiply some axes, together, by a symmetric matrix."""
    letters, array = term
    axes = [letters.index(c) for c in mode]
    last = list(range(array.ndim - len(axes), array.ndim))
    moved = np.moveaxis(array, axes, last)
    return letters, np.moveaxis((moved.reshape(-1, len(matrix)) @ matrix).reshape(moved.shape), last, axes)
