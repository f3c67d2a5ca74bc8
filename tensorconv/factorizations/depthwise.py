"""Sums of depthwise separable convolutions: one small SVD per channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from tensorconv.errors import RankError
from tensorconv.factorizations.factorization import Factorization
from tensorconv.factorizations.fitter import Fitter
from tensorconv.factorizations.registry import register
from tensorconv.factorizations.response_fitter import SPATIAL, ResponseFitter, Terms
from tensorconv.factorizations.scheme import Array, Factors, Rank, Scheme, Shape, n_taps, wide
from tensorconv.factorizations.solve import Request, solve
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer, as_layer
from tensorconv.linalg import balanced_svd, compensated_slices, singular_values
from tensorconv.moments import Moments

ORDERS = ("depthwise-first", "pointwise-first")


@dataclass(frozen=True)
class DepthwiseSeparable(Scheme):
    """Factors "depthwise" (G, C, R, K..) and "pointwise": C is I depthwise-first and O/G pointwise-first.

    Parameters
    ----------
    layer : ConvLayer
        The layer to factorize.
    order : {"depthwise-first", "pointwise-first"}
        Which layer comes first.
    """

    order: str = "depthwise-first"
    name: ClassVar[str] = "depthwise_separable"

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise RankError(f"order must be one of {ORDERS}, got {self.order!r}")

    @property
    def depthwise_first(self) -> bool:
        """Whether the depthwise layer comes first."""
        return self.order == "depthwise-first"

    @property
    def maximum(self) -> Rank:
        """Full rank of the slices."""
        _, n_out, n_in, *_ = self.block_shape
        return (min(n_out if self.depthwise_first else n_in, n_taps(self)),)

    @property
    def maximum_rules(self) -> tuple[str, ...]:
        """The two sides of a slice, in letters."""
        return (f"min({self.out_letter if self.depthwise_first else 'I'}, K)",)

    def chain(self, rank: Rank) -> list[tuple[Shape, ConvGeometry]]:
        """A depthwise layer of multiplier R and a pointwise one, or a pointwise one and a layer of O groups."""
        n_groups, n_out, n_in, *size = self.block_shape
        geometry, (n_terms,) = self.layer.geometry, rank
        every = range(geometry.ndim)
        if self.depthwise_first:
            n_channels = n_groups * n_in
            return [
                ((n_channels * n_terms, 1, *size), geometry.on_axes(every, n_channels)),
                ((n_groups * n_out, n_in * n_terms, *self.ones), self.pointwise(n_groups)),
            ]
        n_channels = n_groups * n_out
        return [
            ((n_channels * n_terms, n_in, *self.ones), self.pointwise(n_groups)),
            ((n_channels, n_terms, *size), geometry.on_axes(every, n_channels)),
        ]

    @property
    def layer_factors(self) -> list[str]:
        """The factors are the kernels."""
        return ["depthwise", "pointwise"] if self.depthwise_first else ["pointwise", "depthwise"]

    def factor_shapes(self, rank: Rank) -> dict[str, Shape]:
        """One small matrix of each per channel."""
        n_groups, n_out, n_in, *size = self.block_shape
        if self.depthwise_first:
            return {"depthwise": (n_groups, n_in, rank[0], *size), "pointwise": (n_groups, n_out, n_in, rank[0])}
        return {"depthwise": (n_groups, n_out, rank[0], *size), "pointwise": (n_groups, n_out, rank[0], n_in)}

    def reconstruct(self, factors: Factors, rows: slice) -> Array:
        """Sum over the terms of every channel."""
        depthwise, pointwise = wide(factors["depthwise"]), wide(factors["pointwise"][:, rows])
        size = depthwise.shape[3:]
        if self.depthwise_first:  # (G, I, rows, R) @ (G, I, R, K)
            sums = pointwise.transpose(0, 2, 1, 3) @ depthwise.reshape(*depthwise.shape[:3], -1)
            return sums.transpose(0, 2, 1, 3).reshape(*pointwise.shape[:3], *size)
        depthwise = depthwise[:, rows]  # (G, rows, I, R) @ (G, rows, R, K)
        sums = pointwise.swapaxes(2, 3) @ depthwise.reshape(*depthwise.shape[:3], -1)
        return sums.reshape(*sums.shape[:3], *size)

    def fitter(self) -> DepthwiseFitter:
        """One SVD per channel."""
        return DepthwiseFitter(self)

    def response_fitter(self, moments: Moments) -> DepthwiseResponseFitter:
        """Sweeps over the channels, or alternating least squares."""
        return DepthwiseResponseFitter(self, moments)


class DepthwiseFitter(Fitter[DepthwiseSeparable]):
    """Works on the slices (G, C, m, K): one matrix per in-channel, or per out-channel.

    Parameters
    ----------
    scheme : DepthwiseSeparable
        What is to be fitted.
    """

    @cached_property
    def slices(self) -> Array:
        """The matrices."""
        flat = self.blocks.reshape(*self.shape[:3], -1)
        return flat.swapaxes(1, 2) if self.scheme.depthwise_first else flat

    @cached_property
    def values(self) -> Array:
        """Singular values (G C, n)."""
        values = singular_values(self.slices)
        return values.reshape(-1, values.shape[-1])

    def spectra(self) -> list[Array]:
        """One rank, one spectrum per channel."""
        return [self.values]

    def unfolding_shapes(self) -> list[tuple[int, int]]:
        """The two sides of a slice."""
        return [(self.slices.shape[-2], self.slices.shape[-1])]

    def factors(self, rank: Rank) -> Factors:
        """Cut the SVDs and share the singular values evenly."""
        left, right = balanced_svd(self.slices, rank[0], refine=self.is_wide)
        pointwise = left.swapaxes(1, 2) if self.scheme.depthwise_first else left.swapaxes(2, 3)
        return {"depthwise": right.reshape(*right.shape[:3], *self.shape[3:]), "pointwise": pointwise}


class DepthwiseResponseFitter(ResponseFitter[DepthwiseSeparable]):
    """Compensates in every in-channel what the others lose; pointwise-first goes by alternating least squares.

    Parameters
    ----------
    scheme : DepthwiseSeparable
        What is to be fitted.
    moments : Moments
        Of the data.
    """

    @property
    def keeps_channels(self) -> bool:
        """Both factors have the channels of one side."""
        return True

    def terms(self, factors: Factors) -> Terms:
        """The channels of one side are in both factors."""
        channels = ("i", "oir") if self.scheme.depthwise_first else ("o", "ori")
        return [
            (channels[0] + "r" + SPATIAL[: len(self.shape) - 3], factors["depthwise"]),
            (channels[1], factors["pointwise"]),
        ]

    def fitted(self, group: int, rank: Rank) -> Array:
        """Sweep over the channels of depthwise-first."""
        if not self.scheme.depthwise_first:
            return super().fitted(group, rank)
        target = self.targets[group].reshape(*self.shape[1:3], -1)
        start = None
        if self.start is not None:
            depthwise = self.start["depthwise"][group].reshape(*self.start["depthwise"].shape[1:3], -1)
            start = (self.start["pointwise"][group] / self.scale, depthwise)
        found = compensated_slices(target, self.metrics[group], rank[0], start=start)
        kernel: Array = np.einsum("oir,irk->oik", found.pointwise, found.depthwise, optimize=True)
        return kernel.reshape(len(target), -1)


def _variants(layer: ConvLayer) -> list[dict[str, Any]]:
    return [{"order": order} for order in ORDERS] if math.prod(layer.kernel_size) > 1 else []


@register(_variants, DepthwiseSeparable)
def depthwise_separable(
    layer: Any,
    rank: Any = None,
    *,
    error: float | None = None,
    budget: float | None = None,
    of: str = "macs",
    input_size: Sequence[int] | None = None,
    order: str = "depthwise-first",
    statistics: Any = None,
) -> Factorization:
    """Factorize a layer into a sum of R depthwise separable convolutions.

    Depthwise first, one SVD per in-channel ``W[:, i] = sum_r pointwise[:, i, r] depthwise[i, r]``: one depthwise layer
    of multiplier R and one pointwise layer. Pointwise first, one SVD per out-channel: a pointwise layer to O R channels
    and a layer of O groups. The sum over terms happens inside the second layer, so no branches are needed. This is
    network decoupling (Guo, Li, Lin, Chen, Li, 2018), and for R = 1, depthwise first, the data-free depth-wise
    decomposition (He, Qian, Ren, Zhang, Wei, 2019). Exact at full rank, where it costs slightly more than the dense
    layer.

    Parameters
    ----------
    layer : ConvLayer or array_like, shape (O, I, K1..KN)
        The layer; an array means stride 1 without padding.
    rank : int or rule, optional
        Number of terms R, from 1 to ``min(O/G, K)`` depthwise-first or ``min(I, K)`` pointwise-first. The rule of
        network decoupling is ``tc.ranks.mean_energy(0.95)``; ``tc.ranks.exact()`` is the smallest exact one.
    error : float, optional
        Largest relative Frobenius error; the smallest rank that meets it is taken.
    budget : float, optional
        Largest share of the dense cost; the largest rank that fits is taken.
    of : {"macs", "parameters", "bytes"}
        The cost that the budget is of.
    input_size : sequence of int, optional
        Spatial size that the cost is for; the limit of large inputs if not given.
    order : {"depthwise-first", "pointwise-first"}
        Which layer comes first; the depthwise one has the whole stride, padding and dilation.
    statistics : PatchStatistics, optional
        Of data whose responses are to be kept, not the kernel: ``error`` is theirs then, and the bias is corrected.

    Returns
    -------
    Factorization
        Factors "depthwise" (G, I, R, K..) and "pointwise" (G, O/G, I, R); pointwise-first (G, O/G, R, K..) and
        (G, O/G, R, I).

    Raises
    ------
    RankError
        If the request is out of range or cannot be met.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorconv as tc
    >>> kernel = np.random.default_rng(0).standard_normal((8, 4, 3, 3))
    >>> [layer.kernel.shape for layer in tc.depthwise_separable(kernel, rank=2).sequence]
    [(8, 1, 3, 3), (8, 8, 1, 1)]
    """
    return solve(
        DepthwiseSeparable(as_layer(layer), order), Request(rank, error, budget, of, input_size, statistics=statistics)
    )
