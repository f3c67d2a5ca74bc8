"""The command line for whole networks: what it saves and says, when it says no, and what it refuses before any work."""

from __future__ import annotations

import json
import logging
import os
import pty
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from distributed import LocalCluster
from networks import network, run, write
from onnx import helper
from test_cli import COMMAND, invoke, refused

import tensorconv as tc
from tensorconv.demo import IMAGES, NETWORK

SVD = ("--method", "svd", "--even-if-slower")
HALF = ("--budget", 0.5, *SVD)
ONE = ("--error", 0.6, *SVD, "--include", "conv4")  # one layer, which is replaced
N_IMAGES = 12


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    with np.load(IMAGES) as content:
        return content["images"][:N_IMAGES, None].astype("float32") / 127.5 - 1, content["labels"][:N_IMAGES]


@pytest.fixture
def data(images, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, images=images[0], labels=images[1])
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def macs(path: Path) -> int:
    """Return the MACs of all convolutions of a network, as `inspect` counts them."""
    return sum(layer["macs"] for layer in json.loads(invoke("inspect", path, "--json")[0])["layers"])


def test_compress_saves_what_it_says(images, data, tmp_path):
    out = tmp_path / "small.onnx"
    asked = ("--budget", 0.8, *SVD, "--include", "conv3", "--data", data)
    said = json.loads(invoke("compress", NETWORK, out, *asked, "--json")[0])
    assert names(tmp_path) == ["small.onnx"]
    assert (said["met"], said["missed"], said["saved"], said["saved_plan"]) == (True, [], str(out), None)
    onnx.checker.check_model(onnx.load(out), full_check=True)
    assert macs(out) <= 0.8 * macs(NETWORK)
    replaced = {layer["name"] for layer in said["plan"]["layers"] if layer["choice"]}
    assert replaced == set(said["layers"])
    assert replaced
    before, after = (run(path, images[0]).astype(np.float64) for path in (NETWORK, out))
    drift = np.linalg.norm(after - before) / np.linalg.norm(before)
    # another number of images in a batch is another order of sums: at most 1152 float32 roundings in each of 6 layers
    assert abs(said["comparison"]["largest_drift"] - drift) < 6 * 1152 * 2.0**-24
    assert drift > 10 * 6 * 1152 * 2.0**-24
    right = [float(np.mean(scores.argmax(1) == images[1])) for scores in (before, after)]
    assert said["comparison"]["score"] == right
    text, stderr = invoke("compress", NETWORK, out, *asked)
    assert stderr == ""
    share = macs(out) / macs(NETWORK)
    assert text.splitlines()[-1].startswith(f"saved {out}: {100 * share:.1f} % of the MACs, ")
    assert f"drift {drift:.3g}, score {right[1]:.4g} after {right[0]:.4g}" in text


def test_a_limit_that_is_missed_leaves_out_as_it_was(data, tmp_path):
    out = tmp_path / "small.onnx"
    out.write_bytes(b"the old network")
    asked = ("--error", 0.3, *SVD, "--data", data, "--include", "conv3")
    page = tmp_path / "page.html"
    page.write_text("the old page")
    text = invoke("compress", NETWORK, out, *asked, "--max-drift", 0.0001, "--report", page, code=1)[0]
    assert "NOT saved: the drift 0." in text
    assert "is above --max-drift 0.0001" in text
    assert f"the plan is in {out}.plan.json\n" in text
    assert out.read_bytes() == b"the old network"
    assert names(tmp_path) == ["page.html", "small.onnx", "small.onnx.plan.json"]
    assert f"the report is in {page}\n" in text
    assert "is above --max-drift 0.0001</li>" in page.read_text()  # the page shows why
    plan = tmp_path / "small.onnx.plan.json"
    stdout, stderr = invoke(
        "apply", NETWORK, plan, out, "--data", data, "--max-drift", 9, "--min-score", 2, "--json", code=1
    )
    said = json.loads(stdout)
    assert stderr == ""
    assert (said["met"], said["saved"], said["saved_plan"]) == (False, None, str(plan))
    score = said["comparison"]["score"][1]
    assert said["missed"] == [f"the score {score:.4g} is below --min-score 2"]
    assert out.read_bytes() == b"the old network"
    asked = ("--data", data, "--max-drift", 9, "--min-score", 0, "--report", page, "--json")
    assert json.loads(invoke("apply", NETWORK, plan, out, *asked)[0])["saved_report"] == str(page)
    assert macs(out) < macs(NETWORK)
    assert "<h1>network.onnx</h1>" in page.read_text()
    assert "Limits not met" not in page.read_text()
    assert "does not say which candidates" not in page.read_text()  # the plan file says so, hence curves
    assert json.loads(plan.read_text())["layers"][2]["candidates"]
    assert names(tmp_path) == ["page.html", "small.onnx", "small.onnx.plan.json"]


