"""Transduction: a factorized layer given one more spatial axis, without training, as an image's layer for video."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tensorconv.arrays import Array, as_float_array
from tensorconv.errors import KernelError, RankError
from tensorconv.factorizations.cp import CP
from tensorconv.factorizations.depthwise import DepthwiseSeparable
from tensorconv.factorizations.factorization import Factorization, from_factors, relative_error
from tensorconv.factorizations.scheme import Factors, Rank, Scheme, wide
from tensorconv.factorizations.svd import SplitSVD
from tensorconv.factorizations.tensor_train import TensorTrain
from tensorconv.factorizations.tucker import Tucker
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import integer, is_integer, pairs_per_axis
from tensorconv.layers import ConvLayer
from tensorconv.linalg import one_blas_thread

STARTS = ("centre", "uniform")


def transduced(
    f: Factorization, taps: Any, start: str = "centre", *, stride: int = 1, padding: Any = None, dilation: int = 1
) -> Factorization:
    """Return a factorization with one more spatial axis, before the others.

    See :meth:`tensorconv.Factorization.transduce`.

    Parameters
    ----------
    f : Factorization
        Of a layer of N spatial axes.
    taps : int or array_like, shape (k,) or (R, k)
        Number of taps, or the taps, of all components or of each.
    start : {"centre", "uniform"}
        What a number of taps means.
    stride : int
        Stride along the new axis.
    padding : int or (int, int), optional
        Low and high padding along the new axis.
    dilation : int
        Dilation along the new axis.

    Returns
    -------
    Factorization
        Of a layer of N + 1 spatial axes.

    Raises
    ------
    RankError
        If the method has no factor that could have the axis, or the components do not fit.
    KernelError, GeometryError
        If taps or geometry cannot be used.
    """
    kind = type(f.scheme)
    if kind not in _TRANSDUCERS:
        raise RankError(
            f"method {f.method!r} has no factor for another axis; factorize by one of "
            f"{', '.join(k.name for k in _TRANSDUCERS)}"
        )
    filters = _filters(taps, start)
    shared = filters.ndim == 1
    geometry = _geometry(f.layer.geometry, filters.shape[-1], stride, padding, dilation)
    blank = np.zeros((*f.layer.kernel.shape[:2], filters.shape[-1], *f.layer.kernel_size), f.layer.dtype)
    scheme, factors, rank = _TRANSDUCERS[kind](
        replace(f.scheme, layer=ConvLayer(blank, geometry, name=f.layer.name)), f, filters
    )
    if not shared:
        return from_factors(scheme, factors, rank, f.bias)
    kernel = filters.reshape(-1, *(1,) * f.layer.ndim) * wide(f.layer.kernel)[:, :, None]
    layer = ConvLayer(kernel.astype(f.layer.dtype), geometry, f.layer.bias, f.layer.name)
    whole = replace(scheme, layer=layer)
    stored = {name: np.array(factor, layer.dtype, order="C") for name, factor in factors.items()}
    with one_blas_thread():
        error = relative_error(whole, stored)
    return Factorization(f.method, layer, rank[0] if len(rank) == 1 else rank, stored, error, whole, None, f.bias)


def _filters(taps: Any, start: str) -> Array:
    """Return the taps (k,) or (R, k) in float64."""
    if start not in STARTS:
        raise KernelError(f"start must be one of {STARTS}, got {start!r}")
    if not is_integer(taps):
        filters = as_float_array("taps", taps).astype(np.float64)
        if filters.ndim not in (1, 2):
            raise KernelError(f"taps must be an integer or have shape (k,) or (R, k), got shape {filters.shape}")
        return filters
    n_taps = integer("taps", operator.index(taps), at_least=1)
    if start == "uniform":
        return np.full(n_taps, 1 / n_taps)
    if n_taps % 2 == 0:
        raise KernelError(f'taps must be odd to have a centre, got {n_taps}; take start="uniform" or an array of taps')
    filters = np.zeros(n_taps)
    filters[n_taps // 2] = 1
    return filters


def _geometry(g: ConvGeometry, n_taps: int, stride: int, padding: Any, dilation: int) -> ConvGeometry:
    """Put the new axis before the others, by default with as many positions after as before."""
    spacing = integer("dilation", dilation, at_least=1)
    total = spacing * (n_taps - 1)
    ends = (total // 2, total - total // 2) if padding is None else padding
    pair = pairs_per_axis(1, (ends,))
    return ConvGeometry(
        (stride, *g.stride), (*pair, *g.padding), (spacing, *g.dilation), groups=g.groups, transposed=g.transposed
    )


def _per_component(filters: Array, rank: int) -> Array:
    """Return the taps (R, k) of every component."""
    if filters.ndim == 2 and len(filters) != rank:
        raise RankError(f"taps must have one row per component, {rank} here, or one for all, got {len(filters)}")
    return np.broadcast_to(filters, (rank, filters.shape[-1]))


def _along(filters: Array, factor: Array, component: int, axis: int) -> Array:
    """Multiply a factor by the taps of its components, as a new axis."""
    shape = [1] * (factor.ndim + 1)
    shape[component], shape[axis] = filters.shape
    product: Array = filters.reshape(shape) * np.expand_dims(wide(factor), axis)
    return product


def _shifted(factors: dict[str, Array]) -> Factors:
    """Rename the factors of the axes, of which one more comes first."""
    return {f"axis{int(n[4:]) + 1}" if n.startswith("axis") else n: wide(factor) for n, factor in factors.items()}


def _cp(scheme: CP, f: Factorization, filters: Array) -> tuple[Scheme, Factors, Rank]:
    (rank,) = f.ranks
    components, factors = _per_component(filters, rank), dict(f.factors)
    if scheme.merge_spatial:
        factors["spatial"] = _along(components, factors["spatial"], 1, 2)
        return scheme, factors, f.ranks
    found = _shifted(factors)
    found["axis0"] = np.broadcast_to(components, (len(found["in"]), *components.shape))
    for name in [n for n in found if n.startswith("axis") and int(n[4:]) not in scheme.axes]:
        single = found.pop(name)  # an axis of one tap has no layer: a number per term
        host = f"axis{scheme.axes[0]}"
        found[host] = found[host] * single
    order = scheme.factor_shapes(f.ranks)
    return scheme, {name: found[name] for name in order}, f.ranks


def _tensor_train(scheme: TensorTrain, f: Factorization, filters: Array) -> tuple[Scheme, Factors, Rank]:
    rank = f.ranks[0]
    core = np.eye(rank)[:, :, None] * _per_component(filters, rank)[:, None]
    found = _shifted(dict(f.factors))
    found["axis0"] = np.broadcast_to(core, (len(found["in"]), *core.shape))
    ranks = (rank, *f.ranks)
    return scheme, {name: found[name] for name in scheme.factor_shapes(ranks)}, ranks


def _tucker(scheme: Tucker, f: Factorization, filters: Array) -> tuple[Scheme, Factors, Rank]:
    if filters.ndim == 2:
        raise RankError(
            "taps must be of shape (k,) for a Tucker decomposition, whose components share its core, got shape "
            f"{filters.shape}; use cp or tensor_train for taps of each component"
        )
    found = _shifted(dict(f.factors))
    if not scheme.spatial:
        found["core"] = _along(filters[None], found["core"], 1, 3)
        return scheme, found, f.ranks
    found["core"] = np.expand_dims(found["core"], 3)
    found["axis0"] = np.broadcast_to(filters[:, None], (len(found["in"]), len(filters), 1))
    ranks = (*f.ranks[:2], 1, *f.ranks[2:])
    return scheme, {name: found[name] for name in scheme.factor_shapes(ranks)}, ranks


def _svd(scheme: SplitSVD, f: Factorization, filters: Array) -> tuple[Scheme, Factors, Rank]:
    components, first = _per_component(filters, f.ranks[0]), bool(scheme.axes)
    factors = {
        "first": _along(components if first else np.ones((1, 1)), f.factors["first"], 1, 3),
        "second": _along(np.ones((1, 1)) if first else components, f.factors["second"], 2, 3),
    }
    axes = (0, *(axis + 1 for axis in scheme.axes)) if first else ()
    return replace(scheme, axes=axes), factors, f.ranks


def _depthwise(scheme: DepthwiseSeparable, f: Factorization, filters: Array) -> tuple[Scheme, Factors, Rank]:
    depthwise = _along(_per_component(filters, f.ranks[0]), f.factors["depthwise"], 2, 3)
    return scheme, dict(f.factors) | {"depthwise": depthwise}, f.ranks


_TRANSDUCERS: dict[type[Scheme], Callable[[Any, Factorization, Array], tuple[Scheme, Factors, Rank]]] = {
    CP: _cp,
    TensorTrain: _tensor_train,
    Tucker: _tucker,
    SplitSVD: _svd,
    DepthwiseSeparable: _depthwise,
}
