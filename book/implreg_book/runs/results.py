"""Results that come with the book, so that a reader need not wait for them.

One small Parquet file per experiment holds the tables of its runs below one another, each run with
its configuration, when it ran and with what. Unlike in a store, whose keys also hold code and
libraries, a run is looked up by its configuration alone. That these results are still those of the
code is what the tests of the book check, by computing some of them again.
"""

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from implreg.errors import InputError, prepare_folder, write_whole
from implreg_book.runs.keys import Origin
from implreg_book.runs.machine import commit, hardware, lock_of
from implreg_book.runs.tables import columns_of, decode, encode
from implreg_book.settings import record_folder, results_folder

WORTH_KEEPING = 3  # seconds that all runs of a grid took together

_RUN = "run"  # column: number of the run
_PACKED = "packed"  # what is told of the runs, compressed


@dataclass(frozen=True)
class Kept:
    """One run among the results.

    Attributes:
        config: its configuration, as a mapping.
        table: what it returned.
        seconds: that it took.
        date: when it ended, in UTC.
        origin: code, versions, commit and hardware that it ran with.
    """

    config: dict[str, Any]
    table: pd.DataFrame
    seconds: float
    date: str
    origin: dict[str, Any]


def read_results(file: Path) -> list[Kept]:
    """Return all runs in a file of results; none, if it is not there.

    Raises:
        InputError: the file is damaged.
    """
    try:
        table, told = decode(file.read_bytes())
        meta = json.loads(zlib.decompress(base64.b64decode(told[_PACKED])))
        runs = meta["runs"]
        alike = []  # the rows of runs whose columns are alike, and which run each is of
        for number, types in enumerate(meta["types"]):
            those = [i for i, run in enumerate(runs) if run["types"] == number]
            rows = table[table[_RUN].isin(those)]
            alike.append((rows[list(types)].astype(types), rows[_RUN].to_numpy()))
        return [
            Kept(
                run["config"],
                rows.iloc[slice(*of.searchsorted([i, i + 1]))].reset_index(drop=True),
                run["seconds"],
                run["date"],
                meta["origins"][run["origin"]],
            )
            for i, run in enumerate(runs)
            for rows, of in [alike[run["types"]]]
        ]
    except FileNotFoundError:
        return []
    except (pa.ArrowException, LookupError, ValueError, TypeError, zlib.error) as error:
        raise InputError(
            f"{file} must hold the results of an experiment, but is damaged "
            f"({type(error).__name__}); get it again with git, or compute without it "
            f"(python -m implreg book --results ignore)."
        ) from error


def write_results(file: Path, runs: Iterable[Kept]) -> None:
    """Let a file of results hold `runs`, at once or not at all.

    Raises:
        OSError: it cannot be written.
    """
    every = sorted(runs, key=lambda run: canonical(run.config))
    origins: list[dict[str, Any]] = []
    types: list[dict[str, str]] = []
    told, tables = [], []
    for i, run in enumerate(every):
        own = {str(name): str(dtype) for name, dtype in run.table.dtypes.items()}
        for known, new in ((origins, run.origin), (types, own)):
            if new not in known:
                known.append(new)
        told.append(
            {
                "config": run.config,
                "seconds": run.seconds,
                "date": run.date,
                "origin": origins.index(run.origin),
                "types": types.index(own),
            }
        )
        readable = columns_of(run.config, run.table)
        tables.append(run.table.assign(**readable, **{_RUN: i}))
    table = pd.concat(tables, ignore_index=True)
    meta = json.dumps({"runs": told, "origins": origins, "types": types}).encode()
    # Parquet keeps it twice, and configurations of a grid hardly differ.
    content = encode(table, {_PACKED: base64.b64encode(zlib.compress(meta, 9)).decode()})
    write_whole(prepare_folder(file.parent) / file.name, content)


def look_up(experiment: str, configs: Mapping[str, Any]) -> dict[str, Kept]:
    """Return those of `configs`, by their keys, whose results came with the book.

    Raises:
        InputError: the file of this experiment is damaged.
    """
    folder = results_folder()
    if folder is None:
        return {}
    known = {canonical(run.config): run for run in read_results(_file(folder, experiment))}
    wanted = {key: canonical(asdict(config)) for key, config in configs.items()} if known else {}
    return {key: known[text] for key, text in wanted.items() if text in known}


def record(origin: Origin, runs: Iterable[Any]) -> None:
    """Write the runs of a grid among the results, if that was asked for and it took long.

    Args:
        origin: what they have in common.
        runs: configuration, table, seconds and date of each.
    """
    folder, every = record_folder(), list(runs)
    if folder is None or sum(seconds for _, _, seconds, _ in every) < WORTH_KEEPING:
        return
    made_with = {
        "code": origin.code,
        "versions": origin.versions,
        "commit": commit(Path(__file__).parent),
        "hardware": hardware(),
    }
    file = _file(folder, origin.experiment)
    with lock_of(f"results {file.resolve()}"):  # chapters that run side by side may share it
        kept = {canonical(run.config): run for run in read_results(file)}
        for config, table, seconds, date in every:
            told = json.loads(canonical(asdict(config)))
            kept[canonical(told)] = Kept(told, table, seconds, date, made_with)
        write_results(file, kept.values())


def describe(kept: Iterable[Kept], of: int, code: str) -> str:
    """Return in one sentence where results come from, for the reader of a page."""
    runs = list(kept)
    seconds = sum(run.seconds for run in runs)
    dates = sorted({run.date[:10] for run in runs})
    torches = sorted({run.origin["versions"].get("torch", "unknown") for run in runs})
    long = f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
    older = "" if all(run.origin["code"] == code for run in runs) else (
        " The code that they depend on has been edited since."
    )  # fmt: skip
    return (
        f"{len(runs):,} of {of:,} runs came with the book: {long} of one core, computed "
        f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))} with torch {', '.join(torches)}."
        f"{older} --results ignore computes them again."
    )


def canonical(config: Mapping[str, Any]) -> str:
    """Return a configuration as text, the same for the same values."""
    return json.dumps(config, sort_keys=True)


def _file(folder: Path, experiment: str) -> Path:
    return folder / f"{experiment}.parquet"
