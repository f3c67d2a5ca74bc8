"""Threads that call the library at once, and processes that compile into one folder at once: results as alone."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reliability.outcome import Clock, Outcome, start
from reliability.work import Call, calls

THREADS = 8


def run_threads(names: Sequence[str] | None = None, rounds: int = 1, *, seed: int = 0) -> Outcome:
    """Let threads make the same calls, each in an order of its own, and compare every result with that of a call alone.

    Parameters
    ----------
    names : sequence of str, optional
        Which calls; all of them.
    rounds : int
        How often each thread makes each call.
    seed : int
        Of the orders.
    """
    chosen = {name: call for name, call in calls().items() if names is None or name in names}
    return compared(chosen, rounds, seed)


def compared(chosen: dict[str, Call], rounds: int, seed: int) -> Outcome:
    """Make calls alone, then at once in threads, and compare."""
    outcome = Outcome()
    with Clock(outcome):
        alone = {name: call() for name, call in chosen.items()}
        barrier = threading.Barrier(THREADS)

        def work(number: int) -> list[tuple[str, str]]:
            order = [name for name in chosen for _ in range(rounds)]
            random.Random(f"{seed} {number}").shuffle(order)  # noqa: S311 - an order, no secret
            found = []
            for name in order:
                if len(found) % 4 == 0:
                    barrier.wait(600)  # so that they meet again and again
                try:
                    found.append((name, "" if chosen[name]() == alone[name] else "other bits than alone"))
                except Exception as error:  # noqa: BLE001 - any is a loss
                    found.append((name, f"{type(error).__name__}: {error}"))
            return found

        with ThreadPoolExecutor(THREADS) as pool:
            for number, found in enumerate(pool.map(work, range(THREADS))):
                for name, wrong in found:
                    outcome.add("calls", lost=f"{name} in thread {number} of {THREADS}: {wrong}" if wrong else "")
    return outcome


def run_processes(folder: Path, rounds: int = 1, *, seed: int = 0) -> Outcome:
    """Start processes at once with one empty cache of compiled loops, kill one meanwhile, and start one more."""
    outcome = Outcome()
    rng = random.Random(seed)  # noqa: S311 - moments, no secret
    with Clock(outcome):
        for number in range(rounds):
            cache = folder / f"cache{number}"
            processes = [start("compiling", NUMBA_CACHE_DIR=str(cache), TENSORCONV_NUM_THREADS="1") for _ in range(3)]
            time.sleep(rng.uniform(2, 12))
            processes[0].send_signal(signal.SIGKILL)
            outcome.faults += 1
            ends = [process.communicate() for process in processes][1:]
            late = start("compiling", NUMBA_CACHE_DIR=str(cache), TENSORCONV_NUM_THREADS="1")
            ends.append(late.communicate())
            for stdout, stderr in ends:
                right = stdout.strip() == "right"
                outcome.add("processes", lost="" if right else f"round {number}: {stdout or stderr[-500:]}")
    return outcome
