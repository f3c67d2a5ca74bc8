"""What compressing costs as networks grow: time by layers, shares and samples, workers, memory beyond the machine's.

Run ``OPENBLAS_NUM_THREADS=1 python tests/benchmarks/scaling.py [--write docs/scaling.md]``. It needs about 10 GB of
disk in the folder for temporary files.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from common import table, write
from distributed import Client, LocalCluster
from onnx import TensorProto, helper

import tensorconv as tc
from tensorconv.models.network import Site
from tensorconv.models.planning import look
from tensorconv.models.settings import Settings
from tensorconv.parallel import in_parallel, on_cluster

NARROW = 64  # channels of every other value of the large network: its kernels are large, their decompositions are not
RESULT = "RESULT "
LOOK = Settings(budget=0.5, faster=False)
ON_PAPER = (256, 512)  # channels
WORKERS_ON_PAPER = (1, 8, 64, 512)


def chain(path: Path, n_layers: int, channels: Sequence[int]) -> int:
    """Write a network of 3x3 convolutions with random weights in a second file; return the bytes of the largest."""
    rng = np.random.default_rng(0)
    nodes, tensors, end, largest = [], [], 0, 0
    with path.with_suffix(".data").open("wb") as file:
        for i in range(n_layers):
            shape = (channels[(i + 1) % len(channels)], channels[i % len(channels)], 3, 3)
            content = (rng.standard_normal(shape, np.float32) / math.sqrt(math.prod(shape[1:]))).tobytes()
            file.write(content)
            tensor = TensorProto(name=f"w{i}", dims=shape, data_type=TensorProto.FLOAT)
            tensor.data_location = TensorProto.EXTERNAL
            stretch = {"location": path.with_suffix(".data").name, "offset": end, "length": len(content)}
            for key, value in stretch.items():
                tensor.external_data.add(key=key, value=str(value))
            end, largest = end + len(content), max(largest, len(content))
            tensors.append(tensor)
            names = [f"x{i}", f"w{i}"], ["y" if i == n_layers - 1 else f"x{i + 1}"]
            nodes.append(helper.make_node("Conv", *names, name=f"conv{i}", pads=[1, 1, 1, 1]))
    ends = [("x0", channels[0]), ("y", channels[n_layers % len(channels)])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, c, 4, 4]) for name, c in ends]
    graph = helper.make_graph(nodes, "chain", values[:1], values[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return largest


def peak() -> int:
    """Return the peak of this process' resident memory in bytes, files that are mapped included."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def compressed_alone(source: str, out: str) -> dict[str, float]:
    """Compress a network by one cheap method without running it; return seconds and memory of this process."""
    tc.factorize(np.ones((4, 4, 3, 3)), "svd", rank=1)  # loads the libraries
    before, start = peak(), time.perf_counter()
    done = tc.compress(
        source,
        error=0.999,
        methods=["svd"],
        shares=(0.05,),
        faster=False,
        comparing=False,
        batch=1,
        work=f"{out}.work",
    )
    done.save(out)
    n_replaced = sum(one.report is not None for one in done.layers)
    return {"seconds": time.perf_counter() - start, "before": before, "peak": peak(), "replaced": n_replaced}


def in_a_process(source: Path, out: Path) -> dict[str, float]:
    """Return what another process tells of a compression, which starts with no memory of ours."""
    done = subprocess.run(
        [sys.executable, __file__, "--compress", str(source), str(out)], capture_output=True, text=True, check=False
    )
    found = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if not found:
        raise SystemExit(done.stderr)
    values: dict[str, float] = json.loads(found[0].removeprefix(RESULT))
    return values


def memory(n_layers: Sequence[int], megabytes: float) -> str:
    """Return the table of networks that are larger and larger."""
    wide = round(megabytes * 1e6 / (4 * 9 * NARROW))
    rows = []
    for n in n_layers:
        with TemporaryDirectory(prefix="scaling-") as folder:
            source, out = Path(folder) / "network.onnx", Path(folder) / "small.onnx"
            largest = chain(source, n, (NARROW, wide))
            found = in_a_process(source, out)
            n_bytes = [
                sum(file.stat().st_size for file in Path(folder).glob(f"{one.stem}*.*a*")) for one in (source, out)
            ]
        used = found["peak"] - found["before"]
        rows.append(
            (
                *(f"{n}", f"{n * largest / 1e9:.2f} GB", f"{largest / 1e6:.0f} MB", f"{used / 1e6:.0f} MB"),
                *(
                    f"{used / largest:.1f}",
                    f"{found['replaced']:.0f}",
                    f"{n_bytes[1] / 1e6:.0f} MB",
                    f"{found['seconds']:.0f} s",
                ),
            )
        )
    head = (
        "layers",
        "weights",
        "largest layer",
        "peak memory",
        "over the largest layer",
        "replaced",
        "file after",
        "time",
    )
    return table(head, rows)


