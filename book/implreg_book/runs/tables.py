"""The table of a finished run, and what is told of it, as one Parquet file."""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from implreg.errors import InputError
from implreg_book.runs.store import NOTEBOOK, Damaged, Entry, to_json

_META = b"implreg"


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
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _META: to_json(meta)})
    buffer = io.BytesIO()
    # Of few rows, for which a dictionary is too much.
    pq.write_table(arrow, buffer, use_dictionary=False, compression="zstd", compression_level=9)
    return buffer.getvalue()


def decode(content: bytes) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table and the `meta` that `encode` was given."""
    arrow = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    return arrow.to_pandas(use_threads=False), json.loads(arrow.schema.metadata[_META])


def unpack(entry: Entry, content: bytes | Damaged) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    """Return the table and the `meta` of a file that `Store.read` has read.

    A failure has no table, nor has a chapter, whose notebook tells of its run. There is nothing, if
    it is damaged, or was written by a version of this package with other files.
    """
    if isinstance(content, Damaged):
        return None, {}
    try:
        if entry.path.endswith(NOTEBOOK):
            run = json.loads(content)["metadata"]["implreg"]
            told = {"config": run["set"], "seconds": run["duration"], "code": run["key"]}
            return None, {name: run[name] for name in ("date", "versions")} | told
        return (None, json.loads(content)) if entry.failed else decode(content)
    except (pa.ArrowException, KeyError, ValueError):
        return None, {}


def columns_of(config: Mapping[str, Any], table: pd.DataFrame) -> dict[str, Any]:
    """Fields of a configuration that fit in one cell and that the run did not report itself."""
    return {
        name: value
        for name, value in config.items()
        if isinstance(value, str | int | float | np.generic) and name not in table
    }
