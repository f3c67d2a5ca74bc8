"""What patch statistics cost: time over the bare product of the same patches, and memory over a long stream.

Run ``OPENBLAS_NUM_THREADS=1 python tests/benchmarks/patch_statistics.py [--write docs/statistics.md]``.
"""

from __future__ import annotations

import argparse
import math
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tensorconv as tc
from tensorconv.patches import patches

# name, shape of the kernel, options, input (C, L..)
CASES: list[tuple[str, tuple[int, ...], dict[str, Any], tuple[int, ...]]] = [
    ("first layer", (64, 3, 3, 3), {"padding": 1}, (3, 224, 224)),
    ("64 channels", (64, 64, 3, 3), {"padding": 1}, (64, 56, 56)),
    ("128 channels", (128, 128, 3, 3), {"padding": 1}, (128, 28, 28)),
    ("256 channels", (256, 256, 3, 3), {"padding": 1}, (256, 14, 14)),
    ("strided", (128, 64, 3, 3), {"padding": 1, "stride": 2}, (64, 56, 56)),
    ("pointwise", (256, 256, 1, 1), {}, (256, 28, 28)),
    ("1-D", (64, 64, 9), {"padding": 4}, (64, 4096)),
    ("3-D", (32, 16, 3, 3, 3), {"padding": 1}, (16, 16, 28, 28)),
    ("transposed", (64, 64, 4, 4), {"padding": 1, "stride": 2, "transposed": True}, (64, 28, 28)),
    ("32 groups", (128, 4, 3, 3), {"padding": 1, "groups": 32}, (128, 56, 56)),
    ("depthwise", (128, 1, 3, 3), {"padding": 1, "groups": 128}, (128, 56, 56)),
]
TEXT = """# What patch statistics cost

Made by `OPENBLAS_NUM_THREADS=1 python tests/benchmarks/patch_statistics.py --write docs/statistics.md`. Activations are
float32, sums float64. "Product" is `v @ v.T` of the same patches v, already gathered in one float64 matrix per group:
the least that second moments cost. "Update" and "square root" are `PatchStatistics.update` in its two forms, all of it:
checks, gathering, means, sums. Times are medians of runs by turns; ratios are over the product.
"""
STREAM = (64, 64, 3, 3)


def positions(kernel: tc.ConvLayer, size: tuple[int, ...]) -> int:
    """Return the number of output positions of one image."""
    return math.prod(kernel.output_size(size))


def by_turns(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each call, run in turns so that all see the same load."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(found)) for name, found in seconds.items()}


def measured(case: tuple[str, tuple[int, ...], dict[str, Any], tuple[int, ...]], budget: float, repeats: int) -> str:
    """Return a line of the table; the batch has about the given number of bytes of patches."""
    name, shape, options, size = case
    rng = np.random.default_rng(0)
    layer = tc.ConvLayer.of(rng.standard_normal(shape, dtype="float32"), **options)
    n = layer.kernel[0].size
    per_image = 8 * n * layer.geometry.groups * positions(layer, size[1:])
    x = np.maximum(rng.standard_normal((max(1, round(budget / per_image)), *size), dtype="float32"), 0)
    v = patches(x, layer)
    plain, root = tc.PatchStatistics(layer), tc.PatchStatistics(layer, square_root=True)
    calls: dict[str, Callable[[], Any]] = {
        "product": lambda: [part @ part.T for part in v],
        "update": lambda: plain.update(x),
        "root": lambda: root.update(x),
    }
    by_turns(calls, 1)
    found = by_turns(calls, repeats)
    product = found["product"]
    cells = [name, "x".join(map(str, shape)), "x".join(map(str, x.shape)), f"{v.nbytes / 1e6:.0f} MB"]
    cells += [f"{1e3 * product:.1f} ms", f"{found['update'] / product:.2f}", f"{found['root'] / product:.2f}"]
    return " | ".join(cells)


def batches(gigabytes: float) -> Iterator[Any]:
    """Yield batches of activations, 12.8 MB each, that are this much together."""
    rng = np.random.default_rng(0)
    shape = (16, STREAM[1], 56, 56)
    for _ in range(max(1, round(gigabytes * 1e9 / (4 * math.prod(shape))))):
        yield np.maximum(rng.standard_normal(shape, dtype="float32"), 0)


def streamed(gigabytes: float) -> str:
    """Return a line on one pass over so many activations, none of them held."""
    stats = tc.PatchStatistics(tc.ConvLayer.of(np.ones(STREAM, "float32"), padding=1))
    n_bytes, seconds = 0, 0.0
    tracemalloc.start()
    try:
        for x in batches(gigabytes):
            start = time.perf_counter()
            stats.update(x)
            seconds += time.perf_counter() - start
            n_bytes += x.nbytes
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    layer = "x".join(map(str, STREAM))
    return (
        f"One pass over {n_bytes / 1e6:.0f} MB of activations of a {layer} layer, in batches of 12.8 MB:\n"
        f"{stats.n_samples} positions, {seconds:.1f} s in updates, {peak / 1e6:.1f} MB of memory at the peak, "
        "with the batch and the noise it is\nmade of."
    )


def main(arguments: Sequence[str] | None = None) -> str:
    """Return the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=float, default=200.0, help="patches per update, about")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="activations of the stream")
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args(arguments)
    lines = ["layer | kernel | activations | patches | product | update | square root", " | ".join(["---"] * 7)]
    lines += [measured(case, chosen.megabytes * 1e6, chosen.repeats) for case in CASES]
    page = TEXT + "\n" + "\n".join(f"| {line} |" for line in lines) + "\n\n" + streamed(chosen.gigabytes) + "\n"
    if chosen.write:
        temporary = chosen.write.with_suffix(".part")
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(chosen.write)
    return page


if __name__ == "__main__":
    print(main())  # noqa: T201 - a program that prints its result
