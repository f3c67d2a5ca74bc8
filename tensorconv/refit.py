"""Fit a factorized layer to its responses after the activation, for any method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tensorconv.activations import Activation
from tensorconv.arrays import Array, as_float_array
from tensorconv.factorizations import Factorization, refitted
from tensorconv.layers import ConvLayer
from tensorconv.linalg import as_generator
from tensorconv.moments import Moments, approximating_shrinkage
from tensorconv.patches import patches

SAMPLES = 25_000  # positions that are looked at
FOLDS = 5  # one part in so many judges, the others are fitted
SCHEDULE = (
    (0.01, 4),
    (1.0, 4),
)  # weights of the linear response, and for how many rounds


def refitted_after(
    activation: Activation,
    found: Factorization,
    inputs: Sequence[Array],
    targets: Sequence[Array],
    *,
    schedule: Sequence[tuple[float, int]] = SCHEDULE,
    n_samples: int = SAMPLES,
    shrinkage: float | None = None,
    rng: Any = 0,
) -> Factorization:
    """Return a factorization whose responses are close after the activation: least ``||r(T) - r(M x + b)||``.

    The alternation of Zhang, Zou, He, Sun (2015, section 2.2), for any method: the best auxiliary responses entry by
    entry, then a fit to them that goes on from the factors before. Positions are drawn from the data, and every fifth
    is not fitted but judges: the factors that are best there are returned, those given among them. So few samples do no
    harm, though a fit after an activation needs more of them than a linear one. The patches drawn are held in float64
    about three times.

    Parameters
    ----------
    activation : Activation
        What follows the layer.
    found : Factorization
        Where to start.
    inputs : sequence of ndarray
        Batches (B, C, L1..LN) of inputs.
    targets : sequence of ndarray
        Batches (B, O, P1..PN) of the responses wanted, before the activation.
    schedule : sequence of (float, int)
        Weights of the distance from the response, and for how many rounds.
    n_samples : int
        Positions to draw, if there are more.
    shrinkage : float, optional
        As in :class:`tensorconv.PatchStatistics`.
    rng : int or numpy.random.Generator
        Seed of the draw.

    Returns
    -------
    Factorization
        Of the same method, options and rank; its response error is that at the drawn positions, before the activation.
    """
    drawn = _draw(found.layer, inputs, targets, n_samples, as_generator(rng))
    judging = np.arange(drawn.targets.shape[2]) % FOLDS == FOLDS - 1
    fitting, judge = drawn.part(~judging), drawn.part(judging)
    samples, wanted = _Samples(fitting, shrinkage), activation(fitting.targets)
    start, best, least = found, found, judge.distance(activation, found)
    for weight, count in schedule:
        for _ in range(count):
            samples.aims = activation.auxiliary(wanted, fitting.response(found), weight)
            found = refitted(found, samples)
            lost = judge.distance(activation, found)
            if lost < least:
                best, least = found, lost
    return start if best is start else replace(best, response_error=drawn.response_error(best))


@dataclass(frozen=True, eq=False)
class _Positions:
    """Some output positions of a layer: their patches (G, n, P) and the responses wanted there (G, O/G, P)."""

    patches: Array
    targets: Array

    def part(self, chosen: Array) -> _Positions:
        return _Positions(self.patches[:, :, chosen], self.targets[:, :, chosen])

    def response(self, found: Factorization) -> Array:
        """Responses of a factorization, with its bias."""
        kernel = found.kernel.astype(np.float64).reshape(len(self.patches), -1, self.patches.shape[1])
        response: Array = kernel @ self.patches
        if found.bias is not None:
            response += found.bias.astype(np.float64).reshape(len(kernel), -1, 1)
        return response

    def response_error(self, found: Factorization) -> float:
        """Relative error of the responses, before the activation."""
        lost, energy = np.sum((self.targets - self.response(found)) ** 2), np.sum(self.targets**2)
        return math.sqrt(lost / energy) if energy else (math.inf if lost else 0.0)

    def distance(self, activation: Activation, found: Factorization) -> float:
        """Squared distance after the activation."""
        return float(np.sum((activation(self.targets) - activation(self.response(found))) ** 2))


def _draw(
    layer: ConvLayer,
    inputs: Any,
    targets: Any,
    n_samples: int,
    rng: np.random.Generator,
) -> _Positions:
    """Draw positions from all batches, as if they were one."""
    sizes = [len(target) * target[0, 0].size for target in targets]
    drawn = np.sort(rng.choice(sum(sizes), min(n_samples, sum(sizes)), replace=False, shuffle=False))
    parts = np.split(drawn, np.searchsorted(drawn, np.cumsum(sizes)[:-1]))
    seen, wanted, first = list[Array](), list[Array](), 0
    for x, target, part, size in zip(inputs, targets, parts, sizes, strict=True):
        images, places = np.divmod(part - first, target[0, 0].size)
        seen.append(_patches_at(as_float_array("inputs", x), layer, images, places))
        rows = target.reshape(*target.shape[:2], -1)[images, :, places]
        wanted.append(rows.T.reshape(layer.geometry.groups, rows.shape[1] // layer.geometry.groups, len(part)))
        first += size
    return _Positions(*(np.concatenate(part, axis=2, dtype=np.float64) for part in (seen, wanted)))


def _patches_at(x: Array, layer: ConvLayer, images: Array, places: Array) -> Array:
    """Return the columns of ``patches(x, layer)`` for some output positions, without making the others."""
    size, kernel_size = x.shape[2:], layer.kernel_size
    one_channel = ConvLayer(np.ones((1, 1, *kernel_size)), replace(layer.geometry, groups=1))
    numbers = np.arange(1.0, 1 + math.prod(size)).reshape(1, 1, *size)
    entries = patches(numbers, one_channel)[0][:, places].astype(np.intp)  # (K, P); 0 where a tap reads nothing
    padded = np.pad(x.reshape(*x.shape[:2], -1), ((0, 0), (0, 0), (1, 0)))
    seen = padded[images[:, None], :, entries.T]  # (P, K, C)
    return seen.transpose(2, 1, 0).reshape(layer.geometry.groups, layer.kernel[0].size, len(places))


class _Samples:
    """What a factorization is fitted to: positions, and what to aim at there for now."""

    def __init__(self, positions: _Positions, shrinkage: float | None) -> None:
        self.aims, self.shrinkage = positions.targets, shrinkage
        self.mean = positions.patches.mean(axis=2)
        centred = np.swapaxes(positions.patches - self.mean[:, :, None], 1, 2)
        self.basis, root = np.linalg.qr(centred)
        self.root = root / math.sqrt(centred.shape[1])

    def moments(self, layer: ConvLayer) -> Moments:
        """What a fit to the aims goes by."""
        n = self.aims.shape[2]
        level = self.aims.mean(axis=2)
        centred = np.swapaxes(self.aims - level[:, :, None], 1, 2) / math.sqrt(n)
        seen = np.swapaxes(self.basis, 1, 2) @ centred
        missed = np.maximum(np.sum(centred**2, axis=(1, 2)) - np.sum(seen**2, axis=(1, 2)), 0)
        kernel = layer.kernel.astype(np.float64).reshape(*level.shape, -1)
        shrinkage = self.shrinkage
        if shrinkage is None:
            shrinkage = approximating_shrinkage(self.root, n / layer.kernel[0, 0].size)
        return Moments(n, self.mean, self.root, level, seen, missed, kernel, shrinkage)
