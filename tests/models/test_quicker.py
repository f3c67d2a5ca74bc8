"""Choices that save MACs and time: what the runtime is slow at gives way, and nothing changes without need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.models.candidates import Candidate
from tensorconv.models.choosing import Curve, choose
from tensorconv.models.network import Site
from tensorconv.models.paired_times import Ratio
from tensorconv.models.settings import Settings

LAYER = tc.ConvLayer.of(np.ones((16, 16, 3, 3), "float32"), padding=1)
SITES = [Site(name, LAYER, ((8, 8),)) for name in ("a", "b")]
OTHER = Site("other", LAYER, ((2, 2),))
WHOLE = LAYER.macs((8, 8))
# of every layer: close but slow, and further off but as fast as it has fewer MACs
SLOW = Candidate("svd", (("split", "in"),), 3, WHOLE // 4, 600, 0, 0.1)
FAST = Candidate("svd", (("split", "out"),), 3, WHOLE // 4, 600, 0, 0.12)


class Table:
    """A clock of which sequences with the full kernel first are faster."""

    def __init__(self, slow: float, fast: float) -> None:
        self.slow, self.fast = slow, fast

    def ratio(self, layer: tc.ConvLayer, sequence: tc.ConvSequence, input_size: Sequence[int]) -> Ratio:
        del layer, input_size
        median = self.fast if sequence.layers[0].kernel.shape[2] == 3 else self.slow  # type: ignore[union-attr]
        return Ratio(median, median, median)

    def seconds(self, layer: tc.ConvLayer, input_size: Sequence[int]) -> float:
        return layer.macs(tuple(input_size)) * 1e-9


def picked(clock: Table, found: Sequence[Candidate] = (SLOW, FAST), **values: object) -> list[str]:
    settings = Settings(**({"budget": 0.4, "ends": 1.0, "efficiency": 0.75} | values))  # type: ignore[arg-type]
    rows = [Curve(site, found, 1.0, settings, clock) for site in SITES]
    planned = choose(rows, [OTHER], settings).values()
    return [str(dict(layer.choice.options)["split"]) if layer.choice else "" for layer in planned]


def test_a_choice_that_saves_too_little_time_gives_way() -> None:
    assert picked(Table(0.9, 0.25)) == ["out", "out"]
    assert picked(Table(0.9, 0.25), efficiency=0) == ["in", "in"]


def test_a_choice_that_is_fast_enough_stays() -> None:
    # 0.515 of the time; 0.75 of 0.533 is the budget
    assert picked(Table(0.5, 0.25)) == ["in", "in"]


def test_a_little_less_is_enough_where_no_choice_is_as_fast() -> None:
    # 0.709 of the time, which is 0.75 of what is asked for
    assert picked(Table(0.9, 0.7)) == ["out", "out"]


def test_where_none_is_fast_the_least_error_stays() -> None:
    assert picked(Table(0.9, 0.85)) == ["in", "in"]


def test_only_one_layer_gives_way_where_that_is_enough() -> None:
    found = sorted(picked(Table(0.62, 0.25)))  # 0.452 of the time; both as they were chosen first 0.631
    assert found == ["in", "out"]


def test_candidates_far_above_the_least_error_are_not_timed() -> None:
    far = replace(FAST, error=0.5)
    assert picked(Table(0.9, 0.25), (SLOW, far)) == ["in", "in"]


@pytest.mark.parametrize("of", ["parameters", "bytes"])
def test_budgets_of_other_costs_are_left_to_them(of: str) -> None:
    found = [replace(one, n_bytes=1) for one in (SLOW, FAST)]
    assert picked(Table(0.9, 0.25), found, of=of, budget=0.6) == ["in", "in"]


def test_a_choice_stays_though_a_smaller_one_of_its_kind_is_measured_slow() -> None:
    class Noisy(Table):
        def ratio(self, layer: tc.ConvLayer, sequence: tc.ConvSequence, input_size: Sequence[int]) -> Ratio:
            if sequence.layers[0].out_channels == 1:  # rank 1, and it leaves with all that are dearer
                return Ratio(1.1, 1.1, 1.1)
            return super().ratio(layer, sequence, input_size)

    smaller = replace(SLOW, rank=1, macs=WHOLE // 8, error=0.2)
    assert picked(Noisy(0.9, 0.85), [smaller, SLOW]) == ["in", "in"]
