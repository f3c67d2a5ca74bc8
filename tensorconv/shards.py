"""Statistics of sharded activations: each shard by itself, anywhere, then merged in an order that never changes."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tensorconv.errors import FormatError, KernelError
from tensorconv.layers import ConvLayer, as_layer
from tensorconv.parallel import in_parallel
from tensorconv.statistics import PatchStatistics


def statistics_of_shards(
    layer: Any,
    shards: Iterable[Any],
    *,
    square_root: bool = False,
    shrinkage: float | None = None,
    jobs: int | None = None,
) -> PatchStatistics:
    """Return the statistics of activations that lie in shards, as a map and a reduction.

    Each shard is one task. What the tasks give is merged pairwise, neighbours first, as it arrives in order, so that
    about log2 of the number of shards are held. The result depends on the shards and their order alone: it is bitwise
    the same for any number of processes, on a cluster too, whichever worker takes which shard or is lost.

    Parameters
    ----------
    layer : ConvLayer or array_like
        The layer whose inputs are seen, as for :class:`PatchStatistics`.
    shards : iterable of path, array_like, or (array_like, array_like)
        An .npy file of inputs (B, C, L1..LN), an .npz file of such an array "x" and maybe of targets "target"; or the
        arrays themselves, with or without targets. Files are read where the task runs. An .npy is mapped, not loaded.
    square_root : bool
        Keep a triangular root, as for :class:`PatchStatistics`.
    shrinkage : float, optional
        As for :class:`PatchStatistics`.
    jobs : int, optional
        Number of processes; without it what ``joblib.parallel_config`` says, and one where it says nothing.

    Returns
    -------
    PatchStatistics
        Of all shards together.

    Raises
    ------
    KernelError
        If there are no shards, or one does not fit the layer.
    KernelTypeError
        If the values are not floating-point numbers.
    FormatError
        If a file is no such file.
    FileNotFoundError
        If there is none.

    Examples
    --------
    >>> import tensorconv as tc
    >>> layer = tc.ConvLayer.of(np.ones((8, 3, 3, 3), "float32"), padding=1)
    >>> activations = np.random.default_rng(0).standard_normal((6, 2, 3, 16, 16), dtype="float32")
    >>> tc.statistics_of_shards(layer, activations)  # six shards of two images; jobs=2 gives the same bits
    <PatchStatistics of 3 -> 8, kernel 3x3, stride 1, padding 1: 3072 positions>
    """
    one = as_layer(layer)
    tasks = ((one, shard, square_root, shrinkage) for shard in shards)
    waiting: list[tuple[int, PatchStatistics]] = []  # (shards, their statistics), each of more shards than the next
    for found in in_parallel(_of_shard, tasks, jobs):
        count, merged = 1, found
        while waiting and waiting[-1][0] == count:
            merged, count = waiting.pop()[1] + merged, 2 * count
        waiting.append((count, merged))
    if not waiting:
        raise KernelError("shards must hold at least one shard, got none")
    _, whole = waiting.pop()
    while waiting:
        whole = waiting.pop()[1] + whole
    return whole


def _of_shard(layer: ConvLayer, shard: Any, square_root: bool, shrinkage: float | None) -> PatchStatistics:
    """Return the statistics of one shard."""
    statistics = PatchStatistics(layer, square_root=square_root, shrinkage=shrinkage)
    x, target = shard if isinstance(shard, tuple) and len(shard) == 2 else (shard, None)
    if isinstance(shard, (str, os.PathLike)):
        x, target = _read(Path(shard))
    statistics.update(x, target)
    return statistics


def _read(path: Path) -> tuple[Any, Any]:
    """Return inputs and targets of a file."""
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz"):
        raise FormatError(f"a shard must be an .npy or .npz file, or an array, got {str(path)!r}")
    try:
        if suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False), None
        with np.load(path, allow_pickle=False) as content:
            return content["x"], content.get("target")
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(f"shard {path} cannot be read, it must hold an array, in .npz named x: {error}") from error
