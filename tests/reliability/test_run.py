"""The page of the suite is made from what was counted, and names what was lost."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from reliability import run
from reliability.outcome import Outcome


def test_the_program_writes_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = run.main(["--only", "4", "--write", str(tmp_path / "page.md")])
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page
    assert re.search(r"\| forms and scales of inputs \| [1-9]\d+ \|  \| 0 \|", page)
    assert "## Losses" not in page
    assert "forms and scales" in capsys.readouterr().err


def test_losses_are_named() -> None:
    found = {"a part": Outcome(1200, 3, ["file 7 was lost"], Counter(lost=1), 1.0, 80.0), "other": Outcome(1)}
    page = run.page(found, long=True, seed=5)
    assert "| a part | 1,200 | 3 | 1 | 1 | 80 |" in page
    assert "| **together** | 1,201 | 3 | 1 | 1 | 80 |" in page
    assert "- file 7 was lost" in page
    assert "--long" in page


def test_nothing_tried_is_no_success() -> None:
    with pytest.raises(AssertionError):
        Outcome().check()
