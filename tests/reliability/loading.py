"""Loads mutated files in a process that may neither take memory nor time beyond bounds, nor execute or touch anything.

Each file's end is a line of its own on standard output, so that whoever started the process knows which file ended it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from reliability.mutations import Mutator
from reliability.outcome import arguments
from reliability.seeds import seeds

import tensorconv as tc
from tensorconv.errors import TensorconvError
from tensorconv.models.onnx_example import LARGEST_EXAMPLE
from tensorconv.models.opening import open_network
from tensorconv.models.plan import Plan

MEMORY = 96 * 2**20  # bytes of address space beyond what the process has when all is imported; files have a few kB
NETWORK_MEMORY = 3 * LARGEST_EXAMPLE + MEMORY  # a network is run on an example of its inputs, of a size that it says
SECONDS = 30.0  # of the processor, for one file; on the wall ten times as long, for the machine does other things too
TRUSTED = tuple({str(Path(path).resolve()) for path in (sys.prefix, sys.base_prefix, Path(tc.__file__).parent)})
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ACTS = ("os.", "subprocess.", "socket.", "shutil.", "pickle.", "marshal.", "ctypes.", "urllib.", "http.", "tempfile.")
HARMLESS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk", "marshal.loads", "marshal.load")


class Watch:
    """Keeps what a process does beyond reading files of one folder, from Python's audit events.

    Parameters
    ----------
    folder : Path
        The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder.resolve())
        self.armed = False
        self.seen: list[str] = []
        sys.addaudithook(self._look)

    def _look(self, event: str, given: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event == "open":
            path, _, flags = given
            if isinstance(path, (str, bytes)):
                real = os.path.realpath(os.fsdecode(path))
                inside = real.startswith((self._folder + os.sep, *TRUSTED, "/proc/self/"))
                if not inside or (flags or 0) & WRITING:
                    self.seen.append(f"open {path!r} {flags}")
        elif event == "exec":
            if not given[0].co_filename.startswith((*TRUSTED, "<frozen")):
                self.seen.append(f"exec {given[0].co_filename}")
        elif event.startswith(ACTS) and event not in HARMLESS:
            self.seen.append(event)


def check_sequence(sequence: tc.ConvSequence) -> None:
    """Raise where a loaded sequence is not what it says."""
    assert isinstance(sequence, tc.ConvSequence)
    assert sequence.n_parameters >= 0
    assert str(sequence)
    for one in sequence.convolutions:
        check_layer(one)
    content = tc.export.dump(sequence, "npz")
    assert tc.export.dump(tc.export.load(content, "npz"), "npz") == content


def check_layer(layer: tc.ConvLayer) -> None:
    """Raise where a loaded layer holds what no layer may."""
    arrays = [array for array in (layer.kernel, layer.bias) if array is not None]
    assert all(np.isfinite(array.astype(np.float64)).all() and not array.flags.writeable for array in arrays)
    assert layer.out_channels == len(layer.kernel)
    assert str(layer)


def load_sequence(path: Path) -> None:
    """Load as a sequence."""
    check_sequence(tc.load(path))


def load_layers(path: Path) -> None:
    """Read the convolutions of a file."""
    for found in tc.read_layers(path):
        check_layer(found.layer)


def load_network(path: Path) -> None:
    """Open as a network, and look at what could be compressed."""
    network: Any = open_network(path)
    for site in network.sites:
        check_layer(site.layer)
        assert site.layer.macs(site.input_sizes[0]) >= 0 if site.input_sizes else True
    assert all(one.reason for one in network.skipped)
    assert network.digest
    assert network.n_bytes > 0


def load_statistics(path: Path) -> None:
    """Load as statistics."""
    found = tc.PatchStatistics.load(path)
    assert repr(found)
    if found.n_samples:
        assert np.isfinite(found.covariance).all()


def load_plan(path: Path) -> None:
    """Load as a plan."""
    found = Plan.load(path)
    assert str(found)
    assert Plan.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def plant_pickle(path: Path) -> None:
    """Load what a careless reader would: the suite must see it."""
    with path.open("rb") as file:
        np.load(file, allow_pickle=True)


def plant(how: str) -> Callable[[Path], None]:
    """Return a loader with a fault, by which the tests know that faults are seen."""

    def load(path: Path) -> None:
        if how == "hang":
            time.sleep(SECONDS)
        while how == "spin":
            pass
        if how == "allocate":
            np.ones(2 * MEMORY, np.uint8)
        if how == "crash":
            ctypes.string_at(0)
        if how == "write":
            (path.parent / "written").touch()
        if how == "look outside":
            (path.parent.parent / "secret.data").read_bytes()
        if how == "wrong error":
            raise ZeroDivisionError

    return load


FAULTS = ("hang", "spin", "allocate", "crash", "write", "look outside", "wrong error")
LOADERS: dict[str, tuple[Callable[[Path], None], ...]] = {
    ".npz": (load_sequence, load_layers),
    ".safetensors": (load_sequence, load_layers),
    ".onnx": (load_sequence, load_layers, load_network),
    "statistics": (load_statistics,),
    ".npy": (load_layers,),
    "plan": (load_plan,),
}


def limit_memory(more: int | None) -> None:
    """Let the process take so many bytes of address space beyond what it has, or any number."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = resource.RLIM_INFINITY if more is None else taken + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def limit_time(seconds: float) -> None:
    """Let the process be ended after so many seconds, in native code too; 0 takes the limit away."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)


def ends(path: Path, loaders: tuple[Callable[[Path], None], ...], watch: Watch, canary: Path) -> Iterator[str]:
    """Yield how each loader ended: loaded, the name of an error of tensorconv, or LOST and why."""
    for load in loaders:
        watch.seen.clear()
        limit_memory(NETWORK_MEMORY if load is load_network else MEMORY)
        watch.armed = True
        try:
            load(path)
            end = "loaded"
        except TensorconvError as error:
            end = type(error).__name__
        except BaseException as error:  # noqa: BLE001 - whatever else comes is what this process looks for
            end = f"LOST {load.__name__} raised {type(error).__name__}: {str(error)[:200]}"
        watch.armed = False
        limit_memory(None)
        if watch.seen or canary.exists():
            end = f"LOST {load.__name__} did {watch.seen[:3]}, canary {canary.exists()}"
        yield end.replace("\n", " ")


def main() -> None:
    """Load the files of some numbers, each made anew from the seed and its number."""
    kinds, seed, start, stop, home, fault = arguments()
    home = Path(home)
    folder, canary = home / "folder", home / "canary"
    folder.mkdir(exist_ok=True)
    (home / "secret.data").write_bytes(bytes(10_000))
    (folder / "m.data").write_bytes(bytes(10_000))
    whole = seeds(folder)
    mutator = Mutator(whole, canary)
    watch = Watch(folder)
    planted = (plant_pickle if fault == "pickle" else plant(fault),)
    loaders = {kind: planted if fault else LOADERS[kind] for kind in kinds}
    for kind in kinds:  # what is imported late is imported now
        for content in (*whole[kind], b"broken"):
            path = folder / f"whole{kind if kind.startswith('.') else ''}"
            path.write_bytes(content)
            for load in LOADERS[kind]:
                try:
                    load(path)
                except TensorconvError:
                    continue
    seconds = 0.2 if fault else SECONDS
    for number in range(start, stop):
        kind = kinds[number % len(kinds)]
        path = folder / f"{number}{kind if kind.startswith('.') else ''}"
        path.write_bytes(mutator.mutated(kind, np.random.default_rng((seed, number))))
        limit_time(seconds)
        found = list(ends(path, loaders[kind], watch, canary))
        limit_time(0)
        path.unlink()
        sys.stdout.write(json.dumps([number, kind, found]) + "\n")
        sys.stdout.flush()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(json.dumps([-1, "peak", peak]) + "\n")


if __name__ == "__main__":
    main()
