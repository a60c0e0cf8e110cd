"""The environment variables that the package reads."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

STORE = "IMPLREG_STORE"  # folder or fsspec URL of finished runs
SCHEDULER = "IMPLREG_SCHEDULER"  # address of a Dask scheduler for all grids
RESULTS = "IMPLREG_RESULTS"  # folder of results that came with the book; empty for none
RECORD = "IMPLREG_RECORD"  # folder in which a grid writes its results, for the next reader
CHECKPOINTS = "IMPLREG_CHECKPOINTS"  # folder in which trainings keep where they are
VARIABLES = (STORE, SCHEDULER, RESULTS, RECORD, CHECKPOINTS)

_OURS = Path(__file__).parents[1] / "results"


def results_folder() -> Path | None:
    """Where results that came with the book are; by default in the folder of this package.

    None if they are not to be used, or are being written.
    """
    named = os.environ.get(RESULTS, str(_OURS))
    return Path(named) if named and record_folder() is None else None


def record_folder() -> Path | None:
    """Where to write results, None if that was not asked for."""
    named = os.environ.get(RECORD)
    return Path(named) if named else None


_checkpoint: ContextVar[Path | None] = ContextVar("checkpoint", default=None)


def checkpoint_file() -> Path | None:
    """Where the run that asks may keep how far its training is, None if nowhere."""
    return _checkpoint.get()


@contextmanager
def checkpoint_of(key: Callable[[], str]) -> Iterator[None]:
    """Let the run with this key have a checkpoint, if there is a folder; remove it at the end.

    That of a run that fails or is stopped stays, and the next try goes on from there.
    """
    folder = os.environ.get(CHECKPOINTS)
    file = Path(folder) / f"{key()}.pt" if folder else None
    token = _checkpoint.set(file)
    try:
        yield
        if file is not None:
            file.unlink(missing_ok=True)
    finally:
        _checkpoint.reset(token)
