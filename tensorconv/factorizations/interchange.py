"""from_tensorly: factors that were computed elsewhere, as a factorization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorconv.arrays import Array, as_float_array
from tensorconv.errors import KernelError
from tensorconv.factorizations.cp import CP
from tensorconv.factorizations.factorization import Factorization, from_factors
from tensorconv.factorizations.tensor_train import TensorTrain
from tensorconv.factorizations.tucker import Tucker
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ConvLayer


def from_tensorly(obj: Any, geometry: ConvGeometry, bias: Any = None) -> Factorization:
    """Return a factorization of factors computed elsewhere, in TensorLy's conventions.

    Parameters
    ----------
    obj : CPTensor, TuckerTensor, TTTensor, or pair of (weights, factors) or (core, factors)
        A decomposition of one group's kernel: CP and Tucker of (O, I, K1..KN), a tensor train of (I, K1..KN, O).
        TensorLy itself is not needed: only the arrays are looked at.
    geometry : ConvGeometry
        Where the kernel is applied; of one group.
    bias : array_like, shape (O,), optional
        The bias.

    Returns
    -------
    Factorization
        Its layer has the kernel that the factors mean, so its error is that of storing them in their type.

    Raises
    ------
    KernelError
        If the arrays do not fit one another or the geometry.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorconv as tc
    >>> f = tc.cp(np.random.default_rng(0).standard_normal((8, 6, 3, 3)), rank=5)
    >>> again = tc.from_tensorly(f.to_tensorly(), f.layer.geometry)
    >>> again.method, again.rank, bool(np.allclose(again.kernel, f.kernel))
    ('cp', 5, True)
    """
    if geometry.groups != 1:
        raise KernelError(f"geometry must be of one group, as the tensor is, got groups={geometry.groups}")
    if hasattr(obj, "factors") and not hasattr(obj, "core") and not hasattr(obj, "weights"):
        return _train([as_float_array(f"factors[{i}]", core) for i, core in enumerate(obj.factors)], geometry, bias)
    head, listed = _pair(obj)
    factors = [as_float_array(f"factors[{i}]", factor) for i, factor in enumerate(listed)]
    wanted = geometry.ndim + 2
    if len(factors) != wanted or any(factor.ndim != 2 for factor in factors):
        shapes = [factor.shape for factor in factors]
        raise KernelError(f"factors must be {wanted} matrices for (O, I, {geometry.ndim} spatial axes), got {shapes}")
    if head is not None and np.ndim(head) == wanted:
        return _tucker(as_float_array("core", head), factors, geometry, bias)
    weights = np.ones(factors[0].shape[1], factors[0].dtype) if head is None else as_float_array("weights", head)
    return _cp(weights, factors, geometry, bias)


def _pair(obj: Any) -> tuple[Any, Sequence[Any]]:
    if hasattr(obj, "factors"):
        return (obj.core if hasattr(obj, "core") else obj.weights), obj.factors
    if not isinstance(obj, (tuple, list)) or len(obj) != 2:
        raise KernelError(f"obj must be a CPTensor, TuckerTensor, TTTensor or a pair, got {type(obj).__name__}")
    return obj[0], obj[1]


def _cp(weights: Array, factors: list[Array], geometry: ConvGeometry, bias: Any) -> Factorization:
    (rank,) = weights.shape if weights.ndim == 1 else (0,)
    if any(factor.shape[1] != rank for factor in factors):
        shapes = [factor.shape for factor in factors]
        raise KernelError(f"weights and factors must have one column per term, got {weights.shape} and {shapes}")
    columns = [factor.astype(np.float64) for factor in factors]
    columns[0] = columns[0] * weights
    scheme = CP(_blank([len(f) for f in factors], factors[0].dtype, geometry))
    for axis in range(geometry.ndim):
        if axis not in scheme.axes:  # one tap: a number per term
            columns[0] = columns[0] * columns[2 + axis]
    kept = [0, 1, *(2 + axis for axis in scheme.axes)]
    norms = np.stack([np.linalg.norm(columns[i], axis=0) for i in kept])
    share = np.prod(norms, axis=0) ** (1 / len(kept))
    even = {
        i: columns[i] * np.divide(share, n, out=np.zeros(rank), where=n > 0) for i, n in zip(kept, norms, strict=True)
    }
    found = {"in": even[1].T[None], "out": even[0][None]} | {f"axis{a}": even[2 + a].T[None] for a in scheme.axes}
    return from_factors(scheme, found, (rank,), bias)


def _tucker(core: Array, factors: list[Array], geometry: ConvGeometry, bias: Any) -> Factorization:
    if core.shape != tuple(factor.shape[1] for factor in factors):
        shapes = [factor.shape for factor in factors]
        raise KernelError(f"core must have the shape of the factors' columns, got {core.shape} and {shapes}")
    scheme = Tucker(_blank([len(f) for f in factors], core.dtype, geometry), spatial=True)
    found = {"in": factors[1].T[None], "core": core[None], "out": factors[0][None]}
    found |= {f"axis{a}": factors[2 + a][None] for a in range(geometry.ndim)}
    return from_factors(scheme, found, core.shape, bias)


def _train(cores: list[Array], geometry: ConvGeometry, bias: Any) -> Factorization:
    shapes = [core.shape for core in cores]
    chained = all(core.ndim == 3 for core in cores) and len(cores) == geometry.ndim + 2
    if not chained or any(a[2] != b[0] for a, b in zip(shapes, [*shapes[1:], (1,)], strict=True)) or shapes[0][0] != 1:
        raise KernelError(f"cores must chain from 1 to 1 over (I, {geometry.ndim} spatial axes, O), got {shapes}")
    sizes = [cores[-1].shape[1], cores[0].shape[1], *(core.shape[1] for core in cores[1:-1])]
    scheme = TensorTrain(_blank(sizes, cores[0].dtype, geometry))
    found = {"in": cores[0][0].T[None]}
    found |= {f"axis{a}": core.transpose(2, 0, 1)[None] for a, core in enumerate(cores[1:-1])}
    found |= {"out": cores[-1][..., 0].T[None]}
    return from_factors(scheme, found, tuple(core.shape[2] for core in cores[:-1]), bias)


def _blank(sizes: Sequence[int], dtype: Any, geometry: ConvGeometry) -> ConvLayer:
    return ConvLayer(np.zeros(sizes, dtype), geometry)
