"""Binary dictionaries: blocks of rows as one scale times sums and differences of a few common atoms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.linalg.dictionary import EXACT, SETTLED, SWEEPS, Dictionary
from tensorconv.linalg.dictionary_steps import (
    checked_blocks,
    exact_rows,
    fitted_atoms,
    largest_rests,
    leading_rows,
    lost,
    relative,
)

Array = NDArray[Any]
CURVATURES = (1.0, 2.0, 4.0)  # of the steps that signs are chosen by, over those of single atoms


def binary_dictionary(
    blocks: Any, n_atoms: int, n_nonzero: int, *, start: Dictionary | None = None, target: float = 0.0
) -> Dictionary:
    """Write blocks of rows with common atoms, coefficients 0 or one magnitude per block, with either sign.

    It starts from the signs of the largest coefficients in the leading right singular vectors, taken as they are or
    scaled to equal coefficients, whichever is better; more atoms than there are singular vectors come from what these
    leave, and so on. In turn, the signs and the zeros of a block are renewed, for fixed atoms by a separable bound of
    its error, in which the best signs have a closed form (majorization and minimization), and taken wherever its error
    falls; the atoms solve their least squares; and the magnitude is that of least squares. No step raises the error.

    Parameters
    ----------
    blocks : array_like, shape (O, K, I)
        Real blocks; computed in float64.
    n_atoms : int
        T, from 1 to O K.
    n_nonzero : int
        The largest number of coefficients of a block that are not zero, from 1 to K T; fewer where that is better.
        With O K atoms and K of them the blocks' own rows are the atoms.
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
    >>> found = binary_dictionary(blocks, 12, 40)
    >>> np.unique(np.abs(found.coefficients[0])).size
    2
    """
    data, scale = checked_blocks(blocks, n_atoms, n_nonzero)
    norm = float(np.linalg.norm(data))
    rows = exact_rows(data, n_atoms, n_nonzero)
    if rows is None:
        signs, atoms = _basis_start(data, n_atoms, n_nonzero)
    else:
        signs, atoms = rows
    scales = _scales(data, signs, atoms)
    if start is not None:
        resized = _resized(data, start, scale, n_atoms, n_nonzero)
        if _lost(data, *resized).sum() < _lost(data, scales, signs, atoms).sum():
            scales, signs, atoms = resized
    errors = [relative(data, _coefficients(scales, signs), atoms, norm)]
    for _ in range(SWEEPS):
        if errors[-1] <= max(target, EXACT):
            break
        found = _swept(data, scales, signs, atoms, n_nonzero)
        error = relative(data, _coefficients(found[0], found[1]), found[2], norm)
        if error >= errors[-1]:
            break
        scales, signs, atoms = found
        errors.append(error)
        if errors[-2] - error <= SETTLED * error:
            break
    return Dictionary(_coefficients(scales, signs), scale * atoms, tuple(errors))


def _coefficients(scales: Array, signs: Array) -> Array:
    return scales[:, None, None] * signs


def _lost(data: Array, scales: Array, signs: Array, atoms: Array) -> Array:
    return lost(data, _coefficients(scales, signs), atoms)


def _scales(data: Array, signs: Array, atoms: Array) -> Array:
    """Return every block's scale of least squares; a negative one would be the other signs with its magnitude."""
    sums = signs @ atoms
    seen, squares = np.einsum("oki,oki->o", data, sums), np.einsum("oki,oki->o", sums, sums)
    scales: Array = np.divide(seen, squares, out=np.zeros_like(seen), where=squares > 0)
    return scales


def _basis_start(data: Array, n_atoms: int, n_nonzero: int) -> tuple[Array, Array]:
    """Return signs and atoms from singular vectors of the blocks, then of what these leave."""
    signs, atoms = np.zeros((*data.shape[:2], n_atoms)), np.zeros((n_atoms, data.shape[2]))
    done, free, scales, rest = 0, n_nonzero, np.ones(len(data)), data
    while done < n_atoms and free:
        basis = leading_rows(rest, n_atoms - done)
        part = slice(done, done + len(basis))
        taken = max(1, free * len(basis) // (n_atoms - done))
        found = [_signed(rest, basis, spread, taken) for spread in (False, True)]
        chosen = min(found, key=lambda one: float(_lost(rest, _scales(rest, *one), *one).sum()))
        if not done:
            scales = _scales(rest, *chosen)
        signs[:, :, part] = chosen[0]
        coefficients = _coefficients(scales, chosen[0])
        atoms[part] = fitted_atoms(rest, coefficients, chosen[1])
        rest = rest - coefficients @ atoms[part]
        done, free = done + len(basis), free - taken
    return signs, atoms


def _signed(rest: Array, basis: Array, spread: bool, n_nonzero: int) -> tuple[Array, Array]:
    """Return the best signs in an orthonormal basis, or in one scaled so that its coefficients are of one size."""
    seen = rest @ basis.T
    sizes = np.sqrt(np.mean(seen**2, axis=(0, 1))) if spread else np.ones(len(basis))
    flat = seen / np.where(sizes > 0, sizes, 1)
    magnitudes = np.abs(flat.reshape(len(rest), -1))
    order = np.argsort(-magnitudes, axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(magnitudes, order[:, :n_nonzero], 1), axis=1)
    count = np.argmax(sums**2 / np.arange(1, sums.shape[1] + 1), axis=1) + 1  # the fewest signs of the least error
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], 1)
    kept = (ranks < count[:, None]).reshape(seen.shape)
    return np.where(kept, np.sign(flat), 0.0), basis * sizes[:, None]


