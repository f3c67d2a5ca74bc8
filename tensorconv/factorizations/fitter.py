"""Fitter: what finds the factors of a scheme, and the ranks that meet a request."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np

from tensorconv import ranks, searches
from tensorconv.arrays import unit_roundoff
from tensorconv.factorizations.scheme import Array, Factors, Rank, Scheme
from tensorconv.linalg import unit_scale

S = TypeVar("S", bound=Scheme)
MODERATE = (1e-6, 1e6)  # magnitudes of narrow kernels that need no scaling


class Fitter(ABC, Generic[S]):
    """Finds the factors of a scheme for given ranks, and ranks for given requests; keeps what can be used again.

    Parameters
    ----------
    scheme : Scheme
        What is to be fitted.
    """

    def __init__(self, scheme: S) -> None:
        self.scheme = scheme
        self.shape = scheme.block_shape
        self._kernel = scheme.layer.kernel.reshape(self.shape)
        scale = unit_scale(scheme.layer.kernel)
        self.scale = scale if self.is_wide or not MODERATE[0] < scale < MODERATE[1] else 1.0

    @property
    def is_wide(self) -> bool:
        """Whether the kernel is float64, which shows what narrower types hide: the smallest singular values."""
        return bool(self._kernel.dtype == np.float64)

    @property
    def blocks(self) -> Array:
        """A new array of the kernel (G, O/G, I, K1..KN) in float64, over the scale: far inside the range of squares."""
        return np.divide(self._kernel, self.scale, dtype=np.float64)

    @property
    def working(self) -> Array:
        """The blocks in the type of large products: float32 where the kernel is no wider, as its true error judges."""
        if self.is_wide:
            return self.blocks
        blocks = self._kernel.astype(np.float32, copy=False)
        return blocks if self.scale == 1 else blocks / np.float32(self.scale)

    def hasten(self) -> None:
        """Let fits that iterate stop early; nothing to do where there are none."""

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

    def unfolding_shapes(self) -> list[tuple[int, int]]:
        """Return the sizes of the matrices whose singular values the spectra are, one group's unfoldings by default.

        Returns
        -------
        list of (int, int)
            Per rank, the two sides, in either order.
        """
        size = math.prod(self.shape[1:])
        return [(side, size // side) for side in self.scheme.maximum]

    def by_rule(self, rule: ranks.Rule) -> Rank:
        """Return the ranks that a rule finds; by default it is asked for one per spectrum.

        Parameters
        ----------
        rule : callable
            From spectra and the largest useful ranks to ranks.

        Returns
        -------
        tuple of int
            The ranks, as the rule gave them.
        """
        return rule(Spectra(self), self.scheme.maximum)

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
        predicted = relative_tails(self.spectra()[0])
        noise = max(8 * unit_roundoff(self._kernel.dtype), 1e-6)  # of storing, and of squared singular values
        return (searches.first_meeting(lambda r: attempt((r,)), error, predicted, maximum[0], noise=noise),)

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
        rank = searches.largest_affordable(lambda r: cost((r,)) <= limit, maximum[0])
        return (rank,) if rank else None


def relative_tails(spectrum: Array) -> Array:
    """Return the relative error of every truncation of singular values.

    Parameters
    ----------
    spectrum : ndarray, shape (slices, n)
        Falling singular values.

    Returns
    -------
    ndarray, shape (n + 1,)
        Entry r is the error at rank r; zeros for a zero spectrum.
    """
    tail = ranks.tail_energy(spectrum)
    errors: Array = np.sqrt(tail / (tail[0] or 1.0))
    return errors


class Spectra(Sequence[Array]):
    """The spectra of a fitter, computed when a rule first looks at them: not all rules do.

    Parameters
    ----------
    fitter : Fitter
        Whose spectra they are.
    """

    def __init__(self, fitter: Fitter[Any]) -> None:
        self._fitter = fitter

    @cached_property
    def _values(self) -> list[Array]:
        return self._fitter.spectra()

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Per rank, the two sides of the matrices with these singular values."""
        return self._fitter.unfolding_shapes()

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        return self._values[index]

    def __iter__(self) -> Iterator[Array]:
        return iter(self._values)
