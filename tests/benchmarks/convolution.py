"""How fast the reference convolution is: against torch, ONNX Runtime and the machine's own peak.

Run ``python tests/benchmarks/convolution.py`` with, to make the page, ``--write docs/convolution.md``. Everything runs
in one process, in turns: a round gives each library a pause, in which the others' threads fall asleep, two calls to
warm up, and some that are timed. Medians over all rounds. Weights are laid out before, where a library can: ours by
``tc.prepare``, ONNX Runtime's by its session; torch lays them out in every call. Outputs are compared.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import scipy.signal
import torch
from common import table, write

import tensorconv as tc
from tensorconv.certificates import rounding_bound

Call = Callable[[], Any]
# name: (kernel shape (O, I/G, K..), input size, batch, attributes)
DENSE: dict[str, tuple[tuple[int, ...], tuple[int, ...], int, dict[str, Any]]] = {
    "3x3, 64, 56x56": ((64, 64, 3, 3), (56, 56), 1, {"padding": 1}),
    "3x3, 256, 14x14": ((256, 256, 3, 3), (14, 14), 1, {"padding": 1}),
    "3x3, 512, 7x7": ((512, 512, 3, 3), (7, 7), 1, {"padding": 1}),
    "3x3 stride 2, 96->192, 56x56": ((192, 96, 3, 3), (56, 56), 1, {"padding": 1, "stride": 2}),
    "1x1, 256->64, 56x56": ((64, 256, 1, 1), (56, 56), 1, {}),
    "1x1, 64->256, 28x28, batch 2": ((256, 64, 1, 1), (28, 28), 2, {}),
    "7x7 stride 2, 3->64, 224x224": ((64, 3, 7, 7), (224, 224), 1, {"padding": 3, "stride": 2}),
    "3x3 dilation 2, 128, 28x28, batch 4": ((128, 128, 3, 3), (28, 28), 4, {"padding": 2, "dilation": 2}),
    "3x3 in 4 groups, 128, 28x28": ((128, 32, 3, 3), (28, 28), 1, {"padding": 1, "groups": 4}),
    "1-D, 64 taps, 128->256, 1024": ((256, 128, 64), (1024,), 1, {"padding": 32}),
    "1-D, 5 taps, 128->256, 1024": ((256, 128, 5), (1024,), 1, {"padding": 2}),
    "3x3x3, 32->64, 32x32x32": ((64, 32, 3, 3, 3), (32, 32, 32), 1, {"padding": 1}),
    "transposed 4x4 stride 2, 256->128, 16x16": (
        (128, 256, 4, 4),
        (16, 16),
        1,
        {"padding": 1, "stride": 2, "transposed": True},
    ),
}
FOUR_AXES = {"3x3x3x3, 8, 8x8x8x8": ((8, 8, 3, 3, 3, 3), (8, 8, 8, 8), 1, {"padding": 1})}
DEPTHWISE = {
    "depthwise 3x3, 256, 56x56": ((256, 1, 3, 3), (56, 56), 1, {"padding": 1, "groups": 256}),
    "depthwise 3x3, 128, 28x28, batch 8": ((128, 1, 3, 3), (28, 28), 8, {"padding": 1, "groups": 128}),
    "depthwise 3x3, 512, 14x14": ((512, 1, 3, 3), (14, 14), 1, {"padding": 1, "groups": 512}),
    "depthwise 5x5 stride 2, 240, 28x28": ((240, 1, 5, 5), (28, 28), 1, {"padding": 2, "stride": 2, "groups": 240}),
}
# name: (layers as above without batch, input size)
SEQUENCES: dict[str, tuple[list[tuple[tuple[int, ...], dict[str, Any]]], tuple[int, ...]]] = {
    "depthwise 3x3, pointwise, 64, 112x112": (
        [((64, 1, 3, 3), {"padding": 1, "groups": 64}), ((64, 64, 1, 1), {})],
        (112, 112),
    ),
    "depthwise 3x3, pointwise, 256, 28x28": (
        [((256, 1, 3, 3), {"padding": 1, "groups": 256}), ((256, 256, 1, 1), {})],
        (28, 28),
    ),
    "pointwise, depthwise 3x3, pointwise, 24-144-24, 56x56": (
        [((144, 24, 1, 1), {}), ((144, 1, 3, 3), {"padding": 1, "groups": 144}), ((24, 144, 1, 1), {})],
        (56, 56),
    ),
    "Tucker-2 of 3x3, 256, ranks 128, 28x28": (
        [((128, 256, 1, 1), {}), ((128, 128, 3, 3), {"padding": 1}), ((256, 128, 1, 1), {})],
        (28, 28),
    ),
    "7x1, 1x7, 192, 17x17": (
        [((192, 192, 7, 1), {"padding": (3, 0)}), ((192, 192, 1, 7), {"padding": (0, 3)})],
        (17, 17),
    ),
}


def layer_of(shape: tuple[int, ...], attributes: dict[str, Any], dtype: str) -> tc.ConvLayer:
    """Return a layer whose outputs are of the size of its inputs."""
    kernel = np.random.default_rng(0).standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
    return tc.ConvLayer.of(kernel.astype(dtype), **attributes)


def contenders(steps: Any, x: Any, threads: int) -> dict[str, Call]:
    """Return how each library runs a layer or sequence."""
    prepared = tc.prepare(steps, x.shape[2:], x.dtype)
    calls: dict[str, Call] = {"ours": lambda: prepared(x)}
    if x.ndim < 6:
        module, data = tc.export.dump(steps, "torch"), torch.from_numpy(x)

        def run_torch() -> Any:
            with torch.inference_mode():
                return module(data).numpy()

        calls["torch"] = run_torch
    if x.dtype == np.float32:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        model = tc.export.dump(steps, "onnx").SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        calls["ONNX Runtime"] = lambda: session.run(None, {name: x})[0]
    return calls


def measure(calls: dict[str, Call], rounds: int, seconds: float) -> dict[str, float]:
    """Return the median time of each, in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(min(0.02, seconds))
            call()
            call()
            end = time.perf_counter() + seconds
            while not times[name] or time.perf_counter() < end:
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def check(calls: dict[str, Call], steps: Any, x: Any) -> None:
    """Compare the outputs."""
    bound = rounding_bound(x, steps)
    ours = calls["ours"]()
    for name, call in calls.items():
        if not (np.abs(call() - ours) <= 2 * bound).all():
            raise SystemExit(f"{name} computes something else")


