"""What a factorization method is made of: a Scheme says what its factors mean, a Fitter finds them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tensorconv import ranks
from tensorconv.arrays import unit_roundoff
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer
from tensorconv.linalg import unit_scale

Array = NDArray[Any]
Rank = tuple[int, ...]
Factors = dict[str, Array]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Scheme(ABC):
    """How one method writes one layer's kernel as a chain of convolutions; holds no results.

    A kernel is seen as blocks (G, O/G, I, K1..KN), and every factor has the groups as its first axis. The kernel is
    linear in each factor, and each factor enters once.

    Parameters
    ----------
    layer : ConvLayer
        The layer to factorize.
    """

    layer: ConvLayer
    name: ClassVar[str]

    @property
    @abstractmethod
    def maximum(self) -> Rank:
        """Ranks above which nothing is gained."""

    @property
    @abstractmethod
    def maximum_rules(self) -> tuple[str, ...]:
        """Where each maximum comes from, in letters for an error message: "min(I*K, O)"."""

    @abstractmethod
    def chain(self, rank: Rank) -> list[tuple[Shape, ConvGeometry]]:
        """Return kernel shape and geometry of every layer at a rank.

        Parameters
        ----------
        rank : tuple of int
            The ranks.

        Returns
        -------
        list of (tuple of int, ConvGeometry)
            The layers in order.
        """

    @abstractmethod
    def kernels(self, factors: Factors) -> list[Array]:
        """Return the kernel entries of every layer of the chain.

        Parameters
        ----------
        factors : dict of str to ndarray
            The factors.

        Returns
        -------
        list of ndarray
            Arrays that reshape to the shapes of the chain.
        """

    @abstractmethod
    def reconstruct(self, factors: Factors, rows: slice) -> Array:
        """Return a part of the kernel that the factors mean, computed in float64.

        Parameters
        ----------
        factors : dict of str to ndarray
            The factors.
        rows : slice
            A range of the out-channels of each group.

        Returns
        -------
        ndarray, shape (G, rows, I, K1..KN)
            The blocks.
        """

    @abstractmethod
    def fitter(self) -> Fitter:
        """Return what finds factors for this layer.

        Returns
        -------
        Fitter
            A fitter that has done no work yet.
        """

    @property
    def block_shape(self) -> Shape:
        """(G, O/G, I, K1..KN)."""
        groups = self.layer.geometry.groups
        return (groups, self.layer.out_channels // groups, *self.layer.kernel.shape[1:])

    def pointwise(self, groups: int) -> ConvGeometry:
        """Return the geometry of a layer that only mixes channels.

        Parameters
        ----------
        groups : int
            Number of groups.

        Returns
        -------
        ConvGeometry
            Stride 1, no padding.
        """
        return ConvGeometry.of(self.layer.geometry.ndim, groups=groups)

    @property
    def out_letter(self) -> str:
        """How messages write the out-channels of one group."""
        return "O" if self.layer.geometry.groups == 1 else "O/G"

    @property
    def ones(self) -> Shape:
        """The kernel size of a pointwise layer."""
        return (1,) * self.layer.geometry.ndim


class Fitter(ABC):
    """Finds the factors of a scheme for given ranks, and ranks for given requests; keeps what can be used again.

    Parameters
    ----------
    scheme : Scheme
        What is to be fitted.
    """

    def __init__(self, scheme: Scheme) -> None:
        self.scale = unit_scale(scheme.layer.kernel)
        self.shape = scheme.block_shape
        self._kernel = scheme.layer.kernel.reshape(self.shape)

    @property
    def blocks(self) -> Array:
        """A new array of the kernel (G, O/G, I, K1..KN) in float64, its largest magnitude in [1, 2)."""
        return np.divide(self._kernel, self.scale, dtype=np.float64)

    @abstractmethod
    def factors(self, rank: Rank) -> Factors:
        """Return factors of the blocks.

        Parameters
        ----------
        rank : tuple of int
            The ranks.

        Returns
        -------
        dict of str to ndarray
            New float64 arrays.
        """

    def carriers(self, factors: Factors) -> list[str]:
        """Return the factors that share the kernel's scale, all of them by default.

        Parameters
        ----------
        factors : dict of str to ndarray
            The factors.

        Returns
        -------
        list of str
            Their names.
        """
        return list(factors)

    @abstractmethod
    def spectra(self) -> list[Array]:
        """Return the singular values that rank rules look at.

        Returns
        -------
        list of ndarray
            Per rank, falling singular values of shape (slices, n).
        """

    def meet_error(
        self, attempt: Callable[[Rank], float], error: float, maximum: Rank, cost: Callable[[Rank], Fraction]
    ) -> Rank:
        """Return ranks whose true error is at most ``error``; by default for methods of one rank.

        Parameters
        ----------
        attempt : callable
            The true relative error at given ranks.
        error : float
            The error asked for.
        maximum : tuple of int
            The largest ranks to try, maybe below the scheme's.
        cost : callable
            What given ranks cost, for methods that choose among several.

        Returns
        -------
        tuple of int
            The ranks.

        Raises
        ------
        RankError
            If no rank meets the error.
        """
        del cost
        tail = ranks.tail_energy(self.spectra()[0])
        predicted = np.sqrt(tail / (tail[0] or 1.0))
        noise = max(8 * unit_roundoff(self._kernel.dtype), 1e-6)  # of storing, and of squared singular values
        return (ranks.first_meeting(lambda r: attempt((r,)), error, predicted, maximum[0], noise=noise),)

    def meet_budget(self, cost: Callable[[Rank], Fraction], limit: Fraction, maximum: Rank) -> Rank | None:
        """Return the most exact affordable ranks; by default for methods of one rank.

        Parameters
        ----------
        cost : callable
            What given ranks cost.
        limit : Fraction
            What they may cost.
        maximum : tuple of int
            The largest useful ranks.

        Returns
        -------
        tuple of int or None
            The ranks; None if none is affordable.
        """
        rank = ranks.largest_affordable(lambda r: cost((r,)) <= limit, maximum[0])
        return (rank,) if rank else None


def wide(factor: Array) -> Array:
    """Return a factor in float64.

    Parameters
    ----------
    factor : ndarray
        The factor as stored.

    Returns
    -------
    ndarray
        The same values.
    """
    return factor.astype(np.float64, copy=False)


def product(*letters: str) -> str:
    """Return letters of an error message as a product.

    Parameters
    ----------
    *letters : str
        Sizes such as "I", "K1"; empty ones are left out.

    Returns
    -------
    str
        "I*K1".
    """
    return "*".join(letter for letter in letters if letter)


def n_taps(scheme: Scheme) -> int:
    """Return the number of taps of the kernel, all axes together.

    Parameters
    ----------
    scheme : Scheme
        A scheme bound to a layer.

    Returns
    -------
    int
        The product of the kernel size.
    """
    return math.prod(scheme.layer.kernel_size)
