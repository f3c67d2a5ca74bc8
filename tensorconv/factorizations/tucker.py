"""Tucker: pointwise, small full convolution, pointwise; with spatial ranks, separable steps where cheaper."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from tensorconv.cost import chain_cost
from tensorconv.errors import RankError
from tensorconv.factorizations.registry import register
from tensorconv.factorizations.scheme import Array, Factors, Fitter, Rank, Scheme, Shape, wide
from tensorconv.factorizations.solve import Factorization, Request, solve
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer, as_layer
from tensorconv.linalg import balance, hooi, hosvd

ROUNDS = 8  # of balancing; each halves what is left of the imbalance, or better
# Predicted errors to aim at, as shares of the error asked for: refinement beats the prediction by a little.
AIMS = (1.03, 1.01, 1.0, 0.999, 0.99, 0.9, 0.5)


@dataclass(frozen=True)
class Tucker(Scheme):
    """Factors "in" (G, R_I, I), "core" (G, R_O, R_I, r1..rN), "out" (G, O/G, R_O), spatial: "axis0".. (G, K_n, r_n)."""

    spatial: bool = False
    name: ClassVar[str] = "tucker"

    @property
    def maximum(self) -> Rank:
        """The sizes of the modes."""
        _, n_out, n_in, *size = self.block_shape
        return (n_out, n_in, *size) if self.spatial else (n_out, n_in)

    @property
    def maximum_rules(self) -> tuple[str, ...]:
        """The modes, in letters."""
        return (self.out_letter, "I", *(f"K{a + 1}" for a in range(len(self.maximum) - 2)))

    def chain(self, rank: Rank) -> list[tuple[Shape, ConvGeometry]]:
        """Three convolutions, or separable spatial steps between four pointwise ones where those cost fewer MACs."""
        n_groups, n_out, n_in, *size = self.block_shape
        geometry, pointwise = self.layer.geometry, self.pointwise(n_groups)
        first = ((n_groups * rank[1], n_in, *self.ones), pointwise)
        last = ((n_groups * n_out, rank[0], *self.ones), pointwise)
        every = range(geometry.ndim)
        whole = [first, ((n_groups * rank[0], rank[1], *size), geometry.on_axes(every, n_groups)), last]
        if not self.spatial or not self._wide:
            return whole
        middle, channels = [], n_groups * rank[1]
        for step, axis in enumerate(self._wide):
            owned = [axis, *(a for a in every if size[a] == 1)] if step == 0 else [axis]
            shape = tuple(size[a] if a == axis else 1 for a in every)
            middle.append(((channels * rank[2 + axis], 1, *shape), geometry.on_axes(owned, channels)))
            channels *= rank[2 + axis]
        core = ((n_groups * rank[0], channels // n_groups, *self.ones), pointwise)
        steps = [first, *middle, core, last]
        return steps if chain_cost(steps, "macs") < chain_cost(whole, "macs") else whole

    @property
    def _wide(self) -> list[int]:
        """Axes with more than one tap, in the order of execution: the one that shrinks the data most comes first."""
        stride, sign = self.layer.geometry.stride, 1 if self.layer.geometry.transposed else -1
        return sorted((a for a, k in enumerate(self.layer.kernel_size) if k > 1), key=lambda a: sign * stride[a])

    def kernels(self, factors: Factors) -> list[Array]:
        """Spread the spatial factors over the core, or repeat them for every channel."""
        core = factors["core"]
        n_groups = len(core)
        rank = (core.shape[1], core.shape[2], *(core.shape[3:] if self.spatial else ()))
        if len(self.chain(rank)) == 3:
            return [factors["in"], self._expanded(factors).astype(core.dtype), factors["out"]]
        steps, channels = [], n_groups * rank[1]
        for axis in self._wide:
            taps = np.swapaxes(factors[f"axis{axis}"], 1, 2)  # (G, r, K)
            steps.append(np.repeat(taps[:, None], channels // n_groups, axis=1))
            channels *= rank[2 + axis]
        order = [3 + a for a in self._wide] + [3 + a for a, k in enumerate(self.layer.kernel_size) if k == 1]
        single = [factors[f"axis{a}"][:, 0, 0] for a, k in enumerate(self.layer.kernel_size) if k == 1]
        gain = np.prod(single, axis=0).astype(core.dtype) if single else np.ones(n_groups, core.dtype)
        mixed = np.transpose(core, (0, 1, 2, *order)) * gain.reshape(-1, *(1,) * (core.ndim - 1))
        return [factors["in"], *steps, mixed, factors["out"]]

    def _expanded(self, factors: Factors) -> Array:
        """The core (G, R_O, R_I, K1..KN) with the spatial factors multiplied in, in float64."""
        core = wide(factors["core"])
        for axis in range(core.ndim - 3 if self.spatial else 0):
            core = np.moveaxis(
                np.einsum("gkr,g...r->g...k", wide(factors[f"axis{axis}"]), np.moveaxis(core, 3 + axis, -1)),
                -1,
                3 + axis,
            )
        return core

    def reconstruct(self, factors: Factors, rows: slice) -> Array:
        """Multiply every mode."""
        core = self._expanded(factors)
        n_groups, r_out, r_in, *size = core.shape
        left = wide(factors["out"][:, rows]) @ core.reshape(n_groups, r_out, -1)
        left = left.reshape(n_groups, -1, r_in, math.prod(size)).swapaxes(2, 3)
        return np.moveaxis((left @ wide(factors["in"])[:, None]).reshape(n_groups, left.shape[1], *size, -1), -1, 2)

    def to_tensorly(self, factors: Mapping[str, Array], group: int) -> Any:
        """Return one group's TuckerTensor; a mode without factor gets the identity."""
        from tensorconv.factorizations.tensorly import tucker_tensor  # TensorLy is loaded only when asked for

        core = factors["core"][group]
        axes = [
            factors[f"axis{a}"][group] if self.spatial else np.eye(k, dtype=core.dtype)
            for a, k in enumerate(self.layer.kernel_size)
        ]
        return tucker_tensor(core, [factors["out"][group], factors["in"][group].T, *axes])

    def fitter(self) -> TuckerFitter:
        """HOOI per group."""
        return TuckerFitter(self)


