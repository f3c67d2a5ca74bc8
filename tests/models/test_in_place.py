"""Layers that make the whole network faster are kept, others not, and the decision is remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

import tensorconv as tc
from tensorconv.demo import NETWORK
from tensorconv.models.comparison import Comparison
from tensorconv.models.compressed_layer import CompressedLayer
from tensorconv.models.fitting import fit
from tensorconv.models.in_place import SLOW_IN_PLACE, faster_in_place
from tensorconv.models.network import Network
from tensorconv.models.opening import open_network
from tensorconv.models.paired_times import Ratio
from tensorconv.models.planning import make_plan
from tensorconv.models.settings import Settings
from tensorconv.models.work import WorkFolder

ORIGINAL = open_network(NETWORK)
PLAN = make_plan(ORIGINAL, Settings(error=0.6, methods=["svd"], shares=[0.3], faster=False))
AFTER, LAYERS = fit(ORIGINAL, PLAN)
REPLACED = [one.name for one in LAYERS if one.sequence is not None]


class Table:
    """Says how long a network takes by the layers that were replaced in it."""

    def __init__(self, alone: dict[str, float], together: float) -> None:
        self.alone, self.together, self.asked = alone, together, list[list[str]]()

    def __call__(self, one: Network) -> Comparison:
        layers = {site.name: site.layer for site in one.sites}
        names = [
            site.name for site in ORIGINAL.sites if layers.get(site.name) is not site.layer and self.new(site, layers)
        ]
        self.asked.append(names)
        ratio = self.alone[names[0]] if len(names) == 1 else self.together if names else 1.0
        return Comparison({}, None, (1.0, ratio), Ratio(ratio, ratio, ratio), 7, 1, None, (1, 1))

    @staticmethod
    def new(site: object, layers: dict[str, tc.ConvLayer]) -> bool:
        name = site.name  # type: ignore[attr-defined]
        return name not in layers or layers[name].kernel.shape != site.layer.kernel.shape  # type: ignore[attr-defined]


def run(table: Table, kept: WorkFolder | None = None) -> tuple[list[str], list[CompressedLayer], Comparison]:
    after, layers, comparison = faster_in_place(ORIGINAL, AFTER, LAYERS, table, kept or WorkFolder(None, {}))
    names = [one.name for one in layers if one.sequence is not None]
    table(after)
    assert table.asked.pop() == names  # the network is what the layers say
    return names, list(layers), comparison


def test_a_faster_network_stays() -> None:
    table = Table({}, 0.5)
    names, layers, comparison = run(table)
    assert (names, comparison.ratio.median, len(table.asked)) == (REPLACED, 0.5, 1)
    assert tuple(layers) == LAYERS


def test_layers_that_are_slow_in_place_are_left_as_they_were() -> None:
    slow = REPLACED[0]
    alone = {name: 1.2 if name == slow else 0.8 for name in REPLACED}

    class Mixed(Table):
        def __call__(self, one: Network) -> Comparison:
            found = super().__call__(one)
            ratio = 1.1 if slow in self.asked[-1] and len(self.asked[-1]) > 1 else found.ratio.median
            return Comparison({}, None, (1.0, ratio), Ratio(ratio, ratio, ratio), 7, 1, None, (1, 1))

    names, layers, comparison = run(Mixed(alone, 0.7))
    assert names == REPLACED[1:]
    assert comparison.ratio.median == 0.7
    (left,) = [one for one in layers if one.name == slow]
    assert (left.planned.choice, left.planned.note, left.report) == (None, SLOW_IN_PLACE, None)


@pytest.mark.parametrize("alone", [0.8, 1.2])
def test_where_nothing_helps_the_network_is_the_original(alone: float) -> None:
    names, _, comparison = run(Table(dict.fromkeys(REPLACED, alone), 1.1))
    assert names == []
    assert comparison.ratio.median == 1.0


def test_a_run_that_goes_on_decides_the_same(tmp_path: Path) -> None:
    kept = WorkFolder(tmp_path / "work", {})
    assert run(Table(dict.fromkeys(REPLACED, 1.2), 1.1), kept)[0] == []
    table = Table({}, 0.5)  # as if it were faster now
    assert run(table, kept)[0] == []
    assert len(table.asked) == 1
