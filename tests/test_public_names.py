"""Tests that every public name, parameter and default is the one in public_names.txt, so that no change goes unseen.

``python tests/test_public_names.py`` writes the list again.
"""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import typer

import tensorconv
from tensorconv.cli.app import app

STORED = Path(__file__).with_name("public_names.txt")
CURE = """\
The public names are not those of tests/public_names.txt. A name or parameter that goes or is renamed breaks its users:
keep it for as long as docs/contributing.md promises ("Support"), and say so in docs/changelog.md. If the change is
meant, run "python tests/test_public_names.py" and commit the file with it."""


class Shown:
    """A default that is a function, shown by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    @classmethod
    def of(cls, default: Any) -> Any:
        return cls(default.__name__) if inspect.isfunction(default) else default


def signature(function: Any) -> str:
    """Return parameters and defaults, without types: these may become wider."""
    try:
        found = inspect.signature(function)
    except ValueError:  # a class made in C, such as an exception that defines nothing
        return ""
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty, default=Shown.of(parameter.default))
        for parameter in found.parameters.values()
    ]
    return str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def members(owner: type) -> Iterator[str]:
    """Yield the public methods and attributes of a class, those that it has from other classes of ours too."""
    ours = [base for base in owner.__mro__ if base.__module__.startswith("tensorconv")]
    names = {name for base in ours for name in (*vars(base), *getattr(base, "__annotations__", ()))}
    for name in sorted(name for name in names if not name.startswith("_") or name == "__call__"):
        value = inspect.getattr_static(owner, name, None)
        kind = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        yield f"{name}{signature(kind)}" if inspect.isfunction(kind) else name


def lines(path: str, value: Any) -> Iterator[str]:
    """Yield a line for a public name and one for everything inside it."""
    if inspect.ismodule(value):
        for name in public(value):
            yield from lines(f"{path}.{name}", getattr(value, name))
    elif inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__) if issubclass(value, Exception) else ""
        yield f"{path}({bases})" if bases else f"{path}{signature(value)}"
        if not bases:
            yield from (f"{path}.{member}" for member in members(value))
    else:
        yield f"{path}{signature(value)}" if callable(value) else path


def public(module: ModuleType) -> list[str]:
    """Return the names that a module lists, or those of what it defines itself."""
    own = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__ and n[0] != "_"]
    return sorted(getattr(module, "__all__", own))


def as_written(module: str, name: str) -> str:
    """Return parameters and defaults of a function from its source: no framework is imported for it."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                argument.annotation = None
            return f"({ast.unparse(node.args)})"
        if isinstance(node, ast.ImportFrom) and node.module and name in [alias.name for alias in node.names]:
            return as_written(node.module, name)
    raise AssertionError(f"{module} has no function {name}")


def targets() -> Iterator[str]:
    """Yield what dump and load take for every target of ours."""
    for entry in sorted(entry_points(group="tensorconv.exporters"), key=lambda entry: entry.name):
        if entry.value.startswith("tensorconv."):
            yield from (f"target {entry.name}: {name}{as_written(entry.value, name)}" for name in ("dump", "load"))


def options(command: Any, path: str) -> Iterator[str]:
    """Yield the commands of the command line with their arguments and options."""
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from options(inner, f"{path} {name}")
    for parameter in command.params:
        is_argument = parameter.param_type_name == "argument"
        names = [parameter.name.upper()] if is_argument else [*parameter.opts, *parameter.secondary_opts]
        yield f"{path} {', '.join(names)}"


def snapshot() -> str:
    """Return all public names, one a line."""
    commands = options(typer.main.get_command(app), "$ tensorconv")
    return "\n".join([*lines("tensorconv", tensorconv), *targets(), *commands, ""])


def changes(before: str, after: str) -> str:
    """Return the lines that differ, "-" for those that went and "+" for those that came."""
    compared = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "\n".join(line for line in compared if line[:3] not in ("---", "+++") and not line.startswith("@@"))


def test_the_public_names_are_those_stored() -> None:
    found = changes(STORED.read_text(encoding="utf-8"), snapshot())
    assert not found, f"{CURE}\n{found}"


def rename(names: SimpleNamespace) -> None:
    names.renamed = names.__dict__.pop("function")


def unwatched(stage: str) -> None:
    """Stand for a default that is a function."""


CHANGES: dict[str, Callable[[SimpleNamespace], Any]] = {
    "-m.function(x, *, size=3, watch=unwatched)": lambda names: delattr(names, "function"),
    "+m.renamed(x, *, size=3, watch=unwatched)": rename,
    "+m.function(y, *, size=3)": lambda names: setattr(names, "function", lambda y, *, size=3: (y, size)),
    "+m.function(x, *, size=4)": lambda names: setattr(names, "function", lambda x, *, size=4: (x, size)),
    "-m.Shape.area": lambda names: delattr(names.Shape, "area"),
    "-m.Shape.size": lambda names: names.Shape.__annotations__.clear(),
    "+m.Shape.scaled(self, by)": lambda names: setattr(names.Shape, "scaled", lambda self, by: (self, by)),
    "-m.Failure(ValueError)": lambda names: setattr(names, "Failure", type("Failure", (KeyError,), {})),
}


@pytest.mark.parametrize("line", CHANGES)
def test_every_kind_of_change_is_seen(line: str) -> None:
    class Shape:
        size: int

        @cached_property
        def area(self) -> int:
            return self.size**2

        def scaled(self, factor: int) -> int:
            return self.size * factor

    Shape.__module__ = "tensorconv.made"

    def function(x: Any, *, size: int = 3, watch: Any = unwatched) -> Any:
        return watch(x, size)

    names = SimpleNamespace(Shape=Shape, Failure=type("Failure", (ValueError,), {}), function=function)

    def listed() -> str:
        return "\n".join(one for name, value in vars(names).items() for one in lines(f"m.{name}", value))

    before = listed()
    CHANGES[line](names)
    assert line in changes(before, listed()).splitlines()


def test_the_parameters_of_exporters_are_read_from_their_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reader_of_no_framework.py").write_text(
        "def load(obj: list, *, like: str = 'a') -> int:\n    return 1\n"
    )
    (tmp_path / "writer_of_no_framework.py").write_text("from reader_of_no_framework import load\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert as_written("writer_of_no_framework", "load") == "(obj, *, like='a')"


if __name__ == "__main__":
    STORED.write_text(snapshot(), encoding="utf-8")
