"""Banded block Toeplitz matrices: what a convolution along an axis is as a matrix, and the nearest one to a matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import KernelError

Array = NDArray[Any]


@dataclass(frozen=True)
class ToeplitzBand:
    """Which entry of a matrix (J P, C) is which tap of J kernels of D taps: in row (j, p), ``t = c - stride p + low``.

    Entries without a tap, outside the band, are zero.

    Parameters
    ----------
    n_kernels : int
        J.
    n_maps : int
        Positions P, the rows of one kernel.
    n_columns : int
        C.
    length : int
        Taps D.
    stride : int
        Columns from one row of a kernel to the next.
    low : int
        Taps before the first column in the first row.

    Raises
    ------
    KernelError
        If a number but ``low`` is below 1.

    Examples
    --------
    >>> band = ToeplitzBand(n_kernels=1, n_maps=3, n_columns=3, length=3, low=1)
    >>> band.matrix(np.array([[1.0, 2.0, 3.0]]))
    array([[2., 3., 0.],
           [1., 2., 3.],
           [0., 1., 2.]])
    """

    n_kernels: int
    n_maps: int
    n_columns: int
    length: int
    stride: int = 1
    low: int = 0

    def __post_init__(self) -> None:
        sizes = (self.n_kernels, self.n_maps, self.n_columns, self.length, self.stride)
        if min(sizes) < 1:
            raise KernelError(f"kernels, maps, columns, length and stride must be at least 1, got {sizes}")

    @cached_property
    def taps(self) -> Array:
        """The tap (P, C) of every entry, -1 outside the band."""
        rows, columns = np.arange(self.n_maps)[:, None], np.arange(self.n_columns)
        taps = columns - self.stride * rows + self.low
        return np.where((taps >= 0) & (taps < self.length), taps, -1)

    @cached_property
    def counts(self) -> Array:
        """How many entries of the rows of one kernel are each tap (D,)."""
        return np.bincount(self.taps[self.taps >= 0], minlength=self.length)

    def matrix(self, kernels: Array) -> Array:
        """Return the matrix of kernels.

        Parameters
        ----------
        kernels : ndarray, shape (J, D, ...)
            The kernels, of numbers or of arrays.

        Returns
        -------
        ndarray, shape (J P, C, ...)
            Every tap along its diagonal.
        """
        inside = (self.taps >= 0).reshape(*self.taps.shape, *(1,) * (kernels.ndim - 2))
        spread = np.where(inside, kernels[:, np.maximum(self.taps, 0)], 0)
        return spread.reshape(-1, self.n_columns, *kernels.shape[2:])

    def projection(self, matrix: Array) -> Array:
        """Return the kernels whose matrix is nearest in the Frobenius norm: the averages along the diagonals.

        Parameters
        ----------
        matrix : ndarray, shape (J P, C, ...)
            Any matrix, of numbers or of arrays.

        Returns
        -------
        ndarray, shape (J, D, ...)
            The kernels, exactly those of a matrix that has the structure; zero for taps that meet no column.

        Raises
        ------
        KernelError
            If the matrix is of another shape.
        """
        shape = (self.n_kernels * self.n_maps, self.n_columns)
        if matrix.shape[:2] != shape:
            raise KernelError(f"matrix must have shape {shape} for this band, got {matrix.shape}")
        inside = self.taps >= 0
        blocks = matrix.reshape(self.n_kernels, self.n_maps, self.n_columns, -1)
        entries = blocks[:, inside].astype(np.float64)
        order = np.argsort(self.taps[inside], kind="stable")
        met = self.counts > 0
        starts = (np.cumsum(self.counts) - self.counts)[met]
        first = entries[:, order[starts]]
        spread = np.repeat(first, self.counts[met], axis=1)
        means = first + np.add.reduceat(entries[:, order] - spread, starts, axis=1) / self.counts[met][:, None]
        kernels = np.zeros((self.n_kernels, self.length, entries.shape[2]))
        kernels[:, met] = means
        return kernels.reshape(self.n_kernels, self.length, *matrix.shape[2:])

    def relative_error(self, matrix: Array, kernels: Array) -> float:
        """Return the relative Frobenius distance of a matrix and that of kernels.

        Parameters
        ----------
        matrix : ndarray, shape (J P, C, ...)
            The matrix.
        kernels : ndarray, shape (J, D, ...)
            The kernels.

        Returns
        -------
        float
            0.0 if both are zero.
        """
        exact = matrix.astype(np.float64).ravel()
        lost, norm = np.linalg.norm(exact - self.matrix(kernels).ravel()), np.linalg.norm(exact)
        return float(lost / norm) if norm else (math.inf if lost else 0.0)