def test_a_plan_writes_nothing_else_and_is_what_compress_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ("--budget", 0.8, *SVD, "--include", "conv[34]")
    text = invoke("plan", NETWORK, *asked)[0]
    assert names(tmp_path) == []
    said = json.loads(invoke("plan", NETWORK, *asked, "--json")[0])
    assert said["saved"] is None
    assert f"{text}\nsaved plan.json\n" == invoke("plan", NETWORK, *asked, "--out", "plan.json")[0]
    assert names(tmp_path) == ["plan.json"]
    assert json.loads(Path("plan.json").read_bytes()) | {"saved": None} == said
    Path("printed.json").write_text(json.dumps(said))
    invoke("compress", NETWORK, "a.onnx", *asked, "--save-plan", "again.json")
    invoke("apply", NETWORK, "plan.json", "b.onnx")
    invoke("apply", NETWORK, "printed.json", "c.onnx", "--jobs", 2)
    assert Path("plan.json").read_bytes() == Path("again.json").read_bytes()
    assert Path("a.onnx").read_bytes() == Path("b.onnx").read_bytes() == Path("c.onnx").read_bytes()
    assert names(tmp_path) == ["a.onnx", "again.json", "b.onnx", "c.onnx", "plan.json", "printed.json"]


def test_the_options_reach_the_engine(tmp_path):
    def asked(*options: object) -> dict:
        return json.loads(invoke("plan", NETWORK, *options, "--json")[0])

    plan = asked(
        *("--error", 0.6, "--of", "bytes", "--by", "kernel", "--method", "svd", "--method", "cp", "--multiple", 8),
        *("--include", "conv[23]", "--include", "conv4", "--exclude", "conv3", "--even-if-slower", "--batch", 2),
        *("--seed", 3),
    )
    wanted = {"budget": None, "error": 0.6, "of": "bytes", "by": "kernel", "methods": ["svd", "cp"], "multiple": 8}
    wanted |= {"include": ["conv[23]", "conv4"], "exclude": ["conv3"], "faster": False, "batch": 2, "seed": 3}
    assert {name: plan["settings"][name] for name in wanted} == wanted
    looked_at = [layer["name"] for layer in plan["layers"] if layer["note"] != "excluded"]
    assert looked_at == ["conv2", "conv4"]
    chosen = [layer["choice"] for layer in plan["layers"] if layer["choice"]]
    assert chosen
    assert all(choice["error"] <= 0.6 for choice in chosen)
    n = len(plan["layers"])
    assert len(asked("--error", 0.3, *SVD, "--linear")["layers"]) > n
    by_time = asked("--error", 0.9, "--of", "latency", "--method", "svd", "--include", "conv5")
    (conv5,) = (layer for layer in by_time["layers"] if layer["choice"])
    assert 0 < conv5["choice"]["ratio"][2] < 1
    open_network = network(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="only")],
        {"w": np.random.default_rng(0).standard_normal((8, 4, 3, 3)).astype("float32")},
        ("n", 4, "h", "w"),
    )
    path = write(open_network, tmp_path / "open.onnx")
    (only,) = json.loads(
        invoke("plan", path, "--error", 2, "--input-size", "12x7", "--even-if-slower", "--multiple", 1, "--json")[0]
    )["layers"]
    assert only["before"]["macs"] == 8 * 4 * 9 * 10 * 5


