"""The trade-off of a plan, against every choice there is."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from tensorconv.models.candidates import Candidate
from tensorconv.models.plan import Plan, PlannedLayer
from tensorconv.models.settings import Settings
from tensorconv.models.trade_off import counted, planned_error, trade_off


def one(macs: int, error: float, ratio: float | None = None, n_parameters: int = 7) -> Candidate:
    interval = None if ratio is None else (ratio, ratio - 0.1, ratio + 0.1)
    return Candidate("svd", (), macs, macs, n_parameters, 1, error, interval)


DENSE = (one(1000, 0.0, 1.0, 70), one(400, 0.0, 1.0, 90), one(600, 0.0, 1.0, 40))
FOUND = (
    (one(500, 0.1, 0.5), one(200, 0.3), one(100, 0.4, 1.0)),  # the last is measured to be slow
    (one(300, 0.05), one(50, 0.6, 0.6)),
    (),
)
WEIGHTS = (1.0, 4.0, 9.0)


def plan(**asked: object) -> Plan:
    layers = tuple(
        PlannedLayer(str(i), "", dense, found[0] if found else None, "", found, weight)
        for i, (dense, found, weight) in enumerate(zip(DENSE, FOUND, WEIGHTS, strict=True))
    )
    return Plan(Settings(**({"budget": 0.7} | asked)), "", layers)  # type: ignore[arg-type]


def choices(faster: bool) -> list[tuple[int, float]]:
    """Return MACs and error of every choice."""
    rows = []
    for dense, found, weight in zip(DENSE, FOUND, WEIGHTS, strict=True):
        kept = [x for x in found if not faster or x.ratio is None or x.ratio[2] < 1]
        rows.append([(x.macs, weight * x.error**2) for x in (dense, *kept)])
    return [(sum(m for m, _ in picks), sum(e for _, e in picks)) for picks in itertools.product(*rows)]


@pytest.mark.parametrize("faster", [True, False])
def test_it_is_the_least_error_of_all_choices(faster: bool) -> None:
    every = choices(faster)
    points = trade_off(plan(faster=faster))
    assert len(points) > 4
    for share, error in points:
        assert error == pytest.approx(min(e for m, e in every if m <= round(share * 2000)), rel=1e-12)
    assert points[0][0] == min(m for m, _ in every) / 2000
    assert points[-1] == (1.0, 0.0)
    assert points == sorted(points)
    assert sorted((e for _, e in points), reverse=True) == [e for _, e in points]


def test_the_plan_is_one_of_the_choices() -> None:
    assert planned_error(plan()) == pytest.approx(0.1**2 + 4 * 0.05**2)
    assert planned_error(replace(plan(), layers=())) == 0


def test_the_cost_is_that_of_the_budget() -> None:
    assert [counted(plan(of=of)) for of in ("macs", "parameters", "bytes", "latency")] == [
        "macs", "parameters", "bytes", "macs",
    ]  # fmt: skip
    assert trade_off(plan(of="parameters"))[0][0] == (7 + 7 + 40) / 200


def test_a_plan_that_does_not_say_what_was_looked_at_has_none() -> None:
    bare = plan()
    assert trade_off(replace(bare, layers=tuple(replace(layer, candidates=()) for layer in bare.layers))) == []
