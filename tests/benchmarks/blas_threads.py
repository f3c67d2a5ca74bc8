"""What BLAS threads cost a CP decomposition of a small kernel: why factorizations limit BLAS to one.

Run ``python tests/benchmarks/blas_threads.py [--channels 128] [--rank 64] [--sweeps 100]``. It prints the median time
of three runs with the machine's number of BLAS threads and with one, and their ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Sequence
from unittest.mock import patch

import numpy as np

from tensorconv.linalg import cp_als


def seconds(channels: int, rank: int, sweeps: int) -> float:
    """Return the time of this many sweeps on a random kernel of 3x3 taps."""
    kernel = np.random.default_rng(0).standard_normal((channels, channels, 3, 3)).astype(np.float32)
    start = time.perf_counter()
    cp_als(kernel, rank, n_iter_max=sweeps, tol=0.0)
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> str:
    """Time both in turn and return the line that is printed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--sweeps", type=int, default=100)
    chosen = parser.parse_args(arguments)
    sizes = (chosen.channels, chosen.rank, chosen.sweeps)
    pairs = []
    for _ in range(3):
        with patch.object(sys.modules["tensorconv.linalg.cp"], "one_blas_thread", contextlib.nullcontext):
            many = seconds(*sizes)
        pairs.append((many, seconds(*sizes)))
    many, one = (statistics.median(times) for times in zip(*pairs, strict=True))
    return f"machine's threads {many:.3f} s, one thread {one:.3f} s, ratio {many / one:.1f}"


if __name__ == "__main__":
    print(main())  # noqa: T201 - a program that prints its result
