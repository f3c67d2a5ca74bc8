"""Runs every part of the reliability suite and writes docs/reliability.md.

Run ``python tests/reliability/run.py --long --write docs/reliability.md``; without --long, what pytest does each time.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


from reliability import concurrency, growth, hostile_files, inputs, interruption, machine
from reliability.outcome import Outcome

TEXT = """# Reliability

What was tried to break the library. The page is made by
`python tests/reliability/run.py{long} --write docs/reliability.md --seed {seed}`; a short run of the same code is part
of every test run, and `pytest -m long tests/reliability` runs it at length.

"""
NOTES = """
A **loss** is an input that ended in anything but a valid result or an error of `tensorconv.errors`, or a law that
did not hold. Failures that were found are fixed and kept as tests beside what they broke.

- **Mutated files.** Bytes are flipped, cut, spliced and repeated. Changed on purpose, with checksums made right
  again, are zip directories and members; `.npy` headers, to object types, pickles, huge and negative shapes; header
  lengths, types and overlapping offsets of `.safetensors`; fields of ONNX messages, and where they say that data
  lie; descriptions of sequences. Every function that takes such a file reads it: `load`, `read_layers`,
  `PatchStatistics.load`, plans, and networks as `compress` opens them. The process may take {memory} MB of address
  space more than it had ({network} MB where a network is run on an example of its inputs), and {limit:.0f} s of the
  processor for a file. Python's audit events tell whether anything was executed, written, or read elsewhere, and
  the pickles would make a folder. What is loaded must come back from another save to the bit.
- **Interrupted saves.** At every open, write, flush to disk, rename and removal, the process was ended, ended in
  the middle of a write, told that the disk is full, or interrupted. The system limited the size of files. Processes
  that saved without a pause were killed at random moments while another read. Afterwards the old file or the new
  one was there, whole, and the next save worked.
- **Random walks.** Layers of any geometry, kernel and data type are made, fitted by any method to a rank, an error
  or a budget, to kernels or responses, composed, chained, verified, exported and loaded; statistics are gathered,
  merged and kept. The laws that hold for every method are checked at every step.
- **Forms and scales.** Kernels and data in Fortran order, read-only, big-endian, memory-mapped, with negative
  strides, with gaps, and at odd addresses give the same bits as plain copies. Kernels from subnormal numbers to
  1e300, and with channels of all scales, give true errors without a warning.
- **Threads and processes.** {threads} threads make {calls} calls at once, each in an order of its own; every result
  is that of the call alone, to the bit. Processes compile the fast convolutions into one empty folder at once,
  while one of them is killed.
- **Repeated calls.** The same calls: all methods, `factorize`, fits to responses, `convolve`, `prepare`, `compose`,
  `verify`, `PatchStatistics`, `error_curve`, `initialize`, exports and files. What Python allocated may grow by the
  layer's kernel, {kernel} bytes, per call, or by {caches} kB; the process, by {arenas} MB. Python's own table of names,
  which new folders enter and which doubles at times, is left out.
"""
HEAD = ("part", "inputs tried", "faults injected", "losses", "seconds", "peak MB")
Part = tuple[str, Callable[[], Outcome]]


def parts(folder: Path, *, long: bool, seed: int, jobs: int = 1) -> list[Part]:
    """Return the parts of the suite by name."""
    few = ("uneven 1d", "transposed grouped 2d", "unequal 3d")
    repeats = 10 if long else 1
    found: list[Part] = [
        (
            "mutated .npz, .safetensors and .onnx files",
            lambda: hostile_files.run(hostile_files.KINDS, 10_000 if long else 150, folder, seed=seed, jobs=jobs),
        ),
        (
            "mutated .npy files, statistics and plans",
            lambda: hostile_files.run(hostile_files.OTHERS, 3000 if long else 90, folder, seed=seed),
        ),
        ("interrupted saves", lambda: interruption.run(chunks=8 if long else 2, kills=repeats, seed=seed)),
        ("steps of random walks", lambda: machine.run(120 if long else 6, 15, seed=seed)),
        (
            "forms and scales of inputs",
            lambda: inputs.run(few if long else few[:1], ("float16", "float32", "float64") if long else ("float32",)),
        ),
        ("calls in threads", lambda: concurrency.run_threads(rounds=repeats, seed=seed)),
        ("repeated calls", lambda: growth.run(None if long else ["convolve", "svd split=out"], 1000 if long else 200)),
    ]
    if long:
        found.append(("processes with one cache", lambda: concurrency.run_processes(folder, 1, seed=seed)))
    return found


def row(name: str, outcome: Outcome) -> str:
    """Return a line of the table."""
    peak = f"{outcome.peak:,.0f}" if outcome.peak else ""
    faults = f"{outcome.faults:,}" if outcome.faults else ""
    cells = (name, f"{outcome.tried:,}", faults, str(len(outcome.losses)), f"{outcome.seconds:,.0f}", peak)
    return "| " + " | ".join(cells) + " |"


def page(found: dict[str, Outcome], *, long: bool, seed: int) -> str:
    """Return the page."""
    from reliability import loading, work

    total = Outcome()
    for outcome in found.values():
        total.tried += outcome.tried
        total.faults += outcome.faults
        total.losses += outcome.losses
        total.seconds += outcome.seconds
        total.peak = max(total.peak, outcome.peak)
    lines = ["| " + " | ".join(HEAD) + " |", "| " + " | ".join(["---"] * len(HEAD)) + " |"]
    lines += [row(name, outcome) for name, outcome in {**found, "**together**": total}.items()]
    notes = NOTES.format(
        memory=loading.MEMORY // 2**20,
        network=loading.NETWORK_MEMORY // 2**20,
        limit=loading.SECONDS,
        threads=concurrency.THREADS,
        calls=len(work.calls()),
        kernel=growth.KERNEL,
        caches=growth.CACHES // 1024,
        arenas=4 * growth.ARENA // 2**20,
    )
    machine_line = (
        f"\nOn one core of a {os.cpu_count()}-core {platform.machine()} machine, Python {platform.python_version()}.\n"
    )
    losses = "".join(f"\n- {loss[:300]}" for loss in total.losses[:20])
    text = TEXT.format(long=" --long" if long else "", seed=seed) + "\n".join(lines) + "\n" + machine_line + notes
    return text + (f"\n## Losses\n{losses}\n" if losses else "")


def main(given: Sequence[str] | None = None) -> str:
    """Return the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes that load mutated files at the same time")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of parts, from 0")
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args(given)
    found: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, part) in enumerate(
            parts(Path(folder), long=chosen.long, seed=chosen.seed, jobs=chosen.jobs)
        ):
            if chosen.only is None or number in chosen.only:
                found[name] = part()
                sys.stderr.write(row(name, found[name]) + "\n" + "\n".join(found[name].losses[:20]) + "\n")
    text = page(found, long=chosen.long, seed=chosen.seed)
    if chosen.write:
        temporary = chosen.write.with_suffix(".part")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(chosen.write)
    return text


if __name__ == "__main__":
    sys.stdout.write(main())
