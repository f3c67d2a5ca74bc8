"""How Tucker factors and ranks are found: HOOI per group, ranks on the energies of the HOSVD core."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from tensorconv.errors import RankError
from tensorconv.factorizations.fitter import Fitter
from tensorconv.factorizations.scheme import Array, Factors, Rank, Scheme
from tensorconv.linalg import balance, hooi, hosvd
from tensorconv.searches import unmet

ROUNDS = 8  # of balancing; each halves what is left of the imbalance, or better
# Predicted errors to aim at, as shares of the error asked for: refinement beats the prediction by a little.
AIMS = (1.03, 1.01, 1.0, 0.999, 0.99, 0.9, 0.5)


class TuckerFitter(Fitter[Scheme]):
    """Refined HOSVD of every group; ranks are chosen on the energies of the full HOSVD core.

    Parameters
    ----------
    scheme : Scheme
        A Tucker scheme: ranks (R_O, R_I), or (R_O, R_I, r1..rN) where the spatial axes have factors too.
    """

    def __init__(self, scheme: Scheme) -> None:
        super().__init__(scheme)
        self.maximum = scheme.maximum
        self.spatial = len(scheme.maximum) > 2

    def factors(self, rank: Rank) -> Factors:
        """Fit every group and balance neighbours."""
        size = self.shape[3:]
        ranks = rank if self.spatial else (*rank, *size)
        n_groups, n_out, n_in = self.shape[:3]
        core = np.empty((n_groups, *ranks))
        found = {"in": np.empty((n_groups, ranks[1], n_in)), "out": np.empty((n_groups, n_out, ranks[0]))}
        axes = {axis: np.empty((n_groups, size[axis], ranks[2 + axis])) for axis in range(len(size))}
        for g, block in enumerate(self.scaled):
            fitted, (out, into, *taps) = hooi(block, ranks)
            found["out"][g], found["in"][g] = out, into.T
            for axis, factor in enumerate(taps):
                axes[axis][g] = factor
            core[g] = fitted
        if self.spatial:
            found |= {f"axis{axis}": factor for axis, factor in axes.items()}
        _balance(found, core)
        return {"in": found.pop("in"), "core": core, **found}

    def carriers(self, factors: Factors) -> list[str]:
        """The spatial factors keep norm one per column: those of full rank stay the identity, exactly."""
        return [name for name in factors if not name.startswith("axis")]

    @property
    def dtype(self) -> Any:
        """Type of stored predictions."""
        return np.float64 if self.is_wide else np.float32

    @cached_property
    def scaled(self) -> Array:
        """The blocks, kept."""
        return self.working

    def spectra(self) -> list[Array]:
        """Singular values of the unfolding of every mode."""
        energies = self.energies
        modes = range(1, 1 + len(self.maximum))
        others = [tuple(a for a in range(1, energies.ndim) if a != mode) for mode in modes]
        sums = [energies.sum(axis=axes, dtype=np.float64) for axes in others]
        return [np.sqrt(total) for total in sums]

    @property
    def energies(self) -> Array:
        """Squared entries of the full HOSVD core (G, O/G, I[, K1..KN]): their tails are the errors of truncation."""
        shape = self.shape if self.spatial else self.shape[:3]
        energies = np.empty(shape, self.dtype)
        for g, block in enumerate(self.scaled):
            core = hosvd(block, block.shape, rotate=True)[0]
            np.square(core, out=core)
            energies[g] = core if self.spatial else core.sum(axis=tuple(range(2, core.ndim)))
        return energies

    @cached_property
    def surfaces(self) -> list[tuple[Rank, Array]]:
        """Spatial ranks and the relative error predicted for every (R_O, R_I), exact for the truncated HOSVD."""
        surfaces = []
        energies = self.energies.sum(axis=0)
        total = float(energies.sum(dtype=np.float64)) or 1.0
        choices = [_some_ranks(k) for k in energies.shape[2:]]
        for spatial in itertools.product(*choices):
            inside = energies[(slice(None), slice(None), *(slice(r) for r in spatial))]
            kept = inside.sum(axis=tuple(range(2, inside.ndim)), dtype=np.float64)
            outside = sum(
                float(
                    energies[(slice(None), slice(None), *(slice(r) for r in spatial[:a]), slice(r, None))].sum(
                        dtype=np.float64
                    )
                )
                for a, r in enumerate(spatial)
            )
            columns = np.cumsum(kept[:, ::-1], axis=1)[:, ::-1]  # energy of in-modes from i on, per out-mode
            columns = np.concatenate([columns[:, 1:], np.zeros((len(kept), 1))], axis=1)
            rows = np.cumsum(kept.sum(axis=1)[::-1])[::-1]
            lost = np.cumsum(columns, axis=0) + np.append(rows[1:], 0.0)[:, None]
            surfaces.append((spatial, np.sqrt((lost + outside) / total).astype(self.dtype)))
        return surfaces

    def meet_error(
        self, attempt: Callable[[Rank], float], error: float, maximum: Rank, cost: Callable[[Rank], Fraction]
    ) -> Rank:
        """Take the cheapest ranks on the predicted surface, then adjust the aim until the true error fits."""
        for aim in AIMS:
            candidates = []
            for spatial, surface in self.surfaces:
                meets = surface <= aim * error
                columns = np.flatnonzero(meets.any(axis=0))
                candidates += [(int(np.argmax(meets[:, i])) + 1, int(i) + 1, *spatial) for i in columns]
            if candidates:
                rank = min(candidates, key=lambda r: (cost(r), r))
                if attempt(rank) <= error:
                    return rank
        if attempt(maximum) <= error:
            return maximum
        raise RankError(unmet(error, attempt(maximum), maximum))

    def meet_budget(self, cost: Callable[[Rank], Fraction], limit: Fraction, maximum: Rank) -> Rank | None:
        """Take the affordable ranks of the least predicted error."""
        best: tuple[float, Rank] | None = None
        for spatial, surface in self.surfaces:
            r_out = maximum[0]
            for r_in in range(1, maximum[1] + 1):  # the more in-channels, the fewer out-channels are affordable
                while r_out and cost((r_out, r_in, *spatial)) > limit:
                    r_out -= 1
                if r_out and (best is None or surface[r_out - 1, r_in - 1] < best[0]):
                    best = (float(surface[r_out - 1, r_in - 1]), (r_out, r_in, *spatial))
        return None if best is None else best[1]


def _some_ranks(size: int) -> list[int]:
    """All ranks of a short axis, some of a long one."""
    return list(range(1, size + 1)) if size <= 7 else sorted({-(-size * j // 6) for j in range(1, 7)})


def _balance(factors: Factors, core: Array) -> None:
    """Give every component of the core and of the channel factor beside it one norm, in place."""
    for g in range(len(core)):
        for _ in range(ROUNDS):
            balance(factors["in"][g], 0, core[g], 1)
            balance(factors["out"][g], 1, core[g], 0)
