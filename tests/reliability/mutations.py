"""Mutations of files: of bytes anywhere, and of what .npz, .npy, .safetensors, .onnx and JSON files say."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reliability.hostile_values import NUMBERS, Rng, changed_json, pick
from reliability.message_mutations import changed_model

DESCRIPTORS = (
    "'|O'",
    "'<f4'",
    "'<f8'",
    "'>f2'",
    "'<i8'",
    "'<U9'",
    "'<M8'",
    "'<f16'",
    "'|V8'",
    "[('a', '<f4')]",
    "'<c8'",
)
SHAPES = ("()", "(0,)", "(-1, 3)", "(2, 2, 3, 3)", "(4294967296, 4294967296, 4)", "(268435456,)", "(99999999999, 1, 1)")
ORDERS = ("True", "1", "__import__('os').mkdir('x')", "None")
HEADERS = ("", "{}", "[" * 3000, "1" * 5000, "{'descr': " * 500, "{" * 60_000)
MEMBERS = ("../0.kernel.npy", "/0.kernel.npy", "0.kernel", "sequence.npy", "0.kernel.npy", "99.bias.npy", "a" * 60_000)
VERSIONS = (b"\x02\x00", b"\x03\x00", b"\x00\x00", b"\xff\xff")
Change = Callable[[bytes, Rng], bytes]


class Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class Mutator:
    """Makes mutated files out of whole ones.

    Parameters
    ----------
    seeds : mapping of str to sequence of bytes
        Whole files by kind.
    canary : Path
        What a pickle inside a file makes where it is loaded as one.
    """

    def __init__(self, seeds: Mapping[str, tuple[bytes, ...]], canary: Path) -> None:
        self._seeds = seeds
        self._pickle = pickle.dumps(Payload(canary))
        self._others = [content for contents in seeds.values() for content in contents]
        self._own: dict[str, Change] = {
            ".npz": self._archive,
            "statistics": self._archive,
            ".npy": self._array,
            ".safetensors": self._safetensors,
            ".onnx": changed_model,
            "plan": lambda text, rng: changed_json(text, rng).encode(),
        }

    def mutated(self, kind: str, rng: Rng) -> bytes:
        """Return a mutated file of a kind: what it says is changed, or its bytes, or both."""
        content: bytes = pick(rng, self._seeds[kind])
        share = rng.random()
        if share < 0.75:
            content = self._own[kind](content, rng)
        return content if share < 0.5 else self._bytes(content, rng)

    def _bytes(self, content: bytes, rng: Rng) -> bytes:
        """Change bytes, whatever they mean."""
        made = bytearray(content or b"\0")
        at, length = int(rng.integers(len(made))), int(rng.integers(1, 65))
        what = rng.integers(9)
        if what == 0:
            del made[at:]
        elif what == 1:
            for position in rng.integers(0, len(made), rng.integers(1, 9)):
                made[position] ^= 1 << int(rng.integers(8))
        elif what == 2:
            for position in rng.integers(0, len(made), rng.integers(1, 9)):
                made[position] = rng.integers(256)
        elif what == 3:
            other = pick(rng, self._others)
            start = int(rng.integers(len(other)))
            made[at : at + int(rng.integers(2)) * length] = other[start : start + 8 * length]
        elif what == 4:
            del made[at : at + length]
        elif what == 5:
            made[at:at] = made[at : at + 8 * length] * int(rng.integers(1, 4))
        elif what == 6:
            made[at : at + length] = pick(rng, (b"\0", b"\xff", b"\x80", b"[")) * min(length, len(made) - at)
        elif what == 7:
            width = pick(rng, (1, 2, 4, 8))
            made[at : at + width] = (pick(rng, NUMBERS) % 2 ** (8 * width)).to_bytes(
                width, pick(rng, ("little", "big"))
            )
        else:
            numbers = list(re.finditer(rb"\d+", content)) or [re.match(b"", content)]
            start, end = pick(rng, numbers).span()
            made[start:end] = str(pick(rng, NUMBERS)).encode()
        return bytes(made)

    def _array(self, content: bytes, rng: Rng) -> bytes:
        """Change the header of an .npy file, or put a pickle behind it."""
        end = content.find(b"\n")
        if not content.startswith(b"\x93NUMPY") or end < 0:
            return self._bytes(content, rng)
        header, data, version = content[10:end].decode("latin-1"), content[end + 1 :], b"\x01\x00"
        what = rng.integers(6)
        if what == 0:
            header = re.sub(r"'descr': [^,]*,", f"'descr': {pick(rng, DESCRIPTORS)},", header)
        elif what == 1:
            header = re.sub(r"\([^)]*\)", pick(rng, SHAPES), header)
        elif what == 2:
            header = header.replace("False", pick(rng, ORDERS))
        elif what == 3:
            header, data = re.sub(r"'descr': [^,]*,", "'descr': '|O',", header), self._pickle
        elif what == 4:
            version = pick(rng, VERSIONS)
        else:
            header = pick(rng, HEADERS)
        return npy(header, data, version)

    def _archive(self, content: bytes, rng: Rng) -> bytes:
        """Change a member of a zip archive and make its checksums right again, or change the archive's directory."""
        start = content.rfind(b"PK\x01\x02")
        if rng.random() < 0.2:
            return content[:start] + self._bytes(content[start:], rng)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        at = int(rng.integers(len(members)))
        name, data = members[at]
        what = rng.integers(8)
        if what == 0:
            name = pick(rng, MEMBERS)
        elif what == 1:
            members.append((pick(rng, (name, *MEMBERS)), data))
        elif what == 2:
            data = self._pickle
        elif what == 3:
            data = self._bytes(data, rng)
        elif name == "sequence.npy":
            data = changed_text(data, rng)
        elif name.endswith(".json"):
            data = changed_json(data, rng).encode()
        else:
            data = (self._archive if name.endswith(".npz") else self._array)(data, rng)
        members[at] = name, data
        return zipped(members, zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED)

    @staticmethod
    def _safetensors(content: bytes, rng: Rng) -> bytes:
        """Change the header of a .safetensors file: its length, types, shapes, overlapping offsets, the description."""
        length = int.from_bytes(content[:8], "little")
        head, data = content[8 : 8 + length], content[8 + length :]
        if rng.random() < 0.2:
            claimed = pick(rng, (*NUMBERS, length - 1, length + 1, length + len(data), 100_000_001))
        else:
            head = _changed_header(head.decode(), rng).encode()
            claimed = len(head)
        return (claimed % 2**64).to_bytes(8, "little") + head + data


