"""Where finished runs are kept: one file each, in a local folder or behind an fsspec URL.

A file is called ``<experiment>/<key>-<hash of key and bytes>``, with ``.parquet`` for a table and
``.ipynb`` for a chapter, so that one whose bytes or name have changed is told by its name alone. It
is written beside its place and then moved there.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec

from implreg.errors import InputError, writing

_AT_ONCE = 64  # files read side by side, which matters far away
_DIGITS = 32
_KEY = re.compile(rf"[0-9a-f]{{{_DIGITS}}}")
TABLE, NOTEBOOK, FAILURE = ".parquet", ".ipynb", ".json"  # what a file holds, by its suffix


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
        return self.path.endswith(FAILURE)


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
        InputError: fsspec does not know the protocol, lacks the library for it, or reaches no host.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = str(place)
        try:
            self.files, root = fsspec.url_to_fs(self.place)
        except (ValueError, ImportError, OSError) as error:
            raise InputError(
                f"store must be a folder or a URL that fsspec can open, got {place} "
                f"({' '.join(str(error).split())}); change it or install what is missing."
            ) from error
        self.root = root.rstrip("/")
        # What is no path from a top folder begins with a bucket, which needs no folders in it, and
        # which fsspec would make.
        self.bucket = self.root.partition("/")[0]

    def entries(self, experiment: str | None = None) -> list[Entry]:
        """Return all files of runs, or those of one experiment, by key; opens none of them."""
        if experiment is None:
            return [e for name in sorted(self._list(self.root)) for e in self.entries(name)]
        folder = f"{self.root}/{experiment}"
        return [
            Entry(experiment, _KEY.match(name)[0], f"{folder}/{name}", size)  # type: ignore[index]
            for name, size in sorted(self._list(folder).items())
            if _KEY.match(name) and name.endswith((TABLE, NOTEBOOK, FAILURE))
        ]

    def debris(self) -> list[str]:
        """Return the files of writers that were killed."""
        self.files.invalidate_cache()
        return [path for path in self.files.find(self.root, maxdepth=2) if path.endswith(".part")]

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
        """Keep a table, as `tables.encode` gives it, or a notebook; return the path of its file.

        Raises:
            OSError: it cannot be written.
        """
        suffix = TABLE if content.startswith(b"PAR1") else NOTEBOOK
        return self._write(experiment, f"{key}-{_digest(key, content)}{suffix}", content)

    def put_failure(self, experiment: str, key: str, told: dict[str, Any]) -> str:
        """Keep what is known of a run that failed; the run itself will be tried again."""
        return self._write(experiment, f"{key}{FAILURE}", to_json(told, indent=1))

    def remove(self, path: str) -> None:
        """Delete a file of the store if it is still there."""
        with suppress(FileNotFoundError):
            self.files.rm_file(path)

    def check_writable(self) -> None:
        """Raise `OSError` if nothing can be written here, `InputError` if there is no bucket."""
        if self.bucket and not self.files.exists(self.bucket):
            raise InputError(
                f"store must be in a bucket that exists, got {self.place}, but no bucket "
                f"{self.bucket} can be found; make it, or name another."
            )
        self.remove(self._write("", f".{uuid4().hex}.part", b""))

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
        stem = entry.path.rpartition(".")[0]
        whole = entry.failed or stem.endswith(f"-{_digest(entry.key, content)}")
        return content if whole else Damaged(entry.path)

    def _write(self, experiment: str, name: str, content: bytes) -> str:
        folder = f"{self.root}/{experiment}".rstrip("/")
        part, path = f"{folder}/.{uuid4().hex}.part", f"{folder}/{name}"
        with writing(self.place):
            try:
                if not self.bucket:
                    self.files.makedirs(folder, exist_ok=True)
                self.files.pipe_file(part, content)
                self.files.mv(part, path)
            except BaseException:
                with suppress(OSError):
                    self.remove(part)
                raise
        return path


def _digest(key: str, content: bytes) -> str:
    return hashlib.sha256(key.encode() + content).hexdigest()[:_DIGITS]


def to_json(told: dict[str, Any], indent: int | None = None) -> bytes:
    """Return `told` as JSON: numbers of NumPy as numbers, and what it has no word for as text."""
    return json.dumps(
        told, indent=indent, default=lambda x: x.item() if hasattr(x, "item") else str(x)
    ).encode()