def site(channels: int, seed: int = 0) -> Site:
    """Return a 3x3 convolution with random weights, of as many channels in and out, at 14x14."""
    kernel = np.random.default_rng(seed).standard_normal((channels, channels, 3, 3), np.float32)
    return Site(f"conv{seed}", tc.ConvLayer.of(kernel, padding=1), ((14, 14),))


def seconds_of(channels: int, n_layers: int = 1, settings: Settings = LOOK, jobs: int | None = 1) -> float:
    """Return how long looking at layers takes, by all methods."""
    tasks = [(site(channels, seed), settings, None, False) for seed in range(n_layers)]
    start = time.perf_counter()
    list(in_parallel(look, tasks, jobs))
    return time.perf_counter() - start


def power(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Return a and p of the law a * size ** p that fits best, in logarithms."""
    p, log_a = np.polyfit(np.log(sizes), np.log(seconds), 1)
    return float(np.exp(log_a)), float(p)


def growth(channels: Sequence[int], n_layers: int) -> tuple[str, tuple[float, float]]:
    """Return a table of what one figure does to the time when it alone grows, and the law for channels."""
    seconds_of(16)  # loads the libraries
    looked = [seconds_of(c) for c in channels]
    a, p = power(channels, looked)
    rows = [("channels", *_pairs(channels, looked), f"{p:.2f}")]
    counts = (1, n_layers // 2, n_layers)
    rows.append(("layers", *_pairs(counts, taken := [seconds_of(channels[0], n) for n in counts]), _p(counts, taken)))
    shares = ((0.5,), (0.3, 0.5), (0.2, 0.3, 0.5, 0.6))
    taken = [seconds_of(channels[0], settings=Settings(budget=0.5, faster=False, shares=one)) for one in shares]
    rows.append(("shares", *_pairs([len(one) for one in shares], taken), _p([len(one) for one in shares], taken)))
    images = (16, 32, 64)
    taken = [_statistics(channels[0], n) for n in images]
    rows.append(("images", *_pairs(images, taken), _p(images, taken)))
    return table(("what grows", "first", "second", "third", "power"), rows), (a, p)


def _pairs(sizes: Sequence[float], seconds: Sequence[float]) -> list[str]:
    return [f"{size}: {one:.2f} s" for size, one in zip(sizes, seconds, strict=True)]


def _p(sizes: Sequence[float], seconds: Sequence[float]) -> str:
    return f"{power(sizes, seconds)[1]:.2f}"


def _statistics(channels: int, n_images: int) -> float:
    x = np.random.default_rng(0).standard_normal((n_images, channels, 14, 14), np.float32)
    start = time.perf_counter()
    tc.PatchStatistics(site(channels).layer).update(x)
    return time.perf_counter() - start


def workers(counts: Sequence[int], channels: int, n_layers: int) -> tuple[str, float]:
    """Return a table of the same work on more and more workers, each of one thread, and the speed of one worker."""
    x = np.random.default_rng(0).standard_normal((2 * n_layers, 32, channels, 14, 14), np.float32)
    rows: list[tuple[str, ...]] = []
    firsts: list[float] = []
    share = 1.0
    for count in (0, *counts):
        if count == 0:
            taken = [seconds_of(channels, n_layers), _mapped(channels, x, 1)]
        else:
            with (
                LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None) as made,
                Client(made, set_as_default=False) as client,
                on_cluster(made.scheduler_address),
            ):
                client.wait_for_workers(count)
                client.run(look, site(16), LOOK, None, False)  # loads the libraries there
                taken = [seconds_of(channels, n_layers, jobs=None), _mapped(channels, x, None)]
        firsts = firsts or taken
        cells = [f"{one:.2f} s, {first / one:.2f} times as fast" for one, first in zip(taken, firsts, strict=True)]
        rows.append((f"{count} worker{'s' * (count > 1)}" if count else "this process", *cells))
        share = min(1.0, firsts[0] / taken[0]) if count == counts[0] else share
    head = ("on", f"{n_layers} layers of {channels} channels", f"statistics of {len(x)} shards of 32 images")
    return table(head, rows), share


def _mapped(channels: int, x: Any, jobs: int | None) -> float:
    start = time.perf_counter()
    tc.statistics_of_shards(site(channels).layer, list(x), jobs=jobs)
    return time.perf_counter() - start


def on_paper(law: tuple[float, float], share: float) -> str:
    """Return what looking at 1,000 layers would take."""
    a, p = law
    rows = []
    for channels in ON_PAPER:
        one = a * channels**p
        rows.append(
            (
                f"{channels}",
                f"{one:.0f} s",
                *(_hours(1000 * one / (n * share)) for n in WORKERS_ON_PAPER),
            )
        )
    return table(("channels", "one layer", *(f"{n} worker{'s' * (n > 1)}" for n in WORKERS_ON_PAPER)), rows)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


TEXT = """# Beyond one machine, and beyond its memory

Made by `OPENBLAS_NUM_THREADS=1 python tests/benchmarks/scaling.py --write docs/scaling.md` on two
cores: single runs of wall time, of which the order of magnitude counts.

## Workers

Layers are independent until their shares of the budget are chosen. Looking at them, by every method at several costs,
and fitting them where there are no data, goes through joblib, and so wherever joblib is told to go:

<!-- not run: needs a cluster -->
```bash
pip install 'tensorconv[dask]'
tensorconv compress model.onnx small.onnx --budget 0.5 --dask tcp://10.0.0.1:8786
```

In Python that is `with joblib.parallel_config("dask"):` around `tc.compress`, or `jobs=4` for processes of this
machine. Workers need the same versions of tensorconv, numpy and scipy. The result is the same to the bit as that of
one process: every task runs with one BLAS thread, and results are taken in the order of the layers. Workers of
another kind of processor may round differently. A task holds all that it needs, so what a lost worker had begun is
done again by another; the tests kill one half way. Times are never measured on a worker: candidates are timed by the
process that compresses.

What stays in one process: choosing, timing, comparing, and everything that runs the network. Statistics of layers
inside a network are made where the network is run. To make them on workers, each would have to be sent the network
and the data and run all that comes before its layer, and ONNX Runtime may round by how many threads it has, so that
results would depend on the worker. Fits to data go from the first layer to the last, each on what those before it
have become: nothing there is independent.

Activations that already lie in shards are another matter: `tc.statistics_of_shards(layer, paths)` takes each shard on
any worker and merges neighbours pairwise, in an order that depends on the number of shards alone.

{workers}

Both workers, the scheduler and the process that asks share two cores. A task is a whole layer: whoever has the last one
holds the others up at the end.

## How the cost grows

Looking at 3x3 layers by all methods, and statistics of 14x14 inputs (images), by one process with one thread. The
power p is that of the best law a n^p. What does not grow, such as the decomposition that all shares of a method begin
with, makes p smaller than 1.

{growth}

## A thousand layers, on paper

From the law for channels, {a:.2g} s (channels)^{p:.2f}, and {share:.0%} of this process's speed for a worker on its own
core, as one worker had it above. Extrapolated: neither the larger layers nor the larger clusters were run.

{paper}

What does not shrink with workers comes on top: reading, choosing (an exact integer program), timing candidates where
`faster` is left on, and with data the statistics and the fits, one layer after the other. To look at a layer, a task
is sent one kernel (2.4 MB for 256 channels, 9.4 MB for 512) and sends back a list of numbers.

## Networks larger than memory

Weights that an ONNX file keeps in another file stay there. A layer is read when it is looked at, one at a time;
finished layers go to the work folder (`work=`, always there on the command line) and new weights to a temporary file,
from where saving streams them to the new data, written under a temporary name and renamed. Whatever runs the network
needs all of it in memory, in ONNX Runtime: the comparison, and data. `comparing=False`, or `--without-running`,
leaves that out; then drift and latency of the whole are not known, and should be measured on a machine that holds it.
Sizes of inputs must follow from the file or `input_size`.

Chains of 3x3 convolutions between {narrow} and many channels, compressed by `svd` in a process of its own with
`comparing=False` and a work folder. Memory is the peak of the process' resident set over what the libraries take.

{memory}

The peak does not grow with the number of layers. Decompositions and `verify` work in float64, twice the size of float32
weights, and hold some such arrays: their kernel, the composed one, their difference. Several processes need it each.
"""


def main(arguments: Sequence[str] | None = None) -> str:
    """Return the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--layers", type=int, default=8, help="of the table of workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--large", type=int, nargs="+", default=[4, 64], help="layers of the large networks")
    parser.add_argument("--megabytes", type=float, default=64.0, help="of one of their layers")
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args(arguments)
    done, share = workers(chosen.workers, chosen.channels[-1], chosen.layers)
    grown, law = growth(chosen.channels, chosen.layers)
    large = memory(chosen.large, chosen.megabytes)
    page = TEXT.format(
        workers=done,
        growth=grown,
        a=law[0],
        p=law[1],
        share=share,
        paper=on_paper(law, share),
        narrow=NARROW,
        memory=large.strip(),
    )
    if chosen.write:
        write(chosen.write, page)
    return page


if __name__ == "__main__":
    if "--compress" in sys.argv:
        print(RESULT + json.dumps(compressed_alone(*sys.argv[2:4])))  # noqa: T201 - a program that prints its result
    else:
        print(main())  # noqa: T201 - a program that prints its result
