"""Tucker decompositions: sequentially truncated HOSVD, and HOOI, which refines it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from tensorconv.errors import RankError
from tensorconv.linalg.scaling import square_safe_scale, unit_scale
from tensorconv.linalg.svd import leading_eigenvectors, peak_signs
from tensorconv.linalg.threads import one_blas_thread

Array = NDArray[Any]
MODERATE = (1e-6, 1e6)  # magnitudes whose fourth powers, and sums of them, stay inside float32
PARTS = 2**18  # tensor entries that are summed at a time, or an eighth of the tensor
DECOMPOSED = 32  # modes up to this size are decomposed exactly in every sweep; larger ones are iterated
FIRST, FASTER, FARTHEST = 0.7, 1.3, 3.0  # how far sweeps are extrapolated: at first, in growth, at most
STEPS = 3  # of subspace iteration in a sweep


def hosvd(tensor: Array, ranks: Sequence[int], *, rotate: bool = False) -> tuple[Array, list[Array]]:
    """Return the sequentially truncated higher-order SVD.

    Each mode is projected onto the leading left singular vectors of its unfolding, after the modes before it were
    (Vannieuwenhoven, Vandebril, Meerbergen, 2012, Algorithm 1), the mode that shrinks most first. The squared error is
    the energy discarded on the way; it is at most N times that of the best approximation.

    Parameters
    ----------
    tensor : ndarray
        Real tensor of any order. float32 of moderate magnitude is projected in float32, all else in float64.
    ranks : sequence of int
        One rank per mode, from 1 to the mode's size.
    rotate : bool
        Whether modes of full rank are turned to their singular vectors too, which makes the core all-orthogonal; they
        keep their axes otherwise, and their factor is the identity.

    Returns
    -------
    core : ndarray, shape ranks
        The core, in the type of the products; the tensor's own memory where nothing is truncated or rotated.
    factors : list of ndarray
        One matrix (size, rank) with orthonormal columns per mode, float64.

    Raises
    ------
    RankError
        If there is not one rank per mode, or one is out of range.
    KernelError
        If there are numbers that are not finite.

    Examples
    --------
    >>> tensor = np.arange(24.0).reshape(2, 3, 4)
    >>> core, factors = hosvd(tensor, (2, 2, 2))
    >>> bool(np.allclose(multi_mode_product(core, factors), tensor))
    True
    """
    data, scale = _scaled(tensor, ranks)
    core, factors = _truncated(data, ranks, rotate, np.float64)
    return (core if scale == 1 else core * scale), factors


def _truncated(core: Array, ranks: Sequence[int], rotate: bool, square: Any) -> tuple[Array, list[Array]]:
    """Project mode after mode, the unfoldings being squared in the given type."""
    sizes = core.shape
    factors: list[Array] = [np.empty(0)] * core.ndim
    for mode in sorted(range(core.ndim), key=lambda m: ranks[m] / sizes[m]):
        if ranks[mode] == sizes[mode] and not rotate:
            factors[mode] = np.eye(sizes[mode])
        else:
            factors[mode] = leading_vectors(core, mode, ranks[mode], square=square)
            core = mode_product(core, factors[mode].T, mode)
    return core, factors


def hooi(tensor: Array, ranks: Sequence[int], *, n_iter: int = 30, tol: float = 1e-4) -> tuple[Array, list[Array]]:
    """Refine the sequentially truncated HOSVD by higher-order orthogonal iteration.

    Each sweep renews the factor of every truncated mode, the others being fixed: the leading left singular vectors of
    the unfolding that is left when all others are projected (De Lathauwer, De Moor, Vandewalle, 2000). For the two
    largest modes, above 32 entries, three steps of subspace iteration from the factor before take the place of that
    decomposition; they do not raise the error either, and cost a fraction. Between sweeps factors are extrapolated
    along their last change; a sweep that ends worse for it is taken back.

    Parameters
    ----------
    tensor : ndarray
        Real tensor of any order. float32 of moderate magnitude is multiplied in float32, all else in float64.
    ranks : sequence of int
        One rank per mode, from 1 to the mode's size.
    n_iter : int
        Most sweeps; the error never grows with a sweep.
    tol : float
        Stop when a sweep lowers the error by less than this share.

    Returns
    -------
    core : ndarray, shape ranks
        The core, in the type of the products.
    factors : list of ndarray
        One matrix (size, rank) with orthonormal columns per mode, float64.

    Raises
    ------
    RankError, KernelError
        As :func:`hosvd`.
    """
    with one_blas_thread():
        return _hooi(tensor, ranks, n_iter, tol)


def _hooi(tensor: Array, ranks: Sequence[int], n_iter: int, tol: float) -> tuple[Array, list[Array]]:
    data, scale = _scaled(tensor, ranks)
    truncated = [m for m in range(data.ndim) if ranks[m] < data.shape[m]]
    if len(truncated) < 2 or n_iter < 1:  # one truncated mode: the HOSVD is the truncated SVD, which is optimal
        core, factors = hosvd(data, ranks)
    else:
        largest, second = sorted(range(data.ndim), key=lambda m: -data.shape[m])[:2]
        order = [largest, *(m for m in range(data.ndim) if m not in (largest, second)), second]
        turned = np.ascontiguousarray(np.transpose(data, order))  # the large modes are matrices from either end
        del data
        core, found = _truncated(turned, [ranks[m] for m in order], False, turned.dtype)
        core = _refine(turned, core, found, [place for place, m in enumerate(order) if m in truncated], n_iter, tol)
        core, factors = np.transpose(core, np.argsort(order)), [found[order.index(m)] for m in range(len(order))]
        for mode in truncated:
            sign = peak_signs(factors[mode])
            factors[mode] = factors[mode] * sign
            core = core * sign.astype(core.dtype).reshape([-1 if m == mode else 1 for m in range(core.ndim)])
    return (core if scale == 1 else core * scale), factors


def _refine(data: Array, core: Array, factors: list[Array], truncated: list[int], n_iter: int, tol: float) -> Array:
    """Sweep until the error stalls, from extrapolated factors while that pays; return the core, renew the factors."""
    total = _energy(data)
    error, step = math.sqrt(max(total - _energy(core), 0.0)), 0.0
    before = kept = list(factors)
    for _ in range(n_iter):
        for mode in truncated if step else ():
            change = factors[mode] - before[mode] @ (before[mode].T @ factors[mode])
            factors[mode] = _orthonormal((factors[mode] + step * change).astype(data.dtype), 1)
        renewed = _swept(data, factors, truncated)
        now = math.sqrt(max(total - _energy(renewed), 0.0))
        if now > error:  # extrapolated too far, or nothing but rounding is left to gain
            factors[:] = kept
            if not step:
                break
            step = 0.0
            continue
        stalled = error - now <= tol * error
        core, error, before, kept = renewed, now, kept, list(factors)
        if stalled:
            break
        step = min(FASTER * step, FARTHEST) if step else FIRST
    return core


def _swept(data: Array, factors: list[Array], truncated: list[int]) -> Array:
    """Renew the factors of the truncated modes in turn, and return the core."""
    for mode in truncated:
        partial, n = _projected(data, factors, (m for m in truncated if m != mode)), len(factors[mode])
        if n <= DECOMPOSED or 0 < mode < data.ndim - 1:
            factors[mode] = leading_vectors(partial, mode, factors[mode].shape[1])
            continue
        matrix = partial.reshape(n, -1) if mode == 0 else partial.reshape(-1, n).T
        gram = matrix @ matrix.T
        for _ in range(STEPS - 1):
            factors[mode] = _orthonormal(gram @ factors[mode].astype(data.dtype, copy=False), 1)
        panel = gram @ factors[mode].astype(data.dtype, copy=False)
        factors[mode] = _orthonormal(panel.astype(np.float64), 2 if data.dtype == np.float64 else 1)
    return mode_product(partial, factors[mode].T, mode)


def _projected(data: Array, factors: list[Array], modes: Iterable[int]) -> Array:
    """Project the given modes onto their factors, the one that shrinks most first."""
    for mode in sorted(modes, key=lambda m: factors[m].shape[1] / len(factors[m])):
        data = mode_product(data, factors[mode].T, mode)
    return data


def _orthonormal(panel: Array, passes: int) -> Array:
    """Return a basis of the columns of a panel by Cholesky QR, which a second pass makes orthonormal to rounding.

    One pass leaves the squared condition times the rounding of the type.
    """
    basis = panel
    for _ in range(passes):
        factor, info = lapack.dpotrf((basis.T @ basis).T.astype(np.float64, copy=False), lower=True)
        if info != 0:
            return np.linalg.qr(panel.astype(np.float64))[0]
        basis = basis @ lapack.dtrtri(factor, lower=True)[0].T.astype(basis.dtype, copy=False)
    return basis


def _scaled(tensor: Array, ranks: Sequence[int]) -> tuple[Array, float]:
    """Check the ranks; return the tensor in the type of the products, and the power of two it was divided by."""
    data = np.asarray(tensor)
    if len(ranks) != data.ndim or any(not 1 <= r <= n for r, n in zip(ranks, data.shape, strict=False)):
        raise RankError(f"ranks must be one per mode, from 1 to its size in {data.shape}, got {tuple(ranks)}")
    if data.dtype == np.float32 and MODERATE[0] < unit_scale(data, "tensor") < MODERATE[1]:
        return data, 1.0
    data = np.asarray(data, np.float64)
    scale = square_safe_scale(data, "tensor")
    return (data if scale == 1 else data / scale), scale


def _energy(array: Array) -> float:
    """Return the sum of squares, in float64, a part at a time."""
    flat = array.reshape(-1)
    step = max(PARTS, flat.size // 8)
    parts = (flat[start : start + step].astype(np.float64, copy=False) for start in range(0, flat.size, step))
    return sum(float(np.vdot(part, part)) for part in parts)


def multi_mode_product(tensor: Array, matrices: Sequence[Array]) -> Array:
    """Multiply a tensor by one matrix per mode.

    Parameters
    ----------
    tensor : ndarray
        The tensor.
    matrices : sequence of ndarray
        One matrix (new size, size) per mode.

    Returns
    -------
    ndarray
        The product.
    """
    for mode in sorted(range(tensor.ndim), key=lambda m: matrices[m].shape[0] / matrices[m].shape[1]):
        tensor = mode_product(tensor, matrices[mode], mode)
    return tensor


def mode_product(tensor: Array, matrix: Array, mode: int) -> Array:
    """Multiply one mode of a tensor by a matrix.

    Parameters
    ----------
    tensor : ndarray
        The tensor.
    matrix : ndarray, shape (new size, size)
        The matrix, used in the tensor's type.
    mode : int
        The mode.

    Returns
    -------
    ndarray
        The tensor with this mode's new size.
    """
    size = tensor.shape
    matrix = matrix.astype(tensor.dtype, copy=False)
    if mode == tensor.ndim - 1:
        return (tensor.reshape(-1, size[mode]) @ matrix.T).reshape(*size[:-1], len(matrix))
    product = matrix @ tensor.reshape(math.prod(size[:mode]), size[mode], -1)
    return product.reshape(*size[:mode], len(matrix), *size[mode + 1 :])


def leading_vectors(tensor: Array, mode: int, rank: int, *, square: Any = np.float64) -> Array:
    """Return the leading left singular vectors of one unfolding, from its Gram matrix.

    Parameters
    ----------
    tensor : ndarray
        The tensor.
    mode : int
        The mode whose unfolding is meant.
    rank : int
        Number of vectors.
    square : data-type
        What parts of the unfolding are squared in; they are summed in float64.

    Returns
    -------
    ndarray, shape (size, rank)
        Orthonormal columns; the entry of largest magnitude of each is positive.
    """
    n = tensor.shape[mode]
    slices = tensor.reshape(math.prod(tensor.shape[:mode]), n, -1)
    gram, n_slices, width = np.zeros((n, n)), len(slices), slices.shape[2]
    entries = max(PARTS, tensor.size // 8)  # a part at a time: the whole would be a copy of the tensor
    columns = min(width, max(1, entries // n))
    step = max(1, entries // (n * columns))
    for start in range(0, n_slices, step):
        for left in range(0, width, columns):
            part = slices[start : start + step, :, left : left + columns]
            part = np.moveaxis(part, 1, 0).reshape(n, -1)
            part = part.astype(square, copy=False)
            gram += part @ part.T
    vectors = leading_eigenvectors(gram, rank)
    vectors *= peak_signs(vectors)
    return vectors