def test_bench(images, data, tmp_path):
    out = tmp_path / "small.onnx"
    invoke("compress", NETWORK, out, *HALF)
    text, stderr = invoke("bench", NETWORK, out, "--pairs", 7, "--threads", 1)
    assert stderr == ""
    assert text.splitlines()[1].startswith("latency, 1 threads")
    said = json.loads(invoke("bench", NETWORK, out, "--data", data, "--json")[0])
    assert said["n_pairs"] == 21
    outputs = [run(path, images[0]) for path in (NETWORK, out)]
    assert said["score"] == [float(np.mean(output.argmax(1) == images[1])) for output in outputs]
    same = json.loads(invoke("bench", NETWORK, NETWORK, "--data", data, "--json")[0])
    assert same["drift"] == {"logits": 0.0}
    assert same["score"][0] == same["score"][1]
    assert "Invalid value" in invoke("bench", NETWORK, out, "--pairs", 3, code=2)[1]


EVALUATIONS = """
from dataclasses import dataclass
from beside import SCALE

@dataclass
class Answer:
    score: "float"

def alone(run):
    return 1

def both(run, batches):
    (name,) = run(batches[0])
    return Answer(SCALE * sum(len(run(batch)[name]) for batch in batches)).score

def optional(run, batches=None):
    return 3 if batches is None else 4

def anything(*arguments):
    return len(arguments)

def broken(run):
    return {}["nothing"]

class Odd(Exception):
    pass

def odd(run):
    raise Odd("two\\nlines")

def wrong_input(run):
    return run({"pixels": 1})

def no_number(run):
    return "good"

def three(run, batches, more):
    return 0

def leaves(run):
    raise SystemExit(0)

def talks(run):
    print("thinking")
    return 1

value = 3
"""


