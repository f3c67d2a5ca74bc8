"""Tests of the house rules: what an import costs, who imports whom, docstrings, and the rules for every file."""

from __future__ import annotations

import ast
import builtins
import enum
import importlib
import inspect
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType

import pytest
from numpydoc.validate import validate  # type: ignore[import-untyped]

import tensorconv

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tensorconv"
FILES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = {PACKAGE / "demo" / "train.py"}  # run with -m, never imported
HEAVY = (
    "jax",
    "keras",
    "matplotlib",
    "numba",
    "onnx",
    "onnxruntime",
    "rich",
    "safetensors",
    "scipy",
    "tensorly",
    "torch",
    "typer",
)
FRAMEWORKS = tuple(name for name in HEAVY if name not in ("numba", "scipy", "tensorly"))


def run_python(source: str) -> str:
    """Run a program in a fresh interpreter and return what it prints."""
    return subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def heavy_modules_after(source: str) -> set[str]:
    """Return which heavy packages a fresh interpreter holds after running the source."""
    return set(run_python(f"import sys\n{source}\nprint(*(set({HEAVY}) & set(sys.modules)))").split())


def seconds_over_numpy(statement: str, runs: int) -> float:
    """Return how long a statement takes after numpy is in, the least of some fresh interpreters: noise only adds."""
    source = f"import time, numpy\nstart = time.perf_counter()\n{statement}\nprint(time.perf_counter() - start)"
    return min(float(run_python(source)) for _ in range(runs))


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert heavy_modules_after("import tensorconv") == set()


def test_the_waist_needs_numpy_only() -> None:
    assert (
        heavy_modules_after("import tensorconv\ntensorconv.ConvSequence, tensorconv.cost, tensorconv.errors") == set()
    )


def test_no_public_name_needs_a_framework() -> None:
    source = "import tensorconv\nfor name in tensorconv.__all__: getattr(tensorconv, name)"
    assert heavy_modules_after(source) & set(FRAMEWORKS) == set()


def test_the_search_for_heavy_modules_finds_them() -> None:
    assert "scipy" in heavy_modules_after("import scipy")
    assert "numba" in heavy_modules_after("import tensorconv.convolution")


def test_importing_the_package_takes_no_time() -> None:
    assert seconds_over_numpy("import tensorconv", runs=5) < 0.1


def test_the_clock_sees_a_heavy_import() -> None:
    assert seconds_over_numpy("import numba, scipy.stats", runs=1) > 0.1


def test_every_public_name_resolves() -> None:
    assert sorted(tensorconv.__all__) == tensorconv.__all__ == dir(tensorconv)
    for name in tensorconv.__all__:
        assert getattr(tensorconv, name) is not None, name


