"""What every exporter says exactly, says by a named policy, or refuses: the tables of docs/frameworks.md.

Run ``python tests/benchmarks/frameworks.py [--targets torch keras ...] [--write docs/frameworks.md]``. Every cell was
tried: the framework ran what was exported, and its output was compared with the reference convolution's to the rounding
bound. Keras is tried on two backends, each in a process of its own, and the worse outcome counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import common

from tensorconv.errors import ModelError

TESTS = Path(__file__).resolve().parents[1]
TARGETS = ("torch", "onnx", "keras", "flax", "equinox", "jax", "tensorflow", "tflite")
BACKENDS = ("jax", "torch")
Outcomes = dict[str, list[str]]
ORDER = ("refused", "policy", "exact")

HEAD = """# What each framework says

Every cell of this page was tried: a sequence with the capability was exported, the framework ran it, and its output was
compared with that of the reference convolution, within the bound of both roundings. `python
tests/benchmarks/frameworks.py --write docs/frameworks.md` writes the page.

- **exact**: the framework computes the sequence, and `load` gives it back bitwise.
- **"..."**: `dump` refuses it unless this `policy` is named; then the framework computes the sequence at another cost.
- **-**: `dump` raises `UnsupportedExportError`, which names what to do instead.

Where the answer differs with the number of spatial axes, each is said. "tensorflow" and "tflite" are arrays in the
layouts of those operators: the former were run by Keras's operators of the same layouts, the latter compared entry by
entry. Keras was run on its JAX and its torch backend. "npz", "safetensors" and "numpy" hold any sequence, and they
alone keep which `entries` of a kernel are stored: frameworks hold all of them. Equinox has no place for names.
"""


def outcomes(targets: Sequence[str], backend: str) -> dict[str, Outcomes]:
    """Return the outcomes of some exporters, tried in a new process."""
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        [sys.executable, "-m", "export.battery", *targets], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ModelError(f"an exporter broke its contract:\n{done.stderr}")
    found: dict[str, Outcomes] = json.loads(done.stdout)
    return found


def worse(first: str, second: str) -> str:
    """Return the outcome that promises less."""
    return min(first, second, key=lambda outcome: ORDER.index(outcome.partition(" ")[0]) if outcome else 0)


def measure(targets: Sequence[str]) -> dict[str, Outcomes]:
    """Return the outcomes of all exporters, those of Keras on every backend."""
    first, *others = BACKENDS
    found = outcomes(targets, first)
    for backend in others if "keras" in targets else ():
        other = outcomes(["keras"], backend)["keras"]
        found["keras"] = {
            capability: [worse(a, b) for a, b in zip(cells, other[capability], strict=True)]
            for capability, cells in found["keras"].items()
        }
    return found


def cell(values: Sequence[str], axes: Sequence[int]) -> str:
    """Return the outcomes over some numbers of spatial axes in words, the numbers where they differ."""
    tried = {n: value for n, value in zip(axes, values, strict=True) if value}
    kinds = dict.fromkeys(tried.values())
    words = {kind: {"refused": "-"}.get(kind, kind.removeprefix("policy ")) for kind in kinds}
    if len(kinds) == 1:
        return words[next(iter(kinds))]
    said = [kind for kind in kinds if kind != "refused"]
    parts = ((words[kind], [str(n) for n, value in tried.items() if value == kind]) for kind in said)
    return "; ".join(f"{word} ({', '.join(numbers)}-D)" for word, numbers in parts)


def page(found: dict[str, Outcomes]) -> str:
    """Return the page; numbers of axes that a framework has no convolution over are said once, at the top."""
    axes = {t: [n for n, value in enumerate(cells["plain"], start=1) if value == "exact"] for t, cells in found.items()}
    rows = [["spatial axes", *(", ".join(map(str, numbers)) for numbers in axes.values())]]
    for capability in next(iter(found.values())):
        kept = ([cells[capability][n - 1] for n in axes[target]] for target, cells in found.items())
        rows.append([capability, *(cell(values, axes[target]) for values, target in zip(kept, found, strict=True))])
    return f"{HEAD}\n{common.table(['capability', *found], rows)}\n"


def main(arguments: Sequence[str] | None = None) -> str:
    """Try the exporters and return the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", nargs="+", default=TARGETS, choices=TARGETS)
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args(arguments)
    text = page(measure(chosen.targets))
    if chosen.write:
        common.write(chosen.write, text)
    return text


if __name__ == "__main__":
    print(main())  # noqa: T201 - a program that prints its result
