"""Tucker: pointwise, small full convolution, pointwise; with spatial ranks, separable steps where cheaper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from tensorconv import ranks
from tensorconv.cost import chain_cost, layer_fan_in
from tensorconv.factorizations.factorization import Factorization
from tensorconv.factorizations.registry import register
from tensorconv.factorizations.response_fitter import SPATIAL, ResponseFitter, Terms
from tensorconv.factorizations.scheme import Array, Factors, Rank, Scheme, Shape, n_taps, wide
from tensorconv.factorizations.solve import Request, solve
from tensorconv.factorizations.tucker_fitter import TuckerFitter
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import flag
from tensorconv.layers import ConvLayer, as_layer
from tensorconv.moments import Moments


@dataclass(frozen=True)
class Tucker(Scheme):
    """Factors "in" (G, R_I, I), "core" (G, R_O, R_I, r1..rN), "out" (G, O/G, R_O), spatial: "axis0".. (G, K_n, r_n).

    Parameters
    ----------
    layer : ConvLayer
        The layer to factorize.
    spatial : bool
        Whether the spatial axes have factors too.
    """

    spatial: bool = False
    name: ClassVar[str] = "tucker"

    def __post_init__(self) -> None:
        flag("spatial", self.spatial)

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

    def factor_shapes(self, rank: Rank) -> dict[str, Shape]:
        """The core has the ranks, or the taps where the axes have none."""
        n_groups, n_out, n_in, *size = self.block_shape
        shapes: dict[str, Shape] = {"in": (n_groups, rank[1], n_in), "core": (n_groups, *rank[:2], *(rank[2:] or size))}
        shapes["out"] = (n_groups, n_out, rank[0])
        return shapes | {f"axis{a}": (n_groups, size[a], r) for a, r in enumerate(rank[2:])}

    def fan_in(self, rank: Rank) -> dict[str, Fraction]:
        """Each axis sums over its taps, in a layer of its own or in the core, which then sums over the axes' ranks."""
        first, *middle, core, last = map(layer_fan_in, self.chain(rank))
        fans = {f"axis{a}": Fraction(self.layer.kernel_size[a]) for a in range(len(rank) - 2)}
        if fans and not middle:
            core *= Fraction(math.prod(rank[2:]), n_taps(self))
        own = {f"axis{a}": fan for a, fan in zip(self._wide, middle, strict=False)}
        return fans | own | {"in": first, "core": core, "out": last}

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
        left = left.reshape(n_groups, -1, r_in, math.prod(size)).swapaxes(2, 3).reshape(n_groups, -1, r_in)
        product = left @ wide(factors["in"])
        return np.moveaxis(product.reshape(n_groups, -1, *size, product.shape[2]), -1, 2)

    def to_tensorly(self, factors: Mapping[str, Array], group: int) -> Any:
        """Return one group's TuckerTensor; a mode without factor gets the identity."""
        from tensorconv.factorizations.tensorly import tucker_tensor  # TensorLy is loaded only when asked for

        core = factors["core"][group]
        axes = [
            factors[f"axis{a}"][group] if self.spatial else np.eye(k, dtype=core.dtype)
            for a, k in enumerate(self.layer.kernel_size)
        ]
        return tucker_tensor(core, [factors["out"][group], factors["in"][group].T, *axes])

    def for_rank(self, rank: Any) -> tuple[Tucker, Any]:
        """One rank per mode asks for spatial ranks; two leave spatial axes whole."""
        n_given = len(rank) if ranks.is_listing(rank) else 0
        if n_given == 2 + self.layer.geometry.ndim:
            return replace(self, spatial=True), rank
        return self, (*rank, *self.layer.kernel_size) if self.spatial and n_given == 2 else rank

    def fitter(self) -> TuckerFitter:
        """HOOI per group."""
        return TuckerFitter(self)

    def response_fitter(self, moments: Moments) -> TuckerResponseFitter:
        """Alternating least squares in the metric of the patches."""
        return TuckerResponseFitter(self, moments)


class TuckerResponseFitter(ResponseFitter[Scheme]):
    """Joins the core with the out-channels' factor: together they are a regression of limited rank.

    Parameters
    ----------
    scheme : Tucker
        What is to be fitted.
    moments : Moments
        Of the data.
    """

    def terms(self, factors: Factors) -> Terms:
        """Ranks of the axes are their own letters, or the axes themselves."""
        core = np.tensordot(factors["out"], factors["core"], 1)
        axes = [a for a in range(core.ndim - 2) if f"axis{a}" in factors]
        ranks = "stpqlmSTPQLM" if axes else SPATIAL
        taps = [(SPATIAL[a] + ranks[a], factors[f"axis{a}"]) for a in axes]
        return [("bi", factors["in"]), ("ob" + ranks[: core.ndim - 2], core), *taps]

    def row_limit(self, rank: Rank) -> int:
        """The rank of the out-channels."""
        return rank[0]


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
    statistics: Any = None,
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
    statistics : PatchStatistics, optional
        Of data whose responses are to be kept, not the kernel: ``error`` is theirs then, and the bias is corrected.

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
    >>> import numpy as np
    >>> import tensorconv as tc
    >>> kernel = np.random.default_rng(0).standard_normal((8, 6, 3, 3))
    >>> [layer.kernel.shape for layer in tc.tucker(kernel, rank=(4, 3)).sequence]
    [(3, 6, 1, 1), (4, 3, 3, 3), (8, 4, 1, 1)]
    """
    scheme, rank = Tucker(as_layer(layer), spatial).for_rank(rank)
    return solve(scheme, Request(rank, error, budget, of, input_size, statistics=statistics))
