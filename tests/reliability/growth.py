"""Memory after many calls: what Python has allocated, and what the process holds, must not grow with their number.

A call that kept a copy of its layer's kernel would show: that, times the calls, is what traced memory may grow by, or
what caches may take where that is more. Resident memory comes in arenas, and may grow by some.
"""

from __future__ import annotations

import gc
import json
import math
import resource
import sys
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from reliability.outcome import Clock, Outcome, arguments, start
from reliability.work import SHAPE, calls

KERNEL = math.prod(SHAPE) * 4  # bytes of the kernel of every call
CACHES = 2**17  # bytes
ARENA = 2**20  # what the interpreter asks the system for at once
WARM = 20  # calls before the first look: caches fill, late imports are done


def resident() -> int:
    """Return how many bytes of memory the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def traced() -> int:
    """Return how many bytes Python holds, but for its table of names: new folders enter it, and it doubles at times."""
    found = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, "*pathlib*")])
    return sum(trace.size for trace in found.traces)


def grown(name: str, count: int) -> tuple[int, int]:
    """Return by how many bytes traced and resident memory grew over so many calls."""
    kept: list[bytes] = []
    call = (lambda: kept.append(bytes(KERNEL))) if name == "leak" else calls()[name]
    call()  # imports are not worth tracing
    tracemalloc.start()
    for _ in range(WARM):
        call()
    gc.collect()
    before, held = traced(), resident()
    for _ in range(count):
        call()
    gc.collect()
    after = resident() - held  # a snapshot takes memory itself
    found = traced() - before, after
    tracemalloc.stop()
    return found


def bounds(count: int) -> tuple[int, int]:
    """Return by how many bytes each may grow over so many calls."""
    return max(count * KERNEL, CACHES), max(count * KERNEL, 4 * ARENA)


def run(names: Sequence[str] | None = None, count: int = 1000) -> Outcome:
    """Call entries so many times each in a process of its own, and count those that grow."""
    clocked = Outcome()
    with Clock(clocked):
        process = start("growth", names, count)
        stdout, stderr = process.communicate()
        assert process.returncode == 0, stderr
    tried, losses, ends, peak = json.loads(stdout)
    return Outcome(tried, 0, losses, Counter(ends), clocked.seconds, peak)


def main() -> None:
    """Call the entries that are asked for."""
    names, count = arguments()
    outcome = Outcome()
    for name in calls() if names is None else names:
        found, most = grown(name, count), bounds(count)
        lost = any(now > limit for now, limit in zip(found, most, strict=True))
        outcome.add(name, lost=f"{name} grew by {found} bytes over {count} calls, may by {most}" if lost else "")
        outcome.tried += count - 1
    outcome.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps([outcome.tried, outcome.losses, outcome.ends, outcome.peak]))


if __name__ == "__main__":
    main()
