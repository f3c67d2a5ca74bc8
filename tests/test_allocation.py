"""Allocation: the exact choice against brute force and an integer program, the greedy ranks against a plain loop."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

import tensorconv as tc
from tensorconv.allocation import Option
from tensorconv.arrays import Array
from tensorconv.errors import KernelError, RankError

Curves = list[list[Option]]


def totals(curves: Sequence[Sequence[Option]], chosen: Sequence[int]) -> tuple[float, Fraction]:
    options = [curve[i] for curve, i in zip(curves, chosen, strict=True)]
    return sum(option.error for option in options), sum((Fraction(option.cost) for option in options), Fraction(0))


def brute_force(curves: Curves, budget: Fraction) -> tuple[float, Fraction] | None:
    """Return the least error, and the least cost at which it is had, by trying everything."""
    every = (totals(curves, chosen) for chosen in itertools.product(*(range(len(curve)) for curve in curves)))
    return min((found for found in every if found[1] <= budget), default=None)


def spectral_curves(n_layers: int, n_ranks: int, seed: int) -> Curves:
    """Return curves as low-rank approximations have them: costs linear in rank, errors the tails of power laws."""
    rng = np.random.default_rng(seed)
    curves = []
    for _ in range(n_layers):
        step = int(rng.integers(10**5, 10**7))
        energies = np.sort(np.arange(1, n_ranks + 1) ** -rng.uniform(0.3, 2) * rng.uniform(0.8, 1.2, n_ranks))
        tails = np.cumsum(energies)[::-1] * 10.0 ** rng.integers(-3, 2)
        ranks = [Option(step * rank, float(tails[rank]), rank) for rank in range(1, n_ranks)]
        curves.append([*ranks, Option(step * n_ranks, 0.0, "dense")])
    return curves


@pytest.mark.parametrize("seed", range(300))
def test_it_is_the_best_of_all_choices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape, scale = rng.integers(1, 6, rng.integers(1, 5)), Fraction(1, int(rng.integers(1, 4)))
    most = int(rng.choice([3, 10, 1000]))  # few values make many ties; all sums of errors are exact
    curves = [
        [Option(int(rng.integers(0, most)) * scale, float(rng.integers(0, most))) for _ in range(n)] for n in shape
    ]
    least = sum(min(Fraction(option.cost) for option in curve) for curve in curves)
    for extra in (0, 1, most // 2, most, 4 * most):
        budget = least + extra * scale / 2
        chosen = tc.allocate(curves, budget)
        assert totals(curves, chosen) == brute_force(curves, budget)
        assert tc.allocate(curves, budget) == chosen


@pytest.mark.parametrize("seed", range(40))
def test_weights_and_floats(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = [[Option(rng.random(), rng.random()) for _ in range(5)] for _ in range(4)]
    weights = [float(weight) for weight in rng.integers(0, 4, 4)]
    weighted = [
        [Option(option.cost, weight * option.error) for option in curve]
        for curve, weight in zip(curves, weights, strict=True)
    ]
    budget = float(sum(min(option.cost for option in curve) for curve in curves) + 1.2 * rng.random())
    chosen = tc.allocate(curves, budget, weights=weights)
    best = brute_force(weighted, Fraction(budget))
    assert best is not None
    error, cost = totals(weighted, chosen)
    assert cost <= Fraction(budget)  # to the last bit of the floats as given
    assert abs(error - best[0]) <= 1e-15 * 4


@pytest.mark.parametrize("seed", range(6))
def test_an_integer_program_agrees(seed: int) -> None:
    curves = spectral_curves(8, 20, seed)
    dense = sum(Fraction(curve[-1].cost) for curve in curves)
    budget = int(dense * Fraction(1 + seed, 10))
    layer = np.repeat(np.arange(8), 20)
    costs = np.array([float(option.cost) for curve in curves for option in curve])
    errors = np.array([option.error for curve in curves for option in curve])
    one_each = LinearConstraint((layer == np.arange(8)[:, None]).astype(float), 1, 1)
    affordable = LinearConstraint(costs[None] / budget, -np.inf, 1)
    solved = milp(
        errors * 1e3,
        integrality=np.ones(160),
        bounds=Bounds(0, 1),
        constraints=[one_each, affordable],
        options={"mip_rel_gap": 0},
    )
    error, cost = totals(curves, tc.allocate(curves, budget))
    assert cost <= budget
    assert abs(error - solved.fun / 1e3) <= 1e-6 * error  # HiGHS' feasibility is 1e-6, and its absolute gap


def test_the_last_unit_of_the_budget_counts() -> None:
    for unit in (1, 10**9 + 7, 10**30, Fraction(1, 3), 0.1):
        curves = [[Option(unit * cost, 10.0 - cost) for cost in range(1, 11)] for _ in range(12)]
        budget = sum((Fraction(unit * 5) for _ in range(12)), Fraction(0))
        assert totals(curves, tc.allocate(curves, budget))[0] == 60
        assert totals(curves, tc.allocate(curves, budget - Fraction(1, 10**30)))[0] == 61


def test_costs_beyond_int64_are_exact_too() -> None:
    small = spectral_curves(10, 30, 3)
    large = [[Option(10**25 * int(option.cost) + i, option.error) for i, option in enumerate(curve)] for curve in small]
    budget = sum(int(curve[-1].cost) for curve in small) // 3
    chosen = tc.allocate(large, 10**25 * budget + 300)
    assert chosen == tc.allocate(small, budget)
    exact = totals(large, chosen)
    assert tc.allocate(large, exact[1]) == chosen
    assert totals(large, tc.allocate(large, exact[1] - 1)) > exact


def test_a_network_takes_no_time() -> None:
    curves = spectral_curves(60, 100, 0)
    start = time.perf_counter()
    chosen = tc.allocate(curves, sum(int(curve[-1].cost) for curve in curves) // 4)
    assert time.perf_counter() - start < 2  # seen: 0.1 s
    assert len(chosen) == 60


def test_costs_that_leave_the_budget_odd() -> None:
    rng = np.random.default_rng(0)
    curves = [[Option(int(cost) * 2, float(2000 - cost)) for cost in rng.integers(1, 1000, 30)] for _ in range(20)]
    start = time.perf_counter()
    error, cost = totals(curves, tc.allocate(curves, 15001))  # no choice costs an odd number
    assert time.perf_counter() - start < 5  # seen: 0.2 s
    assert cost == 15000  # a unit of cost saves as much error anywhere, so that all of the budget is spent
    assert error == 2000 * 20 - 7500


def test_the_hard_case_is_refused_before_it_takes_the_memory() -> None:
    rng = np.random.default_rng(0)
    curves = [[Option(int(c), float(10**9 - c)) for c in rng.integers(1, 10**9, 20)] for _ in range(10)]
    with pytest.raises(RankError, match=r"partial choices that nearly tie; give costs in a coarser unit"):
        tc.allocate(curves, 3 * 10**9)
    coarse = [[Option(-(-int(option.cost) // 10**6), option.error) for option in curve] for curve in curves]
    assert totals(coarse, tc.allocate(coarse, 3000))[1] == 3000  # as the message says


def test_one_option_each_and_none_at_all() -> None:
    assert tc.allocate([], 0) == ()
    assert tc.allocate([[Option(3, 1.0)], [Option(4, 1.0)]], 7) == (0, 0)
    ties = [[Option(5, 1.0), Option(3, 1.0), Option(3, 1.0), Option(9, 0.5)]]
    assert tc.allocate(ties, 8) == (1,)
    assert tc.allocate(ties, 100, weights=[0]) == (1,)


def test_refusals_of_the_exact_choice() -> None:
    curves = [[Option(3, 1.0), Option(5, 0.0)], [Option(Fraction(9, 2), 1.0)]]
    text = r"budget=7 cannot be met: the cheapest choice in every layer costs 7.5 together; raise the budget"
    with pytest.raises(RankError, match=text):
        tc.allocate(curves, 7)
    with pytest.raises(RankError, match=r"budget=-1 .* costs 0 together"):
        tc.allocate([], -1)
    with pytest.raises(KernelError, match=r"curves\[1\] must hold at least one option"):
        tc.allocate([curves[0], []], 7)
    for weights in ([1.0], [1.0, -1.0], [1.0, float("nan")]):
        with pytest.raises(KernelError, match=r"weights must be 2 finite numbers, one per layer, at least 0, got \[1"):
            tc.allocate(curves, 9, weights=weights)
    with pytest.raises(KernelError, match="budget must be a finite number, got inf"):
        tc.allocate(curves, float("inf"))
    with pytest.raises(KernelError, match="cost must be a finite number, got nan"):
        Option(float("nan"), 0.0)
    for error in (-1e-9, float("nan"), float("inf")):
        with pytest.raises(KernelError, match=r"error must be a finite number, at least 0, got"):
            Option(1, error)


def greedy_by_a_loop(spectra: list[Array], costs: Sequence[float], budget: float) -> tuple[int, ...]:
    ranks = [len(spectrum) for spectrum in spectra]
    while sum(Fraction(cost) * rank for cost, rank in zip(costs, ranks, strict=True)) > budget:
        ratios = {}
        for i, (spectrum, cost) in enumerate(zip(spectra, costs, strict=True)):
            if ranks[i] > 1:
                kept = float(np.cumsum(spectrum)[ranks[i] - 1])
                ratios[i] = float(spectrum[ranks[i] - 1]) / kept / float(cost) if kept else 0.0
        ranks[min(ratios, key=lambda i: ratios[i])] -= 1
    return tuple(ranks)


@pytest.mark.parametrize("seed", range(60))
def test_greedy_ranks_are_those_of_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_layers = int(rng.integers(1, 6))
    spectra = [np.sort(rng.random(rng.integers(1, 20)) ** rng.integers(1, 9))[::-1] for _ in range(n_layers)]
    if seed % 3 == 0:  # ties, and eigenvalues of zero
        spectra = [np.floor(4 * spectrum) for spectrum in spectra]
    costs = [int(cost) for cost in rng.integers(1, 1 + int(rng.choice([1, 50])), n_layers)]
    full = sum(cost * len(spectrum) for cost, spectrum in zip(costs, spectra, strict=True))
    for share in (0.2, 0.5, 0.8, 1.0):
        budget = max(sum(costs), int(share * full))
        found = tc.allocate_greedy(spectra, costs, budget)
        assert found == greedy_by_a_loop(spectra, costs, budget)
        assert sum(cost * rank for cost, rank in zip(costs, found, strict=True)) <= budget


def test_greedy_ranks_by_hand() -> None:
    spectra, costs = [np.array([4.0, 2.0, 2.0]), np.array([6.0, 3.0, 1.0])], [1, 2]
    # ratios, from full rank down: 2/8 / 1 = 0.25, 2/6 / 1 = 0.33; and 1/10 / 2 = 0.05, 3/9 / 2 = 0.17
    falling = {9: (3, 3), 8: (3, 2), 7: (3, 2), 6: (3, 1), 5: (3, 1), 4: (2, 1), 3: (1, 1)}
    for budget, ranks in falling.items():
        assert tc.allocate_greedy(spectra, costs, budget) == ranks
    assert tc.allocate_greedy(spectra, [Fraction(1, 3), Fraction(2, 3)], 2) == (3, 1)
    assert tc.allocate_greedy(spectra, [0.1, 0.2], 0.8) == (3, 2)
    assert tc.allocate_greedy([], [], 0) == ()


def test_greedy_ranks_of_a_network_take_no_time() -> None:
    rng = np.random.default_rng(0)
    spectra = [np.sort(rng.random(512) ** 8)[::-1] for _ in range(16)]
    costs = [int(cost) for cost in rng.integers(10**6, 10**7, 16)]
    start = time.perf_counter()
    ranks = tc.allocate_greedy(spectra, costs, 512 * sum(costs) // 4)
    assert time.perf_counter() - start < 1  # seen: 0.01 s
    assert 0.249 < sum(cost * rank for cost, rank in zip(costs, ranks, strict=True)) / (512 * sum(costs)) <= 0.25


def test_refusals_of_the_greedy_ranks() -> None:
    spectra = [np.array([2.0, 1.0]), np.array([3.0])]
    with pytest.raises(RankError, match="budget=4 cannot be met: the cheapest choice in every layer costs 5 together"):
        tc.allocate_greedy(spectra, [2, 3], 4)
    with pytest.raises(KernelError, match="costs must be one per spectrum, 2, got 1"):
        tc.allocate_greedy(spectra, [2], 4)
    with pytest.raises(KernelError, match=r"costs\[1\] must be above 0, the cost of one rank, got 0"):
        tc.allocate_greedy(spectra, [2, 0], 4)
    for spectrum in (np.array([1.0, 2.0]), np.array([1.0, -1.0])):
        with pytest.raises(KernelError, match=r"spectra\[0\] must fall and not be negative; sort it"):
            tc.allocate_greedy([spectrum], [1], 4)
    for spectrum in (np.zeros(0), np.ones((2, 2)), np.array([np.nan, 1.0])):
        with pytest.raises(KernelError, match=r"spectra\[0\] must be a vector of finite eigenvalues, got shape"):
            tc.allocate_greedy([spectrum], [1], 4)