class TuckerFitter(Fitter):
    """Refined HOSVD of every group; ranks are chosen on the energies of the full HOSVD core."""

    def __init__(self, scheme: Tucker) -> None:
        super().__init__(scheme)
        self.scheme = scheme

    def factors(self, rank: Rank) -> Factors:
        """Fit every group and balance neighbours."""
        spatial = self.scheme.spatial
        size = self.shape[3:]
        ranks = rank if spatial else (*rank, *size)
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
        if spatial:
            found |= {f"axis{axis}": factor for axis, factor in axes.items()}
        _balance(found, core)
        return {"in": found.pop("in"), "core": core, **found}

    def carriers(self, factors: Factors) -> list[str]:
        """The spatial factors keep norm one per column: those of full rank stay the identity, exactly."""
        return [name for name in factors if not name.startswith("axis")]

    @property
    def dtype(self) -> Any:
        """Type of stored predictions."""
        return np.float64 if self.scheme.layer.dtype == np.float64 else np.float32

    @cached_property
    def scaled(self) -> Array:
        """The blocks, kept."""
        return self.blocks

    def spectra(self) -> list[Array]:
        """Singular values of the unfolding of every mode."""
        energies = self.energies
        modes = range(1, 1 + len(self.scheme.maximum))
        others = [tuple(a for a in range(1, energies.ndim) if a != mode) for mode in modes]
        sums = [energies.sum(axis=axes, dtype=np.float64) for axes in others]
        return [np.sqrt(total) for total in sums]

    @property
    def energies(self) -> Array:
        """Squared entries of the full HOSVD core (G, O/G, I[, K1..KN]): their tails are the errors of truncation."""
        shape = self.shape if self.scheme.spatial else self.shape[:3]
        energies = np.empty(shape, self.dtype)
        for g, block in enumerate(self.scaled):
            core = hosvd(block, block.shape, rotate=True)[0]
            np.square(core, out=core)
            energies[g] = core if self.scheme.spatial else core.sum(axis=tuple(range(2, core.ndim)))
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
                float(energies[(slice(None), slice(None), *(slice(r) for r in spatial[:a]), slice(r, None))].sum(dtype=np.float64))
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
                for r_in in np.flatnonzero(meets.any(axis=0)):
                    candidates.append((int(np.argmax(meets[:, r_in])) + 1, int(r_in) + 1, *spatial))
            if candidates:
                rank = min(candidates, key=lambda r: (cost(r), r))
                if attempt(rank) <= error:
                    return rank
        if attempt(maximum) <= error:
            return maximum
        raise RankError(
            f"error={error:g} cannot be met: the best attained is {attempt(maximum):.3g}, at rank {maximum}; "
            "ask for a larger error, or convert the kernel to a wider data type"
        )

    def meet_budget(self, affordable: Callable[[Rank], bool], maximum: Rank) -> Rank | None:
        """Take the affordable ranks of the least predicted error."""
        best: tuple[float, Rank] | None = None
        for spatial, surface in self.surfaces:
            r_out = maximum[0]
            for r_in in range(1, maximum[1] + 1):  # the more in-channels, the fewer out-channels are affordable
                while r_out and not affordable((r_out, r_in, *spatial)):
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


