"""Every benchmark runs once, small, so that it still works when its figures are wanted."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

PROGRAMS = {
    "blas_threads": ["--channels", "8", "--rank", "4", "--sweeps", "3"],
    "decompositions": ["{folder}", "--channels", "24", "--repeats", "1", "--write", "{folder}/page.md"],
    "patch_statistics": ["--megabytes", "1", "--repeats", "1", "--gigabytes", "0.01", "--write", "{folder}/page.md"],
    "rounding": ["{folder}/kernel.npz", "--write", "{folder}/page.md"],
}
FOLDER = Path(__file__).parent / "benchmarks"


@pytest.mark.filterwarnings("ignore:Trying to compute SVD")  # TensorLy's, of more vectors than there are
@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_benchmark_runs_small(name: str, tmp_path: Path) -> None:
    for file, shape in (("kernel", (24, 24, 3, 3)), ("other", (16, 24, 5))):
        np.savez(tmp_path / f"{file}.npz", weight=np.random.default_rng(0).standard_normal(shape).astype("float32"))
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    page = program.main([argument.format(folder=tmp_path) for argument in PROGRAMS[name]])
    assert re.search(r"\d", page)
    if "--write" in PROGRAMS[name]:
        assert (tmp_path / "page.md").read_text(encoding="utf-8") == page
