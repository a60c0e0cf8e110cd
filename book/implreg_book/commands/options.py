"""Options that commands share."""

import os
import shutil
from pathlib import Path

import click

from implreg_book.settings import RECORD, RESULTS, SCHEDULER

build_dir = click.option(
    "--build-dir",
    type=click.Path(path_type=Path),
    default=Path("_build"),
    show_default=True,
    help="Folder of all results.",
)
profile = click.option(
    "--profile", default="default", show_default=True, help="Named set of parameters."
)
cell_timeout = click.option(
    "--cell-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=3600,
    show_default=True,
    help="Seconds that one cell may take.",
)
scheduler = click.option(
    "--scheduler",
    envvar=SCHEDULER,
    metavar="ADDRESS",
    help="Dask scheduler for the runs, such as tcp://host:8786, or local for a cluster here.",
)
results = click.option(
    "--results",
    type=click.Choice(["use", "ignore", "write"]),
    default="use",
    show_default=True,
    help="Results that came with the book: use them, compute everything, or compute and write.",
)


def tell_kernels(scheduler: str | None, choice: str, root: Path, *, anew: bool = False) -> None:
    """Tell the chapters' kernels where to run grids, and what to do with the results at `root`.

    With the `choice` "write" those of a grid replace the ones of the same configurations; `anew`
    first removes all that are there.
    """
    if scheduler:
        os.environ[SCHEDULER] = scheduler
    folder = root / "book" / "results"
    if choice == "ignore":
        os.environ[RESULTS] = ""
    elif choice == "write":
        if anew:
            shutil.rmtree(folder, ignore_errors=True)
        os.environ[RECORD] = str(folder.resolve())
