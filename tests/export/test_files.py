"""Tests of tc.save and tc.load: whole files or none, and the format by the suffix."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from export.sequences import DTYPES, assert_same, chain, layer

import tensorconv as tc
from tensorconv.errors import FormatError, KernelTypeError
from tensorconv.export import npz

SUFFIXES = [".npz", ".safetensors", ".onnx"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("ndim", [1, 2, 4])
def test_a_saved_sequence_comes_back_bitwise(tmp_path: Path, suffix: str, dtype: str, ndim: int) -> None:
    path, sequence = tmp_path / f"chain{suffix}", chain(ndim, dtype)
    tc.save(path, sequence)
    assert_same(tc.load(str(path)), sequence)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_case_of_the_suffix_does_not_matter(tmp_path: Path) -> None:
    tc.save(tmp_path / "LAYER.NPZ", layer("plain", 1))
    assert_same(tc.load(tmp_path / "LAYER.NPZ"), layer("plain", 1).sequence)


@pytest.mark.parametrize("name", ["layer", "layer.pt", "layer.npy", "onnx", ".npz"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError, match=r"must end in one of .npz, .safetensors, .onnx"):
        tc.save(tmp_path / name, layer("plain", 1))
    with pytest.raises(FormatError, match=r"must end in one of .npz, .safetensors, .onnx"):
        tc.load(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_file_or_folder_is_said_as_python_says_it(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(FileNotFoundError):
        tc.load(tmp_path / f"no{suffix}")
    with pytest.raises(FileNotFoundError):
        tc.save(tmp_path / "no" / f"no{suffix}", layer("plain", 1))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, suffix: str) -> None:
    for other in SUFFIXES:
        tc.save(tmp_path / f"layer{other}", layer("plain", 1))
    for other in set(SUFFIXES) - {suffix}:
        (tmp_path / f"wrong{suffix}").write_bytes((tmp_path / f"layer{other}").read_bytes())
        with pytest.raises(FormatError):
            tc.load(tmp_path / f"wrong{suffix}")


def test_what_is_no_sequence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KernelTypeError, match="sequence must be a ConvLayer"):
        tc.save(tmp_path / "layer.npz", [1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", ["replace", "fsync", "dump"])
@pytest.mark.parametrize("interruption", [OSError, KeyboardInterrupt])
def test_an_interrupted_save_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, interruption: type[BaseException]
) -> None:
    path, old = tmp_path / "layer.npz", layer("plain", 1).sequence
    tc.save(path, old)

    def fail(*_: object) -> None:
        raise interruption("interrupted")

    monkeypatch.setattr(npz if broken == "dump" else os, broken, fail)
    with pytest.raises(interruption, match="interrupted"):
        tc.save(path, chain(1))
    monkeypatch.undo()
    assert_same(tc.load(path), old)
    assert [file.name for file in tmp_path.iterdir()] == ["layer.npz"]


def test_a_save_replaces_the_file_and_keeps_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path, link = tmp_path / "folder" / "layer.npz", tmp_path / "link.npz"
    tc.save(path, layer("plain", 1))
    link.symlink_to(path)
    tc.save(link, chain(1))
    assert link.is_symlink()
    assert_same(tc.load(path), chain(1))


def test_a_saved_file_has_the_usual_permissions(tmp_path: Path) -> None:
    tc.save(tmp_path / "layer.npz", layer("plain", 1))
    (tmp_path / "usual").touch()
    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert len(modes) == 1