def geometric(ratios: Sequence[float]) -> float:
    """Return the geometric mean."""
    return math.exp(statistics.fmean(map(math.log, ratios)))


def peak(dtype: str) -> float:
    """Return the GFLOP/s of the best of some matrix products by numpy's BLAS, with the threads that it has."""
    a, best = np.ones((1024, 1024), dtype), 0.0
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        best = max(best, 2e-9 * len(a) ** 3 / (time.perf_counter() - start))
    return best


def roof(n_bytes: int, flops: float, fastest: float, options: argparse.Namespace) -> float:
    """Return the GFLOP/s that products at their peak, or else moving all data once, would allow.

    Each thread's part of as many bytes is copied, half of them read and half written, by numpy, over and over: from
    the caches that they fit in.
    """
    source = np.ones(n_bytes // 2 // options.threads, np.uint8)
    target = np.empty_like(source)
    moving = measure({"copy": lambda: np.copyto(target, source)}, options.rounds, options.seconds)["copy"]
    return min(fastest, 1e-9 * flops / moving)


def single(shapes: dict[str, Any], dtype: str, options: argparse.Namespace) -> str:
    """Compare single layers."""
    rows, faster, torchs, fastest = [], [], [], peak(dtype)
    for name, (shape, size, batch, attributes) in shapes.items():
        layer = layer_of(shape, attributes, dtype)
        size = tuple(-(-n // options.shrink) for n in size)
        x = np.random.default_rng(1).standard_normal((batch, layer.in_channels, *size)).astype(dtype)
        calls = contenders(layer, x, options.threads)
        check(calls, layer, x)
        seconds = measure(calls, options.rounds, options.seconds)
        others = {other: t / seconds["ours"] for other, t in seconds.items() if other != "ours"}
        flops = 2.0 * layer.macs(size) * batch
        speed = 1e-9 * flops / seconds["ours"]
        limit = roof(x.nbytes + calls["ours"]().nbytes + layer.kernel.nbytes, flops, fastest, options)
        row = [name, f"{1e6 * seconds['ours']:.0f}", f"{speed:.0f}", f"{limit:.0f}"]
        rows.append([*row, *(f"{others[o]:.2f}" if o in others else "" for o in ("torch", "ONNX Runtime"))])
        if others:
            faster.append(min(others.values()))
        torchs += [others["torch"]] if "torch" in others else []
    head = ["layer", "ours us", "GFLOP/s", "roof", "times torch's speed", "times ONNX Runtime's"]
    text = table(head, rows)
    if dtype == "float32":
        mean, least = geometric(faster), min(faster)
        return f"{text}\n\nAgainst the faster of theirs: {mean:.2f} in geometric mean, {least:.2f} at least."
    return f"{text}\n\nAgainst torch: {geometric(torchs):.2f} in geometric mean, {min(torchs):.2f} at least."


def sequences(options: argparse.Namespace) -> str:
    """Compare sequences, which ONNX Runtime runs as one graph."""
    rows, ratios = [], []
    for name, (layers, size) in SEQUENCES.items():
        steps = tc.ConvSequence([layer_of(shape, attributes, "float32") for shape, attributes in layers])
        size = tuple(-(-n // options.shrink) for n in size)
        x = np.random.default_rng(1).standard_normal((1, steps.in_channels, *size)).astype("float32")
        calls = contenders(steps, x, options.threads)
        del calls["torch"]
        check(calls, steps, x)
        seconds = measure(calls, options.rounds, options.seconds)
        ratios.append(seconds["ONNX Runtime"] / seconds["ours"])
        rows.append([name, f"{1e6 * seconds['ours']:.0f}", f"{ratios[-1]:.2f}"])
    text = table(["sequence", "ours us", "times ONNX Runtime's speed"], rows)
    return (
        f"{text}\n\n{geometric(ratios):.2f} in geometric mean, {min(ratios):.2f} at least. A depthwise layer at stride "
        "1 is computed on the way into the pointwise layer behind it, and never stored; a pointwise layer before both "
        "is computed by the thread that needs it. What lies between other layers goes to and fro between two buffers "
        "of 1.97 MB, in bands of rows where it is larger."
    )


def against_scipy(options: argparse.Namespace) -> str:
    """Compare with scipy.signal, looped over channels."""
    shape, size, _, attributes = DENSE["3x3x3, 32->64, 32x32x32"]
    size = tuple(-(-n // options.shrink) for n in size)
    layer = layer_of(shape, attributes, "float32")
    x = np.random.default_rng(1).standard_normal((1, 32, *size)).astype("float32")
    prepared = tc.prepare(layer, size, "float32")
    some = 2  # out-channels, the others take as long
    start = time.perf_counter()
    for o in range(some):
        sum(scipy.signal.correlate(x[0, i], layer.kernel[o, i], "same", "direct") for i in range(32))
    theirs = (time.perf_counter() - start) * shape[0] / some
    ours = measure({"ours": lambda: prepared(x)}, options.rounds, options.seconds)["ours"]
    return (
        f"scipy.signal.correlate, directly and channel by channel, takes {theirs:.2f} s for the 3x3x3 layer, "
        f"{theirs / ours:.0f} times as long as ours."
    )


def main(arguments: list[str] | None = None) -> str:
    """Make the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.03, help="per library and round")
    parser.add_argument("--shrink", type=int, default=1, help="divide all sizes, for a try")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args(arguments)
    before, threads = os.environ.get("TENSORCONV_NUM_THREADS"), torch.get_num_threads()
    os.environ["TENSORCONV_NUM_THREADS"] = str(options.threads)
    torch.set_num_threads(options.threads)
    try:
        page = "\n\n".join(
            [
                "# Speed of the reference convolution",
                "Made by `python tests/benchmarks/convolution.py --write docs/convolution.md --threads "
                f"{options.threads}`, in one process with as many threads for each library: torch "
                f"{torch.__version__}, ONNX Runtime {onnxruntime.__version__}, "
                "in turns, medians. Weights are laid out before, by us and by ONNX Runtime. Above 1, ours is faster. "
                f"numpy's matrix products reach {peak('float32'):.0f} GFLOP/s in float32 here and "
                f"{peak('float64'):.0f} in float64: that, or the time to copy as many bytes as a layer reads and "
                "writes, is the roof of its speed in GFLOP/s. Taps on padding count as work, done or not.",
                "## Dense layers, float32",
                single(DENSE, "float32", options),
                "## Depthwise layers, float32",
                single(DEPTHWISE, "float32", options),
                "## Four axes, float32",
                single(FOUR_AXES, "float32", options),
                "## Dense layers, float64",
                single(DENSE, "float64", options),
                "## Sequences, float32",
                sequences(options),
                "## scipy.signal",
                against_scipy(options),
            ]
        )
    finally:
        torch.set_num_threads(threads)
        os.environ.pop("TENSORCONV_NUM_THREADS")
        if before is not None:
            os.environ["TENSORCONV_NUM_THREADS"] = before
    page += "\n"
    if options.write:
        write(options.write, page)
    return page


if __name__ == "__main__":
    print(main())  # noqa: T201 - a program that prints its result
