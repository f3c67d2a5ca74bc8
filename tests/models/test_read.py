"""Layers read from files: geometry complete and equal to what ONNX Runtime does; broken and hostile files refused."""

from __future__ import annotations

import ast
import importlib
import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from networks import network, one_node, run, write
from onnx import helper, numpy_helper
from oracles import reference_bound, reference_sequence
from safetensors.numpy import save_file

import tensorconv as tc
from tensorconv.errors import FormatError, KernelError, KernelTypeError, ModelError, TensorconvError
from tensorconv.export.files import save
from tensorconv.layers import as_sequence
from tensorconv.models import read_file

RNG_SEED = 5


def _agrees_with_onnx_runtime(model: onnx.ModelProto, path: Path, x: np.ndarray) -> None:
    """The layer read from the file does to x what ONNX Runtime does, up to rounding in float32."""
    (found,) = tc.read_layers(write(model, path))
    layer = found.layer
    wanted = run(model, x)
    assert found.input_size == x.shape[2:]
    assert layer.output_size(x.shape[2:]) == wanted.shape[2:]
    got = reference_sequence(x, as_sequence(layer))
    units = (np.finfo(np.float32).eps / 2, np.finfo(np.float64).eps / 2)  # ONNX Runtime's, the reference's
    assert np.all(np.abs(got - wanted) <= reference_bound(x, as_sequence(layer), units))


@pytest.mark.parametrize(
    ("size", "taps", "stride"),
    [((9,), (3,), (2,)), ((8, 9), (3, 4), (2, 3)), ((8, 9), (2, 5), (1, 2)), ((5, 6, 7), (2, 3, 4), (2, 1, 2))],
)
@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_auto_pad(tmp_path, size, taps, stride, auto_pad, groups):
    rng = np.random.default_rng(RNG_SEED)
    kernel = rng.standard_normal((4, 3, *taps)).astype("float32")
    bias = rng.standard_normal(4).astype("float32")
    x = rng.standard_normal((2, 3 * groups, *size)).astype("float32")
    model = one_node("Conv", kernel, bias, input_shape=x.shape, auto_pad=auto_pad, strides=stride, group=groups)
    _agrees_with_onnx_runtime(model, tmp_path / "m.onnx", x)


def test_convolution_explicit_pads_and_dilation(tmp_path):
    rng = np.random.default_rng(RNG_SEED)
    kernel = rng.standard_normal((6, 2, 3, 2)).astype("float32")
    x = rng.standard_normal((1, 6, 11, 10)).astype("float32")
    model = one_node("Conv", kernel, input_shape=x.shape, pads=[0, 3, 2, 1], strides=[2, 1], dilations=[1, 3], group=3)
    _agrees_with_onnx_runtime(model, tmp_path / "m.onnx", x)
    (found,) = tc.read_layers(tmp_path / "m.onnx")
    assert found.layer.geometry == tc.ConvGeometry((2, 1), ((0, 2), (3, 1)), (1, 3), groups=3)
    assert found.layer.bias is None
    assert found.source == "network"
    assert found.layer.name == "only"


def test_pads_beside_auto_pad_must_agree_with_it(tmp_path):
    kernel = np.ones((1, 1, 3), "float32")
    attributes = {"auto_pad": "SAME_UPPER", "strides": [2], "input_shape": (1, 1, 8)}
    (found,) = tc.read_layers(write(one_node("Conv", kernel, pads=[0, 1], **attributes), tmp_path / "agree.onnx"))
    assert found.layer.geometry.padding == ((0, 1),)
    reading = read_file(write(one_node("Conv", kernel, pads=[1, 1], **attributes), tmp_path / "disagree.onnx"))
    assert not reading.layers
    assert "auto_pad=SAME_UPPER and pads (1, 1) contradict each other" in reading.skipped[0].reason


