"""Mutations of the fields of an ONNX model: numbers, texts, bytes and messages, wherever they stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnx import ModelProto, TensorProto
from reliability.hostile_values import NUMBERS, TEXTS, Rng, pick

# what stands in models where it means something; more than chance would find
WORDS = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Pad", "Identity", "Constant", "If", "Loop", "Gather", "Reshape"),
    *("pads", "strides", "dilations", "group", "kernel_shape", "auto_pad", "SAME_UPPER", "VALID", "output_padding"),
    *("output_shape", "mode", "location", "offset", "length", "ai.onnx.ml", "", "x", "tensorconv"),
)
LOCATIONS = ("../secret.data", "/etc/passwd", "", ".", "lost", "m.data", "a/../../secret.data", "m.data\0", "x" * 5000)
LARGEST_VARINT = 2**63 - 1


def changed_model(content: bytes, rng: Rng) -> bytes:
    """Return an ONNX model with one to three of its fields changed."""
    model = ModelProto()
    model.ParseFromString(content)
    for _ in range(rng.integers(1, 4)):
        _change(pick(rng, list(_messages(model))), rng)
    if rng.random() < 0.15:
        tensors = [one for one in _messages(model) if isinstance(one, TensorProto)]
        if tensors:
            _point_elsewhere(pick(rng, tensors), rng)
    return bytes(model.SerializePartialToString())


def _messages(message: Any) -> Iterator[Any]:
    """Yield a message and all messages inside it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if hasattr(value, "add") else (value,):
                yield from _messages(one)


def _change(message: Any, rng: Rng) -> None:
    """Change one field: set it to another value, double, shorten or remove it."""
    own = [field for field, _ in message.ListFields()]
    field = pick(rng, own if own and rng.random() < 0.8 else message.DESCRIPTOR.fields)
    value = getattr(message, field.name)
    repeated = hasattr(value, "extend")
    if rng.random() < 0.2:
        message.ClearField(field.name)
    elif repeated and field.message_type is not None:
        if not len(value):
            value.add()
        elif rng.random() < 0.5:
            value.add().CopyFrom(pick(rng, value))
        else:
            del value[int(rng.integers(len(value)))]
    elif field.message_type is not None:
        value.SetInParent()
    elif repeated:
        if not len(value) or rng.random() < 0.3:
            value.append(_scalar(field, rng))
        elif rng.random() < 0.2:
            value.extend(list(value) * int(rng.integers(1, 5)))
        else:
            value[int(rng.integers(len(value)))] = _scalar(field, rng)
    else:
        setattr(message, field.name, _scalar(field, rng))


def _scalar(field: Any, rng: Rng) -> Any:
    """Return a value of a field's type."""
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return pick(rng, (0.0, -1.0, 1e30, float("nan"), float("inf")))
    if field.cpp_type == field.CPPTYPE_STRING and field.type == field.TYPE_BYTES:
        return pick(rng, (b"", b"\0", b"\xff" * 7, rng.bytes(64)))
    if field.cpp_type == field.CPPTYPE_STRING:
        return pick(rng, (*WORDS, *(text for text in TEXTS if text.isprintable())))
    if field.cpp_type == field.CPPTYPE_ENUM:
        return pick(rng, [value.number for value in field.enum_type.values])
    if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32):
        return int(rng.integers(0, 25))
    number = int(pick(rng, NUMBERS)) if rng.random() < 0.6 else int(rng.integers(-4, 12))
    return abs(number) if field.cpp_type == field.CPPTYPE_UINT64 else max(-LARGEST_VARINT, min(number, LARGEST_VARINT))


def _point_elsewhere(tensor: TensorProto, rng: Rng) -> None:
    """Say that a tensor's data are in another file."""
    if rng.random() < 0.5:
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, values in (("location", LOCATIONS), ("offset", (*NUMBERS, "x")), ("length", (*NUMBERS, "1e9"))):
        if key == "location" or rng.random() < 0.5:
            tensor.external_data.add(key=key, value=str(pick(rng, values)))
