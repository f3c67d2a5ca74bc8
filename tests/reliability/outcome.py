"""What one part of the suite found: inputs tried, faults injected, losses, seconds and peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]


@dataclass
class Outcome:
    """The counts of one part.

    Parameters
    ----------
    tried : int
        Inputs.
    faults : int
        Faults that were injected.
    losses : list of str
        What was lost, each in words that tell how to see it again.
    ends : Counter
        How the inputs ended, by kind.
    seconds : float
        Time on the wall.
    peak : float
        Largest resident memory of a process of this part, in MB; 0 where the part runs in the caller's process.
    """

    tried: int = 0
    faults: int = 0
    losses: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    peak: float = 0.0

    def add(self, end: str, *, lost: str = "") -> None:
        """Count how one input ended, and keep what was lost."""
        self.tried += 1
        self.ends[end] += 1
        if lost:
            self.losses.append(lost)

    def check(self) -> None:
        """Raise where something was lost, or nothing was tried."""
        assert self.tried
        assert not self.losses, "\n".join(self.losses[:20])


class Clock:
    """Adds the time of a block to an outcome."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._outcome.seconds += time.perf_counter() - self._start


def start(module: str, *arguments: Any, **environment: str) -> subprocess.Popen[str]:
    """Start a module of the suite in a fresh interpreter with one BLAS thread; arguments are its JSON."""
    paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    everything = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-W", "error", "-m", f"reliability.{module}", json.dumps(arguments)]
    return subprocess.Popen(command, env=everything, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def arguments() -> Sequence[Any]:
    """Return what :func:`start` was given, inside the process that it started."""
    given: Sequence[Any] = json.loads(sys.argv[1])
    return given
