"""Statistics of shards: the same bits wherever shards are taken, and those of one stream to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.errors import FormatError, KernelError

LAYER = tc.ConvLayer.of(np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype("float32"), padding=1)
SHARDS = [np.random.default_rng(i).standard_normal((2, 3, 6, 7), np.float32) + 3 for i in range(7)]
TARGETS = [np.random.default_rng(9 + i).standard_normal((2, 4, 6, 7), np.float32) for i in range(7)]


def bits(statistics: tc.PatchStatistics, folder: Path) -> bytes:
    statistics.save(folder / "statistics.npz")
    return (folder / "statistics.npz").read_bytes()


def files(folder: Path) -> list[Path]:
    for i, x in enumerate(SHARDS):
        np.save(folder / f"{i}.npy", x)
    return [folder / f"{i}.npy" for i in range(len(SHARDS))]


@pytest.mark.parametrize("square_root", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_processes_files_and_arrays_give_the_same_bits(tmp_path: Path, n: int, square_root: bool) -> None:
    def of(shards: Any, jobs: int) -> bytes:
        found = tc.statistics_of_shards(LAYER, shards, square_root=square_root, shrinkage=0.25, jobs=jobs)
        return bits(found, tmp_path)

    alone = of(SHARDS[:n], 1)
    assert of(iter(SHARDS[:n]), 2) == alone
    assert of(files(tmp_path)[:n], 2) == alone


def test_neighbours_are_merged_first(tmp_path: Path) -> None:
    one = [tc.statistics_of_shards(LAYER, [x]) for x in SHARDS]
    wanted = ((one[0] + one[1]) + (one[2] + one[3])) + ((one[4] + one[5]) + one[6])
    assert bits(tc.statistics_of_shards(LAYER, SHARDS), tmp_path) == bits(wanted, tmp_path)


@pytest.mark.parametrize("with_targets", [False, True])
def test_shards_are_one_stream_to_rounding(tmp_path: Path, with_targets: bool) -> None:
    stream = tc.PatchStatistics(LAYER)
    for x, target in zip(SHARDS, TARGETS, strict=True):
        stream.update(x, target if with_targets else None)
    pairs = list(zip(SHARDS, TARGETS, strict=True))
    for i, (x, target) in enumerate(pairs):
        np.savez(tmp_path / f"{i}.npz", **{"x": x, **({"target": target} if with_targets else {})})
    for shards in ([tmp_path / f"{i}.npz" for i in range(7)], pairs if with_targets else SHARDS):
        found = tc.statistics_of_shards(LAYER, shards)
        assert found.n_samples == stream.n_samples == 7 * 2 * 42
        # sums of 588 squares of magnitude 10 in float64: far below this
        np.testing.assert_allclose(found.covariance, stream.covariance, rtol=1e-12, atol=1e-12)
        if with_targets:
            np.testing.assert_allclose(found.cross_moment, stream.cross_moment, rtol=1e-12, atol=1e-12)


def test_no_shards_are_refused() -> None:
    with pytest.raises(KernelError, match="shards must hold at least one shard, got none"):
        tc.statistics_of_shards(LAYER, [])


def test_a_shard_that_does_not_fit_is_refused() -> None:
    with pytest.raises(KernelError, match="x must"):
        tc.statistics_of_shards(LAYER, [SHARDS[0], SHARDS[0][:, :2]])


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "y.npz", "x.txt"])
def test_files_that_are_no_shards_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"not an array")
    if name == "y.npz":
        np.savez(path, y=SHARDS[0])
    with pytest.raises(FormatError, match=r"must be an \.npy or \.npz file|must hold an array"):
        tc.statistics_of_shards(LAYER, [path])


def test_a_lost_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.npy"):
        tc.statistics_of_shards(LAYER, [tmp_path / "gone.npy"])