@pytest.fixture
def evaluations(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluations")
    (folder / "beside.py").write_text("SCALE = 10\n")
    (folder / "judge.py").write_text(EVALUATIONS)
    (folder / "syntax.py").write_text("def f(:\n")
    (folder / "raises.py").write_text("\n1 / 0\n")
    return folder


def test_a_function_of_the_user_scores(evaluations, data):
    for function, score in (("alone", 1), ("both", 10 * N_IMAGES), ("optional", 3), ("anything", 1)):
        arguments = ("--data", data, "--evaluate", f"{evaluations / 'judge.py'}:{function}", "--pairs", 7, "--json")
        assert json.loads(invoke("bench", NETWORK, NETWORK, *arguments)[0])["score"] == [score, score], function
    talks = ("--evaluate", f"{evaluations / 'judge.py'}:talks", "--pairs", 7, "--json")
    stdout, stderr = invoke("bench", NETWORK, NETWORK, *talks)
    assert json.loads(stdout)["score"] == [1, 1]
    assert stderr == "thinking\nthinking\n"


def test_what_a_function_of_the_user_raises_is_one_line(evaluations, tmp_path):
    judge = evaluations / "judge.py"
    for text, message in (
        (f"{judge}:broken", f"--evaluate: {judge}, line 23: KeyError: 'nothing'"),
        (f"{judge}:odd", f"--evaluate: {judge}, line 29: Odd: two lines"),
        (f"{judge}:wrong_input", "batch has no input 'images', which the network needs"),
        (f"{judge}:no_number", "evaluate must return a number"),
        (f"{judge}:leaves", f"--evaluate: {judge}, line 41: SystemExit: 0"),
        (f"{judge}:three", "three must take run, or run and batches, got 3 parameters without defaults"),
        (f"{judge}:both", "both takes data, too; give them by --data"),
        (f"{judge}:value", "has no function 'value'; it has alone, both, optional, anything, broken, odd"),
        (f"{judge}", "--evaluate must be as FILE.py:function"),
        (f"{evaluations / 'absent.py'}:f", "must name a file that exists"),
        (f"{evaluations / 'syntax.py'}:f", "SyntaxError: invalid syntax (syntax.py, line 1)"),
        (f"{evaluations / 'raises.py'}:f", f"{evaluations / 'raises.py'}, line 2: ZeroDivisionError"),
    ):
        assert message in refused("bench", NETWORK, NETWORK, "--pairs", 7, "--evaluate", text), text
    late = refused("compress", NETWORK, tmp_path / "o.onnx", *ONE, "--evaluate", f"{judge}:odd")
    assert f"what is finished is kept in {tmp_path / 'o.onnx.work'}, --resume goes on from it" in late
    resumed = ("compress", NETWORK, tmp_path / "o.onnx", *ONE, "--resume")
    assert "score 1 after 1" in invoke(*resumed, "--evaluate", f"{judge}:alone")[0]
    assert names(tmp_path) == ["o.onnx"]


def test_data_are_taken_by_name_or_alone(images, tmp_path):
    np.save(tmp_path / "alone.npy", images[0])
    np.savez(tmp_path / "other_name.npz", photographs=images[0].astype("float64"))
    fortran = np.asfortranarray(images[0])
    np.savez(tmp_path / "by_name.npz", images=fortran, labels=images[1].astype("uint8"))
    found = []
    for name in ("alone.npy", "other_name.npz", "by_name.npz"):
        said = json.loads(invoke("bench", NETWORK, NETWORK, "--data", tmp_path / name, "--pairs", 7, "--json")[0])
        assert said["drift"] == {"logits": 0.0}
        found.append(said["score"] is None)
    assert found == [True, True, False]


def test_an_input_named_labels_is_an_input(tmp_path):
    nodes = [helper.make_node("Conv", ["labels", "w"], ["y"], name="only")]
    model = network(nodes, {"w": np.ones((2, 3, 3), "float32")}, ("n", 3, 8))
    model.graph.input[0].name = "labels"
    path = write(model, tmp_path / "n.onnx")
    np.savez(tmp_path / "d.npz", labels=np.ones((5, 3, 8), "float32"))
    said = json.loads(invoke("bench", path, path, "--data", tmp_path / "d.npz", "--pairs", 7, "--json")[0])
    assert said["score"] is None


def test_data_that_are_refused(images, tmp_path):
    x, labels = images
    out = tmp_path / "o.onnx"
    files = {
        "pixels.npz": ({"images": (x * 100).astype("int16")}, "must be float32, got int16; convert them as for"),
        "two.npz": ({"images": x, "more": x}, "data must have the inputs images, got images, more"),
        "empty.npz": ({"labels": labels}, "data must have the inputs images, got none"),
        "size.npz": ({"images": x[..., :27]}, "must have the shape (any, 1, 28, 28)"),
        "nan.npz": ({"images": np.full_like(x, np.nan)}, "must hold finite numbers only"),
        "few.npz": ({"images": x, "labels": labels[1:]}, "one class for each of the 12 images, got"),
        "floats.npz": ({"images": x, "labels": labels.astype(float)}, "labels must be integers"),
        "shape.npz": (
            {"images": x, "labels": labels[:, None]},
            "labels must have the axes of the network's first output 'logits' but the last",
        ),
    }
    for name, (arrays, message) in files.items():
        np.savez(tmp_path / name, **arrays)
        said = refused("compress", NETWORK, out, *ONE, "--data", tmp_path / name)
        assert message in said, name
    np.savez(tmp_path / "objects.npz", images=np.array([{}], object))
    (tmp_path / "broken.npz").write_bytes(b"PK and no more")
    (tmp_path / "text.npy").write_text("words")
    for name in ("objects.npz", "broken.npz", "text.npy"):
        assert "cannot be read as a numpy file of plain arrays" in refused(
            "plan", NETWORK, *HALF, "--data", tmp_path / name
        )
    (tmp_path / "images.csv").touch()
    assert "--data must end in .npz or .npy" in refused("plan", NETWORK, *HALF, "--data", tmp_path / "images.csv")
    assert not out.exists()


def test_what_is_refused_before_any_work(tmp_path, evaluations):
    model = tmp_path / "model.onnx"
    shutil.copy(NETWORK, model)
    (tmp_path / "link.onnx").symlink_to(model)
    (tmp_path / "same.onnx").hardlink_to(model)
    (tmp_path / "same.html").hardlink_to(model)
    (tmp_path / "link.html").symlink_to(model)
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    (tmp_path / "plan.json").write_text("[]")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").touch()
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "empty").mkdir()
    out, before = tmp_path / "out.onnx", names(tmp_path)
    for same in ("model.onnx", "link.onnx", "same.onnx"):
        assert "OUT must be another file than MODEL" in refused("compress", model, tmp_path / same, *HALF)
    for arguments, message in (
        ((tmp_path / "out.pt", *HALF), "OUT must end in .onnx"),
        ((tmp_path / "no" / "out.onnx", *HALF), "the folder of OUT must exist"),
        ((out,), "exactly one of budget and error must be given"),
        ((out, *HALF, "--error", 0.1), "exactly one of budget and error must be given"),
        ((out, "--budget", "nan"), "budget must be a finite number"),
        ((out, *HALF, "--save-plan", tmp_path / "plan.onnx"), "--save-plan must end in .json"),
        ((out, *HALF, "--save-plan", tmp_path / "no" / "plan.json"), "the folder of --save-plan must exist"),
        ((out, *HALF, "--report", tmp_path / "page.pdf"), "--report must end in .html"),
        ((out, *HALF, "--report", tmp_path / "no" / "page.html"), "the folder of --report must exist"),
        ((out, *HALF, "--report", tmp_path / "same.html"), "--report must be another file than"),
        ((out, *HALF, "--report", tmp_path / "link.html"), "--report must be another file than"),
        ((out, *HALF, "--min-score", 0.9), "--min-score needs a score"),
        ((out, *HALF, "--work", model), "--work must be a folder"),
        ((out, *HALF, "--work", tmp_path / "no" / "work"), "the folder of --work must exist"),
        ((out, *HALF, "--work", tmp_path / "folder"), "holds other things"),
        ((tmp_path / "empty" / "o.onnx", *HALF, "--work", tmp_path / "empty"), "must not hold what is to stay"),
        ((out, "--budget", 0.5, "--method", "magic"), "got 'magic'"),
        ((out, "--budget", 0.001, *SVD), "cannot be met"),
        ((out, *HALF, "--by", "responses"), "needs data"),
        ((out, *HALF, "--by", "score"), "needs an evaluation"),
    ):
        assert message in refused("compress", model, *arguments), message
        assert names(tmp_path) == before, message
    assert "broken.onnx" in refused("compress", tmp_path / "broken.onnx", out, *HALF)
    assert "a network must be an .onnx file" in refused("plan", tmp_path / "plan.json", *HALF)
    assert "--resume needs the folder" in refused("plan", model, *HALF, "--resume")
    judge = f"{evaluations / 'judge.py'}:alone"
    assert "uses --evaluate with --by score only" in refused("plan", model, *HALF, "--evaluate", judge)
    assert "a plan must be an object" in refused("apply", model, tmp_path / "plan.json", out)
    for text in ("fast", "0x3"):
        assert invoke("plan", model, *HALF, "--input-size", text, code=2)[0] == ""
    assert names(tmp_path) == before


