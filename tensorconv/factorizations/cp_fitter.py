"""How CP factors and ranks are found: alternating least squares per group, ranks by fitting."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tensorconv import ranks, searches
from tensorconv.errors import RankError
from tensorconv.factorizations.fitter import Fitter, Spectra, relative_tails
from tensorconv.factorizations.scheme import Array, Factors, Rank
from tensorconv.linalg import as_generator, cp_als, cp_epc, singular_values, slice_svd, slice_values

if TYPE_CHECKING:
    from tensorconv.factorizations.cp import CP

STARTS = 4  # Gaussian starts that are screened
SWEEPS = 200  # of a fit from a Gaussian start
QUICK_SWEEPS = 20  # of a fit that is only compared
WARM_SWEEPS = 80  # of a fit that starts from a neighbour's factors or from slices
FITTED = 2e10  # floating-point operations of the dearest sweep that is worth it for a rank above all modes
HIGH = 0.8  # share of the largest rank above which slices are hard to beat
MARGIN = 1e-3  # share of a target that is left for the rounding of stored factors


class CPFitter(Fitter["CP"]):
    """Alternating least squares, from Gaussian starts of their own for every group and rank.

    While ranks are searched for, each fit starts from the one before, its weakest terms dropped or Gaussian ones added.
    Ranks that are too high for sweeps to pay are the largest singular triplets of the slices.

    Parameters
    ----------
    scheme : CP
        What is to be fitted.
    """

    def __init__(self, scheme: CP) -> None:
        super().__init__(scheme)
        generator = as_generator(scheme.rng)
        self.seed = int(generator.integers(2**63))
        self.target, self.searching = 0.0, False  # the error that a search is after: fits stop there
        self.slack = 1 + float(scheme.correction)  # by what factor a fit's error may grow afterwards
        self.most, self.n_starts = SWEEPS, STARTS  # sweeps of any fit, and starts that are screened
        self.latest: dict[int, list[Array]] = {}  # group -> factors of the fit before

    def hasten(self) -> None:
        """Take one start, and few sweeps."""
        self.most, self.n_starts = QUICK_SWEEPS, 1

    @property
    def tensors(self) -> Array:
        """The tensors (G, *modes)."""
        return self.working.reshape(self.shape[0], *self.scheme.modes)

    def factors(self, rank: Rank) -> Factors:
        """Fit every group and share the weights evenly."""
        per_group = [self._fit(g, tensor, rank[0]) for g, tensor in enumerate(self.tensors)]
        out, into, *taps = (np.stack(mode) for mode in zip(*per_group, strict=True))
        found = {"in": into.swapaxes(1, 2), "out": out}
        if self.scheme.merge_spatial:
            return found | {"spatial": taps[0].swapaxes(1, 2).reshape(*found["in"].shape[:2], *self.shape[3:])}
        axes = sorted(self.scheme.axes)
        return found | {f"axis{a}": factor.swapaxes(1, 2) for a, factor in zip(axes, taps, strict=True)}

    def _fit(self, group: int, tensor: Array, rank: int) -> list[Array]:
        if self._is_sliced(rank) or (self.searching and self.slice_errors[group][rank] <= self.target):
            weights, factors = slice_svd(tensor, rank)
            return _shared(weights, factors)
        rng = np.random.default_rng([self.seed, group, rank])
        before = self.latest.get(group)
        target = self.target * (1 - MARGIN) / self.slack
        if before is not None:
            more = max(rank - before[0].shape[1], 0)
            start = [np.hstack([f[:, :rank], rng.standard_normal((len(f), more)) / len(f)]) for f in before]
            found = cp_als(tensor, rank, start=start, n_iter_max=min(WARM_SWEEPS, self.most), target=target)
        else:
            found = cp_als(tensor, rank, rng=rng, n_starts=self.n_starts, n_iter_max=self.most, target=target)
            if rank > max(tensor.shape) and found.relative_error > self.slice_errors[group][rank]:
                start = _shared(*slice_svd(tensor, rank))
                found = cp_als(tensor, rank, start=start, n_iter_max=min(WARM_SWEEPS, self.most), target=target)
        self.latest[group] = _shared(found.weights, found.factors)
        if self.scheme.correction:
            found = cp_epc(tensor, found, error=self.slack * found.relative_error)
        return _shared(found.weights, found.factors)

    @cached_property
    def slice_spectra(self) -> Array:
        """Singular values (G, n) of all slices of every group."""
        return np.stack([slice_values(tensor) for tensor in self.tensors])

    @cached_property
    def slice_errors(self) -> list[Array]:
        """Per group, the relative error of the slices' largest singular triplets at every rank."""
        return [relative_tails(values[None]) for values in self.slice_spectra]

    def _is_sliced(self, rank: int) -> bool:
        """Tell whether the slices' own singular triplets are taken: for one slice, and for ranks too high to sweep."""
        first, second, *_ = sorted(self.scheme.modes, reverse=True)
        (most,) = self.scheme.maximum
        sweep = rank * (4 * math.prod(self.scheme.modes) + 6 * rank * (first + second) + 3 * rank**2)
        return most == second or rank > HIGH * most or (rank > first and sweep > FITTED)

    def spectra(self) -> list[Array]:
        """Singular values of the unfoldings of the out-channels and of the in-channels."""
        return [self._values(0), self._values(1)]

    def unfolding_shapes(self) -> list[tuple[int, int]]:
        """The sides of these two unfoldings."""
        size = math.prod(self.scheme.modes)
        return [(side, size // side) for side in self.scheme.modes[:2]]

    def by_rule(self, rule: ranks.Rule) -> Rank:
        """Return the larger of the ranks that the rule finds for the channels: no unfolding has more than a CP."""
        asked = rule(Spectra(self), self.scheme.maximum * 2)
        return (max(asked),) if isinstance(asked, (list, tuple)) and asked else asked

    def _values(self, mode: int) -> Array:
        """Singular values (G, n) of the unfolding of one mode."""
        unfolding = np.moveaxis(self.tensors, 1 + mode, 1).reshape(self.shape[0], self.scheme.modes[mode], -1)
        return singular_values(unfolding)

    def meet_error(
        self, attempt: Callable[[Rank], float], error: float, maximum: Rank, cost: Callable[[Rank], Fraction]
    ) -> Rank:
        """Search between the rank that every unfolding needs at least and the one at which the slices' triplets do."""
        del cost
        low, self.target, self.searching = 1, error, True
        for mode in range(len(self.scheme.modes)):
            low = max(low, int(np.argmax(relative_tails(self._values(mode)) <= error * (1 + 1e-6) + 1e-7)))
        predicted = relative_tails(self.slice_spectra)

        most = searches.largest_affordable(lambda rank: not self._is_sliced(rank), maximum[0])  # that is fitted
        if (predicted <= error).any():
            most = min(most, max(1, int(np.argmax(predicted <= error))))
        bounded = most == maximum[0] < self.scheme.maximum[0]
        if low <= most:
            with suppress(RankError):  # none that is fitted meets the error
                return (searches.bisect_meeting(lambda r: attempt((r,)), error, low, most, bounded=bounded),)
        return (searches.first_meeting(lambda r: attempt((r,)), error, predicted, maximum[0]),)


def _shared(weights: Array, factors: list[Array]) -> list[Array]:
    """Give every factor of a term the same share of its weight."""
    return [factor * weights ** (1 / len(factors)) for factor in factors]
