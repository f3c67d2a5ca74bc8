"""What the programs of this folder share: Markdown tables, files, plots, chains run by torch, a baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import tensorconv as tc


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(path: Path, page: str) -> None:
    """Write a page, whole or not at all."""
    temporary = path.with_suffix(".part")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)


def plot(path: Path, x: str, y: str, panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> None:
    """Draw the curves of every panel, given as points, over a common x axis."""
    figure = Figure(figsize=(4.5 * len(panels), 4), layout="constrained")
    for axes, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        tc.plots.labelled_curves(curves, ax=axes).set(title=title, xlabel=x, ylabel=y)
    figure.savefig(path)


class TorchChain:
    """A chain whose convolutions torch runs, for speed; other steps get arrays."""

    def __init__(self, steps: Iterable[Any]) -> None:
        layers = (tc.ConvLayer, tc.Factorization)
        self.steps = [tc.export.dump(step, "torch") if isinstance(step, layers) else step for step in steps]

    def __call__(self, x: Any) -> Any:
        with torch.inference_mode():
            for step in self.steps:
                x = step(torch.from_numpy(x)).numpy() if isinstance(step, torch.nn.Module) else step(x)
        return x


def macs(steps: Iterable[Any], sizes: Sequence[Sequence[int]]) -> int:
    """Return the MACs of a chain's layers, given the spatial size of the input of each."""
    layers = [step for step in steps if isinstance(step, (tc.ConvLayer, tc.Factorization))]
    whole = [layer.sequence if isinstance(layer, tc.Factorization) else layer for layer in layers]
    return sum(layer.macs(size) for layer, size in zip(whole, sizes, strict=True))


def weights_only(
    chain: Sequence[Any], sizes: Sequence[Sequence[int]], keep: Sequence[int], budget: float, method: str
) -> list[Any]:
    """Return a chain whose layers, but those kept, are factorized without data, all at one share of their cost."""
    at = [i for i, step in enumerate(chain) if isinstance(step, tc.ConvLayer)]
    costs = [chain[i].macs(size) for i, size in zip(at, sizes, strict=True)]
    kept = sum(costs[n] for n in keep)
    share = (budget * sum(costs) - kept) / (sum(costs) - kept)
    steps = list(chain)
    for n, i in enumerate(at):
        if n not in keep:
            steps[i] = tc.factorize(chain[i], method, budget=share, input_size=sizes[n])
    return steps
