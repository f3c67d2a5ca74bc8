"""How tensor-train factors and ranks are found: successive SVDs per group, ranks along falling paths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cached_property

import numpy as np

from tensorconv import ranks, searches
from tensorconv.errors import RankError
from tensorconv.factorizations.fitter import Fitter
from tensorconv.factorizations.scheme import Array, Factors, Rank, Scheme
from tensorconv.linalg import balance, tensor_train_svd, unfolding_spectra

ROUNDS = 16  # of balancing neighbours; each brings all closer to one norm per component
LEVELS = 200  # of the path of even losses
PRECISION = 100  # a search ends this share of the path from the last ranks that meet the error


class TensorTrainFitter(Fitter[Scheme]):
    """Successive SVDs; ranks are lowered one by one from the full ones, where it costs least error per cost saved.

    Parameters
    ----------
    scheme : Scheme
        What is to be fitted.
    """

    def _tensor(self, group: int) -> Array:
        """Return a new array of one group's tensor (I, K1..KN, O/G)."""
        tensor = np.array(np.moveaxis(self._kernel[group], 0, -1), np.float64, order="C")
        tensor /= self.scale
        return tensor

    def factors(self, rank: Rank) -> Factors:
        """Fit every group and balance neighbours."""
        groups = range(len(self._kernel))
        trains = [_padded(tensor_train_svd(self._tensor(g), rank, refine=self.is_wide), rank) for g in groups]
        # (G, r_before, n, r_after); one group alone is not copied
        cores = [core[0][None] if len(core) == 1 else np.stack(core) for core in zip(*trains, strict=True)]
        del trains
        for g in groups:
            for _ in range(ROUNDS):
                for first, second in itertools.pairwise(cores):
                    balance(first[g], 2, second[g], 0)
        found = {"in": cores[0][:, 0].swapaxes(1, 2)}
        found |= {f"axis{a}": core.transpose(0, 3, 1, 2) for a, core in enumerate(cores[1:-1])}
        return found | {"out": cores[-1][..., 0].swapaxes(1, 2)}

    @cached_property
    def values(self) -> list[Array]:
        """Singular values (G, n) of each unfolding."""
        per_group = [unfolding_spectra(self._tensor(g)) for g in range(len(self._kernel))]
        return [np.stack(rows) for rows in zip(*per_group, strict=True)]

    def spectra(self) -> list[Array]:
        """One spectrum per unfolding."""
        return self.values

    @cached_property
    def _losses(self) -> list[Array]:
        """Share of the energy that each unfolding loses at each rank."""
        tails = [ranks.tail_energy(values) for values in self.values]
        return [tail / (float(tail[0]) or 1.0) for tail in tails]

    def _path(self, cost: Callable[[Rank], Fraction]) -> Iterator[tuple[Rank, float]]:
        """Yield ranks from the full ones down, with the relative error that they are bound by."""
        rank = self.scheme.maximum
        now = cost(rank)
        while True:
            yield rank, sum(float(lost[r]) for lost, r in zip(self._losses, rank, strict=True)) ** 0.5
            best: tuple[float, Rank, Fraction] | None = None
            for j, (lost, r) in enumerate(zip(self._losses, rank, strict=True)):
                if r > 1:
                    lower = (*rank[:j], r - 1, *rank[j + 1 :])
                    then = cost(lower)
                    price = float(lost[r - 1] - lost[r]) / max(float(now - then), 1e-300)
                    if best is None or price < best[0]:
                        best = (price, lower, then)
            if best is None:
                return
            _, rank, now = best

    def meet_error(
        self, attempt: Callable[[Rank], float], error: float, maximum: Rank, cost: Callable[[Rank], Fraction]
    ) -> Rank:
        """Follow the path down while the bound allows, then on while the true error does: the bound is loose."""
        del maximum
        path = list(self._path(cost))
        bounds = np.array([bound for _, bound in path])
        met = max(int(np.sum(bounds <= error)) - 1, 0)
        if attempt(path[met][0]) > error:  # by rounding: full rank is all there is left
            met = 0
            if attempt(path[0][0]) > error:
                raise RankError(searches.unmet(error, attempt(path[0][0]), path[0][0]))
        missed = int(np.sum(bounds <= error * len(path[0][0]) ** 0.5))  # here even the loosest bound is above
        while missed - met > max(1, len(path) // PRECISION):
            middle = (met + missed) // 2
            if attempt(path[middle][0]) <= error:
                met = middle
            else:
                missed = middle
        return path[met][0]

    def meet_budget(self, cost: Callable[[Rank], Fraction], limit: Fraction, maximum: Rank) -> Rank | None:
        """Take the best of the paths' first affordable ranks, then raise single ranks while it is affordable."""
        paths: tuple[Iterator[Rank], ...] = ((rank for rank, _ in self._path(cost)), self._even_path())
        starts = [next((rank for rank in path if cost(rank) <= limit), None) for path in paths]
        found = [self._raised(rank, lambda r: cost(r) <= limit, maximum) for rank in starts if rank is not None]
        return min(found, key=self._expected, default=None)

    def _raised(self, rank: Rank, affordable: Callable[[Rank], bool], maximum: Rank) -> Rank:
        """Raise one rank after the other as far as it is affordable, the one that helps most first."""
        while True:
            best = min((_raise(rank, j, affordable, most) for j, most in enumerate(maximum)), key=self._expected)
            if self._expected(best) >= self._expected(rank):
                return rank
            rank = best

    def _expected(self, rank: Rank) -> float:
        """Estimate the relative error of ranks, as if the unfoldings lost independent shares of the energy."""
        kept = math.prod(1 - float(lost[r]) for lost, r in zip(self._losses, rank, strict=True))
        return float(max(1 - kept, 0.0) ** 0.5)

    def _even_path(self) -> Iterator[Rank]:
        """Yield ranks from the full ones down at which all unfoldings lose about the same energy."""
        for level in np.linspace(0.0, 1.0, LEVELS) ** 2:
            yield tuple(max(1, int(np.argmax(lost <= level))) for lost in self._losses)


def _raise(rank: Rank, j: int, affordable: Callable[[Rank], bool], most: int) -> Rank:
    """Return the ranks with the j-th as high as is affordable."""
    raised = searches.largest_affordable(lambda r: affordable((*rank[:j], r, *rank[j + 1 :])), most)
    return (*rank[:j], max(raised, rank[j]), *rank[j + 1 :])


def _padded(cores: list[Array], rank: Rank) -> list[Array]:
    """Fill up with zero components where smaller ranks before left fewer than asked for."""
    sizes = [1, *rank, 1]
    wanted = [(sizes[k], core.shape[1], sizes[k + 1]) for k, core in enumerate(cores)]
    return [
        core if core.shape == shape else np.pad(core, [(0, n - m) for n, m in zip(shape, core.shape, strict=True)])
        for core, shape in zip(cores, wanted, strict=True)
    ]
