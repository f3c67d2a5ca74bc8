"""PermuteLayer: an order of the channels, a step of a sequence that computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import KernelError
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import integers, is_integer
from tensorconv.layers.layer import ConvLayer


@dataclass(frozen=True)
class PermuteLayer:
    """Another order of the channels: ``y[:, c] = x[:, order[c]]``.

    Parameters
    ----------
    order : tuple of int
        Which channel of the input comes next, each once.
    name : str
        A label that exporters and reports keep.

    Raises
    ------
    KernelError
        If an entry is missing or stands twice.

    Examples
    --------
    >>> PermuteLayer.shuffle(6, 2).order
    (0, 3, 1, 4, 2, 5)
    """

    order: tuple[int, ...]
    name: str = ""

    def __post_init__(self) -> None:
        order = integers("order", self.order, at_least=0)
        if not order or sorted(order) != list(range(len(order))):
            raise KernelError(f"order must hold every channel from 0 to {len(order) - 1} once, got {_short(order)}")
        object.__setattr__(self, "order", order)
        object.__setattr__(self, "name", "" if self.name is None else str(self.name))

    @classmethod
    def shuffle(cls, channels: int, groups: int, name: str = "") -> PermuteLayer:
        """Make the channel shuffle of ShuffleNet, which deals the channels of every group out in turn.

        The channels, as a matrix of one row per group, are read by columns (Zhang, Zhou, Lin and Sun, "ShuffleNet",
        2018, section 3.1).

        Parameters
        ----------
        channels : int
            Number of channels.
        groups : int
            Number of groups, which divides it.
        name : str
            A label.

        Returns
        -------
        PermuteLayer
            The step.

        Raises
        ------
        KernelError
            If the groups do not divide the channels.
        """
        if not is_integer(channels) or not is_integer(groups) or channels < 1 or groups < 1 or channels % groups:
            raise KernelError(f"groups must divide the channels, got {groups!r} groups of {channels!r} channels")
        return cls(tuple(np.arange(channels).reshape(groups, -1).T.ravel().tolist()), name)

    @property
    def shuffle_groups(self) -> int | None:
        """The groups of the shuffle that this is, 1 for the order as it was; None for any other order."""
        n = len(self.order)
        for groups in (1, n // (self.order[1] or n)) if n > 1 else (1,):
            if n % groups == 0 and PermuteLayer.shuffle(n, groups).order == self.order:
                return groups
        return None

    @property
    def inverse(self) -> PermuteLayer:
        """The order that undoes this one."""
        return PermuteLayer(tuple(np.argsort(self.order).tolist()), self.name)

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return len(self.order)

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return len(self.order)

    def output_size(self, input_size: int | Sequence[int]) -> tuple[int, ...]:
        """Return the spatial size of the output, that of the input.

        Parameters
        ----------
        input_size : int or sequence of int
            Spatial size of the input.

        Returns
        -------
        tuple of int
            The same.
        """
        return integers("input_size", (input_size,) if is_integer(input_size) else input_size, at_least=1)

    def convolution(self, ndim: int, dtype: np.dtype[Any]) -> ConvLayer:
        """Return the pointwise convolution of zeros and ones that this is.

        Parameters
        ----------
        ndim : int
            Number of spatial axes.
        dtype : dtype
            Data type of the kernel.

        Returns
        -------
        ConvLayer
            The convolution.
        """
        kernel: Array = np.eye(len(self.order), dtype=dtype)[list(self.order)]
        geometry = ConvGeometry.of(ndim)
        return ConvLayer(kernel.reshape(*kernel.shape, *(1,) * ndim), geometry, name=self.name, entries="fixed")

    def __str__(self) -> str:
        groups = self.shuffle_groups
        return f"shuffle of {groups} groups" if groups and groups > 1 else f"order {_short(self.order)}"


def _short(order: Sequence[int]) -> str:
    shown = ", ".join(map(str, order[:6]))
    return f"({shown}, ...)" if len(order) > 6 else f"({shown})"
