"""The work folder: what is put is got back to the bit, only by its own run, and nothing else is ever deleted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.errors import ModelError
from tensorconv.models.work import WorkFolder

RUN = {"version": "1", "network": "ab", "settings": {"budget": 0.5}, "data": None}
OTHER = RUN | {"settings": {"budget": 0.4}}


def sequence(dtype: str = "float32") -> tc.ConvSequence:
    rng = np.random.default_rng(0)
    first = tc.ConvLayer.of(rng.standard_normal((3, 2, 3, 1)).astype(dtype), padding=[(0, 1), 0], name="a")
    return tc.ConvSequence([first, tc.ConvLayer.of(rng.standard_normal((4, 3, 1, 1)).astype(dtype), np.ones(4))])


def bits(steps: tc.ConvSequence) -> list[object]:
    return [(step.kernel.tobytes(), step.bias is None or step.bias.tobytes(), step.geometry) for step in steps]


def test_without_a_folder_nothing_is_kept():
    kept = WorkFolder(None, RUN, resume=True)
    kept.put("part", 1)
    kept.put_sequence("part", sequence())
    assert kept.get("part") is None
    assert kept.get_sequence("part") is None
    kept.remove()


@pytest.mark.parametrize("name", ["part", "a/b", "../up", "c:\\", "größe", "x" * 5000, ""])
def test_parts_of_any_name_come_back_after_resuming(tmp_path, name):
    value = {"numbers": [0.1, 1e-308, -3], "nothing": None, "text": "größe"}
    folder = tmp_path / "deep" / "work"
    kept = WorkFolder(folder, RUN)
    kept.put(name, value)
    kept.put_sequence(name, sequence())
    resumed = WorkFolder(folder, RUN, resume=True)
    assert resumed.get(name) == value
    assert bits(resumed.get_sequence(name)) == bits(sequence())
    assert resumed.get(f"{name}2") is None
    assert resumed.get_sequence(f"{name}2") is None
    resumed.put(name, 2)
    assert kept.get(name) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    resumed.remove()
    assert not folder.exists()


def test_a_run_that_does_not_resume_starts_from_nothing(tmp_path):
    for run in (RUN, OTHER):
        WorkFolder(tmp_path / "work", RUN).put("part", 1)
        assert WorkFolder(tmp_path / "work", run).get("part") is None


def test_parts_of_another_run_are_refused_and_stay(tmp_path):
    WorkFolder(tmp_path / "work", RUN).put("part", 1)
    with pytest.raises(ModelError, match="is that of another model, request, data or version; repeat what was asked"):
        WorkFolder(tmp_path / "work", OTHER, resume=True)
    assert WorkFolder(tmp_path / "work", RUN, resume=True).get("part") == 1


@pytest.mark.parametrize("resume", [False, True])
def test_an_empty_folder_and_one_with_a_file_half_written_are_taken(tmp_path, resume):
    (tmp_path / ".tensorconv-0123456789abcdef.tmp").write_bytes(b'{"ver')
    kept = WorkFolder(tmp_path, RUN, resume=resume)
    kept.put("part", 1)
    assert kept.get("part") == 1


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("content", ["thesis.txt", "run.json"])
def test_a_folder_of_something_else_is_refused_and_stays(tmp_path, content, resume):
    (tmp_path / content).write_text('{"experiment": 1}')
    (tmp_path / "thesis").mkdir()
    with pytest.raises(ModelError, match="holds other things; name an empty or a new one"):
        WorkFolder(tmp_path, RUN, resume=resume)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([content, "thesis"])


def test_removing_leaves_what_is_of_others(tmp_path):
    kept = WorkFolder(tmp_path / "work", RUN)
    kept.put("part", 1)
    (tmp_path / "work" / "thesis.txt").write_text("years of work")
    kept.remove()
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["thesis.txt"]


def test_broken_parts_are_not_finished(tmp_path):
    kept = WorkFolder(tmp_path / "work", RUN)
    kept.put("part", [1, 2])
    kept.put_sequence("part", sequence())
    for path in (tmp_path / "work").iterdir():
        if path.name != "run.json":
            for length in (0, 1, path.stat().st_size // 2, path.stat().st_size - 1):
                path.write_bytes(path.read_bytes()[:length].ljust(length))
                assert (kept.get if path.suffix == ".json" else kept.get_sequence)("part") is None


REMOVE = """
import json, sys
from tensorconv.models.work import WorkFolder
kept = WorkFolder(sys.argv[1], json.loads(sys.argv[2]), resume=True)
print("removing", flush=True)
kept.remove()
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_removal_that_is_killed_leaves_what_can_be_resumed_consistently(tmp_path, seed):
    rng, folder = np.random.default_rng(seed), tmp_path / "work"
    kept = WorkFolder(folder, RUN)
    for i in range(1500):
        name = kept._file(str(i), "").name
        (folder / f"{name}.json").write_text("1")
        (folder / f"{name}.npz").touch()
    arguments = [sys.executable, "-c", REMOVE, str(folder), json.dumps(RUN)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"removing\n"
        time.sleep(rng.uniform(0, 0.02))
        os.kill(process.pid, signal.SIGKILL)
    left = list(folder.iterdir()) if folder.exists() else []
    WorkFolder(folder, RUN, resume=True)
    values = {path.stem for path in left if path.suffix == ".json"} - {"run"}
    sequences = {path.stem for path in left if path.suffix == ".npz"}
    assert values <= sequences  # values are put last, and say that the sequence beside them is whole
    assert Path(folder / "run.json").exists()
