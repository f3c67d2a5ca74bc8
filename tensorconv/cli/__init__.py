"""The entry point of the command ``tensorconv``, which also answers where the packages it needs are missing."""

from __future__ import annotations

import importlib
import sys

_NEEDED = ("typer", "rich")


def main() -> None:
    """Run the command line; exit with 2 and one line to stderr where typer or rich are not installed."""
    for package in _NEEDED:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            sys.stderr.write(f"tensorconv: the command line needs {error.name}: pip install 'tensorconv[cli]'\n")
            sys.exit(2)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is escaped, not an error
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    importlib.import_module("tensorconv.cli.app").app()
