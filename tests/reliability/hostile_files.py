"""Mutated files, loaded by processes of their own: how many ended in a valid object or in an error of tensorconv."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reliability.outcome import Clock, Outcome, start

KINDS = (".npz", ".safetensors", ".onnx")
OTHERS = ("statistics", ".npy", "plan")


def run(kinds: tuple[str, ...], count: int, folder: Path, *, seed: int = 0, fault: str = "", jobs: int = 1) -> Outcome:
    """Load mutated files of some kinds in turn, some at a time, and count their ends.

    Parameters
    ----------
    kinds : tuple of str
        Among KINDS and OTHERS.
    count : int
        How many files.
    folder : Path
        Where they may lie.
    seed : int
        With its number, all that a file is made from.
    fault : str
        What the loaders are made to do, for tests.
    jobs : int
        How many processes load files at the same time.
    """
    outcome = Outcome()
    stretches = [(count * i // jobs, count * (i + 1) // jobs) for i in range(jobs)]
    with Clock(outcome), ThreadPoolExecutor(jobs) as pool:
        for part in pool.map(lambda ends: _stretch(kinds, seed, *ends, folder, fault), stretches):
            outcome.tried += part.tried
            outcome.losses += part.losses
            outcome.ends += part.ends
            outcome.peak = max(outcome.peak, part.peak)
    outcome.faults = outcome.tried
    return outcome


def _stretch(kinds: tuple[str, ...], seed: int, number: int, stop: int, folder: Path, fault: str) -> Outcome:
    """Load the files of some numbers; a process that dies is replaced by another."""
    outcome = Outcome()
    home = folder / f"{kinds[0].strip('.')}{number}"
    home.mkdir()
    while number < stop:
        number = _one_process(kinds, seed, number, stop, home, fault, outcome)
    return outcome


def _one_process(
    kinds: tuple[str, ...], seed: int, first: int, count: int, folder: Path, fault: str, outcome: Outcome
) -> int:
    """Load files until all are or the process ends; return the number of the next file."""
    process = start("loading", kinds, seed, first, count, str(folder), fault)
    stdout, stderr = process.communicate()
    number = first
    for line in stdout.splitlines():
        at, kind, ends = json.loads(line)
        if at < 0:
            outcome.peak = max(outcome.peak, ends / 1024)
            continue
        number = at + 1
        lost = [end for end in ends if end.startswith("LOST")]
        what = f"{kind} {at} of seed {seed}: {'; '.join(lost)}" if lost else ""
        outcome.add("lost" if lost else ends[0], lost=what)
    if process.returncode and number < count:
        if process.returncode > 0:  # an error of the suite itself, before or between files
            raise AssertionError(stderr)
        cause = signal.Signals(-process.returncode).name
        outcome.add("lost", lost=f"{kinds[number % len(kinds)]} {number} of seed {seed}: the process ended by {cause}")
        number += 1
    return number
