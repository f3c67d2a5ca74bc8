"""Peak memory of a network in ONNX Runtime, measured in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tensorconv.errors import ModelError
from tensorconv.models.timed_session import onnx_runtime, open_session

_STATUS = Path("/proc/self/status")


def peak_memory(model: Path, batch: Mapping[str, Any], n_threads: int) -> int | None:
    """Return the memory that loading a network and running it once takes at its peak.

    Parameters
    ----------
    model : Path
        The network's .onnx file.
    batch : mapping of str to array_like
        Inputs by name.
    n_threads : int
        Threads of ONNX Runtime.

    Returns
    -------
    int or None
        Bytes over those of the process just before; None where the system does not tell them as Linux does.

    Raises
    ------
    ModelError
        If the process fails.
    """
    if not _STATUS.exists():
        return None
    with TemporaryDirectory(prefix="tensorconv-") as folder:
        inputs = Path(folder) / "inputs.npz"
        with inputs.open("wb") as file:  # arrays by number, since any text may be the name of an input
            np.savez(file, *(np.asarray(array) for array in batch.values()))
        task = json.dumps([str(model), str(inputs), list(batch), n_threads])
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        done = subprocess.run(  # noqa: S603 (this interpreter, no shell)
            [sys.executable, "-P", "-m", __name__, task],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
    lines = done.stdout.split()
    if done.returncode or not lines or not lines[-1].isdecimal():
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ModelError(f"model {model.name!r} failed in a process of its own: {reason}; is there memory for it?")
    return int(lines[-1])


def measure(model: str, inputs: str, names: list[str], n_threads: int) -> int:
    """Load a network, run it once, and return by how much the peak memory of this process grew.

    Parameters
    ----------
    model : str
        Path of the network's .onnx file.
    inputs : str
        Path of the .npz with its inputs.
    names : list of str
        Their names, in order.
    n_threads : int
        Threads of ONNX Runtime.

    Returns
    -------
    int
        Bytes.
    """
    with np.load(inputs, allow_pickle=False) as arrays:
        batch = {name: arrays[f"arr_{i}"] for i, name in enumerate(names)}
    onnx_runtime()  # whose own memory is not the network's
    with contextlib.suppress(OSError):  # where it is not allowed, the peak so far is what is subtracted
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is held now
    before = _peak()
    open_session(model, n_threads).run(None, batch)
    return max(0, _peak() - before)


def _peak() -> int:
    """Return the peak of this process' resident memory in bytes."""
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.stdout.write(f"{measure(*json.loads(sys.argv[1]))}\n")
