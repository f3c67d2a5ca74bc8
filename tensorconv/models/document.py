"""The document of a compression: what its report page shows of every layer, and of the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import tensorconv
from tensorconv.cost import IN_WORDS
from tensorconv.layers import ConvLayer
from tensorconv.models.candidates import Candidate
from tensorconv.models.compressed_layer import CompressedLayer
from tensorconv.models.headline import changes, figures, summary
from tensorconv.models.plan import Plan, method_in_words, rank_in_words
from tensorconv.models.spectrum import SIDES, channel_spectrum
from tensorconv.models.trade_off import counted, planned_error, trade_off
from tensorconv.report import Document, LayerEntry, Point, TradeOff

if TYPE_CHECKING:
    from tensorconv.models.compression import Compression

POINTS = 64  # of a spectrum
LARGEST = 2e10  # multiplications of a singular value decomposition: about ten seconds
_ERRORS = {
    "responses": "predicted relative error of the outputs",
    "score": "predicted loss of score",
    "kernel": "weighted error of the kernels",
}


def document(done: Compression, *, title: str, missed: Sequence[str] = ()) -> Document:
    """Return what a report page shows of a compression.

    Parameters
    ----------
    done : Compression
        The compressed network.
    title : str
        The page's headline.
    missed : sequence of str
        Limits that are not met.

    Returns
    -------
    Document
        Plain values.
    """
    return Document(
        title=title,
        summary=summary(done),
        figures=figures(done),
        missed=tuple(missed),
        changes=changes(done),
        layers=tuple(_entry(one) for one in done.layers),
        trade_off=_trade_off(done),
        skipped=tuple((one.name, one.reason) for one in done.plan.skipped),
        settings=tuple(_settings(done.plan)),
        version=tensorconv.__version__,
    )


def spectra(layer: ConvLayer) -> dict[str, tuple[tuple[int, float], ...]]:
    """Return the singular values of a kernel's channel unfoldings over the largest, some of them.

    Parameters
    ----------
    layer : ConvLayer
        The layer.

    Returns
    -------
    dict of str to tuple of (int, float)
        For every side with more than one channel, numbers from 1 and values, at most 64 of them; empty for zero
        kernels and those too large to decompose for a figure.
    """
    found = {}
    pointwise = layer.kernel[0, 0].size == 1  # both unfoldings are one matrix
    for side in SIDES[:1] if pointwise else SIDES:
        per_group = layer.out_channels // layer.geometry.groups if side == "out" else layer.kernel.shape[1]
        if per_group < 2 or per_group * layer.kernel.size > LARGEST:
            continue
        values = channel_spectrum(layer, side)
        if values[0] > 0:
            kept = np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(int))
            found["channels" if pointwise else f"{side}-channels"] = tuple(
                (int(i) + 1, float(values[i] / values[0])) for i in kept
            )
    return found


def _entry(one: CompressedLayer) -> LayerEntry:
    planned, choice = one.planned, one.planned.choice
    after = choice or planned.before
    error = one.relative_error if one.response_error is None else one.response_error
    return LayerEntry(
        name=one.name,
        layer=planned.layer,
        becomes="" if choice is None else method_in_words(choice),
        rank="" if choice is None else rank_in_words(choice),
        note=planned.note,
        error=None if choice is None else error,
        macs=(planned.before.macs, after.macs),
        n_parameters=(planned.before.n_parameters, after.n_parameters),
        time=None if choice is None else choice.ratio,
        facts=() if choice is None else tuple(_facts(one, choice)),
        points=tuple(_point(candidate, choice) for candidate in planned.candidates),
        spectra=spectra(one.layer),
        proof=() if one.report is None else one.report.rows,
        chain=() if one.sequence is None else tuple((str(i), *row[1:]) for i, row in enumerate(one.sequence.rows, 1)),
    )


def _facts(one: CompressedLayer, choice: Candidate) -> list[tuple[str, str]]:
    facts = [("error of the kernel", f"{one.relative_error:.3g}")]
    if one.response_error is not None:
        facts.insert(0, ("error of the responses", f"{one.response_error:.3g}"))
    facts.append(("error as planned", f"{choice.error:.3g}, by a quick fit"))
    if choice.ratio is not None:
        median, low, high = (f"{100 * value:.0f}" for value in choice.ratio)
        facts.append(("time", f"{median} % of the layer's, 95 % interval {low} to {high} %, run alone"))
    return facts


def _point(one: Candidate, choice: Candidate | None) -> Point:
    chosen = choice is not None and (one.method, one.options, one.rank) == (choice.method, choice.options, choice.rank)
    _, _, options = method_in_words(one).partition(" ")
    text = f"{options} rank {rank_in_words(one)}".strip()
    return Point(one.method, text, one.macs, one.error, None if one.ratio is None else one.ratio[0], chosen)


def _trade_off(done: Compression) -> TradeOff | None:
    asked, of = done.plan.settings, counted(done.plan)
    points, by = trade_off(done.plan), asked.by or "kernel"
    if len(points) < 2:
        return None

    def error(total: float) -> float:  # squares were added up, but for a score, whose loss goes with the square
        return total if by == "score" else math.sqrt(total)

    note = []
    if by == "responses" and done.comparison is not None:
        note.append(f"{done.comparison.largest_drift:.3g} was measured.")
    if asked.error is not None:
        note.append("Since every layer is to meet an error of its own, the plan may lie above the line.")
    elif asked.faster:
        note.append("Where the choice of least error saves too little time, the plan lies above the line.")
    drawn = tuple((share, error(total)) for share, total in points)
    chosen = done.plan.share(of), error(planned_error(done.plan))
    return TradeOff(IN_WORDS[of], _ERRORS[by], drawn, chosen, " ".join(note))


def _settings(plan: Plan) -> list[tuple[str, str]]:
    asked = plan.settings
    costs = {**IN_WORDS, "latency": "time"}
    weighed = {
        "responses": "by what their errors do to the outputs",
        "score": "by what their errors cost in score",
        "kernel": f"alike, but for the first and the last, whose errors count {asked.ends:g} times",
    }
    rows = [
        ("budget", f"at most {100 * asked.budget:g} % of the {costs[asked.of]} of all convolutions")
        if asked.budget is not None
        else ("error", f"at most {asked.error:g} in every layer, at the least {costs[asked.of]}"),
        ("methods", "all that apply" if asked.methods is None else ", ".join(asked.methods)),
        ("layers are weighed", weighed[asked.by] if asked.by else "not said in the plan"),
        ("slower layers", "left alone" if asked.faster else "replaced too"),
        ("channels between layers", f"multiples of {asked.multiple} where possible"),
        ("seed", str(asked.seed)),
    ]
    names: dict[str, Sequence[Any]] = {"looked at": asked.include, "excluded": asked.exclude}
    rows += [(name, ", ".join(map(str, given))) for name, given in names.items() if given and tuple(given) != ("*",)]
    return rows
