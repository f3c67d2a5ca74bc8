"""The file of measured latencies: what is written is read, and nothing that is wrong with it is a reason to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tensorconv.models.latency_file import default_path, read_measurements, write_measurements

TIMES = {"here": {"a layer": [0.25], "a ratio": [0.5, 0.25, 0.75]}, "there": {"a layer": [1e-6]}}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a folder" / "of its own" / "times.json"
    write_measurements(path, TIMES)
    assert read_measurements(path) == TIMES
    write_measurements(path, {})
    assert read_measurements(path) == {}
    assert [one.name for one in path.parent.iterdir()] == ["times.json"]


def test_what_is_broken_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text(
        '{"here": {"good": [0.5], "text": ["x"], "whole": [1], "inf": [Infinity], "bare": 1.0}, "there": 2}'
    )
    assert read_measurements(path) == {"here": {"good": [0.5]}}


def test_no_file_is_an_empty_one(tmp_path: Path) -> None:
    assert read_measurements(tmp_path / "none.json") == read_measurements(tmp_path) == read_measurements(None) == {}


def test_what_cannot_be_written_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    write_measurements(tmp_path / "file" / "times.json", TIMES)
    write_measurements(tmp_path, TIMES)  # a folder
    write_measurements(None, TIMES)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("file", "kept")]


def test_the_default_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for folder, expected in (
        ("/a/cache", "/a/cache"),
        ("relative", "/home/someone/.cache"),
        ("", "/home/someone/.cache"),
    ):
        monkeypatch.setenv("XDG_CACHE_HOME", folder)
        assert default_path() == Path(expected) / "tensorconv" / "latency.json"
