"""Every benchmark runs once, small, so that it still works when its figures are wanted."""

import importlib.util
import re
from pathlib import Path

import pytest

PROGRAMS = {"blas_threads": ["--channels", "8", "--rank", "4", "--sweeps", "3"]}
FOLDER = Path(__file__).parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_benchmark_runs_small(name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    assert re.search(r"\d", program.main(PROGRAMS[name]))
