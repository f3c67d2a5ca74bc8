"""Which method for which kernel: relative error against MACs for every method of the library, on trained kernels.

Run ``python tests/benchmarks/error_costs.py KERNELS [--write docs/error_costs.md] [--plot docs/error_costs.svg]``.
KERNELS is a folder of .npz files with an array ``weight`` each, and an ``index.json`` with their geometry.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import common
import numpy as np

import tensorconv as tc
from tensorconv.errors import TensorconvError
from tensorconv.factorizations import registered

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75)
TABLE = (0.1, 0.2, 0.5)
PRUNED = "pruned"  # not a method: one layer with the largest entries, to compare sparse ones with
BINARY = "decoupled binary"  # its additions count as multiply-accumulates here, else it would look nearly free
Errors = dict[str, dict[float, float]]

HEAD = """# Which method for which kernel

Relative Frobenius errors of trained kernels at a share of the dense layer's MACs, in the limit of large inputs, for
every method and the variants that `factorize` compares. Decoupled convolutions have a sparse aggregation, the positions
of whose entries are not counted, or a binary one, whose additions are counted as MACs here. "pruned" is no method but a
reference for them: the kernel's largest entries and zeros. No data, no fine-tuning: a smaller error of the kernel is a
good start, not a promise. Kernels of more than 700,000 entries are left out. `python tests/benchmarks/error_costs.py
KERNELS --write docs/error_costs.md --plot docs/error_costs.svg` makes the page.

![error against MACs](error_costs.svg)
"""
NOTES = """
Which method has the smallest error, over shares from 5 % to 75 % of the MACs, among those that any framework runs at
their count; and how often a decoupled convolution would be better, on hardware that skips zeros and adds for the price
of multiplying:

{lines}
"""


def layers(folder: Path, most: int) -> dict[str, tc.ConvLayer]:
    """Return the kernels of a folder that have at most so many entries, with their strides, groups and kinds."""
    index = folder / "index.json"
    entries = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else []
    known = {entry["file"]: entry for entry in entries}
    found = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            weight = arrays["weight"]
        entry = known.get(path.name, {})
        if weight.size > most or not np.any(weight):
            continue
        found[path.stem] = tc.ConvLayer.of(
            weight,
            stride=entry.get("stride", 1),
            dilation=entry.get("dilation", 1),
            groups=entry.get("groups", 1),
            transposed=entry.get("transposed", False),
            layout="IO*" if entry.get("transposed") else "OI*",
        )
    return found


def label(method: str, options: dict[str, Any]) -> str:
    """Return method and variant in words."""
    words = []
    for key, value in options.items():
        if value is True or isinstance(value, str):
            words.append(key if value is True else value)
        elif value is not False:
            words.append(f"{key} {value}")
    return f"{method} {', '.join(words)}".strip()


def errors(layer: tc.ConvLayer, shares: Sequence[float]) -> Errors:
    """Return the errors of every method and variant at every share that it can meet."""
    found: Errors = {PRUNED: {share: pruned(layer, share) for share in shares}}
    for name, method in registered().items():
        variants = method.variants(layer)
        if name == "decoupled":  # its dense form is svd "in"
            is_spatial = math.prod(layer.kernel_size) > 1
            variants = [{"configuration": "sparse"}] if is_spatial else []
            found |= {BINARY: binary(layer, shares)} if is_spatial else {}
        for options in variants:
            curve = {}
            for share in shares:
                try:
                    curve[share] = method.function(layer, budget=share, **options).relative_error
                except TensorconvError:  # not even rank 1 is that cheap
                    continue
            if curve:
                found[label(name, options)] = curve
    return found


def pruned(layer: tc.ConvLayer, share: float) -> float:
    """Return the error of a kernel of which only this share of the entries is kept, the largest."""
    energies = np.sort(layer.kernel.astype(np.float64).ravel() ** 2)
    lost = energies[: energies.size - int(share * energies.size)].sum()
    return float(np.sqrt(lost / energies.sum()))


def binary(layer: tc.ConvLayer, shares: Sequence[float]) -> dict[float, float]:
    """Return the errors of decoupled convolutions with a binary aggregation of a third of all entries."""
    geometry, (n_out, n_in, *_) = layer.geometry, layer.kernel.shape
    n_out //= geometry.groups
    n_taps = math.prod(layer.kernel_size)
    early = 1 if geometry.transposed else math.prod(geometry.stride)  # the pointwise layer runs before the stride
    curve = {}
    for share in shares:
        rank = int((share * n_out * n_in * n_taps - n_out) / (n_in * early + n_out * n_taps / 3))
        if 1 <= rank <= n_out * n_taps:
            curve[share] = tc.decoupled(layer, rank, configuration="binary").relative_error
    return curve


def family(name: str) -> str:
    """Return the method without its variant."""
    return name.partition(" ")[0]


def best(found: Errors, share: float, *, thinned: bool = True) -> tuple[str, float] | None:
    """Return the variant with the smallest error at a share, maybe without those that need zeros to be skipped."""
    apart = (PRUNED,) if thinned else (PRUNED, "decoupled")
    at = {name: curve[share] for name, curve in found.items() if share in curve and family(name) not in apart}
    return min(at.items(), key=lambda item: item[1]) if at else None


def kind(layer: tc.ConvLayer) -> str:
    """Return what sort of kernel this is."""
    if layer.geometry.groups == layer.in_channels > 1:
        return "depthwise"
    if layer.geometry.transposed:
        return "transposed"
    if math.prod(layer.kernel_size) == 1:
        return "pointwise"
    if layer.kernel.shape[1] <= 3:
        return "stems, of few in-channels"
    if layer.ndim != 2:
        return f"{layer.ndim}-D"
    return "2-D, large taps" if max(layer.kernel_size) > 5 else "2-D, small taps"


def main_table(results: dict[str, Errors], kernels: dict[str, tc.ConvLayer]) -> str:
    """Return a row per kernel: the best variant that runs dense at some shares, and a sparse one where it is better."""
    rows = []
    for name in sorted(results, key=lambda name: (kind(kernels[name]), name)):
        cells = []
        for share in TABLE:
            dense, top = best(results[name], share, thinned=False), best(results[name], share)
            words = [f"{dense[0]}: {dense[1]:.3f}"] if dense else []
            words += [f"{top[0].removeprefix('decoupled ')}: {top[1]:.3f}"] if top and top != dense else []
            cells.append("; ".join(words) or "-")
        rows.append([kind(kernels[name]), name, *cells])
    return common.table(["kind", "kernel", *(f"{share:.0%} of the MACs" for share in TABLE)], rows)


def ratio_table(results: dict[str, Errors]) -> str:
    """Return how far each method's best variant is from the best of all, and how often it is the best."""
    rows = []
    for one in sorted({family(name) for found in results.values() for name in found}):
        cells = []
        for share in TABLE:
            ratios, wins = [], 0
            for found in results.values():
                top = best(found, share)
                own = [curve[share] for name, curve in found.items() if family(name) == one and share in curve]
                if top and own and top[1] > 0:
                    ratios.append(max(min(own), 1e-16) / top[1])
                    wins += family(top[0]) == one
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.inf
            count = "reference" if one == PRUNED else f"{wins} of {len(ratios)}"
            cells.append(f"{mean:.2f}, {count}" if ratios else "-")
        rows.append([one, *cells])
    return common.table(["method", *(f"{share:.0%}: error over the best, times best" for share in TABLE)], rows)