def test_a_plan_of_another_network_is_refused(tmp_path):
    plan, out = tmp_path / "plan.json", tmp_path / "out.onnx"
    invoke("plan", NETWORK, *ONE, "--out", plan)
    invoke("apply", NETWORK, plan, out)
    assert "the plan is for another network" in refused("apply", out, plan, tmp_path / "again.onnx")
    assert names(tmp_path) == ["out.onnx", "plan.json"]
    said = json.loads(plan.read_bytes())
    (layer,) = (layer for layer in said["layers"] if layer["choice"])
    layer["choice"]["rank"] = 10**6
    plan.write_text(json.dumps(said))
    assert "cannot be written by svd as planned" in refused("apply", NETWORK, plan, tmp_path / "again.onnx")
    assert names(tmp_path) == ["out.onnx", "plan.json"]


def test_resuming_another_request_is_refused_and_starting_anew_is_not(evaluations, tmp_path):
    out, odd = tmp_path / "o.onnx", f"{evaluations / 'judge.py'}:odd"
    refused("compress", NETWORK, out, *ONE, "--evaluate", odd)
    assert names(tmp_path) == ["o.onnx.work"]
    assert "is that of another model, request, data or version" in refused(
        "compress", NETWORK, out, *ONE, "--seed", 1, "--resume"
    )
    assert names(tmp_path) == ["o.onnx.work"]
    invoke("compress", NETWORK, out, *ONE, "--seed", 1)
    assert names(tmp_path) == ["o.onnx"]


