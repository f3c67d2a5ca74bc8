"""CP: pointwise, one depthwise convolution per spatial axis (or one for all), pointwise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from tensorconv import ranks
from tensorconv.errors import RankError
from tensorconv.factorizations.factorization import Factorization
from tensorconv.factorizations.fitter import Fitter
from tensorconv.factorizations.registry import register
from tensorconv.factorizations.scheme import Array, Factors, Rank, Scheme, Shape, product, wide
from tensorconv.factorizations.solve import Request, solve
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import flag
from tensorconv.layers import ConvLayer, as_layer
from tensorconv.linalg import as_generator, cp_als, singular_values

WARM_SWEEPS = 80  # of a fit that starts from a neighbour's factors; a Gaussian start takes up to 200


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
    """

    merge_spatial: bool = False
    rng: Any = field(default=0, compare=False)
    name: ClassVar[str] = "cp"

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

    def kernels(self, factors: Factors) -> list[Array]:
        """The factors are the kernels."""
        spatial = [factors[f"axis{a}"] for a in self.axes] or [factors["spatial"]]
        return [factors["in"], *spatial, factors["out"]]

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


class CPFitter(Fitter[CP]):
    """Alternating least squares, from a Gaussian start of its own for every group and rank.

    While ranks are searched for, each fit starts from the one before, its weakest terms dropped or Gaussian ones added.

    Parameters
    ----------
    scheme : CP
        What is to be fitted.
    """

    def __init__(self, scheme: CP) -> None:
        super().__init__(scheme)
        generator = as_generator(scheme.rng)
        self.seed = int(generator.integers(2**63))
        if not self.is_wide:
            self.scale = 1.0  # squares of float32 numbers are safe in float64 as they are
        self.target = 0.0  # the error that a search is after: fits stop there
        self.latest: dict[int, list[Array]] = {}  # group -> factors of the fit before

    @property
    def tensors(self) -> Array:
        """The tensors (G, *modes), in float32 where the kernel is no wider: the true residual judges the result."""
        shape = (self.shape[0], *self.scheme.modes)
        if self.is_wide:
            return self.blocks.reshape(shape)
        return self._kernel.astype(np.float32, copy=False).reshape(shape)

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
        if rank == self.scheme.maximum[0]:
            return _fibres(tensor)
        rng = np.random.default_rng([self.seed, group, rank])
        before = self.latest.get(group)
        if before is None:
            weights, factors = cp_als(tensor, rank, rng=rng, target=self.target)
        else:
            more = max(rank - before[0].shape[1], 0)
            start = [np.hstack([f[:, :rank], rng.standard_normal((len(f), more)) / len(f)]) for f in before]
            weights, factors = cp_als(tensor, rank, start=start, n_iter_max=WARM_SWEEPS, target=self.target)
        self.latest[group] = [factor * weights ** (1 / len(factors)) for factor in factors]
        return self.latest[group]

    def spectra(self) -> list[Array]:
        """CP has no spectrum."""
        raise RankError("cp has no spectrum for a rank rule to look at; give an integer rank, error= or budget=")

    def meet_error(
        self, attempt: Callable[[Rank], float], error: float, maximum: Rank, cost: Callable[[Rank], Fraction]
    ) -> Rank:
        """Search between the rank that every unfolding needs at least and the exact one."""
        del cost
        low, self.target = 1, error
        tensors = self.tensors
        for mode in range(len(self.scheme.modes)):
            unfolding = np.moveaxis(tensors, 1 + mode, 1).reshape(self.shape[0], self.scheme.modes[mode], -1)
            tail = ranks.tail_energy(singular_values(unfolding))
            low = max(low, int(np.argmax(np.sqrt(tail / (tail[0] or 1.0)) <= error * (1 + 1e-6) + 1e-7)))
        bounded = maximum < self.scheme.maximum
        return (ranks.bisect_meeting(lambda r: attempt((r,)), error, low, maximum[0], bounded=bounded),)


def _fibres(tensor: Array) -> list[Array]:
    """Write a tensor exactly as one term per fibre along its largest mode; each term's factors share its norm."""
    largest = int(np.argmax(tensor.shape))
    fibres = np.moveaxis(np.asarray(tensor, np.float64), largest, 0).reshape(tensor.shape[largest], -1)
    others = [n for mode, n in enumerate(tensor.shape) if mode != largest]
    index = np.unravel_index(np.arange(fibres.shape[1]), others)
    norms = np.linalg.norm(fibres, axis=0)
    share = norms ** (1 / tensor.ndim)
    factors = [np.where(np.arange(n)[:, None] == at[None, :], share, 0.0) for n, at in zip(others, index, strict=True)]
    factors.insert(largest, fibres * np.divide(share, norms, out=np.zeros_like(norms), where=norms > 0))
    return factors


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
) -> Factorization:
    """Factorize a layer by a CP decomposition of every group's kernel.

    ``W[o, i, k1..kN] = sum_r out[o, r] in[r, i] axis0[r, k1] .. axisN[r, kN]``: a pointwise layer to R channels, one
    depthwise convolution per spatial axis, a pointwise layer (Lebedev, Ganin, Rakhuba, Oseledets, Lempitsky, 2015,
    section 3.2). With ``merge_spatial`` one depthwise convolution has all axes, as a MobileNetV2 block. Fitted by
    alternating least squares with momentum; at the largest rank, one term per fibre, it is exact.

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
    return solve(
        CP(as_layer(layer), flag("merge_spatial", merge_spatial), rng), Request(rank, error, budget, of, input_size)
    )
