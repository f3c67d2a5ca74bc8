"""The pictures of the first page: what a trained kernel loses at what cost, and what that does to its network.

Run ``python tests/benchmarks/front_page.py [--plot docs/front_page.svg]``, which draws the kernel's curves there,
those of the network in ``front_page_network.svg``, and both for dark pages in files that end in ``_dark``. The network
and the images are those of the demo.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import common
import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

import tensorconv as tc
from tensorconv import demo
from tensorconv.errors import RankError
from tensorconv.factorizations import registered
from tensorconv.plots import labelled_curves

SHARES = (0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)
BUDGETS = (0.08, 0.12, 0.16, 0.25, 0.35, 0.5, 0.7)
METHODS = ("svd", "cp")  # those of the demo
Points = list[tuple[float, float]]
INK = {"": "#1a1a1a", "_dark": "#e8e8e8"}  # of the two themes


def kernel_errors(layer: tc.ConvLayer, shares: Sequence[float]) -> dict[str, Points]:
    """Return for every method but decoupled the error of its best variant at every share of the MACs it can meet."""
    curves: dict[str, Points] = {}
    for name, method in registered().items():
        for share in shares if name != "decoupled" else ():
            errors = []
            for options in method.variants(layer):
                try:
                    errors.append(method.function(layer, budget=share, **options).relative_error)
                except RankError:  # not even rank 1 is that cheap
                    continue
            if errors:
                curves.setdefault(name, []).append((share, min(errors)))
    return curves


def accuracies(budgets: Sequence[float], n_images: int, methods: Sequence[str]) -> tuple[dict[str, Points], float]:
    """Return the demo's accuracy at shares of its MACs, fitted to its responses and to its weights, and before."""
    curves: dict[str, Points] = {}
    before = math.nan
    for label, data in (("fitted to responses", demo.images("calibration")[:n_images]), ("fitted to weights", None)):
        for budget in budgets:
            done = tc.compress(
                demo.NETWORK, budget=budget, data=data, evaluate=demo.accuracy(), methods=methods, faster=False
            )
            before, after = done.comparison.score or (math.nan, math.nan)
            curves.setdefault(label, []).append((float(done.plan.share("macs")), after))
    return curves, before


def draw(path: Path, ink: str, title: str, curves: dict[str, Points], original: float | None) -> None:
    """Write one panel in one colour of ink on a transparent ground: errors, or accuracies beside the original's."""
    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "xtick.color", "ytick.color")
    fixed = {"svg.hashsalt": "front page", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11}
    with mpl.rc_context({**dict.fromkeys(names, ink), **fixed, "legend.facecolor": "none", "legend.edgecolor": "none"}):
        figure = Figure(figsize=(5.2, 3.9), layout="constrained")
        axes = labelled_curves(curves, ax=figure.subplots())
        axes.set(title=title, xlabel="multiply-accumulates, share of the original", xlim=(0, 1))
        if original is None:
            axes.set(ylabel="relative error", ylim=(0, None))
        else:
            axes.axhline(original, color=ink, linewidth=1, linestyle=":")
            axes.text(1, original, "original network", ha="right", va="bottom")
            axes.set(ylabel="accuracy, %", ylim=(0, 100))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, transparent=True, metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> str:
    """Measure, draw, and return the points as tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--budgets", type=float, nargs="+", default=BUDGETS)
    parser.add_argument("--layer", type=int, default=4, help="which convolution of the demo's network")
    parser.add_argument("--images", type=int, default=320, help="images to fit to")
    parser.add_argument("--methods", nargs="+", default=METHODS, help="methods for the network")
    parser.add_argument("--plot", type=Path)
    chosen = parser.parse_args(arguments)
    layer = tc.read_layers(demo.NETWORK)[chosen.layer].layer
    errors = kernel_errors(layer, chosen.shares)
    scores, original = accuracies(chosen.budgets, chosen.images, chosen.methods)
    for theme, ink in INK.items() if chosen.plot else ():
        for panel, title, curves, line in (
            ("", f"One trained kernel, {'x'.join(map(str, layer.kernel.shape))}", errors, None),
            ("_network", "Its network, nothing trained again", scores, original),
        ):
            draw(chosen.plot.with_stem(chosen.plot.stem + panel + theme), ink, title, curves, line)
    curves = {**errors, **scores}
    rows = [[label, ", ".join(f"{value:.3g} at {share:.0%}" for share, value in curves[label])] for label in curves]
    return common.table(["curve", "error of the kernel, or accuracy"], rows)


if __name__ == "__main__":
    print(main())  # noqa: T201 - a program that prints its result
