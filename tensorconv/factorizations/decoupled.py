"""Decoupled convolutions: channels are extracted pointwise, then aggregated over the taps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from tensorconv import ranks
from tensorconv.cost import Chain, Stored, layer_fan_in
from tensorconv.errors import RankError
from tensorconv.factorizations.decoupled_fitter import DecoupledFitter
from tensorconv.factorizations.factorization import Factorization
from tensorconv.factorizations.registry import register
from tensorconv.factorizations.scheme import Array, Factors, Rank, Scheme, Shape, n_taps, wide
from tensorconv.factorizations.solve import Request, solve
from tensorconv.integers import is_integer
from tensorconv.layers import ConvLayer, as_layer
from tensorconv.text import product

CONFIGURATIONS = ("dense", "sparse", "binary", "one-hot")
SHARE = 1 / 3  # of the aggregation's entries that are not zero where the caller does not say
TINY = 1e-9  # of products of a share that are meant to be integers


@dataclass(frozen=True)
class Decoupled(Scheme):
    """Factors "pointwise" (G, T, I) and "aggregation" (G, O/G, T, K..); one-hot has the pointwise alone.

    Parameters
    ----------
    layer : ConvLayer
        The layer to factorize.
    configuration : {"dense", "sparse", "binary", "one-hot"}
        What the aggregation may be.
    taps : int or float, optional
        Entries of a sparse or binary aggregation that are not zero, per out-channel, or their share.
    """

    configuration: str = "dense"
    taps: int | float | None = None
    name: ClassVar[str] = "decoupled"

    def __post_init__(self) -> None:
        if self.configuration not in CONFIGURATIONS:
            raise RankError(f"configuration must be one of {CONFIGURATIONS}, got {self.configuration!r}")
        if self.taps is None:
            return
        if not self.is_thinned:
            raise RankError(
                f'taps are for the configurations "sparse" and "binary", got {self.taps!r} with {self.configuration!r}'
            )
        if not (is_integer(self.taps) and self.taps >= 1) and not (isinstance(self.taps, float) and 0 < self.taps <= 1):
            raise RankError(
                "taps must be an integer of at least 1, entries that are not zero per out-channel, or their share as a "
                f"float above 0 and at most 1.0, got {self.taps!r}"
            )

    @property
    def is_thinned(self) -> bool:
        """Whether an out-channel has a limited number of entries that are not zero."""
        return self.configuration in ("sparse", "binary")

    @property
    def is_fixed(self) -> bool:
        """Whether the aggregation is the one-hot one, which is not fitted."""
        return self.configuration == "one-hot"

    def n_nonzero(self, n_channels: int) -> int:
        """Return how many entries of an out-channel's aggregation may be other than zero.

        Parameters
        ----------
        n_channels : int
            Intermediate channels T.

        Returns
        -------
        int
            From 1 to K T.
        """
        size = n_channels * n_taps(self)
        if not self.is_thinned:
            return size
        return min(int(self.taps or 0) if is_integer(self.taps) else max(1, math.ceil(self.share * size - TINY)), size)

    @property
    def share(self) -> float:
        """Share of the entries that may be other than zero, where the taps are no number."""
        return SHARE if self.taps is None else float(self.taps)

    @property
    def rows(self) -> int:
        """Number of pairs of an out-channel and a tap in one group."""
        return self.block_shape[1] * n_taps(self)

    @property
    def maximum(self) -> Rank:
        """The rank of the unfolding, or as many channels as make sparse and binary aggregations exact."""
        full = min(self.rows, self.block_shape[2])
        if self.configuration == "sparse" and not is_integer(self.taps):
            return (min(self.rows, math.ceil(full / self.share - TINY)),)
        is_full = self.configuration == "sparse" and (self.taps or 0) >= full * n_taps(self)
        return (full if self.configuration == "dense" or is_full else self.rows,)

    def only_rank(self, request: Request) -> Rank:
        """Return the rank of the one-hot form, if it meets a request.

        Parameters
        ----------
        request : Request
            Rank, error or budget.

        Returns
        -------
        tuple of int
            All rows.

        Raises
        ------
        RankError
            If another rank is asked for, or the budget is too small; any error is met by the exact form.
        """
        (rows,), (rule,) = self.maximum, self.maximum_rules
        if request.rank is not None and ranks.spread(request.rank, self.maximum) != (rows,):
            raise RankError(f"rank must be {rows} = {rule} with configuration='one-hot', got {request.rank}")
        if request.budget is not None:
            share = request.cost(self.layer, self.chain((rows,))) / request.cost(self.layer, self.layer.chain)
            if share > request.budget:
                raise RankError(
                    f"budget={request.budget:g} of {request.of} cannot be met by configuration='one-hot', which costs "
                    f"{float(share):.3g} of the dense layer; ask for at least that, or try another configuration"
                )
        return (rows,)

    @property
    def maximum_rules(self) -> tuple[str, ...]:
        """Pairs of an out-channel and a tap, and in-channels, in letters."""
        rows = product(self.out_letter, "K")
        if self.configuration == "sparse" and not is_integer(self.taps):
            return (f"min({'3*I' if self.taps is None else f'I/{self.taps:g}'}, {rows})",)
        return (f"min(I, {rows})" if self.configuration == "dense" or self.maximum[0] < self.rows else rows,)

    def chain(self, rank: Rank) -> Chain:
        """A pointwise layer and the aggregation, which has the whole geometry."""
        n_groups, n_out, n_in, *size = self.block_shape
        geometry, channels = self.layer.geometry, n_groups * n_out
        every = range(geometry.ndim)
        first = ((n_groups * rank[0], n_in, *self.ones), self.pointwise(n_groups))
        if self.is_fixed:
            counts = Stored(0, 0, channels * n_taps(self))
            return [first, ((channels, n_taps(self), *size), geometry.on_axes(every, channels), counts)]
        second = ((channels, rank[0], *size), geometry.on_axes(every, n_groups))
        entries = channels * self.n_nonzero(rank[0])
        if self.configuration == "sparse":
            return [first, (*second, Stored(entries, entries))]
        return [first, second if self.configuration == "dense" else (*second, Stored(channels, channels, entries))]

    @property
    def entries(self) -> tuple[str, ...]:
        """The pointwise layer is dense."""
        return ("dense", "fixed" if self.is_fixed else self.configuration)

    def factor_shapes(self, rank: Rank) -> dict[str, Shape]:
        """The layers' kernels with the groups in front."""
        n_groups, n_out, n_in, *size = self.block_shape
        pointwise: dict[str, Shape] = {"pointwise": (n_groups, rank[0], n_in)}
        return pointwise if self.is_fixed else pointwise | {"aggregation": (n_groups, n_out, rank[0], *size)}

    def kernels(self, factors: Factors) -> list[Array]:
        """The factors, or the pointwise one and the one-hot kernel."""
        if not self.is_fixed:
            return [factors["pointwise"], factors["aggregation"]]
        one_hot = np.eye(n_taps(self), dtype=factors["pointwise"].dtype)
        return [factors["pointwise"], np.broadcast_to(one_hot, (self.layer.out_channels, *one_hot.shape))]

    def fan_in(self, rank: Rank) -> dict[str, Fraction]:
        """A one-hot aggregation sums one tap of each channel, in which the pointwise factor has its share."""
        first, second = (layer_fan_in(step[:2]) for step in self.chain(rank))
        if self.is_fixed:
            return {"pointwise": first * second / n_taps(self)}
        return {"pointwise": first, "aggregation": second}

    def drawn(self, name: str, normal: Array, generator: np.random.Generator) -> Array:
        """Sparse and binary aggregations draw their support and raise the entries on it."""
        if name == "pointwise" or not self.is_thinned:
            return normal
        rows = normal.reshape(*normal.shape[:2], -1)
        n_nonzero = self.n_nonzero(normal.shape[2])
        chosen = np.argsort(generator.random(rows.shape), axis=2) < n_nonzero
        raised = math.sqrt(rows.shape[2] / n_nonzero)
        values = np.copysign(raised, rows) if self.configuration == "binary" else raised * rows
        return np.where(chosen, values, 0.0).reshape(normal.shape)

    def reconstruct(self, factors: Factors, rows: slice) -> Array:
        """Sum over the intermediate channels."""
        n_groups, n_out, n_in, *size = self.block_shape
        pointwise = wide(factors["pointwise"])
        if self.is_fixed:
            sums = pointwise.reshape(n_groups, n_out, -1, n_in)[:, rows]
        else:
            aggregation = wide(factors["aggregation"][:, rows])
            flat = aggregation.reshape(*aggregation.shape[:3], -1).swapaxes(2, 3)
            sums = (flat.reshape(n_groups, -1, flat.shape[3]) @ pointwise).reshape(*flat.shape[:3], n_in)
        return sums.swapaxes(2, 3).reshape(n_groups, -1, n_in, *size)

    def fitter(self) -> DecoupledFitter:
        """One SVD or dictionary per group."""
        return DecoupledFitter(self)