def test_same_with_dilation_pads_the_dilated_extent(tmp_path):
    kernel = np.ones((1, 1, 3), "float32")  # ONNX Runtime refuses this one; the standard does not
    model = one_node("Conv", kernel, input_shape=(1, 1, 8), auto_pad="SAME_LOWER", dilations=[2], strides=[3])
    (found,) = tc.read_layers(write(model, tmp_path / "m.onnx"))
    # ceil(8 / 3) = 3 outputs read (3 - 1) * 3 + 2 * 2 + 1 = 11 positions: 3 more than there are, the odd one first
    assert found.layer.geometry.padding == ((2, 1),)


@pytest.mark.parametrize("auto_pad", ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(("taps", "stride"), [((3, 4), (2, 2)), ((2, 1), (3, 2)), ((4, 3), (1, 3))])
@pytest.mark.parametrize("extra", [(0, 0), (1, 0)])
def test_transposed_auto_pad_and_output_padding(tmp_path, auto_pad, taps, stride, extra):
    if extra[0] >= stride[0]:
        extra = (0, 1)  # ONNX wants output_padding below the stride
    rng = np.random.default_rng(RNG_SEED)
    kernel = rng.standard_normal((4, 3, *taps)).astype("float32")
    bias = rng.standard_normal(6).astype("float32")
    x = rng.standard_normal((2, 4, 4, 3)).astype("float32")
    model = one_node(
        "ConvTranspose",
        kernel,
        bias,
        input_shape=x.shape,
        auto_pad=auto_pad,
        strides=stride,
        output_padding=extra,
        group=2,
    )
    _agrees_with_onnx_runtime(model, tmp_path / "m.onnx", x)


def test_transposed_explicit_pads_dilation_and_groups(tmp_path):
    rng = np.random.default_rng(RNG_SEED)
    kernel = rng.standard_normal((6, 2, 3, 2)).astype("float32")
    x = rng.standard_normal((1, 6, 4, 5)).astype("float32")
    attributes = {"pads": [1, 0, 2, 1], "strides": [3, 2], "dilations": [2, 3], "group": 3, "output_padding": [2, 1]}
    model = one_node("ConvTranspose", kernel, input_shape=x.shape, **attributes)
    _agrees_with_onnx_runtime(model, tmp_path / "m.onnx", x)
    (found,) = tc.read_layers(tmp_path / "m.onnx")
    assert found.layer.kernel.shape == (6, 2, 3, 2)
    assert found.layer.geometry == tc.ConvGeometry((3, 2), ((1, 0), (0, 0)), (2, 3), groups=3, transposed=True)


@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("wanted", [5, 6, 7, 8])
def test_transposed_output_shape(tmp_path, auto_pad, wanted):
    rng = np.random.default_rng(RNG_SEED)
    kernel = rng.standard_normal((2, 3, 3)).astype("float32")  # 3 taps, stride 2 on 3 positions: 7 without padding
    bias = rng.standard_normal(3).astype("float32")
    x = rng.standard_normal((1, 2, 3)).astype("float32")
    attributes = {"strides": [2], "output_shape": [wanted], "auto_pad": auto_pad}
    _agrees_with_onnx_runtime(
        one_node("ConvTranspose", kernel, bias, input_shape=x.shape, **attributes), tmp_path / "a.onnx", x
    )
    attributes["output_padding"] = [1]
    _agrees_with_onnx_runtime(
        one_node("ConvTranspose", kernel, bias, input_shape=x.shape, **attributes), tmp_path / "b.onnx", x
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ml_dtypes.bfloat16])
def test_types_are_kept(tmp_path, dtype):
    kernel = np.arange(1, 19).reshape(2, 3, 3).astype(dtype)
    (found,) = tc.read_layers(write(one_node("Conv", kernel, input_shape=(1, 3, 9)), tmp_path / "m.onnx"))
    assert found.layer.dtype == np.dtype(dtype)
    assert found.layer.kernel.tobytes() == kernel.tobytes()