def _variants(layer: ConvLayer) -> list[dict[str, Any]]:
    wide = sum(k > 1 for k in layer.kernel_size)
    return [{"spatial": False}] + [{"spatial": True}] * (wide > 0)


@register(_variants, Tucker)
def tucker(
    layer: Any,
    rank: Any = None,
    *,
    error: float | None = None,
    budget: float | None = None,
    of: str = "macs",
    input_size: Sequence[int] | None = None,
    spatial: bool = False,
) -> Factorization:
    """Factorize a layer by a Tucker decomposition of every group's kernel.

    ``W[o, i, k] = sum_ab out[o, a] core[a, b, k] in[b, i]``: a pointwise layer to R_I channels, the full convolution
    between R_I and R_O channels, a pointwise layer (Kim, Park, Yoo, Choi, Yang, Shin, 2016, section 3.1). With spatial
    ranks the axes have factors too: they are multiplied into the core, or run as depthwise steps where that costs
    fewer MACs. Fitted by sequentially truncated HOSVD and higher-order orthogonal iteration.

    Parameters
    ----------
    layer : ConvLayer or array_like, shape (O, I, K1..KN)
        The layer; an array means stride 1 without padding.
    rank : int, (int, int), tuple of int or rule, optional
        R for all modes (each capped at its size), (R_O, R_I), or (R_O, R_I, r1..rN), which implies ``spatial``.
    error : float, optional
        Largest relative Frobenius error; the ranks of least cost are sought on the energies of the HOSVD core.
    budget : float, optional
        Largest share of the dense cost; the ranks of least expected error are taken.
    of : {"macs", "parameters", "bytes"}
        The cost that error and budget weigh.
    input_size : sequence of int, optional
        Spatial size that the cost is for; the limit of large inputs if not given.
    spatial : bool
        Whether the spatial axes have ranks as well.

    Returns
    -------
    Factorization
        Factors "in" (G, R_I, I), "core" (G, R_O, R_I, K..), "out" (G, O/G, R_O); with ``spatial`` the core is
        (G, R_O, R_I, r..) and "axis0".. are (G, K_n, r_n).

    Raises
    ------
    RankError
        If the request is out of range or cannot be met.

    Examples
    --------
    >>> kernel = np.random.default_rng(0).standard_normal((8, 6, 3, 3))
    >>> [layer.kernel.shape for layer in tucker(kernel, rank=(4, 3)).sequence]
    [(3, 6, 1, 1), (4, 3, 3, 3), (8, 4, 1, 1)]
    """
    target = as_layer(layer)
    if isinstance(rank, Sequence) and not isinstance(rank, str) and len(rank) == 2 + target.geometry.ndim:
        spatial = True
    elif spatial and isinstance(rank, Sequence) and len(rank) == 2:
        rank = (*rank, *target.kernel_size)
    return solve(Tucker(target, spatial), Request(rank, error, budget, of, input_size))