def answers(results: dict[str, Errors], kernels: dict[str, tc.ConvLayer]) -> str:
    """Return a line per kind of kernel: how often each method was the best over all shares."""
    lines = []
    for one in sorted({kind(layer) for layer in kernels.values()}):
        wins: Counter[str] = Counter()
        thinned = 0
        for name, found in results.items():
            for share in SHARES if kind(kernels[name]) == one else ():
                top = best(found, share, thinned=False)
                wins.update([family(top[0])] if top else [])
                thinned += top is not None and best(found, share) != top
        total = sum(wins.values())
        if not total:
            lines.append(f"- **{one}**: nothing is cheaper than the kernel itself.")
            continue
        words = ", ".join(f"`{method}` in {count}" for method, count in wins.most_common(3))
        lines.append(f"- **{one}**, {total} cases: {words}; decoupled is better still in {thinned}.")
    return "\n".join(lines)


def panels(results: dict[str, Errors], names: Sequence[str]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return the curves of the methods' best variants for some kernels."""
    drawn: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name in names:
        curves: dict[str, dict[float, float]] = {}
        for variant, curve in results[name].items():
            own = curves.setdefault(family(variant), {})
            own |= {share: min(error, own.get(share, math.inf)) for share, error in curve.items()}
        drawn[name] = {one: sorted(curve.items()) for one, curve in curves.items()}
    return drawn


def main(arguments: Sequence[str] | None = None) -> str:
    """Fit every kernel and return the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kernels", type=Path)
    parser.add_argument("--entries", type=int, default=700_000, help="largest kernel to take")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--draw", nargs="*", default=[], help="kernels to draw, by default four of different kinds")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--plot", type=Path)
    chosen = parser.parse_args(arguments)
    kernels = layers(chosen.kernels, chosen.entries)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(chosen.jobs, context) if chosen.jobs > 1 else nullcontext() as pool:
        apply = map if pool is None else pool.map
        results = dict(zip(kernels, apply(errors, kernels.values(), [SHARES] * len(kernels)), strict=True))
    if chosen.plot:
        kinds = {kind(kernels[name]): name for name in results if len(results[name]) > 1}
        common.plot(
            chosen.plot, "share of the MACs", "relative error", panels(results, chosen.draw or [*kinds.values()][:4])
        )
    parts = [HEAD, main_table(results, kernels), NOTES.format(lines=answers(results, kernels)), ratio_table(results)]
    text = "\n".join(parts) + "\n"
    if chosen.write:
        common.write(chosen.write, text)
    return text


if __name__ == "__main__":
    print(main())  # noqa: T201 - a program that prints its result
