"""How fast the decompositions are: against TensorLy on trained kernels, and against the matrix products they need.

Run ``python tests/benchmarks/decompositions.py KERNELS [--only cp tucker ..]`` with, to make the page,
``--write docs/benchmarks.md``. KERNELS is a folder of .npz files, each with a kernel "weight" (O, I, K1..KN).
Everything runs in one process, ours and theirs in turn, and every time is a median. Errors are relative Frobenius
errors, recomputed here from the factors in float64.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorly
from tensorly.decomposition import parafac, partial_tucker

import tensorconv as tc
from tensorconv.linalg import cp_als, hooi, one_blas_thread, truncated_svd

SECTIONS = ("cp", "tucker", "tucker_rest", "svd", "growth", "large")
SEEDS = 5  # of our CP: a random start is a matter of luck, and the median of its time is what counts
Row = list[str]


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Return the median time of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def error_of(kernel: Any, found: Any) -> float:
    """Return the relative error of a tensor."""
    exact = kernel.astype(np.float64)
    return float(np.linalg.norm(exact - found) / np.linalg.norm(exact))


def cp_error(kernel: Any, weights: Any, factors: Sequence[Any]) -> float:
    """Return the error of a CP decomposition."""
    wide = [np.asarray(factor, np.float64) for factor in factors]
    return error_of(kernel, tensorly.cp_to_tensor((np.asarray(weights, np.float64), wide)))


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def geometric(ratios: Sequence[float]) -> float:
    """Return the geometric mean."""
    return math.exp(statistics.fmean(map(math.log, ratios)))


def shape_of(kernel: Any) -> str:
    """Return a shape as text."""
    return "x".join(map(str, kernel.shape))


def cp_section(kernels: dict[str, Any], repeats: int) -> str:
    """Compare CP at the ranks of the field, TensorLy at 100 iterations from its SVD start."""
    rows, ratios, beaten = [], [], 0
    for name, kernel in kernels.items():
        for rank in (32, 64):
            theirs: Any = parafac(kernel, rank, n_iter_max=100, init="svd", random_state=0)
            seconds = median_seconds(
                lambda k=kernel, r=rank: parafac(k, r, n_iter_max=100, init="svd", random_state=0),  # type: ignore[misc]
                repeats,
            )
            target = cp_error(kernel, *theirs)
            times, sweeps = [], []
            for seed in range(SEEDS):
                start = time.perf_counter()
                found = cp_als(kernel, rank, rng=seed, n_iter_max=2000, tol=0.0, target=target)
                times.append(time.perf_counter() - start)
                sweeps.append(times[-1] / found.n_iter)
                if cp_error(kernel, *found) > target:
                    times[-1] = math.inf  # it never got there
            ours = statistics.median(times)
            n_sweeps = max(1, min(400, int(0.09 * seconds / statistics.median(sweeps))))
            start = time.perf_counter()
            tenth = cp_als(kernel, rank, n_iter_max=n_sweeps, tol=0.0)
            share = (time.perf_counter() - start) / seconds
            lower = cp_error(kernel, *tenth)
            beaten += lower < target and share <= 0.1
            ratios.append(seconds / ours)
            row = [name, shape_of(kernel), str(rank), f"{seconds:.2f}", f"{target:.5f}", f"{1e3 * ours:.0f}"]
            rows.append([*row, f"{ratios[-1]:.0f}", f"{share:.1%}", f"{lower:.5f}"])
    head = ["kernel", "shape", "rank", "TensorLy s", "its error", "ours ms to that error", "times faster"]
    text = table([*head, "given this share of its time", "our error"], rows)
    summary = f"{geometric(ratios):.0f} times faster in geometric mean, {min(ratios):.0f} at least; "
    return f"{text}\n\n{summary}a lower error within a tenth of its time on {beaten} of {len(rows)}."


def tucker_section(kernels: dict[str, Any], repeats: int) -> str:
    """Compare Tucker-2: TensorLy's partial_tucker, and as many of our sweeps as reach its error."""
    rows, ratios = [], []
    for name, kernel in kernels.items():
        for part in (4, 2):
            ranks = [max(1, kernel.shape[0] // part), max(1, kernel.shape[1] // part)]

            def theirs(kernel: Any = kernel, ranks: list[int] = ranks) -> Any:
                return partial_tucker(kernel, ranks, modes=[0, 1], init="svd")[0]

            core, factors = theirs()
            seconds = median_seconds(theirs, repeats)
            wide = [factor.astype(np.float64) for factor in factors]
            target = error_of(kernel, tensorly.tenalg.multi_mode_dot(core.astype(np.float64), wide, modes=[0, 1]))

            def ours(sweeps: int, tol: float, kernel: Any = kernel, ranks: list[int] = ranks) -> Any:
                return hooi(kernel, (*ranks, *kernel.shape[2:]), n_iter=sweeps, tol=tol)

            def reached(found: Any, kernel: Any = kernel) -> float:
                return error_of(kernel, tc.linalg.multi_mode_product(found[0].astype(np.float64), found[1]))

            sweeps = next((n for n in range(60) if reached(ours(n, 0.0)) <= target), 0)
            error = reached(ours(sweeps, 0.0))
            fast = median_seconds(lambda: ours(sweeps, 0.0), 2 * repeats + 1)  # noqa: B023 - called at once
            ratios.append(seconds / fast)
            row = [name, shape_of(kernel), str(tuple(ranks)), f"{1e3 * seconds:.0f}", f"{target:.5f}", str(sweeps)]
            rows.append([*row, f"{1e3 * fast:.1f}", f"{error:.5f}", f"{ratios[-1]:.1f}"])
    head = [
        "kernel",
        "shape",
        "ranks",
        "TensorLy ms",
        "its error",
        "our sweeps",
        "ours ms",
        "our error",
        "times faster",
    ]
    return f"{table(head, rows)}\n\n{geometric(ratios):.0f} times faster in geometric mean, at no worse error."


def svd_section(sizes: Sequence[int], repeats: int) -> str:
    """Compare the SVD of every in-channel, unrefined as for float32 kernels, with the product for its Gram matrices."""
    rows = []
    for channels in sizes:
        kernel = np.random.default_rng(0).standard_normal((channels, channels, 9))
        product = median_seconds(lambda k=kernel: np.matmul(k.swapaxes(1, 2), k), 5 * repeats)  # type: ignore[misc]
        for rank in (1, 4, 9):
            ours = median_seconds(lambda k=kernel, r=rank: truncated_svd(k, r, refine=False), 5 * repeats)  # type: ignore[misc]
            rows.append([f"{channels}x{channels}x3x3", str(rank), f"{1e3 * product:.2f}", f"{1e3 * ours:.2f}"])
            rows[-1].append(f"{ours / product:.1f}")
    return table(["shape", "rank", "numpy.matmul ms", "truncated_svd ms", "multiple"], rows)


def decaying(shape: Sequence[int]) -> Any:
    """Return a float32 kernel whose channels matter less and less, as those of trained kernels do."""
    kernel = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    for mode, n in enumerate(shape[:2]):
        weights = 1 / (1 + 8 * np.arange(n, dtype=np.float32) / n)
        kernel *= weights.reshape([-1 if m == mode else 1 for m in range(len(shape))])
    return kernel


def growth_section(shapes: Sequence[tuple[int, ...]], repeats: int) -> str:
    """Show how a CP sweep and a Tucker-2 grow, beside the matrix products that cannot be avoided, on one thread."""
    rows = []
    for shape in shapes:
        kernel = decaying(shape)
        n_out, n_in, taps = shape[0], shape[1], math.prod(shape[2:])
        for part in (4, 2, 1):
            rank = min(n_out, n_in) // part
            with one_blas_thread():
                wide, tall = kernel.reshape(n_out, -1), kernel.reshape(-1, n_in)
                a, b = np.ones((n_out, rank), np.float32), np.ones((n_in, rank), np.float32)

                def products(wide: Any = wide, tall: Any = tall, a: Any = a, b: Any = b) -> None:
                    _ = wide.T @ a, tall @ b

                limit = median_seconds(products, 2 * repeats + 1)
                sweeps = 10
                long = median_seconds(lambda: cp_als(kernel, rank, n_iter_max=2 * sweeps, tol=0.0), repeats)  # noqa: B023
                short = median_seconds(lambda: cp_als(kernel, rank, n_iter_max=sweeps, tol=0.0), repeats)  # noqa: B023
                sweep = (long - short) / sweeps
                row = [shape_of(kernel), str(rank), f"{1e3 * limit:.2f}", f"{1e3 * sweep:.2f}", f"{sweep / limit:.1f}"]
                if part > 1:
                    tucker = median_seconds(lambda: hooi(kernel, (rank, rank, *shape[2:])), repeats)  # noqa: B023
                    least = median_seconds(lambda: (wide @ wide.T, a.T @ wide), repeats)  # noqa: B023
                    least += median_seconds(lambda: tall[: rank * taps].T @ tall[: rank * taps], repeats)  # noqa: B023
                    row += [f"{1e3 * least:.2f}", f"{1e3 * tucker:.1f}", f"{tucker / least:.1f}"]
                rows.append(row + [""] * (8 - len(row)))
    head = ["shape", "rank", "products of a sweep, ms", "CP sweep ms", "multiple"]
    return table([*head, "products of an HOSVD, ms", "Tucker-2 ms", "multiple"], rows)


def large_section(channels: int, repeats: int) -> str:
    """Time one very large layer, by the public functions."""
    layer = tc.ConvLayer.of(decaying((channels, channels, 3, 3)), padding=1)
    tucker = median_seconds(lambda: tc.tucker(layer, channels // 4), repeats)
    cp = median_seconds(lambda: cp_als(layer.kernel, channels // 8, n_iter_max=20, tol=0.0), repeats)
    rows = [["tucker", str(channels // 4), f"{tucker:.1f}"], ["cp_als, 20 sweeps", str(channels // 8), f"{cp:.1f}"]]
    return f"Kernel {shape_of(layer.kernel)}, float32:\n\n" + table(["method", "rank", "seconds"], rows)


def read(folder: Path) -> dict[str, Any]:
    """Return the kernels of a folder, by name, in float32."""
    found = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            for name in arrays.files:
                if arrays[name].ndim > 2:
                    found[path.stem if name == "weight" else f"{path.stem} {name}"] = arrays[name].astype(np.float32)
    return found


def fits(kernel: Any, least: int, most: int, taps: int | None = None) -> bool:
    """Tell whether both channel counts are in a range, and the taps as wanted."""
    of_size = all(least <= n <= most for n in kernel.shape[:2])
    return of_size and (math.prod(kernel.shape[2:]) == taps if taps else math.prod(kernel.shape[2:]) > 1)


def main(arguments: Sequence[str] | None = None) -> str:
    """Run what was asked for and return the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kernels", type=Path)
    parser.add_argument("--only", nargs="+", default=list(SECTIONS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--channels", type=int, default=2048, help="the largest layer of all")
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args(arguments)
    kernels, repeats, most = read(chosen.kernels), chosen.repeats, chosen.channels
    least = min(64, most)
    channels = [n for n in (64, 128, 256, 512) if 4 * n <= most] or [most]
    shapes = [(n, n, 3, 3) for n in channels] + [
        (max(4, most // 8), max(4, most // 16), max(2, most // 32)),
        (32, 64, 3, 3, 3),
    ]
    sections: dict[str, tuple[str, Callable[[], str]]] = {
        "cp": (
            "CP against TensorLy, 3x3 kernels of 64 to 256 channels",
            lambda: cp_section({n: k for n, k in kernels.items() if fits(k, least, min(256, most), 9)}, repeats),
        ),
        "tucker": (
            "Tucker-2 against TensorLy, 3x3 kernels from 64 channels on",
            lambda: tucker_section({n: k for n, k in kernels.items() if fits(k, least, most, 9)}, repeats),
        ),
        "tucker_rest": (
            "Tucker-2 against TensorLy, smaller kernels and other shapes",
            lambda: tucker_section(
                {n: k for n, k in kernels.items() if fits(k, least // 2, most) and not fits(k, least, most, 9)}, repeats
            ),
        ),
        "svd": ("SVD of every channel against its Gram matrices", lambda: svd_section(channels, repeats)),
        "growth": ("Growth with channels and rank", lambda: growth_section(shapes, repeats)),
        "large": ("A very large layer", lambda: large_section(most, repeats)),
    }
    parts = [
        "# Benchmarks",
        "Made by `python tests/benchmarks/decompositions.py KERNELS --write docs/benchmarks.md`, in one process on "
        f"{os.cpu_count()} cores, with numpy {np.__version__} and TensorLy {tensorly.__version__}, its numpy backend "
        "with as many BLAS threads as there are cores; ours use one. Medians of several runs. Relative errors.",
    ]
    parts += [f"## {sections[name][0]}\n\n{sections[name][1]()}" for name in chosen.only]
    page = "\n\n".join(parts) + "\n"
    if chosen.write:
        temporary = chosen.write.with_suffix(".part")
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(chosen.write)
    return page


if __name__ == "__main__":
    print(main())  # noqa: T201 - a program that prints its result
