"""Options that commands share."""

from pathlib import Path

import click

from implreg.settings import SCHEDULER

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
