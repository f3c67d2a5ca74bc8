"""Tests of the exporter "npz": numpy reads the files, and no broken or hostile file does harm."""

from __future__ import annotations

import io
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from export.sequences import DTYPES, EXTENDED, GEOMETRIES, assert_same, chain, layer

from tensorconv.errors import FormatError
from tensorconv.export import dump, load

SEQUENCE = layer("grouped", 2, "float32", name="conv1").sequence


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [*GEOMETRIES, *EXTENDED])
def test_every_geometry_comes_back_bitwise(kind: str, ndim: int) -> None:
    sequence = layer(kind, ndim, "float32", bias=ndim % 2 == 0, name="conv ü/1").sequence
    assert_same(load(dump(sequence, "npz"), "npz"), sequence)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_chain_comes_back_bitwise_from_a_file(tmp_path: Path, dtype: str) -> None:
    sequence = chain(2, dtype)
    path = tmp_path / "any name"
    path.write_bytes(dump(sequence, "npz"))
    assert_same(load(path, "npz"), sequence)
    assert_same(load(str(path), "npz"), sequence)


def test_numpy_reads_the_file_without_pickle() -> None:
    expected = dump(SEQUENCE, "numpy")
    with np.load(io.BytesIO(dump(SEQUENCE, "npz")), allow_pickle=False) as arrays:
        assert sorted(arrays) == sorted(expected)
        for name, array in expected.items():
            assert arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(arrays[name], array)


def test_bfloat16_is_stored_as_its_bits() -> None:
    sequence = chain(1, "bfloat16")
    with np.load(io.BytesIO(dump(sequence, "npz")), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["0.kernel"], sequence.layers[0].kernel.view(np.uint16))


def test_what_numpy_writes_is_read() -> None:
    file = io.BytesIO()
    np.savez(file, **dump(SEQUENCE, "numpy"))  # type: ignore[arg-type]
    assert_same(load(file.getvalue(), "npz"), SEQUENCE)


def test_the_same_sequence_gives_the_same_bytes() -> None:
    assert dump(SEQUENCE, "npz") == dump(layer("grouped", 2, "float32", name="conv1"), "npz")
    with zipfile.ZipFile(io.BytesIO(dump(SEQUENCE, "npz"))) as zipped:  # in a later second too
        assert {info.date_time for info in zipped.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_file_cut_anywhere_is_refused() -> None:
    content = dump(SEQUENCE, "npz")
    for length in range(0, len(content), 7):
        with pytest.raises(FormatError):
            load(content[:length], "npz")


def test_changed_bytes_are_refused_or_do_not_matter() -> None:
    content = dump(SEQUENCE, "npz")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(600):
        changed = bytearray(content)
        for position in rng.integers(0, len(content), rng.integers(1, 4)):
            changed[position] = rng.integers(256)
        try:
            assert_same(load(bytes(changed), "npz"), SEQUENCE)  # checksums guard the arrays: dates may change, say
        except FormatError:
            refused += 1
    assert refused > 300


def test_random_bytes_are_refused() -> None:
    rng = np.random.default_rng(0)
    for length in (0, 1, 21, 22, 23, 100, 1000, 70_000):
        for start in (b"", b"PK\x03\x04", b"PK\x05\x06"):
            with pytest.raises(FormatError, match=r"no whole \.npz file"):
                load(start + rng.bytes(length), "npz")


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as zipped:
        for name, content in members.items():
            zipped.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


def unpacked(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as zipped:
        return {info.filename: zipped.read(info) for info in zipped.infolist()}


def npy(descr: str, shape: str, data: bytes, fortran_order: str = "False") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {fortran_order}, 'shape': {shape}, }}\n".encode("latin-1")
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


DATA = bytes(4 * 6 * 2 * 3 * 2)
KERNELS: dict[str, bytes] = {
    "more than it holds": npy("'<f4'", "(6, 2, 3, 3)", DATA),
    "less than it holds": npy("'<f4'", "(6, 2, 3, 1)", DATA),
    "a terabyte": npy("'<f4'", "(549755813888,)", DATA),
    "overflowing": npy("'<f8'", "(4294967296, 4294967296, 4294967296)", DATA),
    "a number of 5000 digits": npy("'<f4'", "(" + "9" * 5000 + ", 2, 3, 2)", DATA),
    "many axes": npy("'<f4'", "(72, " + "1, " * 70 + ")", DATA),
    "negative": npy("'<f4'", "(-6, -2, 3, 2)", DATA),
    "zero": npy("'<f4'", "(0, 2, 3, 2)", b""),
    "no numbers": npy("'<f4'", "( , , )", DATA),
    "objects": npy("'|O'", "(6, 2, 3, 2)", DATA),
    "records": npy("[('a', '<f4')]", "(6, 2, 3, 2)", DATA),
    "integers": npy("'<i4'", "(6, 2, 3, 2)", DATA),
    "text": npy("'<U1'", "(6, 2, 3, 2)", DATA),
    "fortran order": npy("'<f4'", "(6, 2, 3, 2)", DATA, "True"),
    "code": npy("__import__('os')", "(6, 2, 3, 2)", DATA),
    "nested": npy("'<f4'", "(" * 3000, DATA),
    "other version": b"\x93NUMPY\x02" + npy("'<f4'", "(6, 2, 3, 2)", DATA)[7:],
    "no header": b"\x93NUMPY\x01\x00",
    "header beyond the end": b"\x93NUMPY\x01\x00\xff\xff{",
    "empty": b"",
}


