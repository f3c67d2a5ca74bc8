"""Mutated files end in valid objects or in errors of tensorconv, and every fault that they could cause is seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from reliability import hostile_files, loading


@pytest.mark.parametrize(("kinds", "count"), [(hostile_files.KINDS, 150), (hostile_files.OTHERS, 90)])
def test_mutated_files_do_no_harm(kinds: tuple[str, ...], count: int, tmp_path: Path) -> None:
    outcome = hostile_files.run(kinds, count, tmp_path)
    outcome.check()
    assert outcome.tried == count
    assert outcome.ends["loaded"]  # not everything is refused: some files are read to their end
    assert outcome.ends["FormatError"] > count / 2


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kinds", "count"), [(hostile_files.KINDS, 10_000), (hostile_files.OTHERS, 3000)])
def test_many_mutated_files_do_no_harm(kinds: tuple[str, ...], count: int, tmp_path: Path) -> None:
    hostile_files.run(kinds, count, tmp_path, seed=1).check()


# what a loader could do, and how it is told
SEEN = {
    "hang": "ended by SIGALRM",
    "spin": "ended by SIGPROF",
    "crash": "ended by SIGSEGV",
    "allocate": "raised MemoryError",
    "write": "/written'",
    "look outside": "secret.data",
    "wrong error": "raised ZeroDivisionError",
    "pickle": "canary True",
}


def test_every_fault_is_tried() -> None:
    assert SEEN.keys() == {*loading.FAULTS, "pickle"}


@pytest.mark.parametrize("fault", SEEN)
def test_a_loader_with_a_fault_is_seen(fault: str, tmp_path: Path) -> None:
    count = 12 if fault == "pickle" else 1  # a few files, until one has a pickle in it
    outcome = hostile_files.run((".npy",), count, tmp_path, fault=fault)
    assert outcome.losses
    assert SEEN[fault] in outcome.losses[-1]
