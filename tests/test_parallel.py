"""Independent tasks: results in order wherever they run, errors that come through, and workers that are lost."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator

import dask
import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster

import tensorconv as tc
from tensorconv import parallel
from tensorconv.demo import NETWORK
from tensorconv.errors import ModelError
from tensorconv.models.progress import Progress, unwatched
from tensorconv.parallel import in_parallel, on_cluster


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


@pytest.mark.parametrize("jobs", [0, -1, 1.5, "2", True])
def test_a_number_of_processes_that_there_is_not_is_refused(jobs: object) -> None:
    with pytest.raises(ModelError, match=f"jobs must be an integer of at least 1, or None, got {jobs!r}"):
        list(in_parallel(doubled, [], jobs))  # type: ignore[arg-type]


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_that_nobody_waits_for_are_dropped_silently(jobs: int) -> None:
    found = in_parallel(doubled, ((np.array([float(i)]),) for i in range(20, 40)), jobs)  # 13 would raise
    assert next(iter(found))[0] == 40
    found.close()  # type: ignore[attr-defined]  # a generator; warnings are errors here
    assert [x[0] for x, _ in in_parallel(doubled, [(np.array([1.0]),)], jobs)] == [2]


def slow(i: int) -> tuple[np.ndarray, int]:
    time.sleep(0.2)
    return np.random.default_rng(i).standard_normal(50_000), os.getpid()


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Yield the address of a cluster of two worker processes of one thread, which come back when they are lost."""
    quiet = {"distributed.worker.memory.terminate": False}
    with (
        dask.config.set(quiet),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as made,
    ):
        yield made.scheduler_address


def test_a_cluster_gives_what_one_process_gives(cluster: str) -> None:
    wanted = [x.tobytes() for x, _ in in_parallel(doubled, ((np.full(300, i, "float64"),) for i in range(5)), 1)]
    with on_cluster(cluster):
        found = list(in_parallel(doubled, ((np.full(300, i, "float64"),) for i in range(5)), None))
        (_, here), *_ = in_parallel(doubled, [(np.ones(3),)], 1)
    assert [x.tobytes() for x, _ in found] == wanted
    assert os.getpid() not in {process for _, process in found}
    assert here == os.getpid()  # one process is this one, whatever joblib is told


def test_tasks_of_a_worker_that_is_killed_are_done_by_others(cluster: str) -> None:
    wanted = [x.tobytes() for x, _ in in_parallel(slow, ((i,) for i in range(12)), 1)]
    found, killed = [], None
    with on_cluster(cluster):
        for x, process in in_parallel(slow, ((i,) for i in range(12)), None):
            found.append(x.tobytes())
            if len(found) == 3:
                killed = process
                os.kill(killed, signal.SIGKILL)
    assert killed not in (None, os.getpid())
    assert found == wanted


def test_a_network_compressed_on_a_cluster_that_loses_a_worker_is_the_same(cluster: str) -> None:
    def request(watch: Callable[[Progress], None] = unwatched) -> bytes:
        c = tc.compress(NETWORK, budget=0.6, methods=["svd"], faster=False, comparing=False, watch=watch)
        content: bytes = c.model.SerializeToString(deterministic=True)
        return content

    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if (progress.stage, progress.done) == ("looking at layers", 1):
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    wanted = request()
    with on_cluster(cluster), Client(cluster, set_as_default=False) as client:
        assert request(kill) == wanted
    assert len(killed) == 1


def test_what_joblib_is_told_is_followed() -> None:
    with joblib.parallel_config(n_jobs=2):
        assert os.getpid() not in {process for _, process in in_parallel(doubled, [(np.ones(3),)] * 3, None)}
    assert {process for _, process in in_parallel(doubled, [(np.ones(3),)] * 3, None)} == {os.getpid()}


@pytest.mark.parametrize("address", ["", "nowhere", "tcp://127.0.0.1", "tcp://a b:1", "http:///x:8786"])
def test_an_address_that_is_none_is_refused_at_once(address: str) -> None:
    with (
        pytest.raises(ModelError, match=f"must be that of a running Dask scheduler, such as .*, got {address!r}"),
        on_cluster(address),
    ):
        pass


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_SECONDS_TO_CONNECT", 0.5)
    with pytest.raises(ModelError, match=r"got 'tcp://127.0.0.1:1': "), on_cluster("tcp://127.0.0.1:1"):
        pass


def test_no_address_changes_nothing() -> None:
    with on_cluster(None):
        assert {process for _, process in in_parallel(doubled, [(np.ones(3),)] * 3, None)} == {os.getpid()}
