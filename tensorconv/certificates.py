"""Proven bounds: how far rounding can move a result, and how much a convolution can amplify its input."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.linalg

from tensorconv.arrays import Array, as_float_array, smallest_normal, unit_roundoff
from tensorconv.convolution import convolve, pad_by_values
from tensorconv.errors import GeometryError, KernelError
from tensorconv.layers import ConvLayer, PadLayer, as_sequence
from tensorconv.linalg import one_blas_thread

U64 = 2.0**-53
SMALL = 16  # matrices up to this size have their eigenvalues computed as a stack
TOGETHER, TOGETHER_ENTRIES = 8, 2**21  # frequencies at a time, and entries of their matrices
LEVEL_STEP = 1e-5  # looseness of a certified level that spares computing the eigenvalues of close runners-up


def gamma(n: int, u: float) -> float:
    """Return Higham's constant: n roundings of relative size u change a product or sum by at most this factor.

    Parameters
    ----------
    n : int
        Number of roundings.
    u : float
        Unit roundoff, half the machine epsilon.

    Returns
    -------
    float
        ``n u / (1 - n u)`` (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, Lemma 3.1).

    Raises
    ------
    KernelError
        If ``n u`` is 1 or more, where nothing can be said.
    """
    if n * u >= 1:
        raise KernelError(f"n must be below 1/u = {1 / u:.3g} for a rounding bound, got {n}; use a wider data type")
    return n * u / (1 - n * u)


def n_roundings(layer: ConvLayer) -> int:
    """Return how many roundings an output element of a layer can have gone through.

    Parameters
    ----------
    layer : ConvLayer
        The layer.

    Returns
    -------
    int
        One product and one sum per tap and in-channel, one for the bias, one for the kernel's conversion.
    """
    return math.prod(layer.kernel.shape[1:]) + 3


def rounding_bound(x: Any, sequence: Any) -> Array:
    """Bound how far the computed output of a sequence can be from the exact one, elementwise.

    The same sequence run on absolute values, times :func:`gamma` of all roundings on the way (Higham 2002, section
    3.1); each layer's underflow is carried along as a bias.

    Parameters
    ----------
    x : array_like, shape (B, C, L1..LN)
        The input, float32 or float64: the type of the computation that is bounded.
    sequence : ConvLayer, ConvSequence or object with ``.sequence``
        What is applied to x.

    Returns
    -------
    ndarray of float64, shape (B, O, P1..PN)
        ``|computed - exact| <= bound``, for any order of summation.
    """
    data = as_float_array("x", x)
    steps = as_sequence(sequence)
    u = unit_roundoff(data.dtype)
    total = sum(map(n_roundings, steps.convolutions))
    growth = gamma(total, u)
    magnitude = np.abs(data.astype(np.float64))
    for layer in steps.plain:
        if isinstance(layer, PadLayer):
            magnitude = pad_by_values(magnitude, layer)
            continue
        underflow = n_roundings(layer) * smallest_normal(data.dtype) * 2 * u / growth
        bias = np.full(layer.out_channels, underflow) + (
            0 if layer.bias is None else np.abs(layer.bias.astype(np.float64))
        )
        kernel = layer.kernel.astype(np.float64)
        np.abs(kernel, out=kernel)
        kernel += u * smallest_normal(data.dtype) / growth  # of its conversion
        absolute = ConvLayer(kernel, layer.geometry, bias)
        del kernel  # the layer has its own
        magnitude = convolve(magnitude, absolute)
    return magnitude * (growth * (1 + gamma(total + 1, U64)))


def operator_norm_bound(kernel: Array, groups: int = 1, *, oversampling: int = 8) -> float:
    """Bound the l2 operator norm of a convolution with this kernel, for every input of every size.

    The transfer function of the kernel is a matrix of trigonometric polynomials, of k taps per axis. Its largest
    singular value on ``N = oversampling (k - 1)`` frequencies per axis, times ``(1 - (k - 1) / N)^(-1/2)`` per axis
    with k > 1, bounds it everywhere (Pfister and Bresler, "Bounding multivariate trigonometric polynomials", 2019).
    Zero padding and cropping restrict, stride selects rows, dilation rescales frequencies, transposition swaps the
    channels: none raises the norm, so the bound holds for all of them. The largest singular value of each sample is
    certified from above by a Cholesky factorization.

    Parameters
    ----------
    kernel : ndarray, shape (O, I, K1..KN)
        The kernel, I per group.
    groups : int
        Number of groups; the norm is the largest of theirs.
    oversampling : int
        Frequencies per tap, above 1; more tighten the bound.

    Returns
    -------
    float
        ``||conv x||_2 <= bound * ||x||_2``; 0.0 for a zero kernel.

    Raises
    ------
    GeometryError
        If the oversampling is below 2, or the groups do not divide the out-channels.

    Examples
    --------
    >>> difference = np.array([[[1.0, -1.0]]])
    >>> 2.0 <= operator_norm_bound(difference) <= 2.0 * (8 / 7) ** 0.5 * (1 + 1e-9)
    True
    """
    if oversampling < 2:
        raise GeometryError(f"oversampling must be at least 2, got {oversampling}")
    checked = as_float_array("kernel", kernel)
    if groups < 1 or len(checked) % groups:
        raise GeometryError(f"groups must divide the {len(checked)} out-channels, got groups={groups}")
    scale = max(float(checked.max()), -float(checked.min()))
    if scale == 0:
        return 0.0
    blocks = checked.astype(np.float64)
    blocks /= scale
    blocks = blocks.reshape(groups, -1, *blocks.shape[1:])
    taps = blocks.shape[3:]
    samples = [oversampling * (k - 1) if k > 1 else 1 for k in taps]
    slack = math.prod((1 - (k - 1) / n) ** -0.5 for k, n in zip(taps, samples, strict=True) if k > 1)
    level = 0.0
    with one_blas_thread():
        for matrices in _transfer_samples(blocks, samples):
            level = _raise_to_largest_eigenvalue(matrices, level)
    # A completed Cholesky factorization proves definiteness up to gamma(n + 1) times the trace, here below n * level
    # (Rump, "Verification of positive definiteness", 2006); the factor 8 covers complex arithmetic and the sums before.
    n_out, n_in = blocks.shape[1:3]
    level *= 1 + 8 * min(n_out, n_in) * gamma(n_out + n_in + math.prod(taps) + 4, U64)
    return float(scale * slack * math.sqrt(level) * (1 + gamma(4 + len(taps), U64)))


def pad_norm_bound(layer: PadLayer) -> float:
    """Bound the l2 operator norm of padding by values, for every input of every size.

    On each axis an entry appears once more in every side that mirrors or wraps it, or once more per padded position
    where the border is repeated; the norm is the root of the largest number of appearances.

    Parameters
    ----------
    layer : PadLayer
        The padding.

    Returns
    -------
    float
        ``||pad x||_2 <= bound * ||x||_2``.
    """
    repeats = layer.mode == "replicate"
    counts = (1 + sum(side if repeats else min(side, 1) for side in pair) for pair in layer.padding)
    return math.sqrt(math.prod(counts)) * (1 + 4 * U64)


def _transfer_samples(blocks: Array, samples: list[int]) -> Iterator[Array]:
    """Yield the transfer matrix of every group at every sampled frequency, one of each conjugate pair.

    Groups with few entries are handed out together, as a stack (G, O/G, I).
    """
    n_groups, n_out, n_in, *taps = blocks.shape
    flat = blocks.reshape(n_groups, n_out, n_in, -1)
    grid = itertools.product(*map(range, samples))
    wanted = (index for index in grid if tuple(-i % n for i, n in zip(index, samples, strict=True)) >= index)
    together = max(1, min(TOGETHER, TOGETHER_ENTRIES // (n_out * n_in)))
    while indices := list(itertools.islice(wanted, together)):
        waves = np.stack([_wave(index, samples, taps) for index in indices])
        parts = np.stack([waves.real, waves.imag]).reshape(-1, flat.shape[-1])
        for block in [flat] if min(n_out, n_in) <= SMALL else flat[:, None]:
            products = parts @ block.reshape(-1, block.shape[-1]).T  # of real matrices: flat is not made complex
            for real, imaginary in zip(*products.reshape(2, len(indices), *block.shape[:-1]), strict=True):
                yield real + 1j * imaginary


def _wave(index: tuple[int, ...], samples: list[int], taps: list[int]) -> Array:
    """Return the exponentials of one frequency at all taps."""
    wave = np.ones(1)
    for i, n, k in zip(index, samples, taps, strict=True):
        wave = np.multiply.outer(wave, np.exp(-2j * np.pi * i * np.arange(k) / n)).ravel()
    return wave


def _raise_to_largest_eigenvalue(matrices: Array, level: float) -> float:
    """Return a level of at least ``level`` that no squared singular value of the matrices exceeds, up to rounding."""
    n_out, n_in = matrices.shape[-2:]
    if min(n_out, n_in) <= SMALL:
        adjoint = np.conj(np.swapaxes(matrices, -1, -2))
        grams = matrices @ adjoint if n_out <= n_in else adjoint @ matrices
        return max(level, float(np.linalg.eigvalsh(grams).max()))
    for matrix in matrices:  # the upper triangle of the smaller Gram matrix, conjugated
        gram = scipy.linalg.blas.zherk(1.0, matrix.T, trans=2 if n_out <= n_in else 0)
        if not gram.any():
            continue
        while not _is_below(gram, level):
            chosen = [len(gram) - 1] * 2
            top = scipy.linalg.eigh(gram, lower=False, eigvals_only=True, subset_by_index=chosen, check_finite=False)
            level = max(float(top[0]), level) * (1 + LEVEL_STEP)
    return level


def _is_below(gram: Array, level: float) -> bool:
    """Whether level I - gram, of which the upper triangle is given, has a Cholesky factorization."""
    shifted = -gram
    shifted[np.diag_indices(len(shifted))] += level
    _, info = scipy.linalg.lapack.zpotrf(shifted, overwrite_a=True)
    return bool(info == 0)
