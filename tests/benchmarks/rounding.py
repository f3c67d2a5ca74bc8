"""What casting factors to float16 and int8 costs: balanced factors, and those with the whole norm on one side.

Run ``python tests/benchmarks/rounding.py KERNEL [KERNEL ...] [--share 2] [--write docs/rounding.md]``, each a .npz file
with an array "weight" (O, I, K1, K2).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tensorconv as tc

# Pairs of factors that share components, with the axes (groups first) that count them: from, its axes, to, its axes.
SHARED: dict[str, list[tuple[str, tuple[int, ...], str, tuple[int, ...]]]] = {
    "svd": [("first", (0, 1), "second", (0, 2))],
    "depthwise_separable": [("depthwise", (0, 1, 2), "pointwise", (0, 2, 3))],
    "tucker": [("in", (0, 1), "core", (0, 2)), ("out", (0, 2), "core", (0, 1))],
    "cp": [("in", (0, 1), "out", (0, 2)), ("axis0", (0, 1), "out", (0, 2)), ("axis1", (0, 1), "out", (0, 2))],
}
UNIT = 1e-6
TEXT = """# What rounding factors costs

Relative errors of trained kernels whose factors were cast, made by `python tests/benchmarks/rounding.py KERNEL ..
--write docs/rounding.md`. Balanced factors have the same norm per component, as tensorconv stores them; one-sided ones
are the same components with all of the norm in one factor. int8 has one scale per factor, as large as its largest entry
needs; float16 is tried on the kernel in small units, times 1e-6, where a one-sided factor falls among the subnormal
numbers. Ranks are half of the channels, or of the largest rank. "Corrected" is `correction=0.001`.
"""


def one_sided(f: Any) -> dict[str, Any]:
    """Return the same factors with unit components, all norms moved to one of them."""
    factors = {name: np.asarray(factor, np.float64) for name, factor in f.factors.items()}
    for source, axes, target, places in SHARED[f.method]:
        others = tuple(axis for axis in range(factors[source].ndim) if axis not in axes)
        norms = np.sqrt(np.sum(factors[source] ** 2, axis=others, keepdims=True))
        factors[source] = factors[source] / norms
        shape = [1] * factors[target].ndim
        for axis, place in zip(axes, places, strict=True):
            shape[place] = norms.shape[axis]
        factors[target] = factors[target] * norms.reshape(shape)
    return factors


def half(factor: Any) -> Any:
    """Round to float16."""
    return factor.astype(np.float16).astype(np.float64)


def eight_bits(factor: Any) -> Any:
    """Round to 255 steps."""
    step = np.abs(factor).max() / 127
    return np.round(factor / step) * step


def error(f: Any, factors: dict[str, Any], cast: Callable[[Any], Any]) -> float:
    """Return the relative error with cast factors."""
    found = f.scheme.reconstruct({name: cast(factor) for name, factor in factors.items()}, slice(None))
    exact = f.layer.kernel.astype(np.float64).reshape(found.shape)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def main(arguments: Sequence[str] | None = None) -> str:
    """Return the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kernels", type=Path, nargs="+")
    parser.add_argument("--share", type=int, default=2, help="channels over ranks")
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args(arguments)
    head = ["kernel", "method", "error", "float16, balanced", "float16, one-sided", "int8, balanced", "int8, one-sided"]
    lines = [head, ["---"] * len(head)]
    for path in chosen.kernels:
        with np.load(path) as arrays:
            kernel = arrays["weight"].astype(np.float32)
        rank = max(1, min(kernel.shape[:2]) // chosen.share)
        requests: list[tuple[str, dict[str, Any]]] = [
            ("svd", {"rank": rank}),
            ("depthwise_separable", {"rank": max(1, min(kernel.shape[0], kernel[0, 0].size) // 2)}),
            ("tucker", {"rank": rank}),
            ("cp", {"rank": rank}),
            ("cp", {"rank": rank, "correction": 1e-3}),
        ]
        for method, options in requests:
            f = tc.methods()[method](kernel, **options)
            tiny = tc.methods()[method](kernel * np.float32(UNIT), **options)
            cells = [path.stem, method + ", corrected" * ("correction" in options), f"{f.relative_error:.4f}"]
            cells += [f"{error(tiny, dict(tiny.factors), half):.4f}", f"{error(tiny, one_sided(tiny), half):.4f}"]
            cells += [f"{error(f, dict(f.factors), eight_bits):.4f}", f"{error(f, one_sided(f), eight_bits):.4f}"]
            lines.append(cells)
    page = TEXT + "\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
    if chosen.write:
        temporary = chosen.write.with_suffix(".part")
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(chosen.write)
    return page


if __name__ == "__main__":
    print(main())  # noqa: T201 - a program that prints its result
