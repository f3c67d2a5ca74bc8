"""Drift and score: how far the outputs of a changed network are from those of the original, and how good they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import ModelError

Run = Callable[[Mapping[str, Any]], Mapping[str, Array]]
Evaluate = Callable[[Run], float]


def drift_by_output(before: Run, after: Run, batches: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the relative error of every output, over all batches together.

    Parameters
    ----------
    before, after : callable
        Each takes a batch and returns the outputs by name.
    batches : iterable of mapping of str to ndarray
        The inputs.

    Returns
    -------
    dict of str to float
        ``||y' - y|| / ||y||`` in Frobenius norms: 0.0 where both are the same, inf where only y is zero, or where
        shapes differ. Of text, the root of the share that differs.

    Raises
    ------
    ModelError
        If the outputs have other names.
    """
    sums: dict[str, tuple[float, float]] = {}
    for batch in batches:
        expected, got = before(batch), after(batch)
        if set(expected) != set(got):
            raise ModelError(
                f"after must have the outputs of before, {sorted(expected)}, got {sorted(got)}; compare two versions "
                "of one network"
            )
        for name, array in expected.items():
            change, whole = _squares(np.asarray(array), np.asarray(got[name]))
            changed, wholes = sums.get(name, (0.0, 0.0))
            sums[name] = changed + change, wholes + whole
    return {name: _root_of_share(change, whole) for name, (change, whole) in sums.items()}


def scored(evaluate: Evaluate, run: Run) -> float:
    """Return the score of a network.

    Parameters
    ----------
    evaluate : callable
        Returns a number, larger is better, given a function from a batch to outputs by name.
    run : callable
        That function.

    Returns
    -------
    float
        The score.

    Raises
    ------
    ModelError
        If it is no number.
    """
    score = evaluate(run)
    try:
        number = float(score)
    except (TypeError, ValueError) as error:
        raise ModelError(f"evaluate must return a number, larger is better, got {score!r}") from error
    if math.isnan(number):
        raise ModelError("evaluate must return a number, larger is better, got nan")
    return number


def _squares(expected: Array, got: Array) -> tuple[float, float]:
    """Return the sums of squares of the change and of what was there; equal entries, also infinite ones, are none."""
    if expected.shape != got.shape:
        return math.inf, 1.0
    if expected.dtype.kind not in "biuf" and expected.dtype.name != "bfloat16":  # text
        return float(np.sum(expected != got)), float(expected.size)
    expected, got = expected.astype(np.float64), got.astype(np.float64)
    same = (expected == got) | (np.isnan(expected) & np.isnan(got))
    change = float(np.sum(np.square(expected[~same] - got[~same])))
    return math.inf if math.isnan(change) else change, float(np.sum(np.square(expected[np.isfinite(expected)])))


def _root_of_share(change: float, whole: float) -> float:
    if change == 0:
        return 0.0
    return math.inf if whole == 0 else math.sqrt(change / whole)
