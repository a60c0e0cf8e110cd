"""The environment variables that the package reads."""

import os
from pathlib import Path

STORE = "IMPLREG_STORE"  # folder or fsspec URL of finished runs
SCHEDULER = "IMPLREG_SCHEDULER"  # address of a Dask scheduler for all grids
RESULTS = "IMPLREG_RESULTS"  # folder of results that came with the book; empty for none
RECORD = "IMPLREG_RECORD"  # folder in which a grid writes its results, for the next reader

_OURS = Path(__file__).parent.parent / "book" / "results"


def results_folder() -> Path | None:
    """Where results that came with the book are; by default in the checkout of this package.

    None if there are none, or if results are being written.
    """
    named = os.environ.get(RESULTS)
    if record_folder() is not None or named == "":
        return None
    if named is not None:
        return Path(named)
    return _OURS if _OURS.is_dir() else None


def record_folder() -> Path | None:
    """Where to write results, None if that was not asked for."""
    named = os.environ.get(RECORD)
    return Path(named) if named else None
