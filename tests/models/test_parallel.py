"""Independent tasks: results in order for any number of processes, tasks made late, and errors that come through."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from tensorconv.errors import ModelError
from tensorconv.models.parallel import in_parallel


def doubled(x: np.ndarray) -> tuple[np.ndarray, int]:
    if x[0] == 13:
        raise ModelError("x must not be 13")
    return 2 * x, os.getpid()


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("size", [1, 300_000])  # large arrays are shared by files between processes
def test_results_come_in_order(jobs: int, size: int) -> None:
    found = list(in_parallel(doubled, ((np.full(size, i, "float64"),) for i in range(5)), jobs))
    assert [(x[0], x[-1], x.size) for x, _ in found] == [(2 * i, 2 * i, size) for i in range(5)]
    assert (os.getpid() in {process for _, process in found}) == (jobs == 1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_tasks_have_no_results(jobs: int) -> None:
    assert list(in_parallel(doubled, [], jobs)) == []


def test_with_one_process_a_task_may_need_the_result_before() -> None:
    done: list[float] = []

    def tasks() -> Iterator[tuple[np.ndarray]]:
        for i in range(3):
            yield (np.array([float(sum(done) + i)]),)

    for x, _ in in_parallel(doubled, tasks(), 1):
        done.append(x[0])
    assert done == [0.0, 2.0, 8.0]


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_of_a_task_come_through(jobs: int) -> None:
    with pytest.raises(ModelError, match="x must not be 13"):
        list(in_parallel(doubled, [(np.array([13.0]),), (np.array([1.0]),)], jobs))


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("when", [0, 3])
def test_errors_while_tasks_are_made_come_through(jobs: int, when: int) -> None:
    def tasks() -> Iterator[tuple[np.ndarray]]:
        for i in range(6):
            if i == when:
                raise ModelError("there is no such task")
            yield (np.array([float(i)]),)

    with pytest.raises(ModelError, match="there is no such task"):
        list(in_parallel(doubled, tasks(), jobs))


@pytest.mark.parametrize("jobs", [0, -1, 1.5, "2", None, True])
def test_a_number_of_processes_that_there_is_not_is_refused(jobs: object) -> None:
    with pytest.raises(ModelError, match=f"jobs must be an integer of at least 1, got {jobs!r}"):
        list(in_parallel(doubled, [], jobs))  # type: ignore[arg-type]


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_that_nobody_waits_for_are_dropped_silently(jobs: int) -> None:
    found = in_parallel(doubled, ((np.array([float(i)]),) for i in range(20)), jobs)
    assert next(iter(found))[0] == 0
    found.close()  # type: ignore[attr-defined]  # a generator; warnings are errors here
    assert [x[0] for x, _ in in_parallel(doubled, [(np.array([1.0]),)], jobs)] == [2]
