"""The command line: what it prints, what it saves, its exit codes, and how it behaves in a pipe."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from networks import network, run, write
from onnx import helper
from typer.testing import CliRunner

import tensorconv as tc
from tensorconv.cli.app import app
from tensorconv.factorizations import registered

COMMAND = [sys.executable, "-c", "from tensorconv.cli import main; main()"]
LONG_NAME = "a/very/long/" + "name." * 60 + "[bold]:smile:"


def invoke(*arguments: object, code: int = 0) -> tuple[str, str]:
    """Run a command in this process; return what it wrote to stdout and stderr."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, result.stderr


def refused(*arguments: object) -> str:
    """Run a command that cannot be carried out; return the one line that says why."""
    stdout, stderr = invoke(*arguments, code=2)
    assert stdout == ""
    assert stderr.startswith("tensorconv: ")
    assert stderr.count("\n") == 1
    return stderr


def low_rank_kernel(dtype: str = "float32") -> np.ndarray:
    """A kernel (8, 6, 3, 3) of rank 2 between (I, K1) and (O, K2), so that much can be saved."""
    rng = np.random.default_rng(3)
    left, right = rng.standard_normal((2, 6, 3)), rng.standard_normal((2, 8, 3))
    return np.einsum("rik,rol->oikl", left, right).astype(dtype)


@pytest.fixture
def kernel_file(tmp_path):
    np.save(tmp_path / "kernel.npy", low_rank_kernel())
    return tmp_path / "kernel.npy"


@pytest.fixture
def network_file(tmp_path):
    rng = np.random.default_rng(4)
    tensors = {"w1": rng.standard_normal((4, 3, 3, 3)), "w2": rng.standard_normal((6, 2, 2, 2)), "b2": np.ones(6)}
    tensors = {name: array.astype("float32") for name, array in tensors.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="first", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w2", "b2"], ["y"], name="second", group=2),
        helper.make_node("Conv", ["x", "a"], ["z"], name="computed"),
    ]
    return write(network(nodes, tensors, ("batch", 3, 9, 8)), tmp_path / "network.onnx")


def test_inspect_a_network(network_file):
    stdout, stderr = invoke("inspect", network_file)
    lines = stdout.splitlines()
    assert stderr == ""
    assert lines[0].split()[:4] == ["layer", "kernel", "geometry", "parameters"]
    # first: 4 * 3 * 9 weights at 5 x 4 outputs; second: 6 * 2 * 4 weights at 4 x 3 outputs
    assert lines[1].split()[:7] == ["first", "4x3x3x3", "stride", "2,", "padding", "1", "108"]
    assert "2,160" in lines[1]
    assert "groups 2" in lines[2]
    assert "576" in lines[2]
    assert lines[3] == "2 layers, 162 parameters, 2,736 MACs"
    assert lines[4] == "left out: computed: weights 'a': computed in the network, not stored in it"


def test_inspect_json(network_file):
    stdout, stderr = invoke("inspect", network_file, "--json")
    assert stderr == ""
    said = json.loads(stdout)
    first, second = said["layers"]
    assert (first["macs"], second["macs"]) == (2160, 576)
    assert (first["padding"], first["stride"]) == ([[1, 1], [1, 1]], [2, 2])
    assert (second["groups"], second["bias"], second["input_size"]) == (2, True, [5, 4])
    assert [skipped["layer"] for skipped in said["skipped"]] == ["computed"]
    kernel = tc.read_layers(network_file)[0].layer.kernel.astype(np.float64)
    values = np.linalg.svd(np.swapaxes(kernel, 0, 1).reshape(3, -1), compute_uv=False)
    side = first["spectrum"]["in"]
    # two float64 SVDs of 3 x 36 matrices: each within some 36 roundings of the largest value
    np.testing.assert_allclose(side["singular_values"], values, atol=200 * np.finfo(float).eps * values[0])
    energy = np.cumsum(values**2) / np.sum(values**2)
    assert (side["rank_90"], side["rank_99"]) == (np.argmax(energy >= 0.9) + 1, np.argmax(energy >= 0.99) + 1)