def npy(header: str, data: bytes, version: bytes = b"\x01\x00") -> bytes:
    """Return an .npy file whose header is a text."""
    said = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY" + version + len(said).to_bytes(4, "little")[:2] + said + data


def zipped(members: list[tuple[str, bytes]], packing: int) -> bytes:
    """Return a zip archive of members, also of several under one name."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")  # that a name stands twice
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, packing)
    return file.getvalue()


def changed_text(content: bytes, rng: Rng) -> bytes:
    """Change the description of a sequence inside its .npy member."""
    text = changed_json(content[content.find(b"\n") + 1 :].decode("utf-32-le"), rng)
    header = f"{{'descr': '<U{len(text)}', 'fortran_order': False, 'shape': (), }}"
    return npy(header, text.encode("utf-32-le"))


def _changed_header(head: str, rng: Rng) -> str:
    """Change a safetensors header, or the description of a sequence in its metadata."""
    header = json.loads(head)
    names = [name for name in header if name != "__metadata__"]
    what = rng.integers(3)
    if what == 0 and "tensorconv" in header.get("__metadata__", {}):
        header["__metadata__"]["tensorconv"] = changed_json(header["__metadata__"]["tensorconv"], rng)
    elif what == 1:  # one tensor over another
        header[pick(rng, names)]["data_offsets"] = header[pick(rng, names)]["data_offsets"]
    else:
        return changed_json(head, rng)
    return json.dumps(header)
