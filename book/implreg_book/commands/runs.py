"""``python -m implreg runs``: what is kept in a store of finished runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import pandas as pd
from tabulate import tabulate
from tqdm import tqdm

from implreg.errors import InputError, explain_os_error
from implreg_book.runs.keys import known_code
from implreg_book.runs.store import NOTEBOOK, Entry, Store
from implreg_book.runs.tables import columns_of, unpack
from implreg_book.settings import STORE

_SHORT = 12  # digits of a key
_FIELDS = 60  # characters of a configuration

_store = click.option(
    "--store",
    "place",
    envvar=STORE,
    default="_build/runs",
    show_default=True,
    show_envvar=True,
    help="Folder or fsspec URL.",
)


@dataclass(frozen=True)
class Run:
    """A run of the store: what its file tells, nothing if that is damaged."""

    entry: Entry
    table: pd.DataFrame | None
    meta: dict[str, Any]

    @property
    def status(self) -> str:
        """One word."""
        if not self.meta:
            return "damaged"
        if self.entry.failed:
            return "failed"
        if self.entry.path.endswith(NOTEBOOK):
            return "kept"  # whether its code is that of today, book --why tells
        code = known_code(self.entry.experiment.rpartition(".")[0])
        if not code:
            return "unknown code"
        return "kept" if self.meta["code"] == code else "older code"


@click.group()
def runs() -> None:
    """Show, delete and export the finished runs in a store."""


@runs.command("ls")
@click.argument("experiment", required=False)
@_store
def ls(experiment: str | None, place: str) -> None:
    """List the experiments of the store, or all runs of one EXPERIMENT."""
    store, every = _open(place)
    rows: list[tuple[object, ...]] = []
    if experiment is None:
        heads: tuple[str, ...] = ("experiment", "runs", "failed", "size")
        for name, group in groupby(every, lambda entry: entry.experiment):
            found = list(group)
            finished = {entry.key for entry in found if not entry.failed}
            size = f"{sum(entry.size for entry in found) / 1e6:,.2f} MB"
            rows.append((name, len(finished), sum(entry.failed for entry in found), size))
    else:
        heads = ("key", "status", "date", "seconds", "configuration")
        for run in _read(store, _of(every, experiment)):
            config = ", ".join(f"{k}={v}" for k, v in run.meta.get("config", {}).items())
            short = config if len(config) <= _FIELDS else f"{config[: _FIELDS - 1]}…"
            told = (run.meta.get("date"), run.meta.get("seconds"))
            rows.append((run.entry.key[:_SHORT], run.status, *told, short))
    click.echo(tabulate(rows, headers=heads, disable_numparse=[0], floatfmt=".3g"))


@runs.command("show")
@click.argument("key")
@_store
def show(key: str, place: str) -> None:
    """Show all that is known of the run whose key begins with KEY, and its table."""
    store, every = _open(place)
    # Of its files that which says most: not of a failure, if it finished as well.
    (run,) = _read(store, [min(_all(every, key), key=lambda entry: entry.failed)])
    click.echo(run.entry.path)
    if not run.meta:
        raise click.ClickException("the file is damaged; the run is computed again when needed.")
    own = {k: v for k, v in run.meta.items() if isinstance(v, str | float) and k != "traceback"}
    parts = [{"status": run.status, **own}, run.meta["config"], run.meta["versions"]]
    if run.table is not None and len(run.table) == 1:
        parts += run.table.to_dict("records")
    for part in parts:
        lines = [(name, str(value)) for name, value in part.items()]
        click.echo(f"\n{tabulate(lines, tablefmt='plain', disable_numparse=True)}")
    if run.table is not None and len(run.table) != 1:
        click.echo(f"\n{run.table.to_string(index=False)}")
    if "traceback" in run.meta:
        click.echo(f"\n{run.meta['traceback']}")


@runs.command("rm")
@click.argument("keys", nargs=-1)
@click.option("--experiment", help="All runs of this experiment.")
@click.option("--failed", is_flag=True, help="What is told of runs that failed.")
@click.option("--damaged", is_flag=True, help="Damaged files, and those of killed writers.")
@click.option("--older", is_flag=True, help="Runs of other code than that of today.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_store
def rm(keys: tuple[str, ...], experiment: str | None, yes: bool, place: str, **on: bool) -> None:
    """Delete the runs whose keys begin with KEYS, or all of some kind."""
    kinds = {"older code" if kind == "older" else kind for kind in on if on[kind]}
    if bool(keys) == (experiment is not None or bool(kinds)):
        raise click.UsageError(
            "say what to delete: either KEYS, or --experiment, --failed, --damaged or --older."
        )
    store, every = _open(place)
    chosen = _of(every, experiment) if experiment else every
    if keys:
        chosen = [entry for key in keys for entry in _all(every, key)]
    paths = [entry.path for entry in chosen]
    if kinds:
        paths = [run.entry.path for run in _read(store, chosen) if run.status in kinds]
    if "damaged" in kinds:
        paths += store.debris()
    if not paths:
        click.echo("There is nothing to delete.")
        return
    if not yes:
        click.confirm(f"Delete from {store.place} this many files: {len(paths):,}?", abort=True)
    for path in tqdm(paths, desc="deleting", unit="file", leave=False):
        store.remove(path)
    click.echo(f"Files deleted: {len(paths):,}.")


@runs.command("export")
@click.argument("experiment")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--older", is_flag=True, help="Also runs of code that is not known to be today's.")
@_store
def export(experiment: str, file: Path, older: bool, place: str) -> None:
    """Write one tidy table of all runs of EXPERIMENT to FILE (.parquet or .csv)."""
    if file.suffix not in (".parquet", ".csv"):
        raise InputError(f"FILE must end in .parquet or .csv, got {file}; name such a file.")
    store, every = _open(place)
    wanted = ("kept", "older code", "unknown code") if older else ("kept",)
    found = list(_read(store, _of(every, experiment)))
    tables: dict[str, pd.DataFrame] = {}
    for run in found:
        if run.table is not None and run.status in wanted:
            own = {"key": run.entry.key, "code": run.meta["code"], "date": run.meta["date"]}
            config = run.meta["config"]
            columns = columns_of(config | own | config, run.table)  # its own fields come first
            tables.setdefault(run.entry.key, run.table.assign(**columns))
    if not tables:
        raise click.ClickException(
            f"no run of {experiment} in {store.place} is of today's code; add --older to take "
            f"all {len(found):,}."
        )
    table = pd.concat(tables.values(), ignore_index=True)
    try:
        (table.to_csv if file.suffix == ".csv" else table.to_parquet)(file, index=False)
    except OSError as error:
        raise click.ClickException(explain_os_error(error, file)) from error
    left = len({run.entry.key for run in found}) - len(tables)
    more = f"; left out: {left:,}, see runs ls {experiment}" if left else ""
    click.echo(f"{file} has {len(table):,} rows; runs: {len(tables):,}{more}.")


def _open(place: str) -> tuple[Store, list[Entry]]:
    """A store and all files of runs in it."""
    store = Store(place)
    every = store.entries()
    if not every and not store.debris():
        raise click.ClickException(
            f"there are no runs in {store.place}; name another folder with --store."
        )
    return store, every


def _of(every: Sequence[Entry], experiment: str) -> Sequence[Entry]:
    found = [entry for entry in every if entry.experiment == experiment]
    if not found:
        names = ", ".join(dict.fromkeys(entry.experiment for entry in every))
        raise InputError(f"EXPERIMENT must be one of {names}, got {experiment}; choose one.")
    return found


def _all(every: Sequence[Entry], key: str) -> Sequence[Entry]:
    """All files of the one run whose key begins with `key`."""
    found = [entry for entry in every if entry.key.startswith(key)]
    runs = {entry.key for entry in found}
    if len(runs) != 1:
        raise InputError(
            f"KEY must be the beginning of the key of one run, got {key}, with which {len(runs)} "
            f"begin; see runs ls."
        )
    return found


def _read(store: Store, entries: Sequence[Entry]) -> Iterator[Run]:
    bar = tqdm(store.read(entries), total=len(entries), desc="reading", unit="run", leave=False)
    for entry, content in bar:
        yield Run(entry, *unpack(entry, content))
