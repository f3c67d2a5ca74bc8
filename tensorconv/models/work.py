"""Work folder: what a compression has finished, so that one that was interrupted goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from tensorconv.errors import FormatError, ModelError
from tensorconv.export.files import load, save, write_whole
from tensorconv.layers import ConvSequence

_KEY = "run.json"
_OURS = re.compile(r"[0-9a-f]{24}\.(json|npz)|run\.json|\.tensorconv-[0-9a-f]{16}\.tmp")


class WorkFolder:
    """Finished parts of one run, each a file that is written whole; without a folder, nothing is kept.

    Parameters
    ----------
    path : path-like or None
        The folder, made if missing; None to keep nothing.
    run : dict
        What identifies the run, in plain values: parts of another run are not taken for its own.
    resume : bool
        Whether to go on from what the folder holds; otherwise it is emptied.

    Raises
    ------
    ModelError
        If the folder holds something else than such a run, or that of another one that is to be resumed.
    """

    def __init__(self, path: str | os.PathLike[str] | None, run: dict[str, Any], *, resume: bool = False) -> None:
        self._path = None if path is None else Path(path)
        if self._path is None:
            return
        key = json.dumps({"tensorconv": run}, sort_keys=True)
        before = self._kept_key()
        if before is not None and before != key and resume:
            raise ModelError(
                f"the work folder {os.fspath(self._path)!r} is that of another model, request, data or version; repeat "
                "what was asked then, or start anew without resuming"
            )
        if before is not None and not resume:
            self.remove()
        self._path.mkdir(parents=True, exist_ok=True)
        write_whole(self._path / _KEY, key.encode())

    @property
    def is_kept(self) -> bool:
        """Whether there is a folder, so that parts can be had again."""
        return self._path is not None

    def get(self, name: str) -> Any:
        """Return a finished part.

        Parameters
        ----------
        name : str
            The part.

        Returns
        -------
        object
            Its plain values; None if it is not finished.
        """
        if self._path is None:
            return None
        try:
            return json.loads(self._file(name, ".json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def put(self, name: str, value: Any) -> None:
        """Keep a finished part.

        Parameters
        ----------
        name : str
            The part.
        value : object
            Its plain values.
        """
        if self._path is not None:
            write_whole(self._file(name, ".json"), json.dumps(value).encode())

    def get_sequence(self, name: str) -> ConvSequence | None:
        """Return a finished sequence.

        Parameters
        ----------
        name : str
            The part.

        Returns
        -------
        ConvSequence or None
            To the bit as it was kept; None if it is not finished.
        """
        if self._path is None:
            return None
        try:
            return load(self._file(name, ".npz"))
        except (FileNotFoundError, FormatError):
            return None

    def put_sequence(self, name: str, sequence: ConvSequence) -> None:
        """Keep a finished sequence.

        Parameters
        ----------
        name : str
            The part.
        sequence : ConvSequence
            The sequence.
        """
        if self._path is not None:
            save(self._file(name, ".npz"), sequence)

    def remove(self) -> None:
        """Delete the folder's own files, and the folder if nothing else is in it.

        Values go before the sequences that they are about, and what identifies the run goes last: wherever this is
        interrupted, what is left can be resumed.
        """
        if self._path is None or self._kept_key() is None:
            return
        ours = [path for path in self._path.iterdir() if _OURS.fullmatch(path.name)]
        for path in sorted(ours, key=lambda path: (path.name == _KEY, path.suffix == ".npz")):
            path.unlink(missing_ok=True)
        if not any(self._path.iterdir()):
            self._path.rmdir()

    def _kept_key(self) -> str | None:
        """Return what identifies the run that the folder holds; None if there is no folder, or nothing whole in it."""
        if self._path is None or not self._path.exists():
            return None
        try:
            key = (self._path / _KEY).read_text(encoding="utf-8")
            if list(json.loads(key)) == ["tensorconv"]:
                return key
        except (OSError, ValueError, TypeError):
            if self._path.is_dir() and all(path.name.startswith(".tensorconv-") for path in self._path.iterdir()):
                return None
        raise ModelError(f"the work folder {os.fspath(self._path)!r} holds other things; name an empty or a new one")

    def _file(self, name: str, suffix: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()[:24]  # names of layers need not be names of files
        return (self._path or Path()) / (digest + suffix)
