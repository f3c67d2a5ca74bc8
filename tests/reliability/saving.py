"""Saves files in children that are ended, or refused by the disk, at every step of a save; looks at what is left.

Started with the names of the kinds of files, a number of chunks and a number of random kills, it prints its outcome.
"""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from reliability.outcome import Outcome, arguments
from reliability.saved_files import Kind, kind_of

FAULTS = ("kill", "torn write", "full disk", "interrupt")
KILLED, SAVED, RAISED = 9, 0, 3


class Steps:
    """Counts what a save asks of the disk, and brings about a fault at one step.

    Parameters
    ----------
    at : int
        The step, from 1; 0 for none.
    fault : str
        One of FAULTS.
    chunk : int
        The most bytes that one write takes.
    """

    def __init__(self, at: int, fault: str, chunk: int) -> None:
        self.count = 0
        self._at, self._fault, self.chunk = at, fault, chunk
        for name in ("fsync", "replace", "rename", "unlink"):
            setattr(os, name, self._counted(getattr(os, name)))
        self._open = io.open
        io.open = self._opened  # type: ignore[assignment]  # pathlib opens by it

    def step(self, torn: Callable[[], object] | None = None) -> None:
        """Count one step; where it is the step of the fault, it does not come back."""
        self.count += 1
        if self.count != self._at:
            return
        if self._fault == "full disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._fault == "interrupt":
            raise KeyboardInterrupt
        if self._fault == "torn write" and torn is not None:
            torn()
        os._exit(KILLED)

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **rest: Any) -> Any:
            self.step()
            return function(*given, **rest)

        return counted

    def _opened(self, file: Any, mode: str = "r", *given: Any, **rest: Any) -> Any:
        if not set(mode) & set("xwa"):
            return self._open(file, mode, *given, **rest)
        self.step()
        return io.BufferedWriter(_Chunks(self, file, mode.replace("b", "")))


class _Chunks(io.FileIO):
    """A file that takes a few bytes at a time, each time as a step."""

    def __init__(self, steps: Steps, file: Any, mode: str) -> None:
        super().__init__(file, mode)
        self._steps = steps

    def write(self, data: Any) -> int:
        some = bytes(data[: self._steps.chunk])
        self._steps.step(lambda: super(_Chunks, self).write(some[: len(some) // 2]))
        return super().write(some)


@contextmanager
def forking() -> Iterator[None]:
    """Let a process fork that has had threads; newer Pythons warn of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def in_child(act: Callable[[], object], seconds: float = 30.0) -> int:
    """Run a function in a forked child, and return how it ended: SAVED, RAISED, KILLED, or minus a signal."""
    with forking():
        child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            act()
        except (OSError, KeyboardInterrupt):
            os._exit(RAISED)
        except BaseException:  # noqa: BLE001 - the parent is to see any end
            os._exit(1)
        os._exit(SAVED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Trial:
    """One file in a folder of its own, which is whole with old content at the start of every attempt to save new.

    Parameters
    ----------
    kind : Kind
        The kind of file.
    home : Path
        Where the folder is made.
    """

    def __init__(self, kind: Kind, home: Path) -> None:
        self.kind = kind
        self._folder = Path(tempfile.mkdtemp(dir=home))
        self.path = self._folder / kind.name
        self.contents, self._files = [], []
        for save in kind.saves:
            self._clear()
            save(self.path)
            self.contents.append(kind.read(self.path))
            self._files.append({file.name: file.read_bytes() for file in self._folder.iterdir()})
        self.sizes = [len(content) for content in self._files[1].values()]

    def _clear(self) -> None:
        for file in self._folder.iterdir():
            file.unlink()

    def begin(self) -> None:
        """Put the old file back, and nothing else."""
        self._clear()
        for name, content in self._files[0].items():
            (self._folder / name).write_bytes(content)

    def save(self) -> None:
        """Save the new content."""
        self.kind.saves[1](self.path)

    def lost(self, *, tidy: bool) -> str:
        """Return what is wrong: the file is neither old nor new, lies among litter, or cannot be saved again."""
        if self.kind.read(self.path) not in self.contents:
            return "neither the old file nor the new"
        names = {file.name for file in self._folder.iterdir()} - {*self._files[0], *self._files[1]}
        if tidy and names:
            return f"litter {sorted(names)}"
        if any(not name.startswith(".tensorconv-") for name in names):
            return f"files of unknown names {sorted(names)}"
        self.save()
        written = {name: (self._folder / name).read_bytes() for name in self._files[1]}
        return "" if written == self._files[1] else "the next save wrote something else"


def at_every_step(trial: Trial, chunks: int, outcome: Outcome) -> None:
    """Bring about every fault at every step of a save, until it comes to its end."""
    chunk = max(trial.sizes) // chunks + 1
    for fault in FAULTS:
        at, end = 1, KILLED
        while end != SAVED:
            trial.begin()
            end = in_child(lambda: (Steps(at, fault, chunk), trial.save()))  # noqa: B023 - it is called at once
            wanted = {SAVED, RAISED if fault in ("full disk", "interrupt") else KILLED}
            wrong = f"ended by {end}" if end not in wanted else trial.lost(tidy=False)
            outcome.add(fault, lost=f"{trial.kind.name}, {fault} at step {at}: {wrong}" if wrong else "")
            outcome.faults += end != SAVED
            at += 1


def on_a_limited_disk(trial: Trial, chunks: int, outcome: Outcome) -> None:
    """Save where the system takes only so many bytes per file: an error, the old file, and no litter."""
    for limit in sorted({max(trial.sizes) * i // chunks for i in range(chunks)}):
        trial.begin()

        def save(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            trial.save()

        end = in_child(save)
        wrong = f"ended by {end}" if end != RAISED else trial.lost(tidy=True)
        outcome.add("file size limit", lost=f"{trial.kind.name}, files of {limit} bytes: {wrong}" if wrong else "")
        outcome.faults += 1


def killed_at_random(trial: Trial, count: int, rng: np.random.Generator, outcome: Outcome) -> None:
    """Kill a child that saves one content after the other, as fast as it can; the parent reads all the while."""
    for _ in range(count):
        trial.begin()
        wrong = ""
        with forking():
            child = os.fork()
        if child == 0:
            for save in itertools.cycle(trial.kind.saves):
                save(trial.path)
        stop = time.monotonic() + rng.uniform(0, 0.05)
        while time.monotonic() < stop:
            if trial.kind.read(trial.path) not in trial.contents:
                wrong = "a reader saw neither the old file nor the new"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        wrong = wrong or trial.lost(tidy=False)
        outcome.add("random kill", lost=f"{trial.kind.name}, random kill: {wrong}" if wrong else "")
        outcome.faults += 1


def main() -> None:
    """Try the kinds that are asked for."""
    names, chunks, kills, seed = arguments()
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            trial = Trial(kind_of(name, Path(folder)), Path(folder))
            at_every_step(trial, chunks, outcome)
            on_a_limited_disk(trial, chunks, outcome)
            killed_at_random(trial, kills, np.random.default_rng(seed), outcome)
    outcome.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps([outcome.tried, outcome.faults, outcome.losses, outcome.ends, outcome.peak]))


if __name__ == "__main__":
    main()
