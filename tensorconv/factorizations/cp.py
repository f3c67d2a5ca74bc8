"""CP: pointwise, one depthwise convolution per spatial axis (or one for all), pointwise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from tensorconv.errors import RankError
from tensorconv.factorizations.cp_fitter import HIGH, CPFitter
from tensorconv.factorizations.factorization import Factorization
from tensorconv.factorizations.registry import register
from tensorconv.factorizations.response_fitter import SPATIAL, ResponseFitter, Terms
from tensorconv.factorizations.scheme import Array, Factors, Rank, Scheme, Shape, wide
from tensorconv.factorizations.solve import Request, solve
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import flag, is_number
from tensorconv.layers import ConvLayer, as_layer
from tensorconv.moments import Moments
from tensorconv.text import product

LARGE = 2e8  # entries times rank from which on sweeps over a kernel take seconds
START_SWEEPS = 100  # of a kernel so large, before those that know the data


@dataclass(frozen=True)
class CP(Scheme):
    """Factors "in" (G, R, I), "out" (G, O/G, R), and "axis0".. (G, R, K_n) or "spatial" (G, R, K..).

    Parameters
    ----------
    layer : ConvLayer
        The layer to factorize.
    merge_spatial : bool
        Whether one depthwise convolution has all spatial axes.
    rng : int or numpy.random.Generator
        Seed of the starts.
    correction : float
        Share by which error-preserving correction may raise the error; 0 for none.
    """

    merge_spatial: bool = False
    rng: Any = field(default=0, compare=False)
    correction: float = field(default=0.0, compare=False)
    name: ClassVar[str] = "cp"

    def __post_init__(self) -> None:
        flag("merge_spatial", self.merge_spatial)
        if not is_number(self.correction) or not 0 <= self.correction < 1:
            raise RankError(
                f"correction must be from 0 to below 1, as a share (0.001 lets the error grow by 0.1 %), "
                f"got {self.correction!r}"
            )

    @property
    def axes(self) -> list[int]:
        """Axes with a factor of their own, in the order of execution: what shrinks the data most comes first."""
        if self.merge_spatial:
            return []
        stride, sign = self.layer.geometry.stride, 1 if self.layer.geometry.transposed else -1
        wide = [a for a, k in enumerate(self.layer.kernel_size) if k > 1] or [0]
        return sorted(wide, key=lambda a: sign * stride[a])

    @property
    def modes(self) -> Shape:
        """Sizes of the tensor that is decomposed: O/G, I, then the taps of each axis (or of all)."""
        _, n_out, n_in, *size = self.block_shape
        return (n_out, n_in, *(size[a] for a in sorted(self.axes))) if self.axes else (n_out, n_in, math.prod(size))

    @property
    def maximum(self) -> Rank:
        """One term per fibre along the largest mode is exact."""
        return (math.prod(self.modes) // max(self.modes),)

    @property
    def maximum_rules(self) -> tuple[str, ...]:
        """The modes, in letters."""
        taps = [f"K{a + 1}" for a in sorted(self.axes)] or ["K"]
        return (f"{product(self.out_letter, 'I', *taps)}/max({', '.join([self.out_letter, 'I', *taps])})",)

    def chain(self, rank: Rank) -> list[tuple[Shape, ConvGeometry]]:
        """Pointwise, depthwise steps, pointwise."""
        n_groups, n_out, n_in, *size = self.block_shape
        geometry, channels = self.layer.geometry, n_groups * rank[0]
        steps: list[tuple[Shape, ConvGeometry]] = []
        for step, axis in enumerate(self.axes):
            owned = [axis, *(a for a in range(geometry.ndim) if a not in self.axes)] if step == 0 else [axis]
            shape = tuple(size[a] if a == axis else 1 for a in range(geometry.ndim))
            steps.append(((channels, 1, *shape), geometry.on_axes(owned, channels)))
        if self.merge_spatial:
            steps = [((channels, 1, *size), geometry.on_axes(range(geometry.ndim), channels))]
        first = ((channels, n_in, *self.ones), self.pointwise(n_groups))
        return [first, *steps, ((n_groups * n_out, rank[0], *self.ones), self.pointwise(n_groups))]

    @property
    def layer_factors(self) -> list[str]:
        """The factors are the kernels."""
        return ["in", *([f"axis{a}" for a in self.axes] or ["spatial"]), "out"]

    def factor_shapes(self, rank: Rank) -> dict[str, Shape]:
        """One row per term."""
        n_groups, n_out, n_in, *size = self.block_shape
        shapes: dict[str, Shape] = {"in": (n_groups, rank[0], n_in), "out": (n_groups, n_out, rank[0])}
        if self.merge_spatial:
            return shapes | {"spatial": (n_groups, rank[0], *size)}
        return shapes | {f"axis{a}": (n_groups, rank[0], size[a]) for a in sorted(self.axes)}

    def reconstruct(self, factors: Factors, rows: slice) -> Array:
        """Sum the rank-one terms."""
        n_groups, rank, n_in = factors["in"].shape
        taps = self._taps(factors).reshape(n_groups, rank, 1, -1)
        right = (wide(factors["in"])[..., None] * taps).reshape(n_groups, rank, -1)
        sums: Array = wide(factors["out"][:, rows]) @ right
        return sums.reshape(n_groups, -1, n_in, *self.layer.kernel_size)

    def _taps(self, factors: Factors) -> Array:
        """The spatial part (G, R, K1..KN) of every term."""
        if self.merge_spatial:
            return wide(factors["spatial"])
        ndim = self.layer.geometry.ndim
        taps = np.ones((1, 1, *self.ones))
        for a in self.axes:
            taps = taps * wide(factors[f"axis{a}"]).reshape(
                *factors["in"].shape[:2], *(-1 if b == a else 1 for b in range(ndim))
            )
        return taps

    def to_tensorly(self, factors: Mapping[str, Array], group: int) -> Any:
        """Return one group's CPTensor of (O/G, I, K1..KN), or of (O/G, I, K) with merged axes."""
        from tensorconv.factorizations.tensorly import cp_tensor  # TensorLy is loaded only when asked for

        rank = factors["in"].shape[1]
        if self.merge_spatial:
            taps = [factors["spatial"][group].reshape(rank, -1).T]
        else:
            single = np.ones((1, rank), self.layer.dtype)
            taps = [factors[f"axis{a}"][group].T if a in self.axes else single for a in range(self.layer.geometry.ndim)]
        return cp_tensor(np.ones(rank, self.layer.dtype), [factors["out"][group], factors["in"][group].T, *taps])

    def fitter(self) -> CPFitter:
        """Alternating least squares per group."""
        return CPFitter(self)

    def response_fitter(self, moments: Moments) -> CPResponseFitter:
        """Alternating least squares in the metric of the patches."""
        return CPResponseFitter(self, moments)


