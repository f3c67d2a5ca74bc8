"""How the factors of decoupled convolutions are found: an SVD or a dictionary per group."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tensorconv import searches
from tensorconv.factorizations.fitter import Fitter, relative_tails
from tensorconv.factorizations.scheme import Array, Factors, Rank
from tensorconv.linalg import (
    Dictionary,
    balance,
    balanced_svd,
    binary_dictionary,
    singular_values,
    sparse_dictionary,
)

if TYPE_CHECKING:
    from tensorconv.factorizations.decoupled import Decoupled

MARGIN = 1e-3  # share of a target that is left for the rounding of stored factors


class DecoupledFitter(Fitter["Decoupled"]):
    """Works on the rows (G, O/G, K, I) of all taps; a search's fits start from one another where that is better.

    Parameters
    ----------
    scheme : Decoupled
        What is to be fitted.
    """

    def __init__(self, scheme: Decoupled) -> None:
        super().__init__(scheme)
        self.target, self.searching = 0.0, False  # the error that a search is after: fits stop there
        self.latest: dict[int, Dictionary] = {}  # group -> the fit before

    @cached_property
    def rows(self) -> Array:
        """The rows (G, O/G, K, I)."""
        flat = self.blocks.reshape(*self.shape[:3], -1)
        return np.ascontiguousarray(flat.swapaxes(2, 3))

    @property
    def unfolding(self) -> Array:
        """The matrices (G, O/G K, I)."""
        return self.rows.reshape(self.shape[0], -1, self.shape[2])

    @cached_property
    def values(self) -> Array:
        """Singular values (G, n)."""
        return singular_values(self.unfolding)

    def spectra(self) -> list[Array]:
        """One rank, one spectrum."""
        return [self.values]

    def unfolding_shapes(self) -> list[tuple[int, int]]:
        """The two sides of the unfolding."""
        return [(self.unfolding.shape[1], self.unfolding.shape[2])]

    def factors(self, rank: Rank) -> Factors:
        """Fit every group and balance the two factors."""
        n_groups, n_out, _, *size = self.shape
        if self.scheme.is_fixed:
            return {"pointwise": self.unfolding.copy()}
        if self.scheme.configuration == "dense":
            left, right = balanced_svd(self.unfolding, rank[0], refine=self.is_wide)
        else:
            fits = [self._fit(group, rank[0]) for group in range(n_groups)]
            left = np.stack([fit.coefficients.reshape(-1, rank[0]) for fit in fits])
            right = np.stack([fit.atoms for fit in fits])
            for coefficients, atoms in zip(left, right, strict=True):
                if self.scheme.configuration == "sparse":
                    balance(coefficients, 1, atoms, 0)
                else:  # one scale for all keeps one magnitude per out-channel
                    balance(coefficients[None], 0, atoms[None], 0)
        aggregation = left.reshape(n_groups, n_out, -1, rank[0]).swapaxes(2, 3)
        return {"pointwise": right, "aggregation": aggregation.reshape(n_groups, n_out, rank[0], *size)}

    def _fit(self, group: int, n_channels: int) -> Dictionary:
        fit = sparse_dictionary if self.scheme.configuration == "sparse" else binary_dictionary
        n_nonzero, start = self.scheme.n_nonzero(n_channels), self.latest.get(group)
        found = fit(self.rows[group], n_channels, n_nonzero, start=start, target=self.target * (1 - MARGIN))
        if self.searching:
            self.latest[group] = found
        return found

    def meet_error(
        self, attempt: Callable[[Rank], float], error: float, maximum: Rank, cost: Callable[[Rank], Fraction]
    ) -> Rank:
        """Search from the rank that the SVD needs: no aggregation of so many channels is more exact."""
        if self.scheme.configuration == "dense":
            return super().meet_error(attempt, error, maximum, cost)
        self.target, self.searching = error, True
        low = max(1, int(np.argmax(relative_tails(self.values) <= error * (1 + 1e-6) + 1e-7)))
        bounded = maximum[0] < self.scheme.maximum[0]
        return (searches.bisect_meeting(lambda r: attempt((r,)), error, low, maximum[0], bounded=bounded),)