def test_sizes_are_inferred_through_the_network(tmp_path):
    rng = np.random.default_rng(RNG_SEED)
    tensors = {"w1": rng.standard_normal((4, 1, 3, 3)), "w2": rng.standard_normal((2, 4, 1, 1))}
    tensors = {name: array.astype("float32") for name, array in tensors.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], strides=[2, 2], auto_pad="SAME_UPPER"),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["y"], name="last"),
    ]
    fixed = write(network(nodes, tensors, ("batch", 1, 9, 8)), tmp_path / "fixed.onnx")
    first, last = tc.read_layers(fixed)
    assert (first.layer.name, last.layer.name) == ("a", "last")  # a node without a name goes by its output
    assert (first.input_size, last.input_size) == ((9, 8), (5, 4))

    free = write(network(nodes, tensors, ("batch", 1, "height", "width")), tmp_path / "free.onnx")
    reading = read_file(free)
    assert [(found.layer.name, found.input_size) for found in reading.layers] == [("last", None)]
    assert "auto_pad=SAME_UPPER" in reading.skipped[0].reason
    assert [found.input_size for found in tc.read_layers(free, input_size=(9, 8))] == [(9, 8), (5, 4)]
    assert tc.read_layers(free, input_size=(9, 8))[0].layer.geometry == first.layer.geometry

    with pytest.raises(ModelError, match=r"input_size \(7, 8\) contradicts the network"):
        tc.read_layers(fixed, input_size=(7, 8))
    with pytest.raises(ModelError, match="no input of the network has"):
        tc.read_layers(free, input_size=(9,))


def test_weights_from_constant_and_identity_nodes(tmp_path):
    kernel = np.arange(6, dtype="float32").reshape(2, 1, 3)
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(kernel)),
        helper.make_node("Identity", ["c"], ["d"]),
        helper.make_node("Conv", ["x", "d"], ["y"], name="conv"),
    ]
    (found,) = tc.read_layers(write(network(nodes, {}, (1, 1, 5)), tmp_path / "m.onnx"))
    np.testing.assert_array_equal(found.layer.kernel, kernel)


def test_what_cannot_be_read_is_left_out_with_a_reason(tmp_path):
    kernel = np.ones((1, 1, 3), "float32")
    branch = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["b"], name="inside")], "branch", [], [])
    nodes = [
        helper.make_node("Add", ["w", "w"], ["made"]),
        helper.make_node("Conv", ["x", "made"], ["y1"], name="computed"),
        helper.make_node("Conv", ["x", "w", "y1"], ["y2"], name="biased"),
        helper.make_node("Conv", ["x", "i"], ["y3"], name="integer"),
        helper.make_node("Conv", ["x", "nan"], ["y4"], name="nan"),
        helper.make_node("Conv", ["x", "w"], ["y5"], name="wrong", kernel_shape=[5]),
        helper.make_node("Conv", ["x", "w"], ["y6"], name="pads", pads=[1]),
        helper.make_node("Conv", ["x", "w"], ["y7"], name="stride", strides=[0]),
        helper.make_node("Conv", ["x", "w"], ["y8"], name="grouped", group=7),
        helper.make_node("Conv", ["x", "w"], ["y9"], name="auto", auto_pad="SOMEHOW"),
        helper.make_node("ConvTranspose", ["x", "w"], ["y10"], name="shape", output_shape=[3, 3]),
        helper.make_node("Conv", ["x", "m"], ["y11"], name="matrix"),
        helper.make_node("Conv", ["x"], ["y12"], name="bare"),
        helper.make_node("If", ["t"], ["y13"], name="if", then_branch=branch, else_branch=branch),
        helper.make_node("Conv", ["x", "w"], ["y"], name="good"),
    ]
    tensors = {"w": kernel, "i": kernel.astype("int8"), "nan": kernel * np.nan, "m": kernel[0]}
    reading = read_file(write(network(nodes, tensors, (1, 1, 9)), tmp_path / "m.onnx"))
    assert [found.layer.name for found in reading.layers] == ["good"]
    reasons = [(skipped.name, skipped.reason) for skipped in reading.skipped]
    words = {
        "computed": "weights 'made': computed in the network",
        "biased": "bias 'y1': computed",
        "integer": "of type INT8",
        "nan": "finite numbers",
        "wrong": "kernel_shape (5,) is not that of the weights",
        "pads": "pads (1,) must have",
        "stride": "stride must be at least 1",
        "grouped": "groups must divide",
        "auto": "auto_pad must be one of",
        "shape": "output_shape (3, 3) must have",
        "matrix": "have shape (1, 3)",
        "bare": "has 1 inputs",
        "inside": "inside a branch",
    }
    assert [name for name, _ in reasons] == [*list(words)[:-1], "inside", "inside"]
    for name, reason in reasons:
        assert words[name] in reason


