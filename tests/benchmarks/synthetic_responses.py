"""Depth-wise against channel decomposition at equal MACs, on synthesized data: responses of a random layer.

Run ``python tests/benchmarks/synthetic_responses.py [--write docs/synthetic_responses.md]``.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
from common import TorchChain, plot, table, write

import tensorconv as tc

SIZE = 16  # side of an image
SPREAD = 0.9  # correlation of neighbours, in images and in kernels that have one
HEAD = ["width", "R", "rank", "MACs", "depth-wise", "channel, floor", "channel, ceil", "less on held-out data"]
HEAD += ["depth-wise, weights only", "channel, weights only", "less, weights only"]
logger = logging.getLogger(__name__)
Draw = Callable[[int, int, np.random.Generator], Any]
TEXT = """# Depth-wise and channel decomposition on random data

Made by `python tests/benchmarks/synthetic_responses.py --write docs/synthetic_responses.md`. A layer of n -> n
channels, 3 x 3, is replaced by R depth-wise separable terms (`tc.depthwise_separable`), which cost R n (9 + n) MACs a
position, or by channel decomposition (`tc.svd`, split "out"), 10 n for each of its ranks: R (9 + n) / 10 of them cost
as much. Where that is no integer, both neighbours are given: the floor is cheaper than the depth-wise terms, the
ceiling dearer. "White" inputs are independent Gaussian numbers; "correlated" ones are {spread} correlated between
neighbouring pixels along both axes, mixed over the channels, then rectified. "i.i.d." kernels are Gaussian, the taps of
"correlated" ones are {spread} correlated between neighbours.