def _swept(data: Array, scales: Array, signs: Array, atoms: Array, n_nonzero: int) -> tuple[Array, Array, Array]:
    """Return renewed signs, atoms that fit them, and scales that fit both."""
    atoms = atoms.copy()
    unused = np.flatnonzero(~signs.any(axis=(0, 1)))
    if unused.size:
        rests, owners = largest_rests(data, _coefficients(scales, signs), atoms, unused.size)
        atoms[unused[: len(rests)]] = rests / np.where(scales[owners] > 0, scales[owners], 1)[:, None]
    best, least = (scales, signs), _lost(data, scales, signs, atoms)
    for curvature in CURVATURES:
        other = _stepped(data, scales, signs, atoms, n_nonzero, curvature)
        others = _scales(data, other, atoms)
        found = _lost(data, others, other, atoms)
        falls = found < least
        best = (np.where(falls, others, best[0]), np.where(falls[:, None, None], other, best[1]))
        least = np.minimum(least, found)
    scales, signs = np.abs(best[0]), best[1] * np.where(best[0] < 0, -1.0, 1.0)[:, None, None]
    atoms = fitted_atoms(data, _coefficients(scales, signs), atoms)
    scales = _scales(data, signs, atoms)
    return np.abs(scales), signs * np.where(scales < 0, -1.0, 1.0)[:, None, None], atoms


def _stepped(data: Array, scales: Array, signs: Array, atoms: Array, n_nonzero: int, curvature: float) -> Array:
    """Return the signs that are best in a separable model of every block's error, for its scale.

    A coefficient z of curvature g that becomes a sign times the scale s lowers the model by ``g s (2 |z| - s)``.
    """
    coefficients = _coefficients(scales, signs)
    curvatures = curvature * np.einsum("ti,ti->t", atoms, atoms)
    slopes = (data - coefficients @ atoms) @ atoms.T
    wanted = coefficients + np.divide(slopes, curvatures, out=np.zeros_like(slopes), where=curvatures > 0)
    magnitudes = np.abs(wanted)
    level = np.where(scales > 0, scales, magnitudes.max(axis=(1, 2)))[:, None, None]
    gains = (curvatures * (2 * magnitudes - level)).reshape(len(data), -1)
    kept = gains > 0
    if n_nonzero < gains.shape[1]:
        order = np.argpartition(gains, -n_nonzero, axis=1)[:, :-n_nonzero]
        np.put_along_axis(kept, order, False, 1)
    return np.where(kept.reshape(signs.shape), np.sign(wanted), 0.0)


def _resized(data: Array, start: Dictionary, scale: float, n_atoms: int, n_nonzero: int) -> tuple[Array, Array, Array]:
    """Return a start with another number of atoms, its weightiest, and signs that keep to the number allowed."""
    atoms = start.atoms / scale
    weights = np.einsum("okt,okt->t", start.coefficients, start.coefficients) * np.einsum("ti,ti->t", atoms, atoms)
    kept = np.sort(np.argsort(-weights, kind="stable")[:n_atoms])
    more = n_atoms - len(kept)
    atoms = np.pad(atoms[kept], ((0, more), (0, 0)))
    scales = np.abs(start.coefficients).max(axis=(1, 2))
    signs = np.pad(np.sign(start.coefficients[:, :, kept]), ((0, 0), (0, 0), (0, more)))
    if np.count_nonzero(signs, axis=(1, 2)).max() > n_nonzero:
        signs = _stepped(data, scales, signs, atoms, n_nonzero, 1.0)
    atoms = fitted_atoms(data, _coefficients(scales, signs), atoms)
    return _scales(data, signs, atoms), signs, atoms