def test_weights_beside_the_file(tmp_path):
    kernel = np.arange(600, dtype="float32").reshape(20, 10, 3)
    model = one_node("Conv", kernel, input_shape=(1, 10, 5))
    path = tmp_path / "m.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="m.data", size_threshold=0)
    (found,) = tc.read_layers(path)
    np.testing.assert_array_equal(found.layer.kernel, kernel)

    (tmp_path / "m.data").write_bytes(b"short")
    assert "cannot be loaded" in read_file(path).skipped[0].reason
    (tmp_path / "m.data").unlink()
    assert "cannot be loaded" in read_file(path).skipped[0].reason


def test_weights_outside_the_folder_are_not_read(tmp_path):
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "m.onnx"
    onnx.save(
        one_node("Conv", np.ones((1, 1, 3), "float32"), input_shape=(1, 1, 5)),
        str(path),
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    (tmp_path / "inner" / "m.data").rename(tmp_path / "m.data")
    model = onnx.load(str(path), load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../m.data"
    path.write_bytes(model.SerializeToString())
    assert "cannot be loaded" in read_file(path).skipped[0].reason


KERNELS = {
    "conv.weight": np.arange(24, dtype="float32").reshape(4, 2, 3),
    "deep": np.linspace(-1, 1, 81).reshape(1, 3, 3, 3, 3),
}
OTHERS = {"bias": np.ones(4, "float32"), "pixels": np.ones((2, 3, 4), "uint8"), "bad": np.full((1, 1, 2), np.inf)}


def test_npy(tmp_path):
    np.save(tmp_path / "k.npy", KERNELS["deep"])
    (found,) = tc.read_layers(tmp_path / "k.npy")
    np.testing.assert_array_equal(found.layer.kernel, KERNELS["deep"])
    assert found.layer.geometry == tc.ConvGeometry.of(3)
    assert (found.layer.name, found.input_size, found.source) == ("k", None, "array")

    np.save(tmp_path / "keras.npy", np.moveaxis(KERNELS["conv.weight"], (0, 1), (2, 1)))
    (found,) = tc.read_layers(str(tmp_path / "keras.npy"), layout="*IO", input_size=[9])
    np.testing.assert_array_equal(found.layer.kernel, KERNELS["conv.weight"])
    assert found.input_size == (9,)


@pytest.mark.parametrize("suffix", [".npz", ".NPZ", ".safetensors"])
def test_archives_give_every_floating_array_of_three_axes(tmp_path, suffix):
    path = tmp_path / f"kernels{suffix}"
    if suffix == ".safetensors":
        save_file({**KERNELS, **OTHERS}, path)
    else:
        with path.open("wb") as file:
            np.savez_compressed(file, **KERNELS, **OTHERS)
    reading = read_file(path)
    assert {found.layer.name: found.source for found in reading.layers} == dict.fromkeys(KERNELS, "array")
    for found in reading.layers:
        assert found.layer.kernel.tobytes() == KERNELS[found.layer.name].tobytes()
        assert found.layer.dtype == KERNELS[found.layer.name].dtype
    assert sorted(skipped.name for skipped in reading.skipped) == ["bad", "pixels"]
    # the size goes to those that have as many axes
    assert {found.layer.name: found.input_size for found in tc.read_layers(path, input_size=(7,))} == {
        "conv.weight": (7,),
        "deep": None,
    }
    with pytest.raises(ModelError, match=r"input_size \(7, 7\) has 2 spatial axes, no layer"):
        tc.read_layers(path, input_size=(7, 7))
    with pytest.raises(KernelError, match="layout must hold"):
        tc.read_layers(path, layout="OIHW")


def test_bfloat16_tensors(tmp_path):
    kernel = np.arange(24).reshape(4, 2, 3).astype(ml_dtypes.bfloat16)
    save_file({"k": kernel}, tmp_path / "k.safetensors")
    (found,) = tc.read_layers(tmp_path / "k.safetensors")
    assert found.layer.dtype == kernel.dtype
    assert found.layer.kernel.tobytes() == kernel.tobytes()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_saved_sequence_keeps_its_geometry(tmp_path, suffix):
    rng = np.random.default_rng(RNG_SEED)
    first = tc.ConvLayer.of(rng.standard_normal((4, 1, 3)), stride=2, padding=1, groups=4)
    second = tc.ConvLayer.of(rng.standard_normal((2, 4, 1)), np.ones(2), name="mix")
    path = tmp_path / f"sequence{suffix}"
    save(path, tc.ConvSequence((first, second)))
    a, b = tc.read_layers(path, input_size=(10,))
    assert (a.layer.name, b.layer.name) == ("0", "mix")
    assert (a.source, b.source) == ("sequence", "sequence")
    assert (a.layer.geometry, b.layer.geometry) == (first.geometry, second.geometry)
    assert (a.input_size, b.input_size) == ((10,), (5,))
    np.testing.assert_array_equal(a.layer.kernel, first.kernel)
    np.testing.assert_array_equal(b.layer.bias, second.bias)
    with pytest.raises(ModelError, match="is for plain arrays"):
        tc.read_layers(path, layout="OI*")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_padding_of_a_saved_sequence_is_left_out_with_its_share_of_the_size(tmp_path, suffix):
    layer = tc.ConvLayer.of(np.ones((2, 4, 3)), name="conv")
    path = tmp_path / f"sequence{suffix}"
    save(path, tc.ConvSequence((tc.PadLayer(((1, 2),), "reflect", "mirror"), layer)))
    reading = read_file(path, input_size=(10,))
    assert [(found.layer.name, found.input_size) for found in reading.layers] == [("conv", (13,))]
    assert [(skipped.name, skipped.reason.partition(":")[0]) for skipped in reading.skipped] == [
        ("mirror", "reflect padding ((1,2),)")
    ]


class _Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bomb.npy").write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(FormatError, match="pickle"):
        tc.read_layers("bomb.npy")
    objects = np.empty((1, 1, 1), object)
    objects[0, 0, 0] = _Bomb()
    np.save("objects.npy", objects, allow_pickle=True)
    with pytest.raises(FormatError, match="or holds pickled objects, which are never loaded"):
        tc.read_layers("objects.npy")
    np.savez("objects.npz", objects=objects, allow_pickle=True, good=KERNELS["deep"])
    reading = read_file("objects.npz")
    assert [found.layer.name for found in reading.layers] == ["good"]
    assert "objects" in [skipped.name for skipped in reading.skipped]
    assert not Path("exploded").exists()


def test_an_array_that_is_no_kernel(tmp_path):
    np.save(tmp_path / "flat.npy", np.ones((2, 2)))
    with pytest.raises(KernelError, match="at least one spatial axis"):
        tc.read_layers(tmp_path / "flat.npy")
    np.save(tmp_path / "whole.npy", np.ones((2, 2, 2), int))
    with pytest.raises(KernelTypeError, match="floating-point type"):
        tc.read_layers(tmp_path / "whole.npy")


def _npy_claiming(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(64)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".onnx"])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 and no more", b"\xff" * 64, b"\x93NUMPY\x01\x00\x10\x00{'descr': ("]
)
def test_broken_files(tmp_path, suffix, content):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="broken"):
        tc.read_layers(path)


@pytest.mark.parametrize("shape", [(2, 3, 4), (1 << 20, 1 << 20, 1 << 20), (1 << 40, 1 << 40, 1 << 40)])
def test_arrays_that_claim_more_than_the_file_holds(tmp_path, shape):
    (tmp_path / "claim.npy").write_bytes(_npy_claiming(shape))
    with pytest.raises(FormatError, match="cannot be read as a numpy file"):
        tc.read_layers(tmp_path / "claim.npy")
    with zipfile.ZipFile(tmp_path / "claim.npz", "w") as archive:
        archive.writestr("k.npy", _npy_claiming(shape))
    try:
        layers = tc.read_layers(tmp_path / "claim.npz")
    except FormatError:
        layers = []
    assert layers == []


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".onnx"])
def test_damage_anywhere_never_ends_in_another_error(tmp_path, suffix):
    path = tmp_path / f"damaged{suffix}"
    kernel = KERNELS["conv.weight"]
    if suffix == ".npy":
        np.save(path, kernel)
    elif suffix == ".npz":
        np.savez_compressed(path, kernel=kernel)
    elif suffix == ".safetensors":
        save_file({"kernel": kernel}, path)
    else:
        write(one_node("Conv", kernel, input_shape=(1, 2, 7), auto_pad="SAME_UPPER", strides=[2]), path)
    whole = path.read_bytes()
    rng = np.random.default_rng(RNG_SEED)
    refused = 0
    for i in range(300):
        damaged = bytearray(whole)
        at = int(rng.integers(len(whole)))
        if i % 3:
            damaged[at] ^= int(rng.integers(1, 256))
        else:
            del damaged[at:]
        path.write_bytes(damaged)
        try:
            tc.read_layers(path)
        except TensorconvError:
            refused += 1
    assert refused > 50


