"""Where finished runs are kept: one Parquet file each, in a local folder or behind an fsspec URL.

A file is called ``<experiment>/<key>-<hash of key and bytes>.parquet``, so that one whose bytes or
name have changed is told by its name alone. It is written beside its place and then moved there.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from implreg.errors import InputError

_META = b"implreg"
_AT_ONCE = 64  # files read side by side, which matters far away
_DIGITS = 32
_KEY = re.compile(rf"[0-9a-f]{{{_DIGITS}}}")


@dataclass(frozen=True)
class Entry:
    """One file of a store, by its name: a run that finished or, with the suffix .json, failed."""

    experiment: str
    key: str
    path: str
    size: int  # bytes

    @property
    def failed(self) -> bool:
        """Whether the run raised an exception, which the file then tells."""
        return self.path.endswith(".json")


@dataclass(frozen=True)
class Damaged:
    """What is read of a file that is not what was written."""

    path: str


class Store:
    """Finished runs in a folder.

    Args:
        place: path of a local folder, or a URL such as ``s3://bucket/runs`` for which fsspec has a
            file system.

    Raises:
        InputError: fsspec does not know the protocol, or lacks the library for it.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = str(place)
        try:
            self.files, root = fsspec.url_to_fs(self.place)
        except (ValueError, ImportError) as error:
            raise InputError(
                f"store must be a folder or a URL that fsspec can open, got {place} "
                f"({' '.join(str(error).split())}); change it or install what is missing."
            ) from error
        self.root = root.rstrip("/")

    def entries(self, experiment: str | None = None) -> list[Entry]:
        """Return all files of runs, or those of one experiment, by key; opens none of them."""
        if experiment is None:
            return [e for name in sorted(self._list(self.root)) for e in self.entries(name)]
        folder = f"{self.root}/{experiment}"
        return [
            Entry(experiment, _KEY.match(name)[0], f"{folder}/{name}", size)  # type: ignore[index]
            for name, size in sorted(self._list(folder).items())
            if _KEY.match(name) and name.endswith((".parquet", ".json"))
        ]

    def debris(self) -> list[str]:
        """Return the files of writers that were killed."""
        folders = [self.root, *(f"{self.root}/{name}" for name in self._list(self.root))]
        return [
            f"{folder}/{name}"
            for folder in folders
            if not folder.endswith(".part")
            for name in self._list(folder)
            if name.endswith(".part")
        ]

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes | Damaged]]:
        """Yield the content of every file that is there, or what says that it is damaged."""
        entries = list(entries)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for start in range(0, len(entries), _AT_ONCE):
                group = entries[start : start + _AT_ONCE]
                yield from (
                    (entry, content)
                    for entry, content in zip(group, pool.map(self._content, group), strict=True)
                    if content is not None
                )

    def put(self, experiment: str, key: str, content: bytes) -> str:
        """Keep what `encode` gave and return the path of its file.

        Raises:
            OSError: it cannot be written.
        """
        return self._write(experiment, f"{key}-{_digest(key, content)}.parquet", content)

    def put_failure(self, experiment: str, key: str, told: dict[str, Any]) -> str:
        """Keep what is known of a run that failed; the run itself will be tried again."""
        return self._write(experiment, f"{key}.json", _json(told, indent=1))

    def remove(self, path: str) -> None:
        """Delete a file of the store if it is still there."""
        with suppress(FileNotFoundError):
            self.files.rm_file(path)

    def check_writable(self) -> None:
        """Raise `OSError` if nothing can be written here."""
        path = f"{self.root}/.{uuid4().hex}.part"
        self.files.makedirs(self.root, exist_ok=True)
        self.files.pipe_file(path, b"")
        self.remove(path)

    def _list(self, folder: str) -> dict[str, int]:
        """Names and sizes of what is in a folder; nothing if it is not there."""
        self.files.invalidate_cache(folder)
        try:
            found = self.files.ls(folder, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {e["name"].rstrip("/").rpartition("/")[2]: e["size"] or 0 for e in found}

    def _content(self, entry: Entry) -> bytes | Damaged | None:
        try:
            content: bytes = self.files.cat_file(entry.path)
        except FileNotFoundError:  # another writer took it away
            return None
        whole = entry.failed or entry.path.endswith(f"-{_digest(entry.key, content)}.parquet")
        return content if whole else Damaged(entry.path)

    def _write(self, experiment: str, name: str, content: bytes) -> str:
        folder = f"{self.root}/{experiment}"
        part, path = f"{folder}/.{uuid4().hex}.part", f"{folder}/{name}"
        self.files.makedirs(folder, exist_ok=True)
        try:
            self.files.pipe_file(part, content)
            self.files.mv(part, path)
        except BaseException:
            with suppress(OSError):
                self.remove(part)
            raise
        return path


def encode(table: pd.DataFrame, meta: dict[str, Any]) -> bytes:
    """Return `table` as a Parquet file that carries `meta`.

    Raises:
        InputError: Parquet has no type for what a column holds.
    """
    try:
        arrow = pa.Table.from_pandas(table.reset_index(drop=True), preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InputError(
            f"the table of a run must have columns of one type each that Parquet can hold, got one "
            f"that has not ({' '.join(str(error).split())}); return numbers or text."
        ) from error
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _META: _json(meta)})
    buffer = io.BytesIO()
    pq.write_table(arrow, buffer, use_dictionary=False)  # of few rows
    return buffer.getvalue()


def decode(content: bytes) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table and the `meta` that `encode` was given."""
    arrow = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    return arrow.to_pandas(use_threads=False), json.loads(arrow.schema.metadata[_META])


def unpack(
    entry: Entry, content: bytes | Damaged
) -> tuple[pd.DataFrame | None, dict[str, Any]] | None:
    """Return the table (None of a failure) and the `meta` of a file that `Store.read` has read.

    None, if it is damaged, or was written by a version of this package with other files.
    """
    if isinstance(content, Damaged):
        return None
    try:
        return (None, json.loads(content)) if entry.failed else decode(content)
    except (pa.ArrowException, KeyError, ValueError):
        return None


def columns_of(config: Mapping[str, Any], table: pd.DataFrame) -> dict[str, Any]:
    """Fields of a configuration that fit in one cell and that the run did not report itself."""
    return {
        name: value
        for name, value in config.items()
        if isinstance(value, str | int | float | np.generic) and name not in table
    }


def _digest(key: str, content: bytes) -> str:
    return hashlib.sha256(key.encode() + content).hexdigest()[:_DIGITS]


def _json(told: dict[str, Any], indent: int | None = None) -> bytes:
    """Return `told` as JSON: numbers of NumPy as numbers, and what it has no word for as text."""
    return json.dumps(
        told, indent=indent, default=lambda x: x.item() if isinstance(x, np.generic) else str(x)
    ).encode()