@pytest.mark.parametrize("claim", KERNELS)
def test_a_lying_header_is_refused_before_memory_is_taken(claim: str) -> None:
    content = archive(unpacked(dump(SEQUENCE, "npz")) | {"0.kernel.npy": KERNELS[claim]})
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=r"0\.kernel|must not be empty"):
            load(content, "npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000  # the file is 4 kB; the rest is what an exception and the zip module take


@pytest.mark.parametrize(
    "text",
    [
        npy("'<U9'", "()", bytes(32)),
        npy("'<U1'", "()", b"\xff\xff\xff\xff"),
        npy("'<U1'", "(1,)", b"a\0\0\0"),
        npy("'<f4'", "()", bytes(4)),
        npy("'<U0'", "()", b""),
        npy("'<U" + "9" * 18 + "'", "()", bytes(4)),
    ],
)
def test_a_lying_text_is_refused(text: bytes) -> None:
    with pytest.raises(FormatError, match=r"sequence\.npy|not JSON"):
        load(archive(unpacked(dump(SEQUENCE, "npz")) | {"sequence.npy": text}), "npz")


class Payload:
    """Creates a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    payload = pickle.dumps(Payload(mark))
    objects = io.BytesIO()
    np.savez(objects, allow_pickle=True, **{"0.kernel": np.array([Payload(mark)], object)})  # type: ignore[arg-type]
    whole = unpacked(dump(SEQUENCE, "npz"))
    pickled = {name: unpacked(objects.getvalue())["0.kernel.npy"] for name in whole}
    for content in [
        payload,
        objects.getvalue(),
        archive(pickled),
        *(archive(whole | {name: payload}) for name in whole),
    ]:
        with pytest.raises(FormatError):
            load(content, "npz")
    assert not mark.exists()
    pickle.loads(payload)  # noqa: S301  # the payload does work where it is unpickled
    assert mark.exists()


@pytest.mark.parametrize(
    "name", ["../0.kernel.npy", "/0.kernel.npy", "a/0.kernel.npy", "0.kernel", "x.npy", "0.KERNEL.npy"]
)
def test_a_strange_member_name_is_refused(name: str) -> None:
    with pytest.raises(FormatError, match="is none of a sequence's"):
        load(archive(unpacked(dump(SEQUENCE, "npz")) | {name: DATA}), "npz")


def test_a_member_too_many_or_too_few_is_refused() -> None:
    whole = unpacked(dump(SEQUENCE, "npz"))
    with pytest.raises(FormatError, match=r"not named \['1\.kernel'\]"):
        load(archive(whole | {"1.kernel.npy": whole["0.kernel.npy"]}), "npz")
    for name in ("0.kernel.npy", "sequence.npy"):
        with pytest.raises(FormatError, match=name.removesuffix(".npy")):
            load(archive({key: value for key, value in whole.items() if key != name}), "npz")


def test_a_repeated_member_is_refused() -> None:
    file = io.BytesIO(dump(SEQUENCE, "npz"))
    with zipfile.ZipFile(file, "a") as zipped, pytest.warns(UserWarning, match="Duplicate name"):
        zipped.writestr("0.bias.npy", b"")
    with pytest.raises(FormatError, match="stands twice"):
        load(file.getvalue(), "npz")


def test_a_compressed_member_is_refused_before_it_is_unpacked() -> None:
    whole = unpacked(dump(SEQUENCE, "npz"))
    bomb = archive(whole | {"0.kernel.npy": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="is compressed"):
            load(bomb, "npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_members_that_claim_more_than_the_file_are_refused() -> None:
    content = bytearray(archive({"sequence.npy": bytes(1000)}))
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 20 : entry + 28] = 2 * (0x7FFFFFF0).to_bytes(4, "little")  # both sizes in the central directory
    with pytest.raises(FormatError, match="members claim 2147483632 bytes"):
        load(bytes(content), "npz")


def test_members_before_the_start_of_the_file_are_refused(tmp_path: Path) -> None:
    content = bytearray(dump(SEQUENCE, "npz"))
    offset = content.index(b"PK\x05\x06") + 16  # where the directory says that it begins itself
    content[offset : offset + 4] = (int.from_bytes(content[offset : offset + 4], "little") + 9).to_bytes(4, "little")
    path = tmp_path / "shifted.npz"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="starts before the file does"):
        load(path, "npz")


def test_members_that_share_their_bytes_are_refused() -> None:
    content = archive({f"{i}.kernel.npy": bytes(2000) for i in range(3)})
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    directory, tail = bytearray(content[start:end]), content[end:]
    for listed in range(3):  # every entry of the directory now says where the first member begins
        at = listed * len(directory) // 3 + 42
        directory[at : at + 4] = bytes(4)
    one = start // 3
    hostile = content[:one] + directory + tail[:16] + one.to_bytes(4, "little") + tail[20:]
    with pytest.raises(FormatError, match="members claim 6000 bytes, the whole"):
        load(hostile, "npz")
