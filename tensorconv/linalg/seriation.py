"""Seriation: orders of rows and columns in which a matrix is as close as can be to a banded Toeplitz matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import linear_sum_assignment

from tensorconv.linalg.randomness import as_generator
from tensorconv.linalg.scaling import square_safe_scale
from tensorconv.linalg.threads import one_blas_thread
from tensorconv.linalg.toeplitz import ToeplitzBand

Array = NDArray[Any]
GAIN = 1e-12  # least relative gain of energy in the band that a further step must bring
NULL = 1e-10  # eigenvalues of a Laplacian below this share of the largest are zero
SHARES = (1.0, 0.5)  # of the entries that the band has room for, the largest of which show where it is


@dataclass(frozen=True, eq=False)
class ToeplitzSeriation:
    """Orders of rows and columns, and the kernels of the Toeplitz matrix nearest to the ordered matrix.

    Parameters
    ----------
    rows : ndarray of int, shape (J P,)
        Which row comes next.
    columns : ndarray of int, shape (C,)
        Which column comes next.
    kernels : ndarray, shape (J, D, ...)
        Averages along the diagonals of ``matrix[rows][:, columns]``.
    relative_error : float
        Relative Frobenius distance of the two matrices.
    """

    rows: Array
    columns: Array
    kernels: Array
    relative_error: float


def toeplitz_seriation(
    matrix: Any, band: ToeplitzBand, *, n_perturbations: int = 16, rng: Any = 0
) -> ToeplitzSeriation:
    """Order rows and columns so that a banded Toeplitz matrix is near.

    Minimizes ``||matrix[rows][:, columns] - T||`` over both orders and the matrices T of the band. With the orders
    given, T is an average along diagonals; with T and one order given, the other is a linear assignment: the three
    take turns, and no step lets the error grow. It is a local search, from the order as it is and from spectral
    orders: Fiedler vectors of the bipartite graph of the largest entries, which are right for a band of zeros and
    ones (Atkins, Boman and Hendrickson, "A spectral algorithm for seriation and the consecutive ones problem", 1998),
    and, where values repeat, positions of rows, columns and values with ``column - row = value`` for every entry.
    A matrix that is a shuffled Toeplitz matrix of generic taps is recovered; with noise, reliably for one kernel only.

    Parameters
    ----------
    matrix : array_like, shape (J P, C, ...)
        The matrix, of numbers or of arrays.
    band : ToeplitzBand
        The structure.
    n_perturbations : int
        How often a row or a column of the best orders is moved elsewhere, to search on from there.
    rng : int or numpy.random.Generator
        Seed of the perturbations.

    Returns
    -------
    ToeplitzSeriation
        The best that was found; its error is at most that of the order as it is.

    Examples
    --------
    >>> band = ToeplitzBand(n_kernels=1, n_maps=20, n_columns=20, length=5, low=2)
    >>> rng = np.random.default_rng(0)
    >>> matrix = band.matrix(rng.standard_normal((1, 5)))
    >>> shuffled = matrix[rng.permutation(20)][:, rng.permutation(20)]
    >>> toeplitz_seriation(shuffled, band).relative_error
    0.0
    """
    array = np.asarray(matrix, np.float64)
    generator, scale = as_generator(rng), square_safe_scale(array, "matrix")
    with one_blas_thread():
        search = _Search(array / scale, band)
        best = search.improved(np.arange(array.shape[0]), np.arange(array.shape[1]))
        for rows, columns in _spectral_orders(search, generator):
            best = search.better(best, rows, columns)
        for _ in range(n_perturbations):
            best = search.better(best, *search.perturbed(best, generator))
    rows, columns, kernels = best.rows, best.columns, best.kernels
    return ToeplitzSeriation(rows, columns, kernels * scale, best.relative_error)


class _Search:
    """Alternates between averages along diagonals and assignments of rows and columns."""

    def __init__(self, matrix: Array, band: ToeplitzBand) -> None:
        self.matrix, self.band = matrix, band
        band.projection(matrix)  # checks the shape
        self.magnitude = np.sqrt(np.sum(matrix.reshape(*matrix.shape[:2], -1) ** 2, axis=2))

    def fit(self, rows: Array, columns: Array) -> ToeplitzSeriation:
        ordered = self.matrix[rows][:, columns]
        kernels = self.band.projection(ordered)
        return ToeplitzSeriation(rows, columns, kernels, self.band.relative_error(ordered, kernels))

    def improved(self, rows: Array, columns: Array) -> ToeplitzSeriation:
        found, settled = self.fit(rows, columns), False
        while not settled and found.relative_error > 0:
            before = found.relative_error
            for axis in (1, 0):
                candidate = self.fit(*self.assigned(found, axis))
                found = min(found, candidate, key=_error)
            settled = before**2 - found.relative_error**2 <= GAIN
        return found

    def assigned(self, found: ToeplitzSeriation, axis: int) -> tuple[Array, Array]:
        """Return the orders with that of one axis the best for the Toeplitz matrix."""
        toeplitz = self.band.matrix(found.kernels)
        ordered = self.matrix[found.rows] if axis else self.matrix[:, found.columns]
        others = tuple(a for a in range(toeplitz.ndim) if a != axis)
        _, order = linear_sum_assignment(np.tensordot(toeplitz, ordered, (others, others)), maximize=True)
        return (found.rows, order) if axis else (order, found.columns)

    def better(self, best: ToeplitzSeriation, rows: Array, columns: Array) -> ToeplitzSeriation:
        return best if best.relative_error == 0 else min(best, self.improved(rows, columns), key=_error)

    def perturbed(self, best: ToeplitzSeriation, rng: np.random.Generator) -> tuple[Array, Array]:
        """Move the rows of one position, or one column, or both elsewhere."""
        rows, columns = best.rows.reshape(self.band.n_kernels, -1), best.columns
        which = rng.integers(3)
        if which != 0:
            rows = _moved(rows, rng)
        if which != 1:
            columns = _moved(columns, rng)
        return rows.ravel(), columns


def _error(found: ToeplitzSeriation) -> float:
    return found.relative_error


def _moved(order: Array, rng: np.random.Generator) -> Array:
    at, to = rng.integers(order.shape[-1], size=2)
    return np.insert(np.delete(order, at, axis=-1), to, order[..., at], axis=-1)


def _spectral_orders(search: _Search, rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    """Yield orders by spectral positions, and the reverse orders: the band need not be symmetric."""
    for rows, columns in _positions(search, rng):
        for sign in (1, -1):
            yield _alike(search, np.argsort(sign * rows, kind="stable"), np.argsort(sign * columns, kind="stable"))


def _positions(search: _Search, rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    """Yield positions of rows and columns on a line."""
    magnitude, room = search.magnitude, search.band.n_kernels * int(search.band.counts.sum())
    falling = np.sort(magnitude, axis=None)[::-1]
    shown = (magnitude >= falling[room - 1]) & (magnitude > 0)
    if not shown.any():
        return
    yield _fiedler(shown.astype(np.float64), rng)
    entries = search.matrix.reshape(*magnitude.shape, -1)[shown]
    _, values = np.unique(entries, axis=0, return_inverse=True)
    if 2 * values.max() < len(values):
        yield _fiedler_of_values(shown, values.ravel())
    for share in SHARES:
        largest = magnitude >= falling[max(1, int(share * room)) - 1]
        yield _fiedler(np.where(largest, magnitude**2, 0.0), rng)


def _fiedler(weights: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Minimize ``sum_rc weights[r, c] (x_c - z_r)^2`` over z, and over x of one length and mean zero."""
    degrees = weights.sum(axis=1, keepdims=True)
    shares = np.divide(weights, degrees, out=np.zeros_like(weights), where=degrees > 0)
    similarity = weights.T @ shares
    laplacian = np.diag(similarity.sum(axis=1)) - similarity
    values, vectors = eigh(laplacian + 2 * np.trace(laplacian) / len(laplacian))  # moves the constant vector up
    n_null = max(1, int(np.sum(values <= NULL * values[-1])))
    x = vectors[:, :n_null] @ rng.standard_normal(n_null)  # components of the graph stay apart
    return shares @ x, x