Numbers are relative errors of the responses, around their mean: first those on the {n} images of {size} x {size} that
the fits have seen, then those on as many that they have not. The columns of weights only are on the latter; there the
bias stays as it was, and where means are off too an error can exceed 1. Who has less error is told from channel
decomposition's errors interpolated between both neighbours. A star marks that rounding decides: at one of the
neighbours it is the other method.
"""


@dataclass(frozen=True)
class Outcome:
    """One comparison: errors on seen and on unseen data, fitted to responses, then on unseen data by weights only."""

    width: int
    terms: int
    rank: Fraction
    share: float
    fitted: dict[str, tuple[float, float]]
    plain: dict[str, float]

    def winner(self, *, weights_only: bool = False) -> str:
        """Return who has less error on unseen data, with a star where one of both neighbours says otherwise."""
        found = self.plain if weights_only else {name: unseen for name, (_, unseen) in self.fitted.items()}
        part = float(self.rank - floor(self.rank))
        between = (1 - part) * found["floor"] + part * found["ceil"]
        wins = found["depthwise"] < between
        star = "*" * (found["ceil"] <= found["depthwise"] <= found["floor"] and found["floor"] > found["ceil"])
        return ("depth-wise" if wins else "channel") + star

    def points(self) -> dict[str, list[tuple[float, float]]]:
        """Return share of the MACs and error on unseen data, by method."""
        shares = {name: 10 * whole(self.rank) / (9 * self.width) for name, whole in (("floor", floor), ("ceil", ceil))}
        channel = [(share, self.fitted[name][1]) for name, share in shares.items()]
        return {"depth-wise": [(self.share, self.fitted["depthwise"][1])], "channel": channel}

    def row(self) -> list[str]:
        """Return the cells of the table."""
        cells = [str(self.width), str(self.terms), f"{float(self.rank):.1f}", f"{self.share:.1%}"]
        cells += [f"{seen:.3f} / {unseen:.3f}" for seen, unseen in self.fitted.values()]
        cells += [self.winner(), f"{self.plain['depthwise']:.3f}"]
        return [*cells, f"{self.plain['floor']:.3f} to {self.plain['ceil']:.3f}", self.winner(weights_only=True)]


def neighbours(n: int) -> Any:
    """Return a root of the covariance of n numbers in a row."""
    steps = np.arange(n)
    return np.linalg.cholesky(SPREAD ** np.abs(steps[:, None] - steps))


def white(n: int, width: int, rng: np.random.Generator) -> Any:
    """Return images of independent Gaussian numbers."""
    return rng.standard_normal((n, width, SIZE, SIZE), dtype=np.float32)


def correlated(n: int, width: int, rng: np.random.Generator) -> Any:
    """Return rectified images that are smooth and whose channels are mixed, always in the same way."""
    mixing = np.random.default_rng(width).standard_normal((width, width)) / (1 + np.arange(width)) ** 0.5
    root = neighbours(SIZE).astype(np.float32)
    smooth = root @ white(n, width, rng) @ root.T
    mixed = np.tensordot(mixing.astype(np.float32), smooth, axes=(1, 1)).swapaxes(0, 1)
    return np.maximum(mixed, 0)


def independent_kernel(width: int, rng: np.random.Generator) -> Any:
    """Return a Gaussian kernel."""
    return rng.standard_normal((width, width, 3, 3), dtype=np.float32)


def correlated_kernel(width: int, rng: np.random.Generator) -> Any:
    """Return a Gaussian kernel that is smooth over its taps."""
    root = neighbours(3).astype(np.float32)
    return root @ independent_kernel(width, rng) @ root.T


def error(layer: Any, found: Any, x: Any) -> float:
    """Return the relative error of the responses around their mean."""
    wanted = TorchChain([layer])(x)
    around = wanted - wanted.mean(axis=(0, 2, 3), keepdims=True)
    return float(np.linalg.norm(TorchChain([found])(x) - wanted) / np.linalg.norm(around))


def compared(layer: Any, terms: int, seen: Any, unseen: Any, statistics: Any) -> Outcome:
    """Fit both methods at equal MACs, to the responses and to the weights."""
    width = layer.out_channels
    rank = Fraction(terms * (9 + width), 10)
    requests = {
        "depthwise": (tc.depthwise_separable, terms),
        "floor": (tc.svd, floor(rank)),
        "ceil": (tc.svd, ceil(rank)),
    }
    fitted, plain = {}, {}
    for name, (method, r) in requests.items():
        found = method(layer, r, statistics=statistics)
        fitted[name] = (error(layer, found, seen), error(layer, found, unseen))
        plain[name] = error(layer, method(layer, r), unseen)
    return Outcome(width, terms, rank, terms * (9 + width) / (9 * width), fitted, plain)


def verdict(outcomes: Sequence[Outcome], *, weights_only: bool) -> str:
    """Say in words who wins at which width, and whether that changes."""
    sentences = []
    for terms in sorted({outcome.terms for outcome in outcomes}):
        won: dict[str, list[str]] = {}
        for outcome in outcomes:
            if outcome.terms == terms:
                name = outcome.winner(weights_only=weights_only)
                won.setdefault(name.rstrip("*"), []).append(f"{outcome.width}{'*' * name.endswith('*')}")
        words = [f"{name} at {', '.join(widths)}" for name, widths in won.items()]
        change = "the winner changes with the width" if len(won) > 1 else "the same at every width"
        sentences.append(f"R = {terms}: {', '.join(words)}; {change}.")
    start = "By weights only" if weights_only else "Fitted to responses"
    return f"{start}, less error on held-out data, by width: " + " ".join(sentences)


def main(arguments: Sequence[str] | None = None) -> str:
    """Compare both methods in every case and return the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--terms", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--plot", type=Path)
    chosen = parser.parse_args(arguments)
    inputs: dict[str, Draw] = {"White": white, "Correlated": correlated}
    kernels = {"i.i.d.": independent_kernel, "correlated": correlated_kernel}
    found: dict[str, list[Outcome]] = {
        f"{first} inputs, {second} kernels": [] for first in inputs for second in kernels
    }
    for width in chosen.widths:
        for data_name, draw in inputs.items():
            seen, unseen = (draw(chosen.images, width, np.random.default_rng(seed)) for seed in (1, 2))
            for kernel_name, kernel_of in kernels.items():
                layer = tc.ConvLayer.of(kernel_of(width, np.random.default_rng(0)), padding=1)
                statistics = tc.PatchStatistics(layer)
                statistics.update(seen)
                title = f"{data_name} inputs, {kernel_name} kernels"
                for terms in chosen.terms:
                    found[title].append(compared(layer, terms, seen, unseen, statistics))
                    logger.info("%s: %s", title, found[title][-1].row())
    parts = [TEXT.format(spread=SPREAD, n=chosen.images, size=SIZE)]
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for title, outcomes in found.items():
        verdicts = "\n\n".join(verdict(outcomes, weights_only=plain) for plain in (False, True))
        parts.append(f"## {title}\n\n{table(HEAD, [outcome.row() for outcome in outcomes])}\n\n{verdicts}\n")
        panels[title] = {}
        for outcome in outcomes:
            for name, points in outcome.points().items():
                panels[title].setdefault(f"{name}, {outcome.width}", []).extend(points)
    page = "\n".join(parts)
    if chosen.plot:
        plot(chosen.plot, "share of the MACs", "relative error on held-out data", panels)
    if chosen.write:
        write(chosen.write, page)
    return page


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(main())  # noqa: T201 - a program that prints its result
