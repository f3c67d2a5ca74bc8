"""How much memory a dump to JAX arrays takes at most, over that of the arrays, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_SOURCE = """
import ctypes, gc, re, sys
from pathlib import Path
import numpy as np
from tensorconv.export import dump
from tensorconv.layers import ConvLayer, ConvSequence

def status(key):
    return 1024 * int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def sequence(channels):
    kernel = np.ones((channels, channels, 3, 3), np.float32)
    layers = [ConvLayer.of(kernel, transposed=bool(i % 2)) for i in range(3)]
    return ConvSequence([*layers, ConvLayer.of(kernel, np.ones(channels, np.float32))])

dump(sequence(4), sys.argv[1])  # what the framework takes once
large = sequence(832)
arrays = sum(layer.kernel.nbytes for layer in large)
assert arrays == 4 * large.n_parameters - 4 * 832 > 99e6
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew here
before = status("VmRSS")
result = dump(large, sys.argv[1])
print((status("VmHWM") - before) / arrays)
"""


def peak_of_dump(target: str) -> float:
    """Return the peak of dumping four layers of 25 million parameters, over the bytes of their arrays."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux resets the peak of a process")
    done = subprocess.run([sys.executable, "-c", _SOURCE, target], capture_output=True, text=True, check=True)
    return float(done.stdout)