def _fiedler_of_values(shown: Array, values: Array) -> tuple[Array, Array]:
    """Minimize ``sum (x_c - z_r - p_v)^2`` over p, x and z, v numbering the values of the entries.

    The positions of a shuffled Toeplitz matrix make it zero, as do shifts of the rows of one kernel and of the
    columns of one remainder by the stride: of those, the least of the sum without p is taken.
    """
    rows, columns = np.nonzero(shown)
    n, total = len(shown), sum(shown.shape)
    means = np.zeros((total, int(values.max()) + 1))
    np.add.at(means, (rows, values), -1.0)
    np.add.at(means, (n + columns, values), 1.0)
    plain = np.diag(np.concatenate([shown.sum(axis=1), shown.sum(axis=0)]).astype(np.float64))
    plain[:n, n:] -= shown
    plain[n:, :n] -= shown.T
    laplacian = plain - (means / np.bincount(values)) @ means.T
    constant = np.zeros((total, 2))
    constant[:n, 0], constant[n:, 1] = n**-0.5, (total - n) ** -0.5
    spread, vectors = eigh(laplacian + 2 * np.trace(laplacian) / total * constant @ constant.T)
    null = vectors[:, : max(1, int(np.sum(spread <= NULL * spread[-1])))]
    x = null @ eigh(null.T @ plain @ null)[1][:, 0]
    return x[:n], x[n:]


def _alike(search: _Search, rows: Array, columns: Array) -> tuple[Array, Array]:
    """Order the J rows of every position, and the columns of every stride, alike: as in the middle.

    Rows are told apart by what they hold in each stride of columns, whose order inside is not known yet, then columns
    by their entries. Returns the rows kernel by kernel.
    """
    band, matrix = search.band, search.matrix if search.matrix.ndim == 2 else search.magnitude
    cells, whole = rows.reshape(band.n_maps, band.n_kernels), band.n_columns // band.stride * band.stride
    strides = columns[:whole].reshape(-1, band.stride)
    reach = np.arange(-(band.low // band.stride) - 1, (band.length - band.low) // band.stride + 2)

    def shared(at: int, middle: int, lags: Array, n: int) -> Array:
        return lags[(min(at, middle) + lags >= 0) & (max(at, middle) + lags < n)]

    middle, like = band.n_maps // 2, np.empty_like(cells)
    for at in range(band.n_maps):
        lags = shared(at, middle, reach, len(strides))
        seen = [np.sort(matrix[cells[p]][:, strides[p + lags]]).reshape(band.n_kernels, -1) for p in (middle, at)]
        like[at] = cells[at][_matched(*seen)]
    middle, order = len(strides) // 2, columns.copy()
    for at in range(len(strides)):
        lags = shared(at, middle, -reach, band.n_maps)
        seen = [matrix[like[p + lags].ravel()][:, strides[p]].T for p in (middle, at)]
        order[at * band.stride : (at + 1) * band.stride] = strides[at][_matched(*seen)]
    return like.T.ravel(), order


def _matched(reference: Array, rows: Array) -> Array:
    """Return the order of rows in which they are nearest to the reference."""
    order: Array = linear_sum_assignment(reference @ rows.T, maximize=True)[1]
    return order
