"""Many runs of an experiment: in parallel, kept, with progress, resumed where they stopped.

A run is one call of an experiment's `run` with one frozen configuration; it returns a small tidy
table. `run_all` does a grid of them and keeps each as soon as it is done. A chapter is run in the
same way, see `implreg_book.press.execute`.
"""

# ruff: noqa: F401 - what is imported is handed on
from typing import Any

__all__ = [
    "Failure", "LostWorkers", "RunsFailed", "Store", "code_version", "fingerprint", "run_all",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import public names when they are used: to ask if a run is kept takes no pandas."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from implreg_book.runs.grid import RunsFailed, run_all
    from implreg_book.runs.keys import code_version, fingerprint
    from implreg_book.runs.report import LostWorkers
    from implreg_book.runs.store import Store
    from implreg_book.runs.work import Failure

    globals().update(locals())
    return globals()[name]