def test_suffix_and_existence(tmp_path):
    with pytest.raises(FormatError, match=r"path must end in one of .npy, .npz, .safetensors, .onnx, got .*weights.pt"):
        tc.read_layers(tmp_path / "weights.pt")
    for suffix in (".npy", ".npz", ".safetensors", ".onnx"):
        with pytest.raises(FileNotFoundError):
            tc.read_layers(tmp_path / f"absent{suffix}")
    np.savez(tmp_path / "archive.npz", **KERNELS)
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    with pytest.raises(FormatError, match=r"name it \.npz"):
        tc.read_layers(tmp_path / "archive.npy")
    np.save(tmp_path / "array.npy", KERNELS["deep"])
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(FormatError, match=r"name it \.npy"):
        tc.read_layers(tmp_path / "array.npz")


@pytest.mark.parametrize(("package", "suffix"), [("onnx", ".onnx"), ("safetensors", ".safetensors")])
def test_a_missing_package_is_named_with_its_extra(tmp_path, package, suffix):
    path = tmp_path / f"file{suffix}"
    path.touch()
    code = f"import sys; sys.modules[{package!r}] = None; import tensorconv as tc; tc.read_layers({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    message = f"reading {suffix} needs the package {package}: pip install 'tensorconv[{package}]'"
    assert f"MissingFrameworkError: {message}" in done.stderr


def test_reading_arrays_loads_no_framework(tmp_path):
    np.save(tmp_path / "k.npy", KERNELS["deep"])
    code = f"import sys, tensorconv as tc; tc.read_layers({str(tmp_path / 'k.npy')!r}); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout))
    assert not loaded & {"onnx", "safetensors", "torch", "numba", "scipy", "tensorly", "typer", "rich"}


def test_bfloat16_tensors_are_read_in_a_fresh_process(tmp_path: Path) -> None:
    # numpy learns the type from a package that nothing may have loaded yet
    torch = importlib.import_module("torch")
    save = importlib.import_module("safetensors.torch").save_file
    save({"w": torch.ones(4, 3, 3, 3, dtype=torch.bfloat16)}, str(tmp_path / "w.safetensors"))
    code = "import sys, tensorconv as tc\n(found,) = tc.read_layers(sys.argv[1])\nprint(found.layer.dtype)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "w.safetensors")], capture_output=True, text=True, check=False
    )
    assert done.stdout == "bfloat16\n", done.stderr
