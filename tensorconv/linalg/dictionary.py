"""Sparse dictionaries: blocks of rows as combinations of a few common atoms, each block with a number of entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.linalg.dictionary_steps import (
    checked_blocks,
    exact_rows,
    fitted_atoms,
    kept_largest,
    largest_rests,
    leading_rows,
    lost,
    padded,
    relative,
)

Array = NDArray[Any]
ROUNDS = 60  # of turning an orthonormal basis before it may become any basis
SWEEPS = 40
CG_STEPS = 3  # of conjugate gradients on a support, per sweep; more were not better
SETTLED = 3e-4  # relative fall of the error below which rounds and sweeps stop
EXACT = 1e-14  # an error this small is rounding


@dataclass(frozen=True)
class Dictionary:
    """Blocks of rows written with common atoms: ``blocks[o] ~ coefficients[o] @ atoms``.

    Parameters
    ----------
    coefficients : ndarray, shape (O, K, T)
        Mostly zeros.
    atoms : ndarray, shape (T, I)
        The rows that are combined.
    errors : tuple of float
        Relative Frobenius error of the start and after every sweep, falling.
    """

    coefficients: Array
    atoms: Array
    errors: tuple[float, ...]


def sparse_dictionary(
    blocks: Any, n_atoms: int, n_nonzero: int, *, start: Dictionary | None = None, target: float = 0.0
) -> Dictionary:
    """Write blocks of rows with common atoms and at most so many coefficients per block that are not zero.

    It starts from the leading right singular vectors, every block keeping its largest coefficients. The basis is then
    turned: for orthonormal atoms the largest coefficients are the best, and for given coefficients the polar factor is
    the best orthonormal basis (as in orthogonal Procrustes problems, Schoenemann, 1966). From there on the atoms may be
    any: they solve their least squares, the coefficients theirs on their support by conjugate gradients, and a block's
    support is renewed by a step of iterative hard thresholding (Blumensath and Davies, 2009) wherever that block's
    error falls. No step raises the error, so it is never above the start's.

    Parameters
    ----------
    blocks : array_like, shape (O, K, I)
        Real blocks; computed in float64.
    n_atoms : int
        T, from 1 to O K.
    n_nonzero : int
        Coefficients of a block, from 1 to K T. With K T of them it is the truncated singular value decomposition, with
        O K atoms and K of them the blocks' own rows.
    start : Dictionary, optional
        Of the same blocks, with any number of atoms and coefficients: taken where it is better than the singular
        vectors.
    target : float
        Relative error at which to stop.

    Returns
    -------
    Dictionary
        Coefficients, atoms and the errors on the way.

    Raises
    ------
    RankError
        If a number is out of range.
    KernelError
        If the blocks are not of three axes, empty, or hold NaN or inf.

    Examples
    --------
    >>> blocks = np.random.default_rng(0).standard_normal((8, 9, 6))
    >>> found = sparse_dictionary(blocks, 4, 12)
    >>> found.coefficients.shape, int(np.count_nonzero(found.coefficients[0]))
    ((8, 9, 4), 12)
    """
    data, scale = checked_blocks(blocks, n_atoms, n_nonzero)
    norm = float(np.linalg.norm(data))
    coefficients, atoms = exact_rows(data, n_atoms, n_nonzero) or _basis_start(data, n_atoms, n_nonzero, norm)
    if start is not None:
        resized = _resized(data, start, scale, n_atoms, n_nonzero)
        if lost(data, *resized).sum() < lost(data, coefficients, atoms).sum():
            coefficients, atoms = resized
    errors = [relative(data, coefficients, atoms, norm)]
    for _ in range(SWEEPS if n_nonzero < n_atoms * data.shape[1] else 0):
        if errors[-1] <= max(target, EXACT):
            break
        found = _swept(data, coefficients, atoms, n_nonzero)
        error = relative(data, *found, norm)
        if error >= errors[-1]:
            break
        coefficients, atoms = found
        errors.append(error)
        if errors[-2] - error <= SETTLED * error:
            break
    return Dictionary(coefficients, scale * atoms, tuple(errors))


def _basis_start(data: Array, n_atoms: int, n_nonzero: int, norm: float) -> tuple[Array, Array]:
    """Return orthonormal atoms, turned until the largest coefficients hold the most; unused atoms are zero."""
    atoms = leading_rows(data, n_atoms)
    n_nonzero = min(n_nonzero, data.shape[1] * len(atoms))
    coefficients = kept_largest(data @ atoms.T, n_nonzero)
    error = relative(data, coefficients, atoms, norm)
    for _ in range(ROUNDS if n_nonzero < data.shape[1] * len(atoms) else 0):
        u, _, vh = np.linalg.svd(np.tensordot(coefficients, data, ((0, 1), (0, 1))), full_matrices=False)
        turned = u @ vh
        found = kept_largest(data @ turned.T, n_nonzero)
        before, error = error, relative(data, found, turned, norm)
        if error >= before:
            break
        coefficients, atoms = found, turned
        if before - error <= SETTLED * error:
            break
    return padded(coefficients, atoms, n_atoms)


def _swept(data: Array, coefficients: Array, atoms: Array, n_nonzero: int) -> tuple[Array, Array]:
    """Return coefficients on renewed supports and atoms that fit them."""
    atoms = atoms.copy()
    unused = np.flatnonzero(~coefficients.any(axis=(0, 1)))
    if unused.size:
        rests, _ = largest_rests(data, coefficients, atoms, unused.size)
        atoms[unused[: len(rests)]] = rests
    norms = np.linalg.norm(atoms, axis=1)
    coefficients = coefficients * norms
    atoms /= np.where(norms > 0, norms, 1)[:, None]
    gram, seen = atoms @ atoms.T, data @ atoms.T
    stepped = coefficients + (seen - coefficients @ gram)  # atoms are of norm 1: the step to each one's own optimum
    best = _on_support(seen, gram, coefficients)
    other = _on_support(seen, gram, kept_largest(stepped, n_nonzero))
    falls = lost(data, other, atoms) < lost(data, best, atoms)
    best[falls] = other[falls]
    return best, fitted_atoms(data, best, atoms)


def _on_support(seen: Array, gram: Array, coefficients: Array) -> Array:
    """Take every row's coefficients towards its least squares on its support, by conjugate gradients."""
    mask = coefficients != 0
    rest = (seen - coefficients @ gram) * mask
    direction, squares = rest.copy(), np.einsum("okt,okt->ok", rest, rest)[..., None]
    found = coefficients.copy()
    for _ in range(CG_STEPS):
        image = (direction @ gram) * mask
        curvature = np.einsum("okt,okt->ok", direction, image)[..., None]
        length = np.divide(squares, curvature, out=np.zeros_like(squares), where=curvature > 0)
        found += length * direction
        rest -= length * image
        before, squares = squares, np.einsum("okt,okt->ok", rest, rest)[..., None]
        direction *= np.divide(squares, before, out=np.zeros_like(squares), where=before > 0)
        direction += rest
    return found


def _resized(data: Array, start: Dictionary, scale: float, n_atoms: int, n_nonzero: int) -> tuple[Array, Array]:
    """Return a start with another number of atoms, its weightiest, and its largest coefficients."""
    norms = np.linalg.norm(start.atoms / scale, axis=1)
    coefficients = start.coefficients * norms
    kept = np.sort(np.argsort(-np.einsum("okt,okt->t", coefficients, coefficients), kind="stable")[:n_atoms])
    atoms = start.atoms[kept] / (scale * np.where(norms > 0, norms, 1)[kept, None])
    coefficients, atoms = padded(kept_largest(coefficients[:, :, kept], n_nonzero), atoms, n_atoms)
    return coefficients, fitted_atoms(data, coefficients, atoms)
