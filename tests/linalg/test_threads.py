"""Tests of the limit on BLAS threads: set inside, restored outside, shared by blocks that overlap."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from threadpoolctl import threadpool_info, threadpool_limits

from tensorconv.linalg import one_blas_thread


def blas_threads() -> dict[str, int]:
    """Return the number of threads of numpy's and scipy's BLAS, by file."""
    return {
        info["filepath"]: info["num_threads"]
        for info in threadpool_info()
        if info["user_api"] == "blas" and any(home in info["filepath"] for home in ("numpy", "scipy"))
    }


def in_a_thread_of_its_own(work: Callable[[], Any]) -> Any:
    """Run something in a thread that ends: threadpoolctl lets no other thread set limits while one that did lives."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@pytest.fixture(autouse=True)
def _several_threads() -> Iterator[None]:
    """Let BLAS use three threads, also where the machine has one core, so that a limit can be seen."""
    limits = in_a_thread_of_its_own(lambda: threadpool_limits(3, user_api="blas"))
    yield
    in_a_thread_of_its_own(limits.restore_original_limits)


def all_are(n: int) -> bool:
    found = blas_threads()
    return bool(found) and set(found.values()) == {n}


def test_blas_has_one_thread_inside_and_its_own_number_outside() -> None:
    assert all_are(3)
    with one_blas_thread():
        assert all_are(1)
    assert all_are(3)


def test_blocks_nest() -> None:
    with one_blas_thread():
        with one_blas_thread():
            assert all_are(1)
        assert all_are(1)
    assert all_are(3)


def test_an_error_inside_lifts_the_limit() -> None:
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        raise ZeroDivisionError
    assert all_are(3)
    with one_blas_thread():
        assert all_are(1)


def test_the_limit_that_holds_before_is_restored_whatever_it_is() -> None:
    with threadpool_limits(2, user_api="blas"):
        with one_blas_thread():
            assert all_are(1)
        assert all_are(2)


def test_of_overlapping_blocks_the_last_lifts_the_limit() -> None:
    first_is_in, second_is_in, first_is_out, second_is_out = (threading.Event() for _ in range(4))

    def first() -> bool:
        with one_blas_thread():
            first_is_in.set()
            assert second_is_in.wait(10)
        first_is_out.set()
        return second_is_out.wait(10)  # it lives on, as the threads of a pool do

    def second() -> tuple[bool, bool]:
        assert first_is_in.wait(10)
        with one_blas_thread():
            second_is_in.set()
            assert first_is_out.wait(10)
            inside = all_are(1)  # the one who set it has left, the limit stays
        outside = all_are(3)
        second_is_out.set()
        return inside, outside

    with ThreadPoolExecutor(2) as pool:
        waits, seen = pool.submit(first), pool.submit(second)
        assert seen.result(20) == (True, True)
        assert waits.result(20)
    assert all_are(3)


def test_many_threads_in_and_out_leave_the_limit_as_it_was() -> None:
    def work(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        inside = []
        for _ in range(20):
            with one_blas_thread():
                a = rng.standard_normal((20, 20))
                scipy.linalg.eigh(a @ a.T)
                inside.append(all_are(1))
        return all(inside)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))
    assert all_are(3)
