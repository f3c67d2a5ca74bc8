"""Fit a factorized layer to its responses after the activation, for any method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorconv.activations import Activation
from tensorconv.arrays import Array
from tensorconv.factorizations import Factorization, refitted
from tensorconv.layers import ConvLayer
from tensorconv.linalg import as_generator
from tensorconv.moments import Moments, approximating_shrinkage
from tensorconv.patches import patches

SAMPLES = 20_000  # positions that are looked at
SCHEDULE = ((0.01, 4), (1.0, 4))  # weights of the linear response, and for how many rounds


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
    entry, then a fit to them that goes on from the factors before. The best factors seen are returned, those given
    among them.

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
        Positions to draw.
    shrinkage : float, optional
        As in :class:`tensorconv.PatchStatistics`.
    rng : int or numpy.random.Generator
        Seed of the draw.

    Returns
    -------
    Factorization
        Of the same method, options and rank.
    """
    samples = _Samples(found.layer, inputs, targets, n_samples, shrinkage, rng)
    wanted = activation(samples.targets)
    best, least = found, samples.distance(activation, wanted, found)
    for weight, count in schedule:
        for _ in range(count):
            samples.aims = activation.auxiliary(wanted, samples.response(found), weight)
            found = refitted(found, samples)
            lost = samples.distance(activation, wanted, found)
            if lost < least:
                best, least = found, lost
    return best


class _Samples:
    """Some positions of a layer's data: their patches (G, n, P), targets (G, O/G, P), and what to aim at for now."""

    def __init__(
        self, layer: ConvLayer, inputs: Any, targets: Any, n_samples: int, shrinkage: float | None, rng: Any
    ) -> None:
        generator = as_generator(rng)
        self.layer, n_groups = layer, layer.geometry.groups
        share = min(1.0, n_samples / sum(len(t) * t[0, 0].size for t in targets))
        seen, wanted = list[Array](), list[Array]()
        for x, target in zip(inputs, targets, strict=True):
            rows = np.moveaxis(target, 1, 0).reshape(n_groups, -1, len(target) * target[0, 0].size)
            drawn = np.flatnonzero(generator.random(rows.shape[2]) < share)
            seen.append(patches(x, layer)[:, :, drawn])
            wanted.append(rows[:, :, drawn].astype(np.float64))
        self.patches, self.targets = np.concatenate(seen, axis=2), np.concatenate(wanted, axis=2)
        self.aims, n = self.targets, self.patches.shape[2]
        self.mean = self.patches.mean(axis=2)
        self.basis, self.root = np.linalg.qr(np.swapaxes(self.patches - self.mean[:, :, None], 1, 2) / np.sqrt(n))
        self.shrinkage = shrinkage
        if shrinkage is None:
            self.shrinkage = approximating_shrinkage(self.root, n / layer.kernel[0, 0].size)

    def moments(self, layer: ConvLayer) -> Moments:
        """What a fit to the aims goes by."""
        n = self.patches.shape[2]
        level = self.aims.mean(axis=2)
        centred = np.swapaxes(self.aims - level[:, :, None], 1, 2) / np.sqrt(n)
        seen = np.swapaxes(self.basis, 1, 2) @ centred
        missed = np.maximum(np.sum(centred**2, axis=(1, 2)) - np.sum(seen**2, axis=(1, 2)), 0)
        kernel = layer.kernel.astype(np.float64).reshape(len(level), level.shape[1], -1)
        return Moments(n, self.mean, self.root, level, seen, missed, kernel, float(self.shrinkage or 0.0))

    def response(self, found: Factorization) -> Array:
        """Responses of a factorization, with its bias."""
        kernel = found.kernel.astype(np.float64).reshape(len(self.patches), -1, self.patches.shape[1])
        response: Array = kernel @ self.patches
        if found.bias is not None:
            response += found.bias.astype(np.float64).reshape(len(kernel), -1, 1)
        return response

    def distance(self, activation: Activation, wanted: Array, found: Factorization) -> float:
        """Squared distance after the activation."""
        return float(np.sum((wanted - activation(self.response(found))) ** 2))
