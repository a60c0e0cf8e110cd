"""Many runs of an experiment: in parallel, with progress, and resumed where they were interrupted.

A run is one call of an experiment's `run` with one frozen configuration; it returns a small tidy
table. Where the environment variable `IMPLREG_STORE` names a folder, every finished run is kept
there, under a key of its configuration and of the package's code, and is not computed twice.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import joblib
import pandas as pd
from tqdm import tqdm

from implreg.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")

STORE = "IMPLREG_STORE"
# Parts of the package that no experiment imports.
PIPELINE = ("__main__.py", "book", "command.py", "files.py")


@cache
def code_version() -> str:
    """Hash of all that a result can depend on in the package: code and data, not the pipeline."""
    digest = hashlib.sha256()
    package = Path(__file__).parent.parent
    for path in sorted(package.rglob("*")):
        parts = path.relative_to(package).parts
        if path.is_file() and "__pycache__" not in parts and parts[0] not in PIPELINE:
            digest.update(path.relative_to(package).as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def run_all(
    run: Callable[[C], pd.DataFrame], configs: Sequence[C], *, label: str = "runs"
) -> pd.DataFrame:
    """One tidy table of all runs: what each returned, with its configuration in further columns.

    Args:
        run: a function of a module (not of a notebook) from a frozen dataclass to a table.
        configs: one per run.
        label: of the progress bar.

    Returns:
        The tables below one another, in the order of `configs`, whatever the order of execution.

    Raises:
        InputError: there is no configuration.
        OSError: `IMPLREG_STORE` names a folder that cannot be written.
    """
    if not configs:
        raise InputError("configs must hold at least one configuration, got none; check the grid.")
    folder = os.environ.get(STORE)
    kept = joblib.Memory(folder, verbose=0, mmap_mode=None).cache(_run, ignore=["run"])
    tasks = (
        joblib.delayed(kept)(run, f"{run.__module__}.{run.__qualname__}", config, code_version())
        for config in configs
    )
    workers = min(len(configs), joblib.cpu_count())
    results = joblib.Parallel(n_jobs=workers, return_as="generator")(tasks)
    tables = [
        table.assign(**_columns(config, table))
        for config, table in zip(
            configs, tqdm(results, total=len(configs), desc=label, unit="run"), strict=True
        )
    ]
    return pd.concat(tables, ignore_index=True)


def _run(run: Callable[[Any], pd.DataFrame], name: str, config: object, code: str) -> pd.DataFrame:
    """`run(config)`; `name` and `code` are part of the key under which the result is kept."""
    return run(config)


def _columns(config: "DataclassInstance", table: pd.DataFrame) -> dict[str, Any]:
    """Fields of the configuration that fit in one cell and that the run did not report itself."""
    return {
        name: value
        for name, value in asdict(config).items()
        if isinstance(value, str | int | float) and name not in table
    }
