"""Tests of memory that stays: an output is nobody else's while any view of it lives, and its memory then comes back."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from tensorconv.convolution import kept

FLOAT = np.dtype("float32")


@pytest.fixture(autouse=True)
def nothing_free() -> None:
    kept._FREE.clear()


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_comes_back_when_the_last_view_ends() -> None:
    array = kept.lent((64, 1024), FLOAT)
    at, view = address(array), array.T[3:9][::2]
    view[:] = 5
    del array
    gc.collect()
    other = kept.lent((64, 1024), FLOAT)
    other[:] = 1
    assert address(other) != at
    assert (view == 5).all()
    del view
    assert address(kept.lent((1024, 64), FLOAT)) == at


@pytest.mark.parametrize("derive", [memoryview, np.asarray, lambda array: array[None].view("int32"), np.ravel])
def test_whatever_is_made_of_an_array_holds_it(derive: object) -> None:
    array = kept.lent((64, 1024), FLOAT)
    at, made = address(array), derive(array)  # type: ignore[operator]
    del array
    gc.collect()
    assert address(kept.lent((64, 1024), FLOAT)) != at
    del made
    gc.collect()
    assert at in {address(kept.lent((64, 1024), FLOAT)) for _ in range(2)}


def test_little_is_kept_and_of_no_other_size() -> None:
    arrays = [kept.lent((size, 2**18), FLOAT) for size in (1, 2, 3, 4)]
    del arrays
    assert 0 < sum(memory.nbytes for memory in kept._FREE) <= kept.FREE_BYTES
    sizes = {memory.nbytes for memory in kept._FREE}
    assert kept.lent((1, 2**17), FLOAT).nbytes not in sizes
    assert not kept._LENT


@pytest.mark.parametrize("shape", [(10,), (2**21,)])
def test_small_and_large_arrays_are_the_systems(shape: tuple[int, ...]) -> None:
    array = kept.lent(shape, FLOAT)
    assert address(array) % 64 == 0
    del array
    assert not kept._FREE


def test_threads_share_no_array() -> None:
    wrong: list[int] = []

    def work(me: int) -> None:
        for _ in range(2000):
            array = kept.lent((32, 1024), FLOAT)
            array[:] = me
            if not (array == me).all():
                wrong.append(me)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
