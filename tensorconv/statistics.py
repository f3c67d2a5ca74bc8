"""PatchStatistics: what a data-aware fit needs to know of a layer's inputs, streamed over any number of samples."""

from __future__ import annotations

import math
import os
from numbers import Real
from typing import Any

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import GeometryError, KernelError
from tensorconv.integers import flag
from tensorconv.layers import ConvLayer, as_layer
from tensorconv.moments import Moments, covariance_shrinkage
from tensorconv.patches import as_input, as_target, chunks
from tensorconv.scatter import Scatter
from tensorconv.statistics_file import Content, read, write

_LARGEST = 1e100  # magnitudes whose squares, and sums of them, stay far inside float64


class PatchStatistics:
    """Streaming means and covariances of the input patches of a layer, and of the responses that it should give.

    Patches are taken in chunks of at most 64 MB: memory depends neither on the number nor on the size of the samples.
    However data are split into updates, or into objects that are added up (``a + b``, of layers that have the kernel
    shape and the geometry in common), the result is the same to rounding.

    Parameters
    ----------
    layer : ConvLayer or array_like
        The layer whose inputs are seen; of an array (O, I, K1..KN), stride 1 without padding.
    square_root : bool
        Keep a triangular root of the sums, by a QR decomposition of every chunk: about three times the time, and
        directions count down to 1e-16 of the largest spread instead of 1e-8.
    shrinkage : float, optional
        Share of a multiple of the identity in the covariance that fits go by, from 0 to 1; by default what
        approximates the true covariance best for as many samples (Chen, Wiesel, Eldar, Hero, 2010).

    Raises
    ------
    KernelError
        If the shrinkage is not between 0 and 1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> stats = PatchStatistics(rng.standard_normal((8, 3, 3, 3)))
    >>> for batch in rng.standard_normal((2, 4, 3, 16, 16)):
    ...     stats.update(batch)
    >>> stats
    <PatchStatistics of 3 -> 8, kernel 3x3, stride 1, padding 0: 1568 positions>
    """

    def __init__(self, layer: Any, *, square_root: bool = False, shrinkage: float | None = None) -> None:
        self._layer = as_layer(layer)
        self._square_root = flag("square_root", square_root)
        self._shrinkage = _as_share(shrinkage)
        self._targets: bool | None = None
        self._scatter: Scatter | None = None  # replaced, never changed: objects may share it
        self._made: tuple[ConvLayer, Scatter, Moments] | None = None  # the last moments, and of what they are

    def update(self, x: Any, target: Any = None) -> None:
        """Take more samples; an update that fails leaves the statistics as they were.

        Parameters
        ----------
        x : array_like, shape (B, C, L1..LN)
            Inputs of the layer, of any floating-point type.
        target : array_like, shape (B, O, P1..PN), optional
            The responses wanted there, in every update or in none; else they are the layer's own.

        Raises
        ------
        KernelError
            If shapes do not fit the layer, values are not finite or above 1e100, or targets are given at times only.
        KernelTypeError
            If the values are not floating-point numbers.
        GeometryError
            If the output would be empty.
        """
        data, size = as_input(x, self._layer)
        wanted = None if target is None else as_target(target, (len(data), self._layer.out_channels, *size))
        for name, array in (("x", data), ("target", wanted)):
            if array is not None and array.dtype == np.float64 and max(array.max(), -array.min()) > _LARGEST:
                raise KernelError(f"{name} must stay below {_LARGEST} in magnitude, or squares overflow; scale it")
        if self._targets not in (None, target is not None):
            so_far = "every" if self._targets else "no"
            raise KernelError(f"target must be given in all updates or in none, and {so_far} update so far had one")
        scatter = None if self._scatter is None else self._scatter.copy()
        for groups, columns in chunks(data, wanted, self._layer):
            if scatter is None:
                n_groups, length = self._layer.geometry.groups, columns.shape[1]
                scatter = Scatter.zeros(n_groups, length, square_root=self._square_root)
            scatter.add(groups, columns)
        self._scatter, self._targets = scatter, target is not None

    @property
    def shrinkage(self) -> float | None:
        """The shrinkage as it was given, None for the automatic one."""
        return self._shrinkage

    @property
    def n_samples(self) -> int:
        """Number of output positions, over all images."""
        return 0 if self._scatter is None else int(self._scatter.counts[0])

    @property
    def mean(self) -> Array:
        """Mean patch, (G, n)."""
        return self._seen().mean[:, : self._n]

    @property
    def covariance(self) -> Array:
        """Covariance of the patches, (G, n, n)."""
        return self._seen().covariance()[:, : self._n, : self._n]

    @property
    def second_moment(self) -> Array:
        """Mean outer product of the patches with themselves, (G, n, n)."""
        return self._second_moment()[:, : self._n, : self._n]

    @property
    def target_mean(self) -> Array:
        """Mean target, (G, O / G)."""
        return self._seen(targets=True).mean[:, self._n :]

    @property
    def cross_moment(self) -> Array:
        """Mean outer product of the targets with the patches, (G, O / G, n)."""
        self._seen(targets=True)
        return self._second_moment()[:, self._n :, : self._n]

    def moments(self, layer: Any = None) -> Moments:
        """Return what fits go by.

        Parameters
        ----------
        layer : ConvLayer or array_like, optional
            A layer of the same kernel shape and geometry; its responses are the targets where none were given.
            By default the layer of these statistics.

        Returns
        -------
        Moments
            Means, covariances in square-root form, and the shrinkage as a number.

        Raises
        ------
        KernelError
            If fewer than 2 positions were seen, or the kernel has another shape.
        GeometryError
            If the layer has another geometry.
        """
        one = self._layer if layer is None else self._like_mine(as_layer(layer))
        scatter, n, n_groups = self._seen(), self._n, self._layer.geometry.groups
        if self._made is not None and self._made[0] is one and self._made[1] is scatter:
            return self._made[2]
        if self.n_samples < 2:
            raise KernelError("moments need at least 2 positions, got 1; call update with more samples")
        root, seen, missed = scatter.regression(n)
        mean, target_mean = np.split(scatter.mean, [n], axis=1)
        kernel = one.kernel.astype(np.float64).reshape(n_groups, -1, n)
        if not self._targets:
            seen = root @ np.swapaxes(kernel, 1, 2)
            target_mean = np.einsum("gon,gn->go", kernel, mean)
            if one.bias is not None:
                target_mean += one.bias.astype(np.float64).reshape(n_groups, -1)
        shrinkage = self._shrinkage
        if shrinkage is None:  # every entry of x stands in up to as many patches as there are taps
            shrinkage = covariance_shrinkage(self.covariance, self.n_samples / math.prod(one.kernel_size))
        self._made = one, scatter, Moments(self.n_samples, mean, root, target_mean, seen, missed, kernel, shrinkage)
        return self._made[2]

    def shrunk(self, shrinkage: float | None) -> PatchStatistics:
        """Return the same statistics with another shrinkage.

        Parameters
        ----------
        shrinkage : float or None
            From 0 to 1, or None for the automatic one.

        Returns
        -------
        PatchStatistics
            A new object.

        Raises
        ------
        KernelError
            If the shrinkage is not between 0 and 1.
        """
        return self._with(self._scatter, self._targets, _as_share(shrinkage))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save statistics and layer to an .npz file, whole or not at all.

        Parameters
        ----------
        path : str or path
            Where to.
        """
        write(path, Content(self._layer, self._square_root, self._shrinkage, self._targets, self._scatter))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PatchStatistics:
        """Load statistics from a file.

        Parameters
        ----------
        path : str or path
            A file that :meth:`save` wrote.

        Returns
        -------
        PatchStatistics
            Bitwise those that were saved, the layer too.

        Raises
        ------
        FormatError
            If the file is broken or of another kind.
        FileNotFoundError
            If there is no such file.
        """
        content = read(path)
        loaded = cls(content.layer, square_root=content.square_root, shrinkage=content.shrinkage)
        loaded._scatter, loaded._targets = content.scatter, content.targets
        return loaded

    def __add__(self, other: object) -> PatchStatistics:
        if not isinstance(other, PatchStatistics):
            return NotImplemented
        if other._layer.geometry != self._layer.geometry or other._layer.kernel.shape != self._layer.kernel.shape:
            raise KernelError(f"statistics that are added must be of like layers, got {self} and {other}")
        for name in ("square_root", "shrinkage"):
            mine, others = getattr(self, f"_{name}"), getattr(other, f"_{name}")
            if mine != others:
                raise KernelError(f"statistics that are added must have the same {name}, got {mine} and {others}")
        if self._scatter is None or other._scatter is None:
            some = other if self._scatter is None else self
            return self._with(some._scatter, some._targets, self._shrinkage)
        if self._targets != other._targets:
            raise KernelError("statistics that are added must both have targets, or both none")
        scatter = self._scatter.copy()
        scatter.merge(other._scatter)
        return self._with(scatter, self._targets, self._shrinkage)

    def __radd__(self, other: object) -> PatchStatistics:
        begins_sum = isinstance(other, int) and other == 0
        return self.shrunk(self._shrinkage) if begins_sum else NotImplemented

    def __repr__(self) -> str:
        words = [f"{self.n_samples} positions"] + ["with targets"] * bool(self._targets)
        words += ["square-root form"] * self._square_root
        return f"<PatchStatistics of {self._layer}: {', '.join(words)}>"

    @property
    def _n(self) -> int:
        return int(self._layer.kernel[0].size)

    def _seen(self, *, targets: bool = False) -> Scatter:
        if self._scatter is None:
            raise KernelError("the statistics have seen no data; call update(x) first")
        if targets and not self._targets:
            raise KernelError("the statistics hold no targets; give them to every update(x, target)")
        return self._scatter

    def _second_moment(self) -> Array:
        scatter = self._seen()
        squares: Array = scatter.mean[:, :, None] * scatter.mean[:, None, :]
        return scatter.covariance() + squares

    def _like_mine(self, layer: ConvLayer) -> ConvLayer:
        mine = self._layer
        if layer.geometry != mine.geometry:
            raise GeometryError(f"layer must be applied with {mine.geometry} as here, got {layer.geometry}")
        if layer.kernel.shape != mine.kernel.shape:
            raise KernelError(
                f"layer must have a kernel of shape {mine.kernel.shape} as here, got {layer.kernel.shape}"
            )
        return layer

    def _with(self, scatter: Scatter | None, targets: bool | None, shrinkage: float | None) -> PatchStatistics:
        other = PatchStatistics(self._layer, square_root=self._square_root, shrinkage=shrinkage)
        other._scatter, other._targets = scatter, targets
        return other


def _as_share(shrinkage: Any) -> float | None:
    """Return a checked shrinkage."""
    if shrinkage is None:
        return None
    if isinstance(shrinkage, bool) or not isinstance(shrinkage, Real) or not 0 <= float(shrinkage) <= 1:
        raise KernelError(f"shrinkage must be a number from 0 to 1, or None to choose it by data, got {shrinkage!r}")
    return float(shrinkage)