def _variants(layer: ConvLayer) -> list[dict[str, Any]]:
    del layer
    return [{"configuration": name} for name in CONFIGURATIONS if name != "one-hot"]


@register(_variants, Decoupled, searches=True, compared=False)
def decoupled(
    layer: Any,
    rank: Any = None,
    *,
    error: float | None = None,
    budget: float | None = None,
    of: str = "macs",
    input_size: Sequence[int] | None = None,
    configuration: str = "dense",
    taps: int | float | None = None,
) -> Factorization:
    """Factorize a layer into channel extraction and spatial aggregation.

    A pointwise layer extracts T channels per group, and a layer with the whole stride, padding and dilation sums them
    over the taps: ``W[o, i, k] = sum_t aggregation[o, t, k] pointwise[t, i]`` (Xie and others, 2018, "Decoupled
    convolutions for CNNs"). "one-hot" is the exact form: one channel ``pointwise[(o, k)] = W[o, :, k]`` for every pair
    of an out-channel and a tap, which are then only shifted and added. It saves nothing itself; the others do, with
    fewer channels and other aggregations:

    - "dense": any entries. This is the SVD split "in", the best of its rank.
    - "sparse": ``taps`` entries per out-channel are not zero, and are stored and multiplied. Fitted by alternating
      least squares from a thresholded SVD in its best rotation (:func:`tensorconv.linalg.sparse_dictionary`).
    - "binary": these entries are one scale per out-channel, with either sign; the scale is stored and multiplied, the
      rest are additions, counted by ``f.sequence.additions`` (:func:`tensorconv.linalg.binary_dictionary`).

    Positions and signs are not counted as parameters. The counts hold where zeros are skipped: frameworks run sparse
    and binary kernels as dense ones, which is why "best" does not compare this method.

    Parameters
    ----------
    layer : ConvLayer or array_like, shape (O, I, K1..KN)
        The layer; an array means stride 1 without padding.
    rank : int or rule, optional
        Intermediate channels T per group: "dense" up to ``min(I, O/G * K)``; "sparse" and "binary" up to ``O/G * K``,
        exact there with ``taps`` of at least K, or fewer where "sparse" can hold any kernel; "one-hot" needs none.
    error : float, optional
        Largest relative Frobenius error; for "sparse" and "binary" ranks are searched for by fitting.
    budget : float, optional
        Largest share of the dense cost; the largest rank that fits is taken.
    of : {"macs", "parameters", "bytes"}
        The cost that the budget is of.
    input_size : sequence of int, optional
        Spatial size that the cost is for; the limit of large inputs if not given.
    configuration : {"dense", "sparse", "binary", "one-hot"}
        What the aggregation may be.
    taps : int or float, optional
        Entries per out-channel of a sparse or binary aggregation that are not zero, or as a float their share of T K,
        by default a third. A binary one may have fewer.

    Returns
    -------
    Factorization
        Factors "pointwise" (G, T, I) and "aggregation" (G, O/G, T, K..); one-hot has no aggregation to store.

    Raises
    ------
    RankError
        If the request is out of range or cannot be met, or there is no such configuration.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorconv as tc
    >>> kernel = np.random.default_rng(0).standard_normal((8, 4, 3, 3))
    >>> print(tc.decoupled(kernel, configuration="one-hot").sequence)
    layer  channels  kernel  geometry                              parameters
    0      4 -> 72   1x1     stride 1, padding 0                          288
    1      72 -> 8   3x3     stride 1, padding 0, groups 8, fixed           0
    >>> f = tc.decoupled(kernel, rank=4, configuration="sparse", taps=10)
    >>> [layer.n_parameters for layer in f.sequence]
    [16, 80]
    """
    scheme = Decoupled(as_layer(layer), configuration, taps)
    if scheme.is_fixed:
        request = Request(scheme.maximum if rank is error is budget is None else rank, error, budget, of, input_size)
        return solve(scheme, replace(request, rank=scheme.only_rank(request), error=None, budget=None))
    return solve(scheme, Request(rank, error, budget, of, input_size))
