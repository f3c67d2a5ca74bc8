"""Choosing: budgets are met with the least error, and nothing that is measured not to be faster is ever chosen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.errors import ModelError
from tensorconv.models.candidates import Candidate, candidates, cost, dense
from tensorconv.models.choosing import Curve, choose
from tensorconv.models.network import Site
from tensorconv.models.paired_times import Ratio
from tensorconv.models.plan import PlannedLayer
from tensorconv.models.settings import Settings


class Table:
    """A clock that looks times up: seconds are products, ratios are what a rule says of a sequence."""

    def __init__(self, rule: Callable[[tc.ConvSequence], float]) -> None:
        self.rule = rule
        self.asked: list[tuple[int, ...]] = []

    def ratio(self, layer: tc.ConvLayer, sequence: tc.ConvSequence, input_size: Sequence[int]) -> Ratio:
        self.asked.append((sequence.n_parameters, layer.out_channels, *input_size))
        median = self.rule(sequence)
        return Ratio(median, 0.9 * median, 1.1 * median)

    def seconds(self, layer: tc.ConvLayer, input_size: Sequence[int]) -> float:
        return layer.macs(tuple(input_size)) * 1e-9  # a nanosecond per product


def always(ratio: float) -> Callable[[tc.ConvSequence], float]:
    return lambda _: ratio


def site(name: str, n_out: int, n_in: int, seed: int, sizes: Sequence[tuple[int, ...]] = ((6, 6),)) -> Site:
    kernel = np.random.default_rng(seed).standard_normal((n_out, n_in, 3, 3)).astype("float32")
    return Site(name, tc.ConvLayer.of(kernel, padding=1), tuple(sizes))


SITES = [site("a", 16, 12, 0), site("b", 16, 16, 1, ((6, 6), (3, 3))), site("c", 12, 16, 2)]
OTHER = site("other", 16, 16, 3)
SHARES = (0.15, 0.3, 0.5, 0.7)


def asked(**values: object) -> Settings:
    return Settings(**({"methods": ["svd"], "shares": SHARES, "multiple": 1, "efficiency": 0} | values))  # type: ignore[arg-type]


def curves(settings: Settings, clock: Table | None = None, weights: Sequence[float] = (1, 1, 1)) -> list[Curve]:
    return [
        Curve(one, [found for found, _ in candidates(one, settings)], weight, settings, clock)
        for one, weight in zip(SITES, weights, strict=True)
    ]


def chosen(planned: Sequence[PlannedLayer], of: str) -> int:
    return sum(cost(layer.choice or layer.before, of) for layer in planned)


@pytest.mark.parametrize("budget", [0.4, 0.5, 0.7])
@pytest.mark.parametrize("of", ["macs", "parameters", "bytes"])
def test_a_budget_counts_other_layers_and_is_met_with_the_least_error(of: str, budget: float) -> None:
    weights = (1.0, 5.0, 0.1)
    settings = asked(budget=budget if of != "bytes" else budget + 0.15, of=of, faster=False)
    rows = curves(settings, weights=weights)
    options = [[None, *row.open] for row in rows]
    planned = list(choose(rows, [OTHER], settings).values())
    whole = sum(cost(dense(one), of) for one in (*SITES, OTHER))

    def error(picks: Sequence[Candidate | None]) -> float:
        return sum(w * one.error**2 for w, one in zip(weights, picks, strict=True) if one)

    def total(picks: Sequence[Candidate | None]) -> int:
        return sum(cost(one or dense(s), of) for s, one in zip(SITES, picks, strict=True)) + cost(dense(OTHER), of)

    affordable = [picks for picks in itertools.product(*options) if total(picks) <= settings.budget * whole]
    assert 0 < len(affordable) < np.prod([len(row) for row in options])
    picked = [layer.choice for layer in planned]
    assert total(picked) <= settings.budget * whole
    assert error(picked) == min(map(error, affordable))


def test_the_decimal_that_was_asked_for_is_the_budget() -> None:
    one = site("a", 10, 5, 0)  # 0.29 * 100 is below 29 in binary
    settings = asked(budget=0.29, of="parameters", faster=False)
    whole = dense(one)
    found = [Candidate("svd", (), 1, 0, whole.n_parameters * 29 // 100, 0, 0.5)]
    assert whole.n_parameters * 29 % 100 == 50
    exact = Site("a", tc.ConvLayer.of(np.ones((10, 10, 1), "float32")), ((4,),))
    found = [Candidate("svd", (), 1, 0, 29, 0, 0.5)]
    assert dense(exact).n_parameters == 100
    (planned,) = choose([Curve(exact, found, 1.0, settings, None)], [], settings).values()
    assert planned.choice == found[0]


@pytest.mark.parametrize("of", ["macs", "parameters", "bytes", "latency"])
def test_a_budget_that_cannot_be_met_names_the_least_which_can(of: str) -> None:
    def rows(settings: Settings) -> list[Curve]:
        return curves(settings, Table(lambda sequence: sequence.n_parameters / 2500))

    settings = asked(budget=0.01, of=of)
    with pytest.raises(ModelError, match=f"budget=0.01 of {of} cannot be met: 0.[0-9]+ is the least; ask for") as said:
        choose(rows(settings), [OTHER], settings)
    least = float(str(said.value).partition("met: ")[2].partition(" is")[0])
    for budget, met in ((least, True), (least - 0.002, False)):
        settings = asked(budget=budget, of=of)
        if met:
            choose(rows(settings), [OTHER], settings)
        else:
            with pytest.raises(ModelError, match="is the least"):
                choose(rows(settings), [OTHER], settings)


def test_what_was_looked_at_is_kept_with_its_times() -> None:
    def rule(sequence: tc.ConvSequence) -> float:  # of one split, only few channels between are faster
        return 0.5 if sequence.n_parameters < 450 else 1.0

    settings = asked(budget=0.6)
    rows = curves(settings, Table(rule), weights=(1.0, 5.0, 0.1))
    slow = 0
    for row, planned in zip(rows, choose(rows, [OTHER], settings).values(), strict=True):
        found = [one for one, _ in candidates(row.site, settings)]
        assert [replace(one, ratio=None) for one in planned.candidates] == found
        assert planned.weight == row.weight
        assert planned.choice is None or planned.choice in planned.candidates
        slow += sum(one.ratio is not None and one.ratio[2] >= 1 for one in planned.candidates)
    assert slow > 0


@pytest.mark.parametrize("error", [0.05, 0.5, 0.8])
@pytest.mark.parametrize("of", ["macs", "parameters"])
def test_an_error_is_met_by_the_cheapest(of: str, error: float) -> None:
    settings = asked(error=error, of=of, methods=["svd", "tucker"], faster=False)
    for one, planned in zip(SITES, choose(curves(settings), [OTHER], settings).values(), strict=True):
        meeting = [found for found, _ in candidates(one, settings) if found.error <= error]
        if meeting:
            assert planned.choice is not None
            assert planned.choice.error <= error
            assert cost(planned.choice, of) == min(cost(found, of) for found in meeting)
            assert planned.note == ""
        else:
            assert (planned.choice, planned.note) == (None, "nothing cheaper meets the error")


@pytest.mark.parametrize("of", ["macs", "latency"])
@pytest.mark.parametrize("request_", [{"budget": 0.6}, {"error": 0.8}])
def test_what_is_not_faster_is_never_chosen(request_: dict[str, float], of: str) -> None:
    def rule(sequence: tc.ConvSequence) -> float:  # of one split, only few channels between are faster
        return 0.5 if sequence.n_parameters < 450 else 1.0

    clock = Table(rule)
    settings = asked(**request_, of=of)
    for planned in choose(curves(settings, clock), [], settings).values():
        assert planned.choice is None or planned.choice.ratio == (0.5, 0.45, 0.55)
    assert any(n_parameters >= 450 for n_parameters, *_ in clock.asked)  # some were slow
    admitted = choose(curves(asked(**request_, faster=False)), [], asked(**request_, faster=False)).values()
    assert any(planned.choice and planned.choice.n_parameters >= 450 for planned in admitted)


@pytest.mark.parametrize("of", ["macs", "latency"])
def test_where_nothing_is_faster_the_note_says_so(of: str) -> None:
    settings = asked(error=0.9, of=of)
    clock = Table(always(0.95))  # but up to 1.045
    for planned in choose(curves(settings, clock), [], settings).values():
        assert planned.choice is None
        assert planned.note.startswith("would not get faster: ")
        assert planned.note.endswith(" measured, the fastest takes 95% of the time")
    settings = asked(budget=0.9, of=of)
    with pytest.raises(ModelError, match=r"1 is the least; .*; 3 layers have candidates that are not measured to be"):
        choose(curves(settings, clock), [], settings)


def test_a_slow_candidate_takes_the_dearer_ones_of_its_kind_along() -> None:
    settings = asked(budget=0.5, methods=["svd", "cp"])
    clock = Table(always(2.0))
    (row, *_) = curves(settings, clock)
    kinds = {(one.method, one.options) for one in row.open}
    assert len(kinds) > 1
    while row.open:
        before = list(row.open)
        one = before[len(before) // 2]
        assert row.is_slow(one)
        gone = [other for other in before if other not in row.open]
        assert one in gone
        assert {(other.method, other.options) for other in gone} == {(one.method, one.options)}
        assert all(other.macs >= one.macs for other in gone)
        kept = [other for other in row.open if (other.method, other.options) == (one.method, one.options)]
        assert all(other.macs < one.macs for other in kept)
    assert len(clock.asked) == len(row.slow)


def test_a_fast_candidate_stays_with_its_time() -> None:
    settings = asked(budget=0.5)
    (row, *_) = curves(settings, Table(always(0.5)))
    n = len(row.open)
    assert not row.is_slow(row.open[0])
    assert [one.ratio for one in row.open] == [(0.5, 0.45, 0.55)] + [None] * (n - 1)


def test_no_clock_is_asked_unless_it_matters() -> None:
    clock = Table(always(2.0))
    settings = asked(budget=0.5, faster=False)
    planned = choose(curves(settings, clock), [OTHER], settings)
    assert clock.asked == []
    assert any(layer.choice for layer in planned.values())
    assert all(layer.choice.ratio is None for layer in planned.values() if layer.choice)


def test_each_shape_is_timed_once() -> None:
    clock = Table(always(0.5))
    settings = asked(budget=0.5)
    planned = choose(curves(settings, clock), [OTHER], settings)
    assert len(clock.asked) == sum(layer.choice is not None for layer in planned.values())


@pytest.mark.parametrize("budget", [0.5, 0.7])
def test_a_budget_of_latency_is_met_by_measured_times(budget: float) -> None:
    clock = Table(lambda sequence: 0.2 + sequence.n_parameters / 3000)
    settings = asked(budget=budget, of="latency")
    planned = choose(curves(settings, clock), [OTHER], settings)
    assert any(layer.choice for layer in planned.values())

    def seconds(one: Site, ratio: float) -> float:
        return sum(clock.seconds(one.layer, size) for size in one.input_sizes) * ratio

    before = sum(seconds(one, 1.0) for one in (*SITES, OTHER))
    after = seconds(OTHER, 1.0)
    for one in SITES:
        choice = planned[one.name].choice
        after += seconds(one, 1.0 if choice is None else clock.rule(choice.sequence(one.layer, 0)))
        assert choice is None or choice.ratio is not None
    assert after <= budget * before + 4e-9  # times are rounded to nanoseconds, four of them


def test_layers_without_candidates_count_in_a_budget_of_latency() -> None:
    clock = Table(always(0.4))
    settings = asked(budget=0.75, of="latency")
    rows = [Curve(one, [], 1.0, settings, clock) for one in SITES[:2]]
    rows.append(Curve(SITES[2], [found for found, _ in candidates(SITES[2], settings)], 1.0, settings, clock))
    # c is 6912 of 25344 products; at 0.4 of its time the whole is 0.836
    with pytest.raises(ModelError, match=r"budget=0.75 of latency cannot be met: 0\.837 is the least"):
        choose(rows, [], settings)


def test_notes_say_why_a_layer_stays() -> None:
    settings = asked(budget=1.0, faster=False)
    assert {one.note for one in choose(curves(settings), [], settings).values()} == {
        "its error would cost more than it saves"
    }
    (empty,) = choose([Curve(SITES[0], [], 1.0, settings, None)], [], settings).values()
    assert (empty.choice, empty.note) == (None, "nothing cheaper was found")
