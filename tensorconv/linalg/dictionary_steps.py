"""The steps that dictionaries of blocks of rows share: checks, errors, starts, least squares for the atoms."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from tensorconv.errors import KernelError, RankError
from tensorconv.linalg.scaling import square_safe_scale
from tensorconv.linalg.svd import truncated_svd

Array = NDArray[Any]
RIDGE = 1e-12  # of the trace; steps from where one is keep falling with it


def checked_blocks(blocks: Any, n_atoms: int, n_nonzero: int) -> tuple[Array, float]:
    """Return blocks in float64 in the range of squares, and what they were divided by; refuse wrong numbers.

    Parameters
    ----------
    blocks : array_like, shape (O, K, I)
        Real blocks.
    n_atoms : int
        From 1 to O K.
    n_nonzero : int
        From 1 to K times as many.

    Returns
    -------
    ndarray, float
        The blocks over a power of two, and this power.

    Raises
    ------
    RankError
        If a number is out of range.
    KernelError
        If the blocks are not of three axes, or empty.
    """
    data: Array = np.asarray(blocks, np.float64)
    if data.ndim != 3 or not data.size:
        raise KernelError(f"blocks must be of shape (O, K, I) and not empty, got shape {data.shape}")
    n_blocks, n_rows, _ = data.shape
    for name, value, most, rule in (
        ("n_atoms", n_atoms, n_blocks * n_rows, "O*K"),
        ("n_nonzero", n_nonzero, n_rows * n_atoms, "K*n_atoms"),
    ):
        if not 1 <= value <= most:
            raise RankError(f"{name} must be between 1 and {most} = {rule} for these blocks, got {value}")
    scale = square_safe_scale(data, "blocks")
    return data if scale == 1 else data / scale, scale


def lost(data: Array, coefficients: Array, atoms: Array) -> Array:
    """Return the squared error of every block.

    Parameters
    ----------
    data : ndarray, shape (O, K, I)
        The blocks.
    coefficients : ndarray, shape (O, K, T)
        Of the atoms.
    atoms : ndarray, shape (T, I)
        The atoms.

    Returns
    -------
    ndarray, shape (O,)
        Sums of squares.
    """
    rest = coefficients @ atoms
    rest -= data
    squares: Array = np.einsum("oki,oki->o", rest, rest)
    return squares


def relative(data: Array, coefficients: Array, atoms: Array, norm: float) -> float:
    """Return the relative Frobenius error, 0 of zeros.

    Parameters
    ----------
    data : ndarray, shape (O, K, I)
        The blocks.
    coefficients : ndarray, shape (O, K, T)
        Of the atoms.
    atoms : ndarray, shape (T, I)
        The atoms.
    norm : float
        The norm of the blocks.

    Returns
    -------
    float
        The error.
    """
    return float(np.sqrt(lost(data, coefficients, atoms).sum())) / (norm or 1.0)


def leading_rows(data: Array, n_atoms: int) -> Array:
    """Return the leading right singular vectors of all rows together.

    Parameters
    ----------
    data : ndarray, shape (O, K, I)
        The blocks.
    n_atoms : int
        How many; no more than there are, ``min(I, O K)``, are returned.

    Returns
    -------
    ndarray, shape (T, I)
        Orthonormal rows.
    """
    rows = data.reshape(-1, data.shape[-1])
    vh = truncated_svd(rows, min(n_atoms, *rows.shape))[2]
    orthonormal: Array = np.linalg.qr(vh.T)[0].T
    return orthonormal


def exact_rows(data: Array, n_atoms: int, n_nonzero: int) -> tuple[Array, Array] | None:
    """Return the rows themselves as atoms, where there are enough atoms and entries for that.

    Parameters
    ----------
    data : ndarray, shape (O, K, I)
        The blocks.
    n_atoms : int
        Number of atoms.
    n_nonzero : int
        Coefficients of a block.

    Returns
    -------
    (ndarray, ndarray) or None
        One-hot coefficients and the rows.
    """
    n_blocks, n_rows, width = data.shape
    if n_atoms < n_blocks * n_rows or n_nonzero < n_rows:
        return None
    return np.eye(n_atoms).reshape(n_blocks, n_rows, n_atoms), data.reshape(-1, width).copy()


def fitted_atoms(data: Array, coefficients: Array, atoms: Array) -> Array:
    """Return the atoms of least squares for given coefficients, as a step from where they are.

    Parameters
    ----------
    data : ndarray, shape (O, K, I)
        The blocks.
    coefficients : ndarray, shape (O, K, T)
        Of the atoms.
    atoms : ndarray, shape (T, I)
        The atoms; those that no coefficient uses stay.

    Returns
    -------
    ndarray, shape (T, I)
        The atoms.
    """
    n_atoms = len(atoms)
    flat = coefficients.reshape(-1, n_atoms)
    gram = flat.T @ flat
    trace = float(np.trace(gram))
    if not trace:
        return atoms
    gram[np.diag_indices(n_atoms)] += RIDGE * trace
    rest = coefficients @ atoms
    rest -= data
    step: Array = scipy.linalg.solve(gram, flat.T @ rest.reshape(len(flat), -1), assume_a="pos", check_finite=False)
    return atoms - step


def kept_largest(coefficients: Array, n_nonzero: int) -> Array:
    """Return coefficients with all but the largest of every block set to zero.

    Parameters
    ----------
    coefficients : ndarray, shape (O, K, T)
        Of the atoms.
    n_nonzero : int
        How many of a block stay.

    Returns
    -------
    ndarray, shape (O, K, T)
        A new array.
    """
    flat = coefficients.reshape(len(coefficients), -1)
    if n_nonzero >= flat.shape[1]:
        return coefficients.copy()
    order = np.argpartition(np.abs(flat), -n_nonzero, axis=1)[:, -n_nonzero:]
    kept = np.zeros_like(flat)
    np.put_along_axis(kept, order, np.take_along_axis(flat, order, 1), 1)
    return kept.reshape(coefficients.shape)


def largest_rests(data: Array, coefficients: Array, atoms: Array, count: int) -> tuple[Array, Array]:
    """Return the rows that are worst approximated, and the blocks that they are of.

    Parameters
    ----------
    data : ndarray, shape (O, K, I)
        The blocks.
    coefficients : ndarray, shape (O, K, T)
        Of the atoms.
    atoms : ndarray, shape (T, I)
        The atoms.
    count : int
        How many.

    Returns
    -------
    rests : ndarray, shape (count, I)
        What the approximation leaves of them.
    owners : ndarray of int, shape (count,)
        Indices of blocks.
    """
    rest = (data - coefficients @ atoms).reshape(-1, data.shape[-1])
    worst = np.argsort(-np.einsum("ni,ni->n", rest, rest), kind="stable")[:count]
    return rest[worst], worst // data.shape[1]


def padded(coefficients: Array, atoms: Array, n_atoms: int) -> tuple[Array, Array]:
    """Return coefficients and atoms with zeros up to a number of atoms.

    Parameters
    ----------
    coefficients : ndarray, shape (O, K, t)
        Of the atoms.
    atoms : ndarray, shape (t, I)
        The atoms.
    n_atoms : int
        T, at least t.

    Returns
    -------
    ndarray, ndarray
        Of shapes (O, K, T) and (T, I).
    """
    more = n_atoms - len(atoms)
    return np.pad(coefficients, ((0, 0), (0, 0), (0, more))), np.pad(atoms, ((0, more), (0, 0)))
