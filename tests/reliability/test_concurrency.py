"""Threads that call at once get what each gets alone, processes share a cache, and what is not one's own is seen."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from reliability import concurrency


def test_threads_do_not_disturb_one_another() -> None:
    outcome = concurrency.run_threads()
    outcome.check()
    assert outcome.tried > 25 * concurrency.THREADS


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_threads_do_not_disturb_one_another_for_long() -> None:
    concurrency.run_threads(rounds=10, seed=1).check()


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_processes_compile_into_one_folder_while_one_is_killed(tmp_path: Path) -> None:
    concurrency.run_processes(tmp_path, seed=1).check()


def test_state_that_threads_share_is_seen() -> None:
    counter = itertools.count()
    outcome = concurrency.compared({"shared": lambda: str(next(counter)).encode()}, 1, 0)
    assert len(outcome.losses) == concurrency.THREADS
