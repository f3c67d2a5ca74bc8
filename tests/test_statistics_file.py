"""Tests of the file of patch statistics: everything comes back bitwise, and nothing broken or foreign is read."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.errors import FormatError
from tensorconv.export import npz


def data(layer: tc.ConvLayer) -> Array:
    return np.random.default_rng(0).standard_normal((3, layer.in_channels, *cases.input_size(layer)))


def example(
    case: str = "grouped 2d", dtype: str = "float32", *, with_targets: bool = True, **options: Any
) -> tc.PatchStatistics:
    layer = cases.layer(case, dtype)
    stats = tc.PatchStatistics(layer, **options)
    x = data(layer)
    stats.update(x, tc.convolve(x, layer) if with_targets else None)
    return stats


def assert_same(found: tc.PatchStatistics, expected: tc.PatchStatistics) -> None:
    a, b = found._layer, expected._layer
    assert (a.geometry, a.dtype, a.name, found._square_root) == (b.geometry, b.dtype, b.name, expected._square_root)
    assert (found.shrinkage, found._targets) == (expected.shrinkage, expected._targets)
    np.testing.assert_array_equal(a.kernel, b.kernel)
    np.testing.assert_array_equal(a.bias, b.bias)
    if expected._scatter is None:
        assert found._scatter is None
        return
    for name in ("counts", "origin", "offset", "matrix"):
        one, other = getattr(found._scatter, name), getattr(expected._scatter, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("square_root", [False, True])
@pytest.mark.parametrize("case", cases.FEW)
def test_statistics_come_back_bitwise(case: str, square_root: bool, with_targets: bool, tmp_path: Path) -> None:
    stats = example(case, with_targets=with_targets, square_root=square_root, shrinkage=1 / 3)
    stats.save(tmp_path / "any name")
    loaded = tc.PatchStatistics.load(str(tmp_path / "any name"))
    assert_same(loaded, stats)
    assert repr(loaded) == repr(stats)
    x = data(stats._layer)
    for one in (stats, loaded):
        one.update(x, tc.convolve(x, stats._layer) if with_targets else None)
    assert_same(loaded, stats)
    assert_same(loaded + stats, stats + loaded)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_layers_of_any_type_come_back(dtype: str, tmp_path: Path) -> None:
    stats = example("unequal 2d", dtype, with_targets=False)
    stats.save(tmp_path / "stats.npz")
    assert_same(tc.PatchStatistics.load(tmp_path / "stats.npz"), stats)


def test_statistics_without_data_come_back(tmp_path: Path) -> None:
    stats = tc.PatchStatistics(cases.layer("plain 1d"), square_root=True)
    stats.save(tmp_path / "stats.npz")
    assert_same(tc.PatchStatistics.load(tmp_path / "stats.npz"), stats)


def test_numpy_reads_the_arrays_without_pickle(tmp_path: Path) -> None:
    stats = example(square_root=True)
    stats.save(tmp_path / "stats.npz")
    with np.load(tmp_path / "stats.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["origin"] + arrays["offset"], stats._scatter.mean)  # type: ignore[union-attr]
        assert sorted(arrays) == ["layer.npz", "matrix", "offset", "origin", "statistics.json"]


def test_the_same_statistics_give_the_same_bytes_and_replace_the_file(tmp_path: Path) -> None:
    path = tmp_path / "stats.npz"
    path.write_bytes(b"old")
    example().save(path)
    first = path.read_bytes()
    example().save(path)
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tc.PatchStatistics.load(tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError):
        example().save(tmp_path / "no folder" / "stats.npz")


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    example("plain 1d").save(tmp_path / "stats.npz")
    return (tmp_path / "stats.npz").read_bytes()


def refused(content: bytes, folder: Path, words: str | None = None) -> None:
    (folder / "broken.npz").write_bytes(content)
    with pytest.raises(FormatError, match=words):
        tc.PatchStatistics.load(folder / "broken.npz")


def test_a_file_cut_anywhere_is_refused(content: bytes, tmp_path: Path) -> None:
    for length in range(0, len(content), 97):
        refused(content[:length], tmp_path)


def test_members_that_start_before_the_file_are_refused(content: bytes, tmp_path: Path) -> None:
    at = int.from_bytes(content[-6:-2], "little")  # where the directory is, by which members are counted from its start
    refused(content[:-6] + (at + 5000).to_bytes(4, "little") + content[-2:], tmp_path, "stored as they are")


def test_changed_bytes_are_refused_or_do_not_matter(content: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = example("plain 1d")
    n_refused = 0
    for _ in range(300):
        changed = bytearray(content)
        for position in rng.integers(0, len(content), 3):
            changed[position] = rng.integers(256)
        (tmp_path / "changed.npz").write_bytes(changed)
        try:
            assert_same(tc.PatchStatistics.load(tmp_path / "changed.npz"), whole)
        except FormatError:
            n_refused += 1
    assert n_refused > 150


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    layer = cases.layer("plain 1d")
    refused(npz.dump(layer), tmp_path, "holds no patch statistics")
    refused(np.random.default_rng(0).bytes(1000), tmp_path, "no whole file")
    plain = io.BytesIO()
    np.savez(plain, matrix=np.ones((3, 3)))
    refused(plain.getvalue(), tmp_path, "holds no patch statistics")
    tc.PatchStatistics(layer).save(tmp_path / "stats.npz")
    with pytest.raises(FormatError):
        tc.load(tmp_path / "stats.npz")


def unpacked(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def packed(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, member in members.items():
            archive.writestr(zipfile.ZipInfo(name), member, compression)
    return file.getvalue()


def npy(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


CHANGES: dict[str, tuple[str, Any, str]] = {
    "format": ("format", "tensorconv", "holds no patch statistics"),
    "version": ("version", 2, "version must be 1"),
    "samples": ("n_samples", -1, "n_samples must be at least 0"),
    "no samples": ("n_samples", 0, "of 0 positions hold"),
    "many samples": ("n_samples", 2**70, "n_samples must"),
    "fraction": ("n_samples", 1.5, "of their types"),
    "form": ("square_root", "yes", "of their types"),
    "shrinkage": ("shrinkage", 1.5, "shrinkage from 0 to 1"),
    "no targets": ("targets", False, "origin.npy must be a float64 array"),
    "unknown targets": ("targets", None, "positions hold"),
    "field": ("more", 1, "must hold"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_wrong_description_is_refused(change: str, content: bytes, tmp_path: Path) -> None:
    name, value, words = CHANGES[change]
    members = unpacked(content)
    fields = json.loads(members["statistics.json"]) | {name: value}
    refused(packed(members | {"statistics.json": json.dumps(fields).encode()}), tmp_path, words)


def test_wrong_members_are_refused(content: bytes, tmp_path: Path) -> None:
    members = unpacked(content)
    matrix = example("plain 1d")._scatter.matrix  # type: ignore[union-attr]
    claims_more = members["matrix.npy"].replace(b"(1, 26, 26)", b"(9, 99, 99)")
    for name, member, words in [
        ("matrix.npy", npy(matrix[:, :5, :5]), "of shape"),
        ("matrix.npy", npy(matrix.astype("float32")), "matrix.npy must be a float64"),
        ("matrix.npy", npy(np.where(np.eye(26) == 1, np.nan, matrix)), "finite"),
        ("matrix.npy", npy(np.asfortranarray(np.ones((1, 26, 26)))), "matrix.npy must be"),
        ("matrix.npy", claims_more, "matrix.npy must be"),
        ("matrix.npy", members["matrix.npy"][:-8], "matrix.npy must be"),
        ("matrix.npy", b"", "matrix.npy must be"),
        ("more.npy", npy(matrix), "positions hold"),
        ("layer.npz", b"", "no whole .npz file"),
        ("layer.npz", npz.dump(cases.layer("uneven 1d")), "of shape"),
        ("layer.npz", npz.dump(tc.svd(cases.layer("plain 1d"), 2)), "statistics are of one layer"),
        ("statistics.json", b"{", "not JSON"),
        ("statistics.json", b"\xff\xff", "not JSON"),
        ("statistics.json", b"[]", "no patch statistics"),
    ]:
        refused(packed(members | {name: member}), tmp_path, words)
    for name in members:
        refused(packed({key: member for key, member in members.items() if key != name}), tmp_path)


def test_repacked_members_are_refused_before_memory_is_taken(content: bytes, tmp_path: Path) -> None:
    bomb = packed(unpacked(content) | {"matrix.npy": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    try:
        refused(bomb, tmp_path, "stored as they are")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_a_repeated_member_is_refused(content: bytes, tmp_path: Path) -> None:
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("statistics.json", b"{}")
    refused(file.getvalue(), tmp_path, "stands twice")
