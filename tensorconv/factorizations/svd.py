"""Split SVD: some spatial axes in the first convolution, the rest in the second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tensorconv.errors import RankError
from tensorconv.factorizations.factorization import Factorization
from tensorconv.factorizations.registry import register
from tensorconv.factorizations.scheme import Array, Factors, Rank, Scheme, Shape, wide
from tensorconv.factorizations.solve import Request, solve
from tensorconv.factorizations.svd_fitter import SplitSVDFitter, SplitSVDResponseFitter
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import is_integer
from tensorconv.layers import ConvLayer, as_layer
from tensorconv.moments import Moments
from tensorconv.text import product


@dataclass(frozen=True)
class SplitSVD(Scheme):
    """Factors "first" (G, R, I, K_A) and "second" (G, O/G, R, K_B), sizes 1 on the axes of the other.

    Parameters
    ----------
    layer : ConvLayer
        The layer to factorize.
    axes : tuple of int
        The spatial axes A of the first convolution.
    """

    axes: tuple[int, ...] = ()
    name: ClassVar[str] = "svd"

    @classmethod
    def of(cls, layer: ConvLayer, split: str | Sequence[int] = "out") -> SplitSVD:
        """Resolve a split by name.

        Parameters
        ----------
        layer : ConvLayer
            The layer to factorize.
        split : {"out", "in"} or sequence of int
            Which spatial axes the first convolution has: all, none, or these.

        Returns
        -------
        SplitSVD
            The scheme.

        Raises
        ------
        RankError
            If the split names axes that are not there.
        """
        ndim = layer.geometry.ndim
        if split in ("in", "out"):
            return cls(layer, tuple(range(ndim)) if split == "out" else ())
        listed = split if isinstance(split, Sequence) and not isinstance(split, str) else ()
        if not listed or not all(is_integer(axis) and 0 <= axis < ndim for axis in listed):
            raise RankError(f'split must be "in", "out" or a tuple of spatial axes from 0 to {ndim - 1}, got {split!r}')
        return cls(layer, tuple(sorted({int(axis) for axis in listed})))

    @property
    def rest(self) -> tuple[int, ...]:
        """Spatial axes of the second convolution."""
        return tuple(a for a in range(self.layer.geometry.ndim) if a not in self.axes)

    def sizes(self, axes: tuple[int, ...]) -> Shape:
        """Return the kernel size with ones on all but the given axes.

        Parameters
        ----------
        axes : tuple of int
            Spatial axes.

        Returns
        -------
        tuple of int
            One size per spatial axis.
        """
        return tuple(k if a in axes else 1 for a, k in enumerate(self.layer.kernel_size))

    @property
    def maximum(self) -> Rank:
        """Full rank of the unfolding."""
        _, n_out, n_in, *_ = self.block_shape
        return (min(n_in * math.prod(self.sizes(self.axes)), n_out * math.prod(self.sizes(self.rest))),)

    @property
    def maximum_rules(self) -> tuple[str, ...]:
        """The two sides of the unfolding, in letters."""
        sides = [product(c, self._letters(axes)) for c, axes in (("I", self.axes), (self.out_letter, self.rest))]
        return (f"min({', '.join(sides)})",)

    def _letters(self, axes: tuple[int, ...]) -> str:
        return "K" if len(axes) == self.layer.geometry.ndim else product(*(f"K{a + 1}" for a in axes))

    def chain(self, rank: Rank) -> list[tuple[Shape, ConvGeometry]]:
        """Two convolutions."""
        n_groups, n_out, n_in, *_ = self.block_shape
        geometry = self.layer.geometry
        first = ((n_groups * rank[0], n_in, *self.sizes(self.axes)), geometry.on_axes(self.axes, n_groups))
        second = ((n_groups * n_out, rank[0], *self.sizes(self.rest)), geometry.on_axes(self.rest, n_groups))
        return [first, second]

    @property
    def layer_factors(self) -> list[str]:
        """The factors are the kernels."""
        return ["first", "second"]

    def factor_shapes(self, rank: Rank) -> dict[str, Shape]:
        """The layers' kernels with the groups in front."""
        n_groups, n_out, n_in, *_ = self.block_shape
        first = (n_groups, rank[0], n_in, *self.sizes(self.axes))
        return {"first": first, "second": (n_groups, n_out, rank[0], *self.sizes(self.rest))}

    def reconstruct(self, factors: Factors, rows: slice) -> Array:
        """Sum over the rank."""
        first, second = wide(factors["first"]), wide(factors["second"][:, rows])
        n_groups, n_rows, rank = second.shape[:3]
        left = second.reshape(n_groups, n_rows, rank, -1).swapaxes(2, 3).reshape(n_groups, -1, rank)
        return _fold(left @ first.reshape(n_groups, rank, -1), n_rows, first.shape[2], self)

    def fitter(self) -> SplitSVDFitter:
        """One SVD per group."""
        return SplitSVDFitter(self)

    def response_fitter(self, moments: Moments) -> SplitSVDResponseFitter:
        """Reduced-rank regression, or alternating least squares."""
        return SplitSVDResponseFitter(self, moments)


