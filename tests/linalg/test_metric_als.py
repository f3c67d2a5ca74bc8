"""Least squares in a metric for any product of factors: falling and true errors, optima by dense least squares."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tensorconv.linalg import contracted, metric_als, one_blas_thread, reduced_rank_regression

Array = np.ndarray[Any, np.dtype[Any]]
Terms = list[tuple[str, Array]]
SIZES = {"o": 6, "i": 4, "x": 3, "y": 2, "r": 2, "b": 2, "s": 2, "t": 1}
# output, letters of the factors, and the limit of the rank of the one that is regressed
FORMULAS: dict[str, tuple[str, list[str], int | None]] = {
    "svd out": ("oixy", ["rixy", "or"], None),
    "svd in": ("oixy", ["ri", "orxy"], None),
    "svd of one axis": ("oixy", ["rix", "ory"], None),
    "depthwise first": ("oixy", ["irxy", "oir"], None),
    "pointwise first": ("oixy", ["orxy", "ori"], None),
    "tucker": ("oixy", ["bi", "obxy"], 3),
    "tucker spatial": ("oixy", ["bi", "obst", "xs", "yt"], 3),
    "cp": ("oixy", ["ri", "or", "rx", "ry"], None),
    "cp merged": ("oixy", ["ri", "or", "rxy"], None),
    "matrix": ("oi", ["ri", "or"], None),
    "outer product": ("oix", ["o", "i", "x"], None),
    "one factor": ("oix", ["oix"], None),
    "one factor, limited": ("oix", ["oix"], 2),
    "rows in two factors": ("oix", ["or", "orix"], None),
}
every_formula = pytest.mark.parametrize("name", FORMULAS)


def drawn(name: str, seed: int = 0, **sizes: int) -> Terms:
    rng = np.random.default_rng(seed)
    lengths = SIZES | sizes
    return [(letters, rng.standard_normal([lengths[c] for c in letters])) for letters in FORMULAS[name][1]]


def product(terms: Terms, output: str) -> Array:
    return np.asarray(np.einsum(",".join(letters for letters, _ in terms) + "->" + output, *(a for _, a in terms)))


def problem(name: str, n_samples: int = 200, seed: int = 5, decades: float = 2, **sizes: int) -> tuple[Array, Array]:
    """Return a tensor, and a root (n_samples, n) of a metric whose scales spread over so many decades."""
    rng = np.random.default_rng(seed)
    lengths = SIZES | sizes
    target = rng.standard_normal([lengths[c] for c in FORMULAS[name][0]])
    n = target[0].size
    mixing = np.linalg.qr(rng.standard_normal((n, n)))[0] * np.logspace(0, -decades, n)
    return target, rng.standard_normal((n_samples, n)) @ mixing.T / np.sqrt(n_samples)


def distance(target: Array, found: Array, root: Array) -> float:
    """Return the relative error from the samples themselves."""
    wanted = target.reshape(len(target), -1) @ root.T
    return float(np.linalg.norm(wanted - found.reshape(len(target), -1) @ root.T) / np.linalg.norm(wanted))


def check(name: str, target: Array, root: Array, start: Terms, **options: Any) -> list[float]:
    """The errors fall, the last is that of the factors, whose shapes and whose inputs are kept."""
    output, _, limit = FORMULAS[name]
    before = [array.copy() for _, array in start]
    fit = metric_als(start, output, target, root.T @ root, limit=limit, **options)
    assert all(np.array_equal(array, kept) for (_, array), kept in zip(start, before, strict=True))
    assert [(letters, array.shape) for letters, array in fit.terms] == [(c, a.shape) for c, a in start]
    assert all(np.isfinite(array).all() for _, array in fit.terms)
    # squares are sums of up to 24^2 products, and their errors relative to the squared norm
    for worse, better in itertools.pairwise(fit.errors):
        assert better <= worse * (1 + 1e-9) + 1e-7
    true = distance(target, product(fit.terms, output), root)
    assert abs(fit.errors[-1] ** 2 - true**2) <= 1e-12 * max(1.0, fit.errors[0] ** 2)
    if limit is not None:
        (rows,) = [array for letters, array in fit.terms if "o" in letters]
        assert np.linalg.matrix_rank(rows.reshape(len(rows), -1), tol=1e-8 * np.linalg.norm(rows)) <= limit
    return fit.errors


@every_formula
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_errors_fall_and_the_last_is_true(name: str, seed: int) -> None:
    target, root = problem(name)
    errors = check(name, target, root, drawn(name, seed), n_iter_max=30, tol=0.0)
    assert errors[-1] < errors[0] or name.startswith("one factor") or errors[0] < 1e-6


@every_formula
@pytest.mark.parametrize("single", ["o", "i", "x", "y", "r", "b"])
def test_axes_of_size_one(name: str, single: str) -> None:
    target, root = problem(name, **{single: 1})
    check(name, target, root, drawn(name, 3, **{single: 1}), n_iter_max=10, tol=0.0)


@every_formula
@pytest.mark.parametrize("kind", ["few samples", "dead channel", "equal channels", "one sample", "uneven"])
def test_singular_metrics(name: str, kind: str) -> None:
    target, root = problem(name, {"few samples": 7, "one sample": 1}.get(kind, 200))
    grid = root.reshape(len(root), target.shape[1], -1)
    if kind == "dead channel":
        grid[:, 1] = 0
    if kind == "equal channels":
        grid[:, 1] = grid[:, 2]
    if kind == "uneven":
        grid *= np.logspace(-5, 5, grid.shape[1])[:, None]
    check(name, target, root, drawn(name, 4), n_iter_max=20, tol=0.0)


@every_formula
def test_planted_factors_are_recovered(name: str) -> None:
    output, _, limit = FORMULAS[name]
    planted, rng = drawn(name, 7), np.random.default_rng(8)
    if limit is not None:  # the rows of a limited factor have this rank
        planted = [
            (c, (a.reshape(len(a), -1)[:, :limit] @ rng.standard_normal((limit, a[0].size))).reshape(a.shape))
            if "o" in c
            else (c, a)
            for c, a in planted
        ]
    _, root = problem(name, decades=0.3)  # the worse the condition of an unstructured metric, the slower
    near = [(letters, array + 0.1 * rng.standard_normal(array.shape)) for letters, array in planted]
    fit = metric_als(near, output, product(planted, output), root.T @ root, limit=limit, n_iter_max=500, tol=0.0)
    assert fit.errors[-1] <= 1e-6
    found = contracted(fit.terms, output)
    # what a metric of condition 10 or so hides of the error
    assert np.linalg.norm(found - product(planted, output)) <= 1e-5 * np.linalg.norm(found)


def least_squares(terms: Terms, j: int, output: str, target: Array, root: Array) -> tuple[Terms, float]:
    """Return the factors with the j-th at its optimum, by dense least squares, and the error."""
    letters, array = terms[j]
    columns = []
    for index in np.ndindex(array.shape):
        unit = np.zeros(array.shape)
        unit[index] = 1
        moved = product([*terms[:j], (letters, unit), *terms[j + 1 :]], output)
        columns.append((moved.reshape(len(target), -1) @ root.T).ravel())
    wanted = (target.reshape(len(target), -1) @ root.T).ravel()
    best = np.linalg.lstsq(np.stack(columns, axis=1), wanted, rcond=None)[0].reshape(array.shape)
    found = [*terms[:j], (letters, best), *terms[j + 1 :]]
    return found, distance(target, product(found, output), root)


SMALL = {"o": 3, "i": 3, "x": 2, "y": 2, "r": 2, "b": 2, "s": 1, "t": 1}
UNLIMITED = [name for name, (_, _, limit) in FORMULAS.items() if limit is None]


@one_blas_thread()
@pytest.mark.parametrize("name", UNLIMITED)
def test_the_end_is_stationary_and_as_good_as_dense_alternating_least_squares(name: str) -> None:
    output = FORMULAS[name][0]
    target, root = problem(name, 30, decades=0.7, **SMALL)

    def dense(terms: Terms, n_sweeps: int) -> float:
        error = np.inf
        for _, j in itertools.product(range(n_sweeps), range(len(terms))):
            terms, error = least_squares(terms, j, output, target, root)
        return float(error)

    starts = [drawn(name, seed, **SMALL) for seed in range(3)]
    fits = [metric_als(start, output, target, root.T @ root, n_iter_max=400, tol=1e-9) for start in starts]
    best = min(fits, key=lambda fit: fit.errors[-1])
    for j in range(len(best.terms)):
        # sweeps stop where one gains 1e-9 of the error; a whole step in one factor gains no more than 1e5 such
        assert least_squares(best.terms, j, output, target, root)[1] >= best.errors[-1] * (1 - 1e-4) - 1e-7
    reference = min(dense(start, 25) for start in starts)
    assert best.errors[-1] <= 1.01 * reference + 1e-6  # both end in local minima, and the best of three is alike


def test_a_limited_factor_is_a_reduced_rank_regression() -> None:
    target, root = problem("tucker")
    (into, basis), outer = drawn("tucker")
    fit = metric_als([(into, basis), outer], "oixy", target, root.T @ root, limit=2, n_iter_max=0)
    seen = np.einsum("bi,pixy->bxyp", basis, root.reshape(-1, 4, 3, 2)).reshape(-1, len(root))
    z = target.reshape(6, -1) @ root.T
    left, right, error = reduced_rank_regression(z, seen, 2)
    assert abs(fit.errors[0] - error / np.linalg.norm(z)) <= 1e-9
    np.testing.assert_allclose(
        dict(fit.terms)["obxy"].reshape(6, -1), left @ right, atol=1e-8 * float(np.linalg.norm(z))
    )


@every_formula
@pytest.mark.parametrize("scale", [2.0**-600, 2.0**-300, 2.0**300, 2.0**600])
def test_the_scale_of_the_metric_does_not_matter(name: str, scale: float) -> None:
    output, _, limit = FORMULAS[name]
    target, root = problem(name)
    metric = root.T @ root
    found, expected = (
        metric_als(drawn(name), output, target, m, limit=limit, n_iter_max=5).errors for m in (metric * scale, metric)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)  # only where the smallest numbers lie differs


@every_formula
def test_what_is_zero_is_fitted_exactly(name: str) -> None:
    output, _, limit = FORMULAS[name]
    target, root = problem(name)
    for wanted, metric in ((0 * target, root.T @ root), (target, 0 * root.T @ root)):
        fit = metric_als(drawn(name), output, wanted, metric, limit=limit)
        assert fit.errors[-1] == 0
        assert all(np.isfinite(array).all() for _, array in fit.terms)
    zeros = [(letters, 0 * array) for letters, array in drawn(name)]
    fit = metric_als(zeros, output, target, root.T @ root, limit=limit)
    assert fit.errors[-1] <= 1 + 1e-12
    assert all(np.isfinite(array).all() for _, array in fit.terms)


@pytest.mark.parametrize("spread", [1e3, 1e6, 1e8])
@pytest.mark.parametrize("name", ["cp", "cp merged", "svd in", "tucker"])
def test_terms_of_very_different_size_do_no_harm(name: str, spread: float) -> None:
    # the same product, with the size of the second term in other factors
    output, _, limit = FORMULAS[name]
    rank = "b" if name == "tucker" else "r"
    target, root = problem(name)
    even = drawn(name)
    uneven = []
    for letters, array in even:
        gains = np.ones(array.shape[letters.index(rank)] if rank in letters else 1)
        gains[-1] = spread if "o" in letters else 1 / spread if "i" in letters else 1
        shape = [-1 if c == rank else 1 for c in letters]
        uneven.append((letters, array * gains.reshape(shape)) if rank in letters else (letters, array))
    errors = [
        metric_als(terms, output, target, root.T @ root, limit=limit, n_iter_max=0).errors for terms in (even, uneven)
    ]
    np.testing.assert_allclose(errors[1], errors[0], rtol=1e-6)


def test_a_product_of_many_factors_is_that_of_numpy() -> None:
    for name, (output, _, _) in FORMULAS.items():
        terms = drawn(name)
        np.testing.assert_allclose(contracted(terms, output), product(terms, output), atol=1e-12)


def test_sweeps_stop_where_they_gain_little() -> None:
    target, root = problem("cp")
    long = metric_als(drawn("cp"), "oixy", target, root.T @ root, n_iter_max=40, tol=0.0).errors
    found = metric_als(drawn("cp"), "oixy", target, root.T @ root, n_iter_max=40, tol=0.01).errors
    assert found == long[: len(found)]
    gains = [1 - b / a for a, b in itertools.pairwise(found)]
    assert all(gain > 0.01 for gain in gains[:-1])
    assert gains[-1] <= 0.01
    assert len(metric_als(drawn("cp"), "oixy", target, root.T @ root, n_iter_max=3, tol=0.0).errors) == 4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_few_unknowns_are_solved_within_a_sweep(seed: int) -> None:
    # conjugate gradients end after as many steps as the metric has eigenvalues, here four, or at 1e-3 of the residual;
    # as many steps of steepest descent leave twice as much
    target, root = problem("outer product", decades=1.5, seed=seed, i=2, x=2)
    drawn_factor = np.asarray(np.random.default_rng(99).standard_normal(target.shape))
    start: Terms = [("oix", drawn_factor), ("o", np.ones(len(target)))]
    errors = metric_als(start, "oix", target, root.T @ root, n_iter_max=1).errors
    assert errors[1] <= 0.1 * errors[0]


def test_what_the_metric_hardly_sees_is_not_blown_up() -> None:
    metric = np.diag([1.0, 0.0])
    right = np.array([[1.0, 0.0], [1e-7, 1.0]])  # of the second row, only 1e-7 is seen
    fit = metric_als([("or", np.ones((3, 2))), ("ri", right)], "oi", np.ones((3, 2)), metric, n_iter_max=0)
    product = fit.terms[0][1] @ fit.terms[1][1]
    assert np.abs(product).max() <= 2  # 5e6 where the two rows share what either could do alone
    assert np.allclose(product[:, 0], 1)
