"""The commands together, and what every one of them does about an error: one line to stderr and exit code 2."""

from __future__ import annotations

from inspect import getdoc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import tensorconv
from tensorconv.cli.apply import apply
from tensorconv.cli.bench import bench
from tensorconv.cli.compress import compress
from tensorconv.cli.demo import demo
from tensorconv.cli.export import export
from tensorconv.cli.factorize import factorize
from tensorconv.cli.inspect import inspect
from tensorconv.cli.plan import plan
from tensorconv.cli.verify import verify
from tensorconv.errors import TensorconvError


class _Commands(TyperGroup):
    """The group of commands; errors that a user can cure end in one line instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of the output has had enough; typer ends quietly
            raise
        except (TensorconvError, OSError) as error:
            typer.echo(f"tensorconv: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=_Commands,
    name="tensorconv",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_COMMANDS = (compress, plan, apply, bench, inspect, factorize, verify, export, demo)
for _command in _COMMANDS:  # help ends where numpydoc's sections begin
    app.command(help=(getdoc(_command) or "").partition("\n\nParameters\n")[0])(_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tensorconv {tensorconv.__version__}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Turn trained convolution kernels into cheaper, equivalent sequences of convolutions, and prove it.

    Exit codes: 0 fine, 1 the answer is no, 2 the request could not be carried out.
    """