def test_inspect_is_not_cut_or_interpreted(tmp_path):
    np.savez(tmp_path / "k.npz", **{LONG_NAME: np.ones((2, 2, 3))})
    stdout, _ = invoke("inspect", tmp_path / "k.npz", "--input-size", "7")
    (row,) = [line for line in stdout.splitlines() if line.startswith("a/very")]
    assert row.split() == [
        LONG_NAME,
        "2x2x3",
        "not",
        "in",
        "the",
        "file",
        "12",
        "60",
        "1/1",
        "of",
        "2",
        "█▁",
        *["1/1", "of"],
        "2",
        "█▁",
    ]
    assert "\x1b" not in stdout


def test_inspect_layout_and_size(tmp_path):
    np.save(tmp_path / "keras.npy", np.ones((3, 3, 5, 7), "float32"))
    (layer,) = json.loads(invoke("inspect", tmp_path / "keras.npy", "--layout", "*IO", "--json")[0])["layers"]
    assert (layer["in_channels"], layer["out_channels"], layer["macs"]) == (5, 7, None)
    assert "has 1 spatial axes, no layer" in refused("inspect", tmp_path / "keras.npy", "--input-size", "8")
    assert invoke("inspect", tmp_path / "keras.npy", "--input-size", "8xa", code=2)[0] == ""


def test_inspect_a_file_without_layers(tmp_path):
    np.savez(tmp_path / "none.npz", pixels=np.ones((3, 3, 3), int))
    stdout, _ = invoke("inspect", tmp_path / "none.npz")
    assert stdout.splitlines()[0] == "0 layers, 0 parameters"
    assert stdout.splitlines()[1].startswith("left out: pixels: ")


GEOMETRIES = [
    ([], {}),
    (["--stride", "2x1", "--padding", "1", "--dilation", 2], {"stride": (2, 1), "padding": 1, "dilation": 2}),
    (["--padding", "0:1x-1:2"], {"padding": [(0, 1), (-1, 2)]}),
    (["--groups", 2, "--padding", "1x0"], {"groups": 2, "padding": (1, 0)}),
    (["--transposed", "--stride", 2, "--padding", 1], {"transposed": True, "stride": 2, "padding": 1}),
    (["--layout", "IO*", "--transposed", "--groups", 2], {"layout": "IO*", "transposed": True, "groups": 2}),
]


