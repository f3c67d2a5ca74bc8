"""Every notebook runs from its first cell to its last without a warning, and is stored with what it gives.

``python tests/test_notebooks.py`` runs them all and stores their outputs again; names after it choose some of them.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 300_000  # bytes of a stored notebook
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
# machines round differently, which training and searches for ranks amplify
RELATIVE, ABSOLUTE = 0.05, 1e-6
PLACES = re.compile(r"(?<![\w./])/(?:home|root|tmp|usr|var|work|Users)/|[A-Z]:\\\\")


def executed(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Return a copy of a notebook, run in a folder by a kernel of this interpreter, with nothing of this machine."""
    fresh = nbformat.from_dict({**notebook, "metadata": {}})
    variables = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "IPYTHONDIR": str(folder / ".ipython")}
    single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "PYDEVD_DISABLE_FILE_VALIDATION"), "1")
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        fresh, timeout=120, kernel_name="python3", resources=resources, record_timing=False, coalesce_streams=True
    )
    client.execute(env={**os.environ, **variables, **single})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    fresh.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    return fresh


def outputs(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """Yield every output with the number of its cell."""
    for i, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", ()):
            yield i, output


def text_of(output: NotebookNode) -> str:
    """Return the kind of an output and its text; pictures differ from machine to machine."""
    data = output.get("data", {})
    return " ".join([output.output_type, *sorted(data), output.get("text", data.get("text/plain", ""))])


def same(one: str, other: str) -> bool:
    """Tell whether two texts have the same words, and numbers that are equal but for what machines change."""
    if NUMBER.split(one) != NUMBER.split(other):
        return False
    pairs = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
    values = ((float(a.replace(",", "")), float(b.replace(",", ""))) for a, b in pairs)
    return all(a == pytest.approx(b, rel=RELATIVE, abs=ABSOLUTE) for a, b in values)


def faults(stored: NotebookNode, fresh: NotebookNode) -> list[str]:
    """Return what is wrong with a notebook as it is stored, or as it ran."""
    found = [f"cell {i} writes to stderr: {o.text}" for i, o in outputs(fresh) if o.get("name") == "stderr"]
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"it was not run from top to bottom: {counts}")
    if not any("image/png" in output.get("data", {}) for _, output in outputs(stored)):
        found.append("it has no picture")
    found += [f"cell {i} is stored with an error" for i, o in outputs(stored) if o.output_type == "error"]
    found += [f"cell {i} names a place: {text_of(o)}" for i, o in outputs(stored) if PLACES.search(text_of(o))]
    before, after = ([(i, text_of(output)) for i, output in outputs(each)] for each in (stored, fresh))
    if [i for i, _ in before] != [i for i, _ in after]:
        return [*found, "its cells have other numbers of outputs than are stored"]
    pairs = zip(before, after, strict=True)
    return found + [f"cell {i} now gives\n{b}\nnot\n{a}" for (i, a), (_, b) in pairs if not same(a, b)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_gives_what_is_stored(path: Path, tmp_path: Path) -> None:
    stored = nbformat.read(path, as_version=4)
    found = faults(stored, executed(stored, tmp_path))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_says_what_it_teaches(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < LARGEST
    assert notebook.cells[0].cell_type == "markdown"
    assert "At the end you will know" in notebook.cells[0].source
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_there_are_seven() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{i:02}" for i in range(1, 8)]


def small(text: str, stream: str = "stdout", count: int = 1, kind: str = "stream") -> NotebookNode:
    """Return a notebook of one cell with one text and one picture."""
    picture = new_output("display_data", {"image/png": "", "text/plain": "<Figure>"})
    wrong = new_output("error", ename="E", evalue="", traceback=[])
    said = new_output("stream", name=stream, text=text) if kind == "stream" else wrong
    return new_notebook(cells=[new_code_cell("", execution_count=count, outputs=[said, picture])])


def test_a_good_notebook_has_no_faults() -> None:
    assert faults(small("rank 100, error 0.3"), small("rank 101, error 0.301")) == []


@pytest.mark.parametrize(
    ("stored", "fresh", "fault"),
    [
        (small("a"), small("a", "stderr"), "writes to stderr"),
        (small("a", count=2), small("a"), "not run from top to bottom"),
        (small("a"), small("b"), "now gives"),
        (small("error 0.30"), small("error 0.35"), "now gives"),
        (small("/home/somebody/x"), small("/home/somebody/x"), "names a place"),
        (small("", kind="error"), small("", kind="error"), "stored with an error"),
        (new_notebook(), new_notebook(), "no picture"),
        (small("a"), new_notebook(), "other numbers of outputs"),
    ],
)
def test_faults_are_found(stored: NotebookNode, fresh: NotebookNode, fault: str) -> None:
    found = faults(stored, fresh)
    assert len(found) == 1
    assert fault in found[0]


if __name__ == "__main__":
    for chosen in [FOLDER / name for name in sys.argv[1:]] or NOTEBOOKS:
        with tempfile.TemporaryDirectory() as place:
            done = executed(nbformat.read(chosen, as_version=4), Path(place))
        temporary = chosen.with_suffix(".part")
        nbformat.write(done, temporary)
        temporary.replace(chosen)
