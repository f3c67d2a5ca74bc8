"""The layers that every factorization is tested with: unequal geometries over 1 to 4 axes, and kernels at the edges."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorconv as tc
from tensorconv.arrays import Array, named_dtype
from tensorconv.factorizations import Factorization, registered

# (O, I/G, K1..KN) and the integers of the geometry; two axes swapped, or one end taken for the other, change the result
GEOMETRIES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain 1d": ((6, 4, 5), {}),
    "uneven 1d": ((5, 4, 4), {"stride": 3, "padding": ((2, 1),), "dilation": 2}),
    "stride above kernel 1d": ((4, 3, 2), {"stride": 4, "padding": 1}),
    "unequal 2d": ((7, 5, 3, 2), {"stride": (2, 3), "padding": ((1, 0), (2, 1)), "dilation": (2, 1)}),
    "even 2d": ((5, 6, 2, 4), {"stride": (1, 2), "padding": ((0, 0), (1, 2)), "dilation": (3, 1)}),
    "cropping 2d": ((6, 4, 3, 2), {"stride": (2, 1), "padding": ((-1, 2), (1, -2))}),
    "grouped 2d": (
        (6, 3, 3, 2),
        {"groups": 2, "stride": (1, 2), "padding": ((1, 1), (0, 1)), "dilation": (1, 2)},
    ),
    "depthwise 2d": ((8, 1, 3, 4), {"groups": 4, "stride": (2, 1), "padding": (1, 2)}),
    "strided pointwise 2d": ((6, 5, 1, 1), {"stride": (2, 3)}),
    "one tap on an axis 2d": ((6, 5, 1, 4), {"stride": (2, 1), "padding": (1, 0), "dilation": (3, 2)}),
    "one channel 2d": ((1, 1, 3, 5), {"stride": (1, 2), "padding": (1, 2)}),
    "unequal 3d": (
        (4, 3, 2, 3, 1),
        {"stride": (1, 2, 3), "padding": ((0, 1), (1, 1), (0, 0)), "dilation": (2, 1, 1)},
    ),
    "grouped 3d": ((6, 2, 2, 1, 3), {"groups": 3, "stride": (3, 1, 2), "padding": (1, 0, 2), "dilation": (1, 1, 2)}),
    "unequal 4d": (
        (3, 4, 2, 3, 1, 2),
        {"stride": (1, 2, 2, 1), "padding": ((1, 0), (0, 2), (0, 0), (1, 1)), "dilation": (1, 1, 1, 2)},
    ),
    "grouped 4d": ((4, 2, 2, 2, 2, 1), {"groups": 2, "stride": (2, 1, 2, 1), "padding": (0, 1, 1, 0)}),
    "transposed 1d": ((5, 4, 4), {"transposed": True, "stride": 3, "padding": 1, "output_padding": 2}),
    "transposed 2d": (
        (4, 6, 3, 2),
        {"transposed": True, "stride": (2, 3), "padding": ((1, 0), (0, 1)), "dilation": (1, 2)},
    ),
    "transposed grouped 2d": (
        (6, 2, 3, 4),
        {"transposed": True, "groups": 2, "stride": (2, 3), "padding": (1, 2), "output_padding": (1, 2)},
    ),
    "transposed depthwise 2d": (
        (4, 1, 3, 2),
        {"transposed": True, "groups": 4, "stride": (3, 1), "padding": ((-1, 1), (0, -2))},
    ),
    "transposed 4d": (
        (3, 2, 2, 1, 2, 3),
        {"transposed": True, "stride": (2, 1, 1, 2), "padding": ((0, 0), (0, 0), (1, 0), (1, 2))},
    ),
}
WITHOUT_BIAS = ("plain 1d", "even 2d", "strided pointwise 2d", "transposed 2d", "grouped 4d")
# every kind of geometry once, for what need not run on all of them
FEW = ("uneven 1d", "unequal 2d", "grouped 2d", "unequal 3d", "transposed grouped 2d")


@dataclass(frozen=True)
class Run:
    """One variant of one registered method on one of the geometries.

    Parameters
    ----------
    case : str
        A name in GEOMETRIES.
    method : str
        A name in the registry.
    chosen : tuple of (str, Any)
        The options.
    """

    case: str
    method: str
    chosen: tuple[tuple[str, Any], ...]

    @property
    def options(self) -> dict[str, Any]:
        """The options as keyword arguments."""
        return dict(self.chosen)

    def __str__(self) -> str:
        return "-".join([self.case, self.method, *(f"{key}={value}" for key, value in self.chosen)])


def layer(case: str, dtype: str = "float64") -> tc.ConvLayer:
    """Return a layer of normally distributed entries, the same on every call."""
    shape, options = GEOMETRIES[case]
    rng = np.random.default_rng(list(GEOMETRIES).index(case))
    kernel, bias = rng.standard_normal(shape), rng.standard_normal(shape[0])
    return tc.ConvLayer.of(
        kernel.astype(named_dtype(dtype)), None if case in WITHOUT_BIAS else bias, name="conv", **options
    )


def with_kernel(like: tc.ConvLayer, kernel: Array) -> tc.ConvLayer:
    """Return a layer of the same geometry and bias with another kernel."""
    return tc.ConvLayer(kernel, like.geometry, like.bias, like.name)


def rank_one(like: tc.ConvLayer) -> tc.ConvLayer:
    """Return the layer with an outer product of positive vectors as the kernel of every group."""
    kernel = functools.reduce(np.multiply.outer, [np.arange(1.0, n + 1) for n in like.kernel.shape])
    return with_kernel(like, kernel.astype(like.dtype))


def variants(one: tc.ConvLayer) -> list[tuple[str, dict[str, Any]]]:
    """Return every registered method and variant that fits a layer, and a split into two pairs of axes."""
    found = [(name, options) for name, method in registered().items() for options in method.variants(one)]
    return found + [("svd", {"split": (0, 2)})] * (one.geometry.ndim > 2)


def compared(one: tc.ConvLayer) -> list[tuple[str, dict[str, Any]]]:
    """Return the methods and variants that "best" compares on a layer."""
    return [(name, m) for name, method in registered().items() if method.compared for m in method.variants(one)]


def runs(*cases: str) -> list[Run]:
    """Return every registered method and variant on each of the geometries, or on all of them."""
    return [
        Run(case, method, tuple(options.items()))
        for case in cases or GEOMETRIES
        for method, options in variants(layer(case))
    ]


def maximum(one: tc.ConvLayer, method: str, options: dict[str, Any]) -> tuple[int, ...]:
    """Return the largest ranks of a variant of a method."""
    ranks: tuple[int, ...] = registered()[method].scheme(one, **options).maximum
    return ranks


def middle(one: tc.ConvLayer, method: str, options: dict[str, Any]) -> Any:
    """Return ranks about half way up, unequal where there are several."""
    ranks = tuple(max(1, (most + index % 2) // 2) for index, most in enumerate(maximum(one, method, options)))
    return ranks[0] if len(ranks) == 1 else ranks


def fitted(one: tc.ConvLayer, method: str, options: dict[str, Any], rank: Any, **request: Any) -> Factorization:
    """Return what the public function of a method makes of a layer."""
    result: Factorization = tc.methods()[method](one, rank, **options, **request)
    return result


@functools.cache
def factorized(run: Run, dtype: str = "float64", *, full: bool = False) -> Factorization:
    """Return the factorization of a run at half or full rank; computed once, since results never change."""
    one = layer(run.case, dtype)
    ranks = maximum(one, run.method, run.options) if full else middle(one, run.method, run.options)
    return fitted(one, run.method, run.options, ranks[0] if full and len(ranks) == 1 else ranks)


def input_size(one: tc.ConvLayer) -> tuple[int, ...]:
    """Return a small input size with borders and an inside, which no stride above 1 divides."""
    return tuple(_axis_sizes(one))


def _axis_sizes(one: tc.ConvLayer) -> Iterator[int]:
    g = one.geometry
    for k, s, d, (low, high) in zip(one.kernel_size, g.stride, g.dilation, g.padding, strict=True):
        extent = d * (k - 1) + 1
        if g.transposed:  # s (x - 1) + extent - low - high is at least s + 1
            yield 2 + max(0, -(-(low + high - extent + 1) // s))
        else:  # the third position is the last, and one element more stays unread
            yield max(1, extent - low - high) + 2 * s + (s > 1)