class CPResponseFitter(ResponseFitter[CP]):
    """Keeps the factors that alternating least squares end with.

    Parameters
    ----------
    scheme : CP
        What is to be fitted.
    moments : Moments
        Of the data.
    """

    tol: ClassVar[float] = 1e-3  # sweeps gain little each, for long

    def terms(self, factors: Factors) -> Terms:
        """Every factor has the rank, and an axis or all."""
        taps = {f"axis{a}": "r" + SPATIAL[a] for a in sorted(self.scheme.axes)}
        letters = {"in": "ri", "out": "or", "spatial": "r" + SPATIAL[: len(self.shape) - 3]} | taps
        return [(letters[name], factors[name]) for name in letters if name in factors]

    def starts(self, rank: Rank) -> list[Factors]:
        """Of a large kernel, few sweeps with whitened channels: those in the metric itself are worth more."""
        if rank[0] * self.targets[0].size < LARGE or rank[0] > HIGH * self.scheme.maximum[0]:
            return super().starts(rank)
        surrogate = self.surrogate
        if isinstance(surrogate, CPFitter):
            surrogate.most = min(surrogate.most, START_SWEEPS)
        return [surrogate.factors(rank)]

    def factors(self, rank: Rank) -> Factors:
        """Give all factors of a term one norm."""
        names = list(self.scheme.factor_shapes(rank))
        groups = []
        for group in range(self.shape[0]):
            found = dict(zip(names, self.improved(group, rank)[0], strict=True))
            norms = {}
            for name, (letters, factor) in found.items():
                axes = tuple(a for a, c in enumerate(letters) if c != "r")
                norms[name] = np.sqrt(np.sum(factor**2, axis=axes, keepdims=True))
            even = np.prod([norm.ravel() for norm in norms.values()], axis=0) ** (1 / len(names))
            parts = []
            for name, (_, factor) in found.items():
                safe = np.where(norms[name] > 0, norms[name], 1)
                parts.append(factor / safe * even.reshape(norms[name].shape))
            groups.append(parts)
        return {name: np.stack([parts[j] for parts in groups]) for j, name in enumerate(names)}