def _fold(matrices: Array, n_rows: int, n_in: int, scheme: SplitSVD) -> Array:
    """Turn (G, rows K_B, I K_A) into (G, rows, I, K1..KN)."""
    ndim, size = scheme.layer.geometry.ndim, scheme.layer.kernel_size
    rest, axes = scheme.rest, scheme.axes
    tensor = matrices.reshape(len(matrices), n_rows, *(size[a] for a in rest), n_in, *(size[a] for a in axes))
    where = {a: 2 + i for i, a in enumerate(rest)} | {a: 3 + len(rest) + i for i, a in enumerate(axes)}
    return tensor.transpose(0, 1, 2 + len(rest), *(where[a] for a in range(ndim)))


def _variants(layer: ConvLayer) -> list[dict[str, Any]]:
    splits: list[Any] = ["out", "in"]
    wide = [a for a, k in enumerate(layer.kernel_size) if k > 1]
    if len(wide) > 1:
        splits += [(axis,) for axis in wide]
    return [{"split": split} for split in splits]


@register(_variants, SplitSVD.of)
def svd(
    layer: Any,
    rank: Any = None,
    *,
    error: float | None = None,
    budget: float | None = None,
    of: str = "macs",
    input_size: Sequence[int] | None = None,
    split: str | Sequence[int] = "out",
    statistics: Any = None,
) -> Factorization:
    """Factorize a layer into two convolutions by one truncated SVD per group.

    With the kernel unfolded to rows (O, axes of the second layer) and columns (I, axes of the first),
    ``W = sum_r second_r first_r``: channel decomposition for split "out" (Zhang, Zou, He, Sun, 2015), spatial SVD for a
    single axis (Jaderberg, Vedaldi, Zisserman, 2014, scheme 2). It is the best approximation of its rank (Eckart and
    Young, 1936), and exact at full rank. Each spatial axis keeps its stride, padding and dilation in the layer that
    owns it.

    With statistics and split "out" it is channel decomposition as published: reduced-rank regression of the responses,
    centred, the best of its rank; other splits go by alternating least squares in the metric of the patches.

    Parameters
    ----------
    layer : ConvLayer or array_like, shape (O, I, K1..KN)
        The layer; an array means stride 1 without padding.
    rank : int or rule, optional
        Channels between the layers, per group, from 1 to ``min(I * K_first, O/G * K_second)``.
    error : float, optional
        Largest relative Frobenius error; the smallest rank that meets it is taken.
    budget : float, optional
        Largest share of the dense cost; the largest rank that fits is taken.
    of : {"macs", "parameters", "bytes"}
        The cost that the budget is of.
    input_size : sequence of int, optional
        Spatial size that the cost is for; the limit of large inputs if not given.
    split : {"out", "in"} or tuple of int
        "out": the full kernel, then a pointwise layer; "in": a pointwise layer, then the full kernel; a tuple: these
        spatial axes in the first layer, the rest in the second.
    statistics : PatchStatistics, optional
        Of data whose responses are to be kept, not the kernel: ``error`` is theirs then, and the bias is corrected.

    Returns
    -------
    Factorization
        Factors "first" (G, R, I, K..) and "second" (G, O/G, R, K..), each with size 1 on the other's axes.

    Raises
    ------
    RankError
        If the request is out of range or cannot be met.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorconv as tc
    >>> kernel = np.random.default_rng(0).standard_normal((8, 4, 3, 3))
    >>> f = tc.svd(kernel, rank=5, split=(0,))
    >>> [layer.kernel_size for layer in f.sequence]
    [(3, 1), (1, 3)]
    """
    return solve(
        SplitSVD.of(as_layer(layer), split), Request(rank, error, budget, of, input_size, statistics=statistics)
    )