def test_the_lazy_names_are_those_that_a_type_checker_sees() -> None:
    (block,) = (node for node in ast.parse(Path(tensorconv.__file__).read_text()).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: f"{node.module}.{alias.name}" for node in imports for alias in node.names}
    assert sorted(seen) == tensorconv.__all__
    for name, home in seen.items():
        module, _, attribute = home.rpartition(".")
        if module != "tensorconv":  # else it is a module itself
            assert getattr(tensorconv, name) is getattr(importlib.import_module(module), attribute)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tensorconv' has no attribute 'convolv'"):
        tensorconv.convolv  # noqa: B018


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    source = "from importlinter.cli import lint_imports_command as run; run(['--no-cache', '--no-logo'])"
    return subprocess.run(
        [sys.executable, "-c", source], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def test_imports_follow_the_plan() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_import_contract_can_be_broken(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "tensorconv", ignore=shutil.ignore_patterns("__pycache__", "*.onnx", "*.npz"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = {
        "errors.py": "tensorconv.geometry",
        "certificates.py": "tensorconv.export",
        "cost.py": "numpy",
        "geometry.py": "numba",
        "arrays.py": "tensorly",
        "integers.py": "matplotlib",
        "layers.py": "torch",
        "verification.py": "rich",
    }
    for file, module in planted.items():
        with (tmp_path / "tensorconv" / file).open("a") as stream:
            stream.write(f"import {module}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert f"Contracts: 0 kept, {len(planted)} broken." in done.stdout, done.stdout


# who may import a package by name, where import-linter cannot see it
FRAMEWORK_ROOMS = {"demo", "export", "models"}
LAZY_IMPORTERS = dict.fromkeys(("google", "onnx", "onnxruntime", "safetensors", "torch"), FRAMEWORK_ROOMS)
LAZY_IMPORTERS |= {"joblib": {"parallel.py"}, "distributed": {"parallel.py"}}
LAZY_IMPORTERS |= {"ml_dtypes": {"arrays.py"}, "rich": {"cli"}, "typer": {"cli"}}
LAZY_IMPORTERS |= {"tensorconv": {"__init__.py", "cli", "export", "models"}}


def imported_by_name(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and first word of every literal handed to importlib.import_module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            name = node.args[0]
            text = name.values[0] if isinstance(name, ast.JoinedStr) else name
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield node.lineno, text.value.partition(".")[0]


def test_packages_imported_by_name_follow_the_plan_too() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line} imports {package}"
        for path in FILES
        for line, package in imported_by_name(ast.parse(path.read_text()))
        if path.relative_to(PACKAGE).parts[0] not in LAZY_IMPORTERS.get(package, ())
    ]
    assert not found, "\n".join(found)


# Which sections there are, and what each must hold. Left out: where the summary starts (GL01, GL02), double blank lines
# (GL03), and whether there is an extended summary (ES01), a See Also (SA) and an example (EX01).
CHECKS = {"GL05", "GL06", "GL07", "GL08", "GL09", "GL10", "YD01"}
CHECKS |= {f"SS{i:02}" for i in range(1, 7)} | {f"PR{i:02}" for i in range(1, 11)} | {f"RT{i:02}" for i in range(1, 6)}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def public_objects(module: ModuleType) -> Iterator[tuple[str, set[str]]]:
    """Yield names and checks of public functions and classes, and of the members that no base class documents."""
    for name, value in vars(module).items():
        if name.startswith("_") or not callable(value) or getattr(value, "__module__", None) != module.__name__:
            continue
        members = vars(value) if inspect.isclass(value) else {}
        made = not inspect.isclass(value) or not (issubclass(value, enum.Enum) or getattr(value, "_is_protocol", False))
        constructed = {"__init__", "__new__"} & members.keys() and made
        documents_calls = (
            not inspect.isclass(value) or constructed
        )  # an inherited constructor is its own class's matter
        yield f"{module.__name__}.{name}", CHECKS if documents_calls else CHECKS - {"PR01"}
        inherited = {member for base in getattr(value, "__mro__", ())[1:] for member in vars(base)}
        for member, inner in members.items():
            documented = callable(inner) or isinstance(inner, property | cached_property | classmethod | staticmethod)
            if documented and not member.startswith("_") and member not in inherited:
                yield f"{module.__name__}.{name}.{member}", CHECKS


def docstring_faults(module: ModuleType) -> list[str]:
    return [
        f"{name}: {code} {text}"
        for name, checks in public_objects(module)
        for code, text in validate(name)["errors"]
        if code in checks
    ]


@pytest.mark.parametrize("name", [module_name(path) for path in FILES if path not in SCRIPTS])
def test_public_objects_are_documented(name: str) -> None:
    faults = docstring_faults(importlib.import_module(name))
    assert not faults, "\n" + "\n".join(faults)


def test_the_docstring_check_finds_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "badly_documented.py").write_text(
        "def bare(): pass\n"
        'class Shape:\n    """A shape."""\n    @property\n    def area(self): return 1\n'
        '    def scaled(self, by):\n        """Scales it"""\n        return by\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = [fault.split()[:2] for fault in docstring_faults(importlib.import_module("badly_documented"))]
    assert found == [
        ["badly_documented.bare:", "GL08"],
        ["badly_documented.Shape.area:", "GL08"],
        *(["badly_documented.Shape.scaled:", code] for code in ("SS03", "SS05", "PR01", "RT01")),
    ]


def raised_builtins(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of builtin errors that are raised, but for a module's __getattr__, which Python asks for."""
    protocol = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__getattr__")
    allowed = {id(node) for function in protocol for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None and id(node) not in allowed:
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(raised, ast.Name) and hasattr(builtins, raised.id):
                yield node.lineno, f"raises {raised.id}, not a class of tensorconv.errors"


def unannotated(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield public functions and methods with a parameter or a result that has no type."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    for body, skipped in [(tree.body, 0), *((node.body, 1) for node in classes)]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                a = node.args
                static = any(ast.unparse(decorator) == "staticmethod" for decorator in node.decorator_list)
                positional = (a.posonlyargs + a.args)[0 if static else skipped :]
                every = [*positional, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
                if node.returns is None or any(argument.annotation is None for argument in every):
                    yield node.lineno, f"{node.name} is not fully annotated"


def file_faults(path: Path, source: str) -> list[str]:
    """Return what in a module breaks the rules for files."""
    tree, n_lines = ast.parse(source), len(source.splitlines())
    faults = [*raised_builtins(tree), *unannotated(tree)]
    if n_lines >= 300:
        faults.append((n_lines, "must stay under 300 lines"))
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    if not summary.endswith(".") or not source.startswith('"""'):
        faults.append((1, "must begin with a docstring whose first line says the purpose and ends in a period"))
    if {part.strip("_") for part in path.with_suffix("").parts} & {"utils", "helpers", "common", "misc"}:
        faults.append((1, "must be named by what it is for"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            faults.append((node.lineno, "assert is for tests"))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and "cli" not in path.parts:
            faults.append((node.lineno, "print is for the command line"))
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type).strip("()").split(", ") if node.type else ["Exception"]
            if {"Exception", "BaseException"} & set(caught):
                faults.append((node.lineno, "except must name the errors it expects"))
    return [f"{path}:{line} {fault}" for line, fault in sorted(faults)]


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_files_follow_the_rules(path: Path) -> None:
    faults = file_faults(path.relative_to(ROOT), path.read_text(encoding="utf-8"))
    assert not faults, "\n" + "\n".join(faults)


GOOD = '"""A module of one purpose."""\n'
BAD_FILES = {
    "short": GOOD + "\n" * 299,
    "docstring": '"""No period"""\n',
    "begin with": "# a comment first\n" + GOOD,
    "assert": GOOD + "assert True\n",
    "print": GOOD + "print(1)\n",
    "name the errors": GOOD + "try:\n    x = 1\nexcept (OSError, Exception):\n    pass\n",
    "expects": GOOD + "try:\n    x = 1\nexcept:\n    pass\n",
    "ValueError": GOOD + "def __getattr__(n):\n    raise AttributeError(n)\ndef _f():\n    raise ValueError\n",
    "f is not": GOOD + "def f(x, *, y: int) -> int:\n    return y\n",
    "g is not": GOOD
    + "class C:\n    def f(self) -> int:\n        return 1\n    def g(self, x: int):\n        return x\n",
}


@pytest.mark.parametrize("fault", BAD_FILES)
def test_the_rules_for_files_find_what_breaks_them(fault: str) -> None:
    found = file_faults(Path("tensorconv/module.py"), BAD_FILES[fault])
    assert len(found) == 1
    assert fault.replace("short", "under 300 lines") in found[0]


def test_the_rules_for_files_read_the_path() -> None:
    assert len(file_faults(Path("tensorconv/linalg/_utils.py"), GOOD)) == 1
    assert file_faults(Path("tensorconv/cli/show.py"), GOOD + "print(1)\n") == []
    assert file_faults(Path("tensorconv/module.py"), GOOD + "\n" * 298) == []
