"""Tests of numbers that threads share: nothing is lost, and no part of work is claimed twice."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from tensorconv.convolution.atomics import add, claim, claim_part, peek, poke


def at_once(*works: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_no_integer_is_claimed_twice() -> None:
    counter, claimed = np.zeros(1, np.int64), list[int]()
    at_once(*[lambda: claimed.extend(claim(counter.ctypes.data) for _ in range(1000))] * 4)
    assert sorted(claimed) == list(range(4000))


@pytest.mark.parametrize("n_others", [0, 1, 3])
def test_parts_are_claimed_from_both_ends_and_once(n_others: int) -> None:
    counter = np.zeros(5, np.int64)
    claimed: list[list[int]] = [[] for _ in range(1 + n_others)]

    def claims(me: int) -> Callable[[], None]:
        def work() -> None:
            while (part := claim_part(counter, 1000, -1 if me else 1)) >= 0:
                claimed[me].append(part)

        return work

    at_once(*map(claims, range(1 + n_others)))
    assert sorted(part for parts in claimed for part in parts) == list(range(1000))
    assert claimed[0] == list(range(len(claimed[0])))
    assert all(sorted(parts, reverse=True) == parts for parts in claimed[1:])


def test_numbers_are_set_and_added_to() -> None:
    number = np.zeros(1, np.int64)
    at = number.ctypes.data
    poke(at, 7)
    assert (peek(at), add(at, -9), peek(at), number[0]) == (7, 7, -2, -2)
