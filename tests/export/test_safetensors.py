"""Tests of the exporter "safetensors": the package's own reader agrees, and broken files are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
from export.sequences import DTYPES, EXTENDED, GEOMETRIES, assert_same, chain, layer
from safetensors.torch import load as load_as_torch

from tensorconv.arrays import Array
from tensorconv.errors import FormatError
from tensorconv.export import dump, load
from tensorconv.export import safetensors as exporter
from tensorconv.layers import ConvLayer, ConvSequence

SEQUENCE = layer("grouped", 2, "float32", name="conv1").sequence


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [*GEOMETRIES, *EXTENDED])
def test_every_geometry_comes_back_bitwise(kind: str, ndim: int) -> None:
    sequence = layer(kind, ndim, "float32", bias=ndim % 2 == 0, name="conv ü/1").sequence
    assert_same(load(dump(sequence, "safetensors"), "safetensors"), sequence)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_chain_comes_back_bitwise_from_a_file(tmp_path: Path, dtype: str) -> None:
    sequence = chain(2, dtype)
    path = tmp_path / "any name"
    path.write_bytes(dump(sequence, "safetensors"))
    assert_same(load(path, "safetensors"), sequence)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_packages_own_reader_gives_the_same_arrays(tmp_path: Path, dtype: str) -> None:
    sequence = chain(3, dtype)
    path = tmp_path / "chain.safetensors"
    path.write_bytes(dump(sequence, "safetensors"))
    arrays, expected = safetensors.numpy.load_file(path), dump(sequence, "numpy")
    assert sorted(arrays) == sorted(set(expected) - {"sequence"})
    for name, array in arrays.items():
        assert array.dtype.name == dtype
        assert array.tobytes() == expected[name].tobytes()
    with safetensors.safe_open(path, framework="np") as file:
        assert json.loads(file.metadata()["tensorconv"])["version"] == 1


def test_torch_reads_bfloat16_from_it() -> None:
    sequence = layer("plain", 2, "bfloat16").sequence
    tensor = load_as_torch(dump(sequence, "safetensors"))["0.kernel"]
    assert tensor.dtype is torch.bfloat16
    np.testing.assert_array_equal(tensor.view(torch.int16).numpy(), sequence.layers[0].kernel.view(np.int16))


def test_an_array_that_is_not_contiguous_is_written_right(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = np.arange(24.0).reshape(2, 3, 4)
    sequence = ConvLayer.of(np.asfortranarray(kernel)).sequence
    assert_same(load(dump(sequence, "safetensors"), "safetensors"), ConvLayer.of(kernel).sequence)

    # the same where the description itself hands over a transposed view
    def strided(sequence: ConvSequence) -> tuple[str, dict[str, Array]]:
        text, arrays = describe(sequence)
        return text, {name: np.asfortranarray(array) for name, array in arrays.items()}

    describe = exporter.describe
    monkeypatch.setattr(exporter, "describe", strided)
    assert_same(load(dump(sequence, "safetensors"), "safetensors"), ConvLayer.of(kernel).sequence)


def test_a_file_cut_anywhere_is_refused() -> None:
    content = dump(SEQUENCE, "safetensors")
    for length in range(0, len(content), 3):
        with pytest.raises(FormatError, match="safetensors file"):
            load(content[:length], "safetensors")
    with pytest.raises(FormatError, match=r"no whole \.safetensors file"):
        load(content + b"\0", "safetensors")


def test_changed_bytes_are_refused_or_still_a_sequence() -> None:
    content = dump(SEQUENCE, "safetensors")
    header = 8 + int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(600):
        changed = bytearray(content)
        for position in rng.integers(0, header, rng.integers(1, 4)):
            changed[position] = rng.integers(256)
        try:
            assert isinstance(load(bytes(changed), "safetensors"), ConvSequence)
        except FormatError:
            refused += 1
    assert refused > 300


def test_random_bytes_are_refused() -> None:
    rng = np.random.default_rng(0)
    for length in (0, 7, 8, 9, 100, 1000):
        for start in (b"", (50).to_bytes(8, "little"), (2**64 - 1).to_bytes(8, "little")):
            with pytest.raises(FormatError):
                load(start + rng.bytes(length), "safetensors")


def built(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def header_of(content: bytes) -> tuple[dict[str, dict[str, object]], bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", [6, 2, 3, 3]),
        ("shape", [2**62, 2**62]),
        ("shape", [6, 2, 3, -2]),
        ("shape", [6, 0, 3, 2]),
        ("dtype", "I32"),
        ("dtype", "U8"),
        ("dtype", "X"),
        ("data_offsets", [0, 2**40]),
        ("data_offsets", [0, 4]),
    ],
)
def test_a_lying_header_is_refused(field: str, value: object) -> None:
    header, data = header_of(dump(SEQUENCE, "safetensors"))
    header["0.kernel"][field] = value
    with pytest.raises(FormatError):
        load(built(header, data), "safetensors")


def test_another_type_of_the_same_size_is_refused() -> None:
    header, data = header_of(dump(SEQUENCE, "safetensors"))
    header["0.kernel"]["dtype"] = "I32"
    with pytest.raises(FormatError, match=r"tensor 0\.kernel must be of a type among F16, BF16, F32, F64, got I32"):
        load(built(header, data), "safetensors")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "no metadata entry 'tensorconv'"),
        ([], "no metadata entry 'tensorconv'"),
        ({"__metadata__": []}, "no metadata entry 'tensorconv'"),
        ({"__metadata__": {"tensorconv": 1}}, "no metadata entry 'tensorconv'"),
        ({"__metadata__": {"tensorconv": "{}"}}, "must have the fields format, version, layers"),
        (b"[" * 100_000, "not JSON text"),
        (b"\xff\xfe", "not JSON text"),
        (b'{"__metadata__": {}, "__metadata__": {}}', "stands twice"),
    ],
)
def test_a_header_without_a_description_is_refused(header: object, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        load(built(header), "safetensors")


def test_a_file_of_another_program_is_refused() -> None:
    with pytest.raises(FormatError, match="no metadata entry 'tensorconv'; was it written by tensorconv"):
        load(safetensors.numpy.save({"weight": np.ones((2, 2))}), "safetensors")
