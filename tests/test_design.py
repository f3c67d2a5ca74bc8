"""Tests that docs/design.md has the rooms that there are, in the order that imports are held to."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Rooms")[2].partition("\n## ")[0]


def test_the_page_names_every_room_once() -> None:
    listed = re.findall(r"(?:^    |,\s+|;\s\s)([a-z_]+(?:\.py|/))", SECTION, re.MULTILINE)
    entries = [path for path in (ROOT / "tensorconv").iterdir() if not path.name.startswith("_")]
    rooms = [f"{path.name}/" if path.is_dir() else path.name for path in entries if path.name != "py.typed"]
    assert sorted(listed) == sorted(rooms)


def test_the_order_on_the_page_is_that_of_the_import_contract() -> None:
    (order,) = re.findall(r"^    (errors <.*?)\n\n", SECTION, re.MULTILINE | re.DOTALL)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    wanted = [layer for contract in contracts for layer in contract.get("layers", ())][::-1]
    assert [" ".join(layer.split()) for layer in order.split("<")] == wanted