def test_scores_that_choices_depend_on_belong_to_the_run(tmp_path):
    judge, out = tmp_path / "judge.py", tmp_path / "o.onnx"
    judge.write_text("calls = []\ndef score(run):\n    calls.append(1)\n    return 1 if len(calls) < 3 else 1 / 0\n")
    arguments = ("compress", NETWORK, out, *ONE, "--by", "score", "--evaluate", f"{judge}:score")
    assert "--resume goes on from it" in refused(*arguments)  # planned by the first two, and then the third
    judge.write_text("def score(run):\n    return 2\n")
    assert "is that of another model, request, data or version" in refused(*arguments, "--resume")
    assert "score 2 after 2" in invoke(*arguments)[0]
    judge.write_text("def score(run):\n    raise OSError('no disk')\n")
    assert "OSError: no disk" in refused("plan", NETWORK, *arguments[3:], "--work", tmp_path / "work")
    assert sorted(set(names(tmp_path)) - {"__pycache__"}) == ["judge.py", "o.onnx"]


def test_a_network_that_cannot_be_run_is_refused_at_once(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="only"),
        helper.make_node("Reshape", ["c", "shape"], ["y"]),
    ]
    tensors = {"w": np.ones((8, 4, 3), "float32"), "shape": np.array([7, 7, 7])}
    path, before = write(network(nodes, tensors, (1, 4, 9)), tmp_path / "n.onnx"), ["n.onnx"]
    for arguments in (("compress", path, tmp_path / "o.onnx"), ("plan", path)):
        assert "cannot" in refused(*arguments, *HALF)
        assert names(tmp_path) == before
    assert "cannot" in refused("bench", path, path)


def test_progress_shows_only_to_a_person(tmp_path):
    arguments = ["compress", NETWORK, tmp_path / "o.onnx", *map(str, ONE)]
    for extra, shown in (([], True), (["--json"], False)):
        watching, terminal = pty.openpty()
        with ThreadPoolExecutor(1) as readers:  # a terminal that nobody reads is full after a few pages
            reading = readers.submit(_read_all, watching)
            done = subprocess.run(
                [*COMMAND, *arguments, *extra],
                stdout=subprocess.PIPE,
                stderr=terminal,
                check=True,
                env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
            )
            os.close(terminal)
            seen = reading.result()
        for text in (b"reading", b"looking at layers", b"fitting layers", b"comparing", b"conv4"):
            assert (text in seen) is shown, text
        assert b"\x1b" not in done.stdout
        assert b"fitting layers" not in done.stdout


def _read_all(terminal: int) -> bytes:
    """Read a terminal until its other end is closed, which Linux tells by an error."""
    seen = b""
    try:
        while chunk := os.read(terminal, 4096):
            seen += chunk
    except OSError:
        os.close(terminal)
    return seen


def test_the_help_of_every_command():
    for command in ("compress", "plan", "apply", "bench"):
        text = invoke(command, "--help")[0]
        assert f"tensorconv {command}" in text or f" {command} " in text.splitlines()[0]
        assert "-------" not in text  # the sections for readers of the source stay there
    assert tc.__version__ in invoke("--version")[0]


@pytest.mark.parametrize("command", ["compress", "apply", "plan"])
def test_a_cluster_and_processes_exclude_one_another(command, tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    places = {"compress": [tmp_path / "o.onnx"], "apply": [tmp_path / "plan.json", tmp_path / "o.onnx"], "plan": []}
    budget = [] if command == "apply" else ["--budget", 0.5]
    said = refused(command, NETWORK, *places[command], *budget, "--dask", "tcp://localhost:1", "--jobs", 2)
    assert "--jobs is for processes on this machine, --dask for a cluster; give one of them" in said


def test_compress_on_a_cluster_saves_the_same(tmp_path):
    invoke("compress", NETWORK, tmp_path / "here.onnx", *HALF, "--without-running")
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None, silence_logs=logging.CRITICAL
    ) as cluster:
        said, _ = invoke(
            "compress", NETWORK, tmp_path / "o.onnx", *HALF, "--without-running", "--dask", cluster.scheduler_address
        )
    assert said.strip().endswith("% of the MACs, not run")
    assert (tmp_path / "o.onnx").read_bytes() == (tmp_path / "here.onnx").read_bytes()


def test_limits_need_a_run(tmp_path):
    said = refused("compress", NETWORK, tmp_path / "o.onnx", *HALF, "--without-running", "--max-drift", 0.1)
    assert "--max-drift and --min-score need the networks to be run; leave out --without-running" in said
    assert names(tmp_path) == []
