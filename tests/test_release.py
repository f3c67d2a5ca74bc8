"""Tests of what is released: the files of wheel and sdist, their metadata, and the minimums that are promised.

They build offline, by the hatchling of this environment, and are skipped where there is none.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest

import tensorconv

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = tensorconv.__version__
DATA = {
    "demo/NOTICE",
    "demo/images.npz",
    "demo/network.onnx",
    "py.typed",
    "report/chart.js",
    "report/page.css",
    "report/page.html",
    "report/page.js",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build wheel and sdist of this checkout."""
    pytest.importorskip("hatchling.builders", reason="hatchling, which builds the project, is not installed")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def sources() -> set[str]:
    """Return the files of the package, but for what running it leaves behind."""
    files = (path for path in (ROOT / "tensorconv").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in files}


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(built / f"tensorconv-{VERSION}-py3-none-any.whl") as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        licences = {name.partition("licenses/")[2] for name in wheel.namelist() if "licenses/" in name}
    assert names == sources()
    assert {f"tensorconv/{name}" for name in DATA} <= names
    assert licences == {"LICENSE", "tensorconv/demo/NOTICE"}


def test_every_file_that_is_no_module_is_known() -> None:
    others = {name.removeprefix("tensorconv/") for name in sources() if not name.endswith(".py")}
    assert others == DATA


def test_the_wheel_says_what_it_is(built: Path) -> None:
    with zipfile.ZipFile(built / f"tensorconv-{VERSION}-py3-none-any.whl") as wheel:
        (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        found = BytesParser().parsebytes(wheel.read(metadata))
        (entries,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        commands = wheel.read(entries).decode()
    project = PROJECT["project"]
    assert (found["Name"], found["Version"]) == (project["name"], VERSION)
    assert found["License-Expression"] == project["license"]
    assert found["Requires-Python"] == project["requires-python"]
    assert found["Description-Content-Type"] == "text/markdown"
    assert "# tensorconv" in found.get_payload()
    plain = [line for line in found.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(plain) == sorted(project["dependencies"])
    assert set(found.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    assert "tensorconv = tensorconv.cli:main" in commands
    assert all(
        f"{name} = {value}" in commands for name, value in project["entry-points"]["tensorconv.exporters"].items()
    )


def test_the_sdist_can_be_tested_and_holds_nothing_that_was_made(built: Path) -> None:
    with tarfile.open(built / f"tensorconv-{VERSION}.tar.gz") as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    needed = {"LICENSE", "README.md", "pyproject.toml", "docs/conf.py", "tests/conftest.py", "tests/public_names.txt"}
    assert needed | sources() <= names
    assert not {name for name in names if "__pycache__" in name or name.endswith(".pyc") or "_build/" in name}
    assert not {
        name for name in names if name.startswith((".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"))
    }


def minimums(requirements: list[str]) -> dict[str, str]:
    """Return the least version of every package, by name."""
    found = (re.fullmatch(r"([\w.-]+)>=([\d.]+)", one) for one in requirements)
    return {match[1]: match[2] for match in found if match is not None}


def test_a_package_has_one_minimum_wherever_it_is_asked_for() -> None:
    project = PROJECT["project"]
    asked: dict[str, set[str]] = {}
    for requirements in (project["dependencies"], *project["optional-dependencies"].values()):
        for name, version in minimums(requirements).items():
            asked.setdefault(name, set()).add(version)
    assert {name: versions for name, versions in asked.items() if len(versions) > 1} == {}


def test_every_dependency_has_a_minimum() -> None:
    project = PROJECT["project"]
    groups = {name: group for name, group in project["optional-dependencies"].items() if name not in ("all", "test")}
    for requirements in (project["dependencies"], *groups.values()):
        assert len(minimums(requirements)) == len(requirements), requirements


def test_the_supported_versions_are_those_that_contributors_are_told() -> None:
    page = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", page, re.MULTILINE))
    wanted = {"Python": PROJECT["project"]["requires-python"].removeprefix(">=")}
    wanted |= minimums(PROJECT["project"]["dependencies"])
    for name in ("cli", "torch", "keras", "flax", "equinox", "jax", "plots"):
        wanted |= minimums(PROJECT["project"]["optional-dependencies"][name])
    assert told == wanted
