"""Tests of the battery and of the page it makes: every exporter keeps its contract, and the page tells the truth."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from export import battery, runtimes

from tensorconv.layers import ChannelwiseLayer, ConvLayer, PadLayer, PermuteLayer

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import frameworks

FILES = ("numpy", "npz", "safetensors")


def page_cells() -> dict[str, dict[str, str]]:
    """Return the table of the page: target -> capability -> cell."""
    lines = (ROOT / "docs" / "frameworks.md").read_text(encoding="utf-8").splitlines()
    rows = [[word.strip() for word in line.strip("| ").split("|")] for line in lines if line.startswith("|")]
    return {target: {row[0]: row[i] for row in rows[2:]} for i, target in enumerate(rows[0]) if i}


@pytest.mark.parametrize("target", FILES)
@pytest.mark.parametrize("capability", battery.CAPABILITIES)
def test_files_hold_every_sequence(target: str, capability: str) -> None:
    assert {battery.outcome(target, capability, ndim) for ndim in battery.NDIMS} == {"exact"}


@pytest.mark.parametrize("target", frameworks.TARGETS)
def test_a_framework_does_what_the_page_says(target: str) -> None:
    found = battery.outcomes(target)
    cells = page_cells()[target]
    axes = [n for n, value in enumerate(found["plain"], start=1) if value == "exact"]
    assert cells.pop("spatial axes") == ", ".join(map(str, axes))
    assert {c: frameworks.cell([found[c][n - 1] for n in axes], axes) for c in battery.CAPABILITIES} == cells


def test_keras_does_the_same_on_its_other_backend() -> None:
    other = frameworks.outcomes(["keras"], "torch")["keras"]
    cells = page_cells()["keras"]
    assert {c: frameworks.cell(values[:3], (1, 2, 3)) for c, values in other.items()} == {c: cells[c] for c in other}


def test_the_battery_notices_a_wrong_output(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runtimes.run_torch
    for wrong in (lambda *given: run(*given) * (1 + 1e-5), lambda *given: run(*given)[:, :, 1:]):
        monkeypatch.setitem(runtimes.RUNS, "torch", wrong)
        with pytest.raises(AssertionError):
            battery.outcome("torch", "unequal strides", 2)


def test_every_exporter_and_every_kind_of_step_is_tried() -> None:
    assert {*frameworks.TARGETS, *FILES} == set(runtimes.RUNS)
    steps = [step for capability in battery.CAPABILITIES for step in battery.sequence(capability, 2)]
    assert {type(step) for step in steps} == {ConvLayer, ChannelwiseLayer, PermuteLayer, PadLayer}
    geometries = [step.geometry for step in steps if isinstance(step, ConvLayer)]
    assert {g.transposed for g in geometries} == {False, True}
    assert {min(g.groups, 3) for g in geometries} == {1, 2, 3}
    assert any(len(set(g.stride)) > 1 for g in geometries)
    assert any(low != high for g in geometries for low, high in g.padding)
    assert {step.mode for step in steps if isinstance(step, PadLayer)} == set(battery.MODES)


def test_the_page_says_which_is_which() -> None:
    cells = [
        cell for column in page_cells().values() for capability, cell in column.items() if capability != "spatial axes"
    ]
    assert len(cells) == len(frameworks.TARGETS) * len(battery.CAPABILITIES)
    assert all(
        re.fullmatch(r'-|(exact|"[a-z-]+")( \([1-4, ]+-D\))?(; (exact|"[a-z-]+") \([1-4, ]+-D\))*', c) for c in cells
    )
