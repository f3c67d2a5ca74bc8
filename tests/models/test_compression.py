"""Compression: its page is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from models.test_headline import done

from tensorconv.models import compression


def test_the_page_is_written(tmp_path: Path) -> None:
    done().report(tmp_path / "page.html", title="a <network>", missed=["too slow"])
    content = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert content.startswith("<!doctype html>")
    assert "<h1>a &lt;network&gt;</h1>" in content
    assert "<li>too slow</li>" in content
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    path = tmp_path / "page.html"
    path.write_text("the old page")
    monkeypatch.setattr(compression, "page", fail)
    with pytest.raises(OSError, match="no space left"):
        done().report(path)
    assert path.read_text() == "the old page"
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]