def _variants(layer: ConvLayer) -> list[dict[str, Any]]:
    wide = sum(k > 1 for k in layer.kernel_size)
    return [{"merge_spatial": False}] + [{"merge_spatial": True}] * (wide > 1)


@register(_variants, CP, searches=True, seeded=True)
def cp(
    layer: Any,
    rank: int | None = None,
    *,
    error: float | None = None,
    budget: float | None = None,
    of: str = "macs",
    input_size: Sequence[int] | None = None,
    merge_spatial: bool = False,
    rng: Any = 0,
    correction: float = 0.0,
    statistics: Any = None,
) -> Factorization:
    """Factorize a layer by a CP decomposition of every group's kernel.

    ``W[o, i, k1..kN] = sum_r out[o, r] in[r, i] axis0[r, k1] .. axisN[r, kN]``: a pointwise layer to R channels, one
    depthwise convolution per spatial axis, a pointwise layer (Lebedev, Ganin, Rakhuba, Oseledets, Lempitsky, 2015,
    section 3.2). With ``merge_spatial`` one depthwise convolution has all axes, as a MobileNetV2 block. Fitted by
    alternating least squares with momentum, from the best of four Gaussian starts, in a search then from one another.
    Pointwise kernels, and ranks close to the largest, get the largest singular triplets of the kernel's slices, which
    are exact at the largest rank.

    Parameters
    ----------
    layer : ConvLayer or array_like, shape (O, I, K1..KN)
        The layer; an array means stride 1 without padding.
    rank : int, optional
        Number of terms per group; it may exceed every mode's size.
    error : float, optional
        Largest relative Frobenius error; a rank that meets it is searched for by fitting.
    budget : float, optional
        Largest share of the dense cost; the largest rank that fits is taken.
    of : {"macs", "parameters", "bytes"}
        The cost that the budget is of.
    input_size : sequence of int, optional
        Spatial size that the cost is for; the limit of large inputs if not given.
    merge_spatial : bool
        Whether one depthwise convolution has all spatial axes.
    rng : int or numpy.random.Generator
        Seed of the Gaussian starts.
    correction : float
        Share by which the error may grow, under ``error`` no further than asked for, to make the terms as small as can
        be (error-preserving correction, see :func:`tensorconv.linalg.cp_epc`), so that narrow types lose less; 0 for
        none, 0.001 where factors are to be rounded; statistics leave it without effect.
    statistics : PatchStatistics, optional
        Of data whose responses are to be kept, not the kernel: ``error`` is theirs then, and the bias is corrected.

    Returns
    -------
    Factorization
        Factors "in" (G, R, I), "out" (G, O/G, R), and "axis0".. (G, R, K_n) for the axes with more than one tap, or
        "spatial" (G, R, K..).

    Raises
    ------
    RankError
        If the request is out of range or cannot be met.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorconv as tc
    >>> kernel = np.random.default_rng(0).standard_normal((8, 6, 3, 3))
    >>> [layer.kernel.shape for layer in tc.cp(kernel, rank=5).sequence]
    [(5, 6, 1, 1), (5, 1, 3, 1), (5, 1, 1, 3), (8, 5, 1, 1)]
    """
    scheme = CP(as_layer(layer), merge_spatial, rng, correction)
    return solve(scheme, Request(rank, error, budget, of, input_size, statistics=statistics))