@pytest.mark.parametrize(("options", "meaning"), GEOMETRIES)
def test_factorize_and_verify_under_every_geometry(kernel_file, tmp_path, options, meaning):
    layer = tc.ConvLayer.of(low_rank_kernel(), name="kernel", **meaning)
    out = tmp_path / "out.npz"
    stdout, stderr = invoke("factorize", kernel_file, out, "--method", "cp", "--error", "0.1", *options)
    assert stderr == ""
    assert f"kernel: {layer}" in stdout
    assert "consistent      yes" in stdout
    sequence = tc.load(out)
    report = tc.verify(layer, sequence)
    assert report.consistent
    assert report.kernel_error <= 0.1
    assert tc.compose(sequence).geometry.stride == layer.geometry.stride
    assert invoke("verify", kernel_file, out, "--max-error", "0.1", *options)[0].endswith("passed\n")
    said = json.loads(invoke("verify", kernel_file, out, "--max-error", "1e-9", *options, "--json", code=1)[0])
    assert said["passed"] is False
    assert said["report"]["kernel_error"] == report.kernel_error


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".onnx"])
def test_factorize_saves_what_it_says(network_file, tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    arguments = ("factorize", network_file, out, "--layer", "first", "--method", "svd", "--rank", 2, "--json")
    stdout, stderr = invoke(*arguments)
    assert stderr == ""
    said = json.loads(stdout)
    (first, _) = tc.read_layers(network_file)
    wanted = tc.svd(first.layer, 2)
    assert (said["method"], said["rank"], said["relative_error"]) == ("svd", 2, wanted.relative_error)
    assert said["report"]["input_size"] == [9, 8]
    assert said["report"]["macs"] == [2160, wanted.sequence.macs((9, 8))]
    assert [layer["kernel"] for layer in said["sequence"]] == [list(layer.kernel.shape) for layer in wanted.sequence]
    for ours, theirs in zip(tc.load(out), wanted.sequence, strict=True):
        assert ours.kernel.tobytes() == theirs.kernel.tobytes()
        assert ours.geometry == theirs.geometry


def test_factorize_best_by_budget(kernel_file, tmp_path):
    arguments = ("--budget", 0.6, "--of", "parameters", "--input-size", "16x16", "--json")
    said = json.loads(invoke("factorize", kernel_file, tmp_path / "o.npz", *arguments)[0])
    before, after = said["report"]["n_parameters"]
    assert after <= 0.6 * before
    assert said["report"]["input_size"] == [16, 16]
    compared = {name for name, method in registered().items() if method.compared}
    assert {trial["method"] for trial in said["tried"]} == compared
    text = invoke("factorize", kernel_file, tmp_path / "o.npz", "--budget", 0.6)[0]
    assert "chosen" in text
    assert f"saved to {tmp_path / 'o.npz'}" in text


def test_factorize_rank_per_mode(kernel_file, tmp_path):
    out = tmp_path / "o.npz"
    said = json.loads(invoke("factorize", kernel_file, out, "--method", "tucker", "--rank", "4x5", "--json")[0])
    assert said["rank"] == [4, 5]


def test_factorize_refusals(kernel_file, network_file, tmp_path):
    out = tmp_path / "out.npz"
    assert "holds 2 layers, choose one by --layer: first, second" in refused("factorize", network_file, out)
    assert "holds no layer 'third'; it holds first, second" in refused(
        "factorize", network_file, out, "--layer", "third"
    )
    computed = refused("factorize", network_file, out, "--layer", "computed")
    assert "left out: computed: weights 'a': computed in the network" in computed
    itself = refused("factorize", network_file, out, "--layer", "first", "--stride", 2, "--error", 0.1)
    assert "says the geometry of layer 'first' itself" in itself
    assert "leave out --stride" in itself
    assert "is for plain arrays" in refused("factorize", network_file, out, "--layer", "first", "--layout", "OI*")
    assert "exactly one of rank, error and budget" in refused("factorize", kernel_file, out, "--method", "svd")
    assert "method must be" in refused("factorize", kernel_file, out, "--method", "magic", "--rank", 1)
    assert "groups must divide" in refused("factorize", kernel_file, out, "--groups", 3, "--error", 0.1)
    assert "OUT must end in one of .npz, .safetensors, .onnx" in refused("factorize", kernel_file, tmp_path / "o.pt")
    assert "the folder of OUT must exist" in refused("factorize", kernel_file, tmp_path / "no" / "o.npz")
    for option, text in (("--stride", "fast"), ("--padding", "1:2:3"), ("--rank", "4y4"), ("--of", "joules")):
        assert invoke("factorize", kernel_file, out, option, text, code=2)[0] == ""
    assert not out.exists()


def test_verify_says_no_by_its_exit_code(tmp_path):
    rng = np.random.default_rng(6)
    kernel, bias = rng.standard_normal((4, 4, 3)).astype("float32"), np.ones(4, "float32")
    layer = tc.ConvLayer.of(kernel, bias, padding=1, name="conv")
    tc.save(tmp_path / "layer.npz", layer)
    wrong = {
        "kernel": tc.ConvLayer.of(kernel * np.float32(1.25), bias, padding=1),
        "bias": tc.ConvLayer.of(kernel, bias * 2, padding=1),
        "no_bias": tc.ConvLayer.of(kernel, padding=1),
        "padding": tc.ConvLayer.of(kernel, bias, padding=0),
        "shifted": tc.ConvLayer.of(kernel, bias, padding=[(2, 0)]),
        "stride": tc.ConvLayer.of(kernel, bias, padding=1, stride=2),
        "flipped": tc.ConvLayer.of(kernel[:, :, ::-1], bias, padding=1),
    }
    tc.save(tmp_path / "same.npz", layer)
    assert "passed" in invoke("verify", tmp_path / "layer.npz", tmp_path / "same.npz")[0]
    for name, other in wrong.items():
        tc.save(tmp_path / f"{name}.npz", other)
        assert "FAILED" in invoke("verify", tmp_path / "layer.npz", tmp_path / f"{name}.npz", code=1)[0]
        stdout, _ = invoke(
            "verify", tmp_path / "layer.npz", tmp_path / f"{name}.npz", "--max-error", 0.1, "--json", code=1
        )
        said = json.loads(stdout)
        assert (said["passed"], said["report"]["exact"]) == (False, False), name
    assert "passed" in invoke("verify", tmp_path / "layer.npz", tmp_path / "kernel.npz", "--max-error", 0.26)[0]
    tc.save(tmp_path / "other.npz", tc.ConvLayer.of(np.ones((5, 4, 3))))
    assert "the layer has (4, 4, 1)" in refused("verify", tmp_path / "layer.npz", tmp_path / "other.npz")


def test_verify_of_a_sequence_that_is_no_single_convolution(tmp_path):
    kernel = np.ones((2, 2, 3))
    twice = tc.ConvSequence([tc.ConvLayer.of(kernel, padding=1), tc.ConvLayer.of(kernel, padding=1)])
    tc.save(tmp_path / "twice.npz", twice)
    np.save(tmp_path / "kernel.npy", np.ones((2, 2, 5)))
    arguments = ("verify", tmp_path / "kernel.npy", tmp_path / "twice.npz", "--padding", 2, "--max-error", 1, "--json")
    said = json.loads(invoke(*arguments, code=1)[0])
    assert (said["passed"], said["report"]["consistent"]) == (False, None)


def test_export_converts_bitwise(tmp_path):
    rng = np.random.default_rng(8)
    depthwise = tc.ConvLayer.of(rng.standard_normal((4, 1, 3)).astype("float32"), padding=[(0, 1)], groups=4)
    sequence = tc.ConvSequence(
        [depthwise, tc.ConvLayer.of(rng.standard_normal((2, 4, 1)).astype("float32"), np.ones(2))]
    )
    tc.save(tmp_path / "a.npz", sequence)
    for before, after in (("a.npz", "b.onnx"), ("b.onnx", "c.safetensors"), ("c.safetensors", "d.npz")):
        assert f"saved to {tmp_path / after}" in invoke("export", tmp_path / before, tmp_path / after)[0]
    for ours, theirs in zip(tc.load(tmp_path / "d.npz"), sequence, strict=True):
        assert ours.kernel.tobytes() == theirs.kernel.tobytes()
        assert ours.geometry == theirs.geometry
    x = rng.standard_normal((1, 4, 9)).astype("float32")
    assert run(tmp_path / "b.onnx", x).shape == (1, 2, 8)
    (tmp_path / "broken.npz").write_bytes(b"PK and no more")
    refused("export", tmp_path / "broken.npz", tmp_path / "e.npz")
    refused("export", tmp_path / "a.npz", tmp_path / "e.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.npz",
        "b.onnx",
        "broken.npz",
        "c.safetensors",
        "d.npz",
    ]


def test_files_that_are_not_there_or_not_whole(tmp_path):
    stdout, stderr = invoke("inspect", tmp_path / "absent.npy", code=2)
    assert stdout == ""
    assert "does not exist" in stderr
    (tmp_path / "weights.pt").touch()
    assert "path must end in one of .npy" in refused("inspect", tmp_path / "weights.pt")
    (tmp_path / "broken.npz").write_bytes(b"PK and\nno more")
    assert "cannot be read as a numpy file" in refused("inspect", tmp_path / "broken.npz", "--json")


def test_version_and_help():
    assert invoke("--version")[0] == f"tensorconv {tc.__version__}\n"
    assert "Exit codes: 0 fine" in invoke("--help")[0]
    for command in ("inspect", "factorize", "verify", "export", "demo"):
        text = invoke(command, "--help")[0]
        assert f"Usage: tensorconv {command}" in text or f" {command} " in text.splitlines()[0]
        assert "-------" not in text  # the sections for readers of the source stay there


def test_the_installed_command_in_a_process_of_its_own(kernel_file, tmp_path):
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="tensorconv")
    assert entry.value == "tensorconv.cli:main"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "20"}
    done = subprocess.run([*COMMAND, "inspect", kernel_file], capture_output=True, check=True, env=environment)
    assert b"kernel  8x6x3x3  not in the file         432" in done.stdout
    assert done.stdout.isascii()
    assert done.stderr == b""
    np.savez(tmp_path / "k.npz", größe層=np.ones((1, 1, 3)))
    environment["PYTHONIOENCODING"] = "latin-1"
    done = subprocess.run([*COMMAND, "inspect", tmp_path / "k.npz"], capture_output=True, check=True, env=environment)
    assert "größe\\u5c64  1x1x3".encode("latin-1") in done.stdout
    done = subprocess.run([*COMMAND, "inspect", tmp_path / "absent.npy"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    tc.save(tmp_path / "layer.npz", tc.ConvLayer.of(np.ones((1, 1, 3))))
    tc.save(tmp_path / "other.npz", tc.ConvLayer.of(np.zeros((1, 1, 3))))
    files = [tmp_path / "layer.npz", tmp_path / "other.npz"]
    assert subprocess.run([*COMMAND, "verify", *files], capture_output=True, check=False).returncode == 1


def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path):
    np.savez(tmp_path / "many.npz", **{f"layer{i}": np.ones((64, 64, 1)) for i in range(60)})  # more than a pipe holds
    process = subprocess.Popen(
        [*COMMAND, "inspect", tmp_path / "many.npz", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"{\n"
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    process.wait(60)
    assert b"Traceback" not in said


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_extra_one_line_says_so(package):
    code = f"import sys; sys.modules[{package!r}] = None; from tensorconv.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"tensorconv: the command line needs {package}: pip install 'tensorconv[cli]'\n"


def test_help_and_inspect_load_no_framework(kernel_file):
    for arguments in (["--help"], ["inspect", str(kernel_file)]):
        code = (
            f"import sys; sys.argv[1:] = {arguments}\nfrom tensorconv.cli import main\n"
            "try: main()\nexcept SystemExit: pass\n"
            "print({'numba', 'scipy', 'tensorly', 'torch', 'onnx', 'onnxruntime'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "set()"


def test_an_error_of_the_system_is_one_line_too(kernel_file, tmp_path):
    (tmp_path / "folder.npz").mkdir()
    arguments = ("factorize", kernel_file, tmp_path / "folder.npz", "--rank", 1, "--method", "svd")
    assert invoke(*arguments, code=2)[0] == ""
    assert [path.name for path in Path(tmp_path).glob(".*")] == []


def test_progress_shows_only_to_a_person(kernel_file, tmp_path):
    for extra, shown in (([], True), (["--json"], False)):
        watching, terminal = pty.openpty()
        arguments = ["factorize", kernel_file, tmp_path / "o.npz", "--method", "svd", "--rank", "1", *extra]
        environment = {**os.environ, "TERM": "xterm"}
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=terminal, check=True, env=environment
        )
        os.close(terminal)
        seen = b""
        while chunk := _read(watching):
            seen += chunk
        os.close(watching)
        assert (b"factorizing kernel" in seen) is shown
        assert b"\x1b" not in done.stdout
        assert b"factorizing" not in done.stdout


def _read(terminal: int) -> bytes:
    """Read what is left on a terminal whose other end is closed, which Linux tells by an error."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_a_sequence_with_other_steps_is_not_taken_for_its_convolution(tmp_path):
    layer = tc.ConvLayer.of(np.random.default_rng(0).standard_normal((2, 2, 3)), name="only")
    tc.save(tmp_path / "layer.npz", layer)
    tc.save(tmp_path / "steps.npz", tc.ConvSequence([tc.PermuteLayer((1, 0)), layer]))
    for arguments in (
        ("verify", tmp_path / "steps.npz", tmp_path / "layer.npz"),
        ("factorize", tmp_path / "steps.npz", tmp_path / "out.npz", "--rank", "1"),
    ):
        assert "holds a sequence with steps beside its convolutions (0: order (1, 0)" in refused(*arguments)
