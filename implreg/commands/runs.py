"""``python -m implreg runs``: what is kept in a store of finished runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pandas as pd
from tabulate import tabulate
from tqdm import tqdm

from implreg.errors import InputError, explain_os_error
from implreg.runs import Store
from implreg.runs.keys import known_code
from implreg.runs.store import Entry, columns_of, unpack
from implreg.settings import STORE

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
    """A run of the store: what its file tells, None if that is damaged."""

    entry: Entry
    meta: dict[str, Any] | None
    table: pd.DataFrame | None

    @property
    def status(self) -> str:
        """One word."""
        if self.meta is None:
            return "damaged"
        if self.entry.failed:
            return "failed"
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
    store = _open(place)
    if experiment is None:
        overview = [
            (
                name, len({e.key for e in found if not e.failed}),
                sum(e.failed for e in found), _size(found),
            )
            for name, found in _by_experiment(store).items()
        ]  # fmt: skip
        click.echo(tabulate(overview, headers=("experiment", "runs", "failed", "size")))
    else:
        rows = [
            (
                run.entry.key[:_SHORT], run.status, (run.meta or {}).get("date", ""),
                _seconds(run.meta), _fields((run.meta or {}).get("config", {})),
            )
            for run in _read(store, _of(store, experiment))
        ]  # fmt: skip
        heads = ("key", "status", "date", "seconds", "configuration")
        click.echo(tabulate(rows, headers=heads, disable_numparse=[0]))


@runs.command("show")
@click.argument("key")
@_store
def show(key: str, place: str) -> None:
    """Show all that is known of the run whose key begins with KEY, and its table."""
    store = _open(place)
    (run,) = _read(store, [_one(store, key)])
    click.echo(run.entry.path)
    if run.meta is None:
        raise click.ClickException("the file is damaged; the run is computed again when needed.")
    own = {k: v for k, v in run.meta.items() if isinstance(v, str | float) and k != "traceback"}
    for part in ({"status": run.status, **own}, run.meta["config"], run.meta["versions"]):
        click.echo()
        click.echo(_plain(part))
    click.echo()
    if run.table is None:
        click.echo(run.meta["traceback"])
    elif len(run.table) == 1:
        click.echo(_plain(run.table.to_dict("records")[0]))
    else:
        click.echo(run.table.to_string(index=False))


@runs.command("rm")
@click.argument("keys", nargs=-1)
@click.option("--experiment", help="All runs of this experiment.")
@click.option("--failed", is_flag=True, help="What is told of runs that failed.")
@click.option("--damaged", is_flag=True, help="Damaged files, and those of killed writers.")
@click.option("--older", is_flag=True, help="Runs of other code than that of today.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_store
def rm(
    keys: tuple[str, ...],
    experiment: str | None,
    failed: bool,
    damaged: bool,
    older: bool,
    yes: bool,
    place: str,
) -> None:
    """Delete the runs whose keys begin with KEYS, or all of some kind."""
    kinds = {"failed": failed, "damaged": damaged, "older code": older}
    if bool(keys) == (experiment is not None or any(kinds.values())):
        raise click.UsageError(
            "say what to delete: either KEYS, or --experiment, --failed, --damaged or --older."
        )
    store = _open(place)
    if keys:
        chosen = [entry for key in keys for entry in _all(store, key)]
    else:
        chosen = _of(store, experiment) if experiment else store.entries()
    paths = [entry.path for entry in chosen]
    if any(kinds.values()):
        paths = [r.entry.path for r in _read(store, chosen) if kinds.get(r.status)]
    if damaged:
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
    store = _open(place)
    wanted = ("kept", "older code", "unknown code") if older else ("kept",)
    found = list(_read(store, _of(store, experiment)))
    tables: dict[str, pd.DataFrame] = {}
    for run in found:
        if run.table is not None and run.meta is not None and run.status in wanted:
            own = {"key": run.entry.key, "code": run.meta["code"], "date": run.meta["date"]}
            config = run.meta["config"]
            columns = columns_of(config, run.table)
            columns |= {k: v for k, v in own.items() if k not in (*run.table, *config)}
            tables.setdefault(run.entry.key, run.table.assign(**columns))
    if not tables:
        raise click.ClickException(
            f"no run of {experiment} in {store.place} is of today's code; add --older to take "
            f"all {len(found):,}."
        )
    table = pd.concat(tables.values(), ignore_index=True)
    try:
        if file.suffix == ".csv":
            table.to_csv(file, index=False)
        else:
            table.to_parquet(file, index=False)
    except OSError as error:
        raise click.ClickException(explain_os_error(error, file)) from error
    left = len({run.entry.key for run in found}) - len(tables)
    more = f"; left out: {left:,}, see runs ls {experiment}" if left else ""
    click.echo(f"{file} has {len(table):,} rows; runs: {len(tables):,}{more}.")


def _open(place: str) -> Store:
    store = Store(place)
    if not store.entries() and not store.debris():
        raise click.ClickException(
            f"there are no runs in {store.place}; name another folder with --store."
        )
    return store


def _by_experiment(store: Store) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in store.entries():
        found.setdefault(entry.experiment, []).append(entry)
    return found


def _of(store: Store, experiment: str) -> list[Entry]:
    found = _by_experiment(store)
    if experiment not in found:
        raise InputError(
            f"EXPERIMENT must be one of {', '.join(found)}, got {experiment}; choose one."
        )
    return found[experiment]


def _all(store: Store, key: str) -> list[Entry]:
    """All files of the one run whose key begins with `key`."""
    found = [entry for entry in store.entries() if entry.key.startswith(key)]
    runs = {entry.key for entry in found}
    if len(runs) != 1:
        raise InputError(
            f"KEY must be the beginning of the key of one run, got {key}, with which {len(runs)} "
            f"begin; see runs ls."
        )
    return found


def _one(store: Store, key: str) -> Entry:
    """The file of a run that says most: not of a failure, if it finished as well."""
    return min(_all(store, key), key=lambda entry: entry.failed)


def _read(store: Store, entries: Sequence[Entry]) -> Iterator[Run]:
    bar = tqdm(store.read(entries), total=len(entries), desc="reading", unit="run", leave=False)
    for entry, content in bar:
        table, meta = unpack(entry, content) or (None, None)
        yield Run(entry, meta, table)


def _plain(rows: Mapping[Any, Any]) -> str:
    lines = [(name, str(value)) for name, value in rows.items()]
    return str(tabulate(lines, tablefmt="plain", disable_numparse=True))


def _seconds(meta: dict[str, Any] | None) -> str:
    return f"{meta['seconds']:.3g}" if meta and "seconds" in meta else ""


def _fields(config: dict[str, Any]) -> str:
    text = ", ".join(f"{name}={value}" for name, value in config.items())
    return text if len(text) <= _FIELDS else f"{text[: _FIELDS - 1]}…"


def _size(entries: Sequence[Entry]) -> str:
    return f"{sum(entry.size for entry in entries) / 1e6:,.2f} MB"
