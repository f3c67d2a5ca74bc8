"""Plan: JSON brings back the same, files of something else are refused, and shares are of all convolutions."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.errors import FormatError, ModelError
from tensorconv.models.candidates import Candidate
from tensorconv.models.found import SkippedLayer
from tensorconv.models.network import Site
from tensorconv.models.plan import Plan, PlannedLayer, fingerprint
from tensorconv.models.settings import Settings

BEFORE = Candidate("dense", (), (), 1000, 100, 10, 0.0, (1.0, 1.0, 1.0))
CHOICE = Candidate("svd", (("split", (0,)),), 3, 400, 50, 9, 0.1 + 0.2, (0.5, 0.4, 0.6))
OTHER = Candidate("cp", (("nonnegative", False), ("order", None)), (2, 5), 500, 10, 8, 1e-300, None)
PLAN = Plan(
    Settings(error=0.5, methods=["svd", "cp"], shares=[0.1], of="latency"),
    "0123",
    (
        PlannedLayer("first", "8 -> 8", BEFORE, None, "excluded"),
        PlannedLayer("größe/2", "8 -> 8", BEFORE, CHOICE, "", (replace(CHOICE, rank=2, ratio=None), CHOICE), 0.1 + 0.2),
        PlannedLayer("third", "8 -> 8", BEFORE, OTHER),
    ),
    (SkippedLayer("fourth", "its weights are computed"),),
)


def test_json_brings_back_the_same(tmp_path: Path) -> None:
    assert Plan.from_dict(json.loads(json.dumps(PLAN.to_dict(), allow_nan=False))) == PLAN
    PLAN.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    assert again == PLAN
    assert again.layers[1].choice == CHOICE
    assert again.layers[1].choice.options == (("split", (0,)),)
    assert str(again) == str(PLAN)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_plan_of_before_says_nothing_of_candidates() -> None:
    values = json.loads(json.dumps(PLAN.to_dict()))
    for layer in values["layers"]:
        del layer["candidates"], layer["weight"]
    again = Plan.from_dict(values)
    assert [layer.choice for layer in again.layers] == [layer.choice for layer in PLAN.layers]
    assert [(layer.candidates, layer.weight) for layer in again.layers] == [((), 1.0)] * 3


def test_shares_are_of_all_convolutions() -> None:
    assert PLAN.share("macs") == 1900 / 3000
    assert PLAN.share("parameters") == 160 / 300
    assert PLAN.share("bytes") == 27 / 30
    assert Plan(PLAN.settings, "", ()).share() == 1.0
    with pytest.raises(ModelError, match="of must be one of 'macs', 'parameters', 'bytes', got 'latency'"):
        PLAN.share("latency")


def test_it_prints_every_layer_with_its_reason() -> None:
    lines = str(PLAN).splitlines()
    assert len(lines) == 1 + 3 + 1 + 1
    assert "as it is" in lines[1]
    assert lines[1].endswith("excluded")
    assert all(word in lines[2] for word in ("größe/2", "svd split=(0,)", "3", "0.3", "40%", "50%"))
    assert all(word in lines[3] for word in ("cp order=None", "2x5", "1e-300", "50%", "10%"))
    assert lines[4] == "fourth: left alone, its weights are computed"
    assert lines[5] == "in all 63.3% of the MACs, 53.3% of the parameters"


def changed(*path: Any, to: Any) -> Any:
    """Return the plan's values with one of them changed."""
    values = json.loads(json.dumps(PLAN.to_dict()))
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return values


HOSTILE = [
    None,
    [],
    "plan",
    {},
    {"format": 1},
    {"format": 2},
    changed("format", to=2),
    changed("format", to=True) | {"format": "1"},
    changed("layers", to=None),
    changed("layers", to=3),
    changed("layers", to={"a": 1}),
    changed("layers", 0, to="first"),
    changed("layers", 0, to={}),
    changed("layers", 1, "choice", to=[]),
    changed("layers", 1, "choice", to=False),
    changed("layers", 1, "choice", to="svd"),
    changed("layers", 1, "choice", "options", to=[]),
    changed("layers", 1, "choice", "macs", to="many"),
    changed("layers", 1, "choice", "error", to=None),
    changed("layers", 1, "choice", "rank", to={"a": 1}),
    changed("layers", 1, "choice", "ratio", to=["a", "b", "c"]),
    changed("layers", 1, "before", to=None),
    changed("layers", 1, "before", "n_parameters", to=-1),
    changed("layers", 1, "candidates", to=5),
    changed("layers", 1, "candidates", to=None),
    changed("layers", 1, "candidates", to=["svd"]),
    changed("layers", 1, "candidates", 0, "error", to="small"),
    changed("layers", 1, "weight", to=-1),
    changed("layers", 1, "weight", to=None),
    changed("layers", 1, "weight", to="much"),
    changed("layers", 1, "weight", to=math.inf),
    changed("skipped", to=None),
    changed("skipped", to=[1]),
    changed("settings", to=None),
    changed("settings", to=["budget"]),
    changed("settings", to={"budget": "half"}),
    changed("settings", "include", to=[{}]),
    changed("settings", "methods", to=5),
    changed("settings", "seed", to=0.5),
    changed("settings", "colour", to=1),
]


@pytest.mark.parametrize("values", HOSTILE)
def test_files_of_something_else_are_refused(values: Any, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(values))
    with pytest.raises(FormatError, match=r"plan\.json cannot be read as a plan: "):
        Plan.load(path)
    with pytest.raises(FormatError, match="plan"):
        Plan.from_dict(copy.deepcopy(values))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"\x00" * 100, b"[" * 100_000, b'{"format": 1, "layers": ' + b"[" * 50_000, b"NaN"],
)
def test_broken_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"plan\.json cannot be read as a plan: "):
        Plan.load(path)


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    PLAN.save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole.rstrip()), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            Plan.load(path)


def test_a_fingerprint_tells_networks_apart() -> None:
    def one(**values: Any) -> Site:
        given = {"name": "a", "kernel": np.ones((2, 2, 3)), "bias": None, "sizes": ((8,),), "padding": 0} | values
        layer = tc.ConvLayer.of(given["kernel"], given["bias"], padding=given["padding"])
        return Site(given["name"], layer, given["sizes"])

    other = np.ones((2, 2, 3))
    other[1, 1, 2] = np.nextafter(1, 2)
    sites = [
        [],
        [one()],
        [one(), one()],
        [one(name="b")],
        [one(kernel=other)],
        [one(kernel=np.ones((2, 2, 3), "float32"))],
        [one(bias=np.zeros(2))],
        [one(bias=np.ones(2))],
        [one(sizes=((9,),))],
        [one(sizes=((8,), (8,)))],
        [one(padding=1)],
    ]
    assert len({fingerprint(row) for row in sites}) == len(sites)
    assert fingerprint([one()]) == fingerprint([one()])
