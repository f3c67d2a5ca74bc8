"""Tests of the team: who is invited works, who is not stays away; it sleeps, fails openly, ends and begins anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.convolution import plans
from tensorconv.convolution.atomics import claim_part
from tensorconv.convolution.loops import Ints, compiled
from tensorconv.convolution.team import INSIDE, TEAM, Team, invite
from tensorconv.convolution.threads import share

ROOT = Path(__file__).parents[2]


@compiled
def fill(found: Ints, sums: Ints, counter: Ints, fails: int, team: int) -> None:
    """Note for every part who did it; fail as the caller or as another where that is wanted."""
    invite(team)
    if (team < 0) == (fails < 0) and fails != 0:
        raise MemoryError
    while True:
        part = claim_part(counter, len(found), team)
        if part < 0:
            break
        total = 0
        for i in range(20_000):
            total = (total * 5 + i) ^ part
        found[part] = 1 if team < 0 else 2
        sums[part] = total


@pytest.fixture
def team() -> Iterator[Team]:
    made = Team()
    yield made
    made.end()


def call(team: Team, n: int, fails: int = 0) -> Ints:
    found, sums, counter = np.zeros(400, np.int64), np.zeros(400, np.int64), np.zeros(5, np.int64)
    with team.lock:
        team.gather(n)
        try:
            fill(found, sums, counter, fails, team.address)
        finally:
            all_done = team.part()
    if not all_done:
        raise LookupError
    assert (found > 0).all()
    assert len(set(sums.tolist())) == len(sums)
    return found


def helped(team: Team, n: int) -> bool:
    """Whether others did a part in one of some calls: on a busy machine they may come too late for one."""
    return any((call(team, n) == 1).any() for _ in range(100))


@pytest.mark.parametrize("n", [1, 3])
def test_others_take_part(team: Team, n: int) -> None:
    assert helped(team, n)
    assert len(team.threads) == n


def test_who_is_not_wanted_stays_away(team: Team) -> None:
    assert helped(team, 2)
    assert not (call(team, 0) == 1).any()
    assert helped(team, 1)


def test_the_team_sleeps_and_wakes(team: Team) -> None:
    assert helped(team, 2)
    deadline = time.monotonic() + 30
    while not all(team.asleep) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert all(team.asleep)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.15
    assert helped(team, 2)


def test_a_failure_of_another_is_raised_and_forgotten(team: Team) -> None:
    def calls() -> None:
        for _ in range(100):
            call(team, 1, -1)

    with pytest.raises(LookupError):
        calls()
    assert helped(team, 1)


def test_what_another_failed_at_is_done_again() -> None:
    seen: list[bool] = []
    found, sums = np.zeros(400, np.int64), np.zeros(400, np.int64)

    def work(counter: Ints, team: int) -> None:
        seen.append(team > 0)
        fill(found, sums, counter, -1, team)

    for _ in range(100):
        seen.clear()
        assert share(work, threads=2)
        assert (found == 2).all()
        if len(seen) == 2:
            break
    assert seen == [True, False]


def test_a_failure_of_the_caller_leaves_nobody_behind(team: Team) -> None:
    for _ in range(20):
        with pytest.raises(MemoryError):
            call(team, 2, 1)
    assert helped(team, 2)


@compiled
def linger(counter: Ints, team: int) -> None:
    """Let others work for a while; the caller does nothing."""
    invite(team)
    if team < 0:
        total = np.int64(0)
        for i in range(400_000_000):
            total = (total * 5 + i) ^ 3
        counter[0] = total | 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_a_signal_does_not_leave_others_behind_with_our_arrays(team: Team) -> None:
    def ring(*_: object) -> None:
        raise TimeoutError

    counter = np.zeros(5, np.int64)
    linger(counter, 0)  # compiled
    former = signal.signal(signal.SIGALRM, ring)
    try:
        with team.lock:
            team.gather(1)
            linger(counter, team.address)
            while not team.words[INSIDE // 8]:
                pass
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(TimeoutError):
                team.part()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert team.words[INSIDE // 8] == 0
    assert counter[0] != 0


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted by the system on Linux only")
def test_without_more_threads_there_are_fewer() -> None:
    program = (
        "import resource, threading, numpy as np, tensorconv as tc\n"
        'threading.Thread.start = lambda self: (_ for _ in ()).throw(RuntimeError("can\'t start new thread"))\n'
        "layer = tc.ConvLayer.of(np.ones((32, 32, 3, 3), 'float32'), padding=1)\n"
        "print(float(tc.convolve(np.ones((1, 32, 40, 40), 'float32'), layer).sum()))\n"
    )
    command, environment = [sys.executable, "-c", program], {**os.environ, "TENSORCONV_NUM_THREADS": "3"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert (float(done.stdout), done.stderr) == (32 * 32 * 118**2, "")


def test_a_team_that_ended_begins_anew(team: Team) -> None:
    assert helped(team, 2)
    former = team.threads
    team.end()
    assert not any(thread.is_alive() for thread in former)
    assert not team.threads
    assert helped(team, 1)


@pytest.mark.skipif(not plans.is_fast(), reason="the fast paths are turned off or unknown here")
def test_many_callers_get_their_own_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORCONV_NUM_THREADS", "3")
    rng = np.random.default_rng(0)
    layer = tc.ConvLayer.of(rng.standard_normal((32, 16, 3, 3)).astype("float32"), padding=1)
    inputs = [rng.standard_normal((1, 16, 20 + i, 20)).astype("float32") for i in range(4)]
    expected = [tc.convolve(x, layer) for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(50) if not np.array_equal(tc.convolve(inputs[i], layer), expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not TEAM.lock.locked()


@pytest.mark.parametrize("ends", ["", "import os; os._exit(0)", "raise SystemExit(0)", "import sys; sys.exit()"])
def test_a_process_ends_while_the_team_looks_for_work(ends: str) -> None:
    program = (
        "import numpy as np, tensorconv as tc\n"
        "layer = tc.ConvLayer.of(np.ones((32, 32, 3, 3), 'float32'), padding=1)\n"
        "x = np.ones((1, 32, 40, 40), 'float32')\n"
        "for _ in range(50): y = tc.convolve(x, layer)\n"
    )
    environment = {**os.environ, "TENSORCONV_NUM_THREADS": "3"}
    command = [sys.executable, "-c", program + ends]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
