"""What becomes of a compressed network: whether it is good enough to be saved, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tensorconv.cli.output import show_json
from tensorconv.errors import ModelError, TensorconvError
from tensorconv.text import plain

if TYPE_CHECKING:
    from tensorconv.models.comparison import Comparison
    from tensorconv.models.compression import Compression
    from tensorconv.models.work import WorkFolder


@dataclass(frozen=True)
class Limits:
    """What a compressed network must meet to be saved.

    Parameters
    ----------
    max_drift : float or None
        Largest relative error of every output.
    min_score : float or None
        Least score.
    """

    max_drift: float | None = None
    min_score: float | None = None

    def check(self, *, has_score: bool, is_run: bool = True) -> None:
        """Refuse limits to what is not measured.

        Parameters
        ----------
        has_score : bool
            Whether there is a score.
        is_run : bool
            Whether the networks are run.

        Raises
        ------
        ModelError
            If there is a limit to what nothing gives.
        """
        if not is_run and (self.max_drift is not None or self.min_score is not None):
            raise ModelError("--max-drift and --min-score need the networks to be run; leave out --without-running")
        if self.min_score is not None and not has_score:
            raise ModelError('--min-score needs a score; give --evaluate, or "labels" in the file of --data')

    def missed(self, comparison: Comparison | None) -> list[str]:
        """Return which limits are missed.

        Parameters
        ----------
        comparison : Comparison or None
            What was measured; None misses nothing.

        Returns
        -------
        list of str
            One text for each, with what was reached; empty where the network is good enough.
        """
        missed: list[str] = []
        if comparison is None:
            return missed
        if self.max_drift is not None and not comparison.largest_drift <= self.max_drift:
            missed.append(f"the drift {comparison.largest_drift:.4g} is above --max-drift {self.max_drift:g}")
        if self.min_score is not None and comparison.score is not None and not comparison.score[1] >= self.min_score:
            missed.append(f"the score {comparison.score[1]:.4g} is below --min-score {self.min_score:g}")
        return missed


@contextmanager
def resumable(kept: WorkFolder, folder: Path | None, *, planned: bool = False) -> Iterator[None]:
    """Keep the finished parts of a run that fails, and say where they are, unless it would fail again.

    Parameters
    ----------
    kept : WorkFolder
        The finished parts.
    folder : Path or None
        Where they are.
    planned : bool
        Whether the plan is given; while a plan is made, a request that cannot be met is so every time.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    ModelError
        If the run fails, with its message.
    """
    try:
        yield
    except (TensorconvError, OSError) as error:
        if folder is None or not folder.is_dir():
            raise
        n_parts = sum(1 for _ in folder.iterdir()) - 1  # one file says which run it is
        if n_parts < 1 or (isinstance(error, TensorconvError) and not planned and kept.get("plan") is None):
            kept.remove()
            raise
        raise ModelError(f"{error}; what is finished is kept in {folder}, --resume goes on from it") from error
    except KeyboardInterrupt:
        if folder is not None:
            typer.echo(f"tensorconv: interrupted; what is finished is kept in {folder}, --resume goes on", err=True)
        raise


def show_outcome(
    done: Compression, out: Path, missed: list[str], plan_file: Path | None, report: Path | None, *, as_json: bool
) -> None:
    """Print a compression and what has become of it.

    Parameters
    ----------
    done : Compression
        The compressed network.
    out : Path
        Where it was written, unless a limit is missed.
    missed : list of str
        The limits that are missed.
    plan_file : Path or None
        Where the plan is.
    report : Path or None
        Where the page is.
    as_json : bool
        Whether to write JSON.

    Raises
    ------
    typer.Exit
        With code 1 if a limit is missed.
    """
    saved, where = (None if missed else str(out)), (None if plan_file is None else str(plan_file))
    if as_json:
        ends = {"met": not missed, "missed": missed, "saved": saved, "saved_plan": where}
        ends["saved_report"] = None if report is None else str(report)
        show_json({**plain(done.to_dict()), **ends})
    else:
        last = f"saved {out}: {in_short(done)}" if not missed else f"NOT saved: {'; '.join(missed)}"
        places = [("plan", plan_file), ("report", report)]
        typer.echo(f"{done}\n\n" + "".join(f"the {kind} is in {path}\n" for kind, path in places if path) + last)
    if missed:
        raise typer.Exit(1)


def in_short(done: Compression) -> str:
    """Return what a compression has come to, in one line.

    Parameters
    ----------
    done : Compression
        The compressed network.

    Returns
    -------
    str
        Such as "24.6 % of the MACs, 3.1 times faster [2.9, 3.4], drift 0.11".
    """
    found = done.comparison
    macs = f"{100 * done.plan.share('macs'):.1f} % of the MACs"
    if found is None:
        return f"{macs}, not run"
    parts = [macs, _speed(found), f"drift {found.largest_drift:.3g}"]
    if found.score is not None:
        parts.append(f"score {found.score[1]:.4g} after {found.score[0]:.4g}")
    return ", ".join(parts)


def _speed(found: Comparison) -> str:
    median, low, high = found.ratio.median, found.ratio.low, found.ratio.high
    if high < 1:
        return f"{1 / median:.1f} times faster [{1 / high:.1f}, {1 / low:.1f}]"
    return f"{100 * median:.0f} % of the time [{100 * low:.0f}, {100 * high:.0f}]"
