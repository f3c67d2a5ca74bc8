"""Whitening: exact where the metric is a Kronecker product, and undone by restoring."""

from __future__ import annotations

import numpy as np
import pytest

from tensorconv.factorizations.whitening import Whitening

U = 2.0**-53
SIZES = {"i": 4, "x": 3, "y": 2}


def metric_of(n: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((3 * n, n))
    return np.asarray(rows.T @ rows / len(rows))


@pytest.mark.parametrize("modes", [["i", "xy"], ["ix", "y"], ["i", "x", "y"], ["iy", "x"], ["ixy"]])
def test_a_kronecker_product_becomes_the_identity(modes: list[str]) -> None:
    factors = [(mode, metric_of(int(np.prod([SIZES[c] for c in mode])), j)) for j, mode in enumerate(modes)]
    grids = [a.reshape([SIZES[c] for c in mode] * 2) for mode, a in factors]
    formula = ",".join(mode + mode.upper() for mode in modes) + "->ixyIXY"
    metric = np.einsum(formula, *grids).reshape(24, 24)
    whitening = Whitening.of(metric, SIZES, modes)
    kernel = np.random.default_rng(9).standard_normal((5, 4, 3, 2))
    turned = whitening.applied(("oixy", kernel))[1]
    energy = np.einsum("on,nm,om->", kernel.reshape(5, -1), metric, kernel.reshape(5, -1))
    # roots by eigenvectors of at most 24 directions, some thousand roundings
    assert np.sum(turned**2) == pytest.approx(energy, rel=2000 * U)


@pytest.mark.parametrize("diagonal", [False, True])
def test_factors_are_restored(diagonal: bool) -> None:
    whitening = Whitening.of(metric_of(24, 0), SIZES, ["i"] if diagonal else ["i", "xy"], diagonal=diagonal)
    kernel = np.random.default_rng(9).standard_normal((5, 4, 3, 2))
    letters, turned = whitening.applied(("oixy", kernel))
    assert np.linalg.norm(turned - kernel) > 0.1
    rows = turned.reshape(5, -1)
    left, right = whitening.restored([("or", np.eye(5)), ("rixy", rows.reshape(5, 4, 3, 2))])
    assert (left[0], right[0], letters) == ("or", "rixy", "oixy")
    np.testing.assert_allclose(right[1], kernel, rtol=0, atol=2000 * U * float(np.abs(kernel).max()))
    if diagonal:
        np.testing.assert_array_equal(whitening.roots["i"][0], np.diag(np.diag(whitening.roots["i"][0])))


def test_a_metric_of_nothing_changes_nothing() -> None:
    kernel = np.random.default_rng(9).standard_normal((5, 4, 3, 2))
    whitening = Whitening.of(np.zeros((24, 24)), SIZES, ["i", "xy"])
    np.testing.assert_allclose(whitening.applied(("oixy", kernel))[1], kernel, rtol=0, atol=100 * U)
