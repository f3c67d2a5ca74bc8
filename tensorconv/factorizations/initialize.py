"""initialize: an untrained layer in factorized form, through which the variance of the data is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorconv import ranks
from tensorconv.arrays import named_dtype
from tensorconv.errors import KernelError, RankError
from tensorconv.factorizations.factorization import Factorization, from_factors
from tensorconv.factorizations.registry import registered
from tensorconv.factorizations.solve import given_rank
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import flag, is_integer, is_number
from tensorconv.layers import ConvLayer
from tensorconv.linalg import as_generator


def initialize(
    shape: Sequence[int],
    geometry: ConvGeometry,
    method: str,
    rank: Any,
    rng: Any = 0,
    *,
    dtype: Any = "float32",
    bias: bool = False,
    gain: float = 1.0,
    **options: Any,
) -> Factorization:
    """Return an untrained layer in factorized form, to be put in the place of a dense one and trained as it is.

    The entries of every factor are independent and normal, of mean 0 and variance ``1 / n``, where n is the number of
    entries of the input that one entry of the output of the factor sums over (He, Zhang, Ren, Sun, 2015, section 2.2,
    without activations; Kossaifi and others, 2020, train CP layers end to end). So data of independent entries of
    variance 1 have variance 1 after every layer of the sequence: on average over draws, channels and the positions
    away from borders, which matters for transposed convolutions, whose K taps reach K / s inputs per position and
    axis. A factor whose entries stand alone in their sums, n = 1, is a mere scale and has random signs, 1 or -1.

    Parameters
    ----------
    shape : sequence of int
        (O, I, K1..KN) of the dense kernel that it stands for, I per group.
    geometry : ConvGeometry
        Where that kernel would be applied.
    method : str
        A name in :func:`tensorconv.methods`.
    rank : int or tuple of int
        Ranks per group, as the method counts them.
    rng : int or numpy.random.Generator
        Seed of the factors.
    dtype : str or dtype
        Data type of the factors: float16, bfloat16, float32 or float64.
    bias : bool
        Whether there is a bias, of zeros.
    gain : float
        The variance is multiplied by its square, in even parts by the factors: 1 for a linear network, ``sqrt(2)``
        before a ReLU, which halves the mean square.
    **options
        Options of the method, such as ``split`` or ``spatial``.

    Returns
    -------
    Factorization
        Of the layer whose kernel the factors mean, so its error is that of storing them, about 0.

    Raises
    ------
    RankError
        If the method is unknown, or the rank is not given in integers or is out of range.
    KernelError
        If the shape or the gain cannot be used.
    KernelTypeError
        If there is no such data type.
    GeometryError
        If the geometry does not fit the shape.

    Examples
    --------
    >>> import tensorconv as tc
    >>> f = initialize((64, 32, 3, 3), tc.ConvGeometry.of(2, padding=1), "cp", rank=48, rng=0)
    >>> [layer.kernel.shape for layer in f.sequence]
    [(48, 32, 1, 1), (48, 1, 3, 1), (48, 1, 1, 3), (64, 48, 1, 1)]
    >>> again = initialize((64, 32, 3, 3), tc.ConvGeometry.of(2, padding=1), "cp", rank=48, rng=0)
    >>> bool((f.kernel == again.kernel).all())
    True
    """
    known = registered()
    if not isinstance(method, str) or method not in known:
        raise RankError(f'method must be one of {", ".join(known)} ("best" needs a trained kernel), got {method!r}')
    if callable(rank):
        raise RankError(
            f"rank must be an integer or a tuple of integers, got the rule {rank!r}; an untrained layer has no "
            "singular values for it to look at"
        )
    if not is_number(gain) or not 0 < gain < math.inf:
        raise KernelError(f"gain must be a finite number above 0, got {gain!r}; 1 keeps the variance")
    blank = _blank(shape, geometry, dtype)
    zeros = np.zeros(blank.out_channels, blank.dtype) if flag("bias", bias) else None
    scheme, asked = known[method].scheme(blank, **options).for_rank(rank)
    chosen = given_rank(scheme, asked)
    shapes, fan_in = scheme.factor_shapes(chosen), scheme.fan_in(chosen)
    generator, share = as_generator(rng), float(gain) ** (1 / len(shapes))
    factors = {}
    for name, size in shapes.items():
        normal = generator.standard_normal(size)
        entries = scheme.drawn(name, np.copysign(1.0, normal) if fan_in[name] == 1 else normal, generator)
        factors[name] = share * entries / math.sqrt(fan_in[name])
    return from_factors(scheme, factors, chosen, zeros)


def _blank(shape: Any, geometry: ConvGeometry, dtype: Any) -> ConvLayer:
    if not ranks.is_listing(shape) or not all(is_integer(size) and size > 0 for size in shape):
        raise KernelError(f"shape must be positive integers (O, I, K1..KN), I of one group, got {shape!r}")
    name = getattr(dtype, "name", getattr(dtype, "__name__", dtype))
    return ConvLayer(np.zeros(tuple(shape), named_dtype(name)), geometry)
