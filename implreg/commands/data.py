"""``python -m implreg data``."""

from pathlib import Path

import click
from tabulate import tabulate

from implreg import datasets
from implreg.datasets.archives import ARCHIVES
from implreg.errors import InputError


@click.command()
@click.option(
    "--fetch",
    "name",
    metavar="NAME",
    help=f"Download this full data set if it is missing: {', '.join(ARCHIVES)}.",
)
@click.option("--folder", type=click.Path(path_type=Path), help="Folder to keep the download in.")
def data(name: str | None, folder: Path | None) -> None:
    """Show the data sets and where they are found."""
    if folder is not None and name is None:
        raise InputError("--folder says where --fetch puts a data set; name one with --fetch.")
    if name is not None:
        click.echo(f"{name} is in {datasets.fetch(name, folder)}")
        return
    table = datasets.describe()
    rows = table.drop(columns="origin").replace({"found": {"": "missing, see --fetch"}})
    click.echo(tabulate(rows.values.tolist(), headers=list(rows.columns)))
    click.echo()
    for origin in table["origin"].unique():
        click.echo(origin)
