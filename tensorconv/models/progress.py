"""Progress: what a long run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """What is being done.

    Parameters
    ----------
    stage : str
        Such as "looking at layers".
    name : str
        The layer.
    done, total : int
        Steps of the stage.
    """

    stage: str
    name: str
    done: int
    total: int


Watch = Callable[[Progress], None]


def unwatched(progress: Progress) -> None:
    """Do nothing.

    Parameters
    ----------
    progress : Progress
        What is being done.
    """
    del progress
