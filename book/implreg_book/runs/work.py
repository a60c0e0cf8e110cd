"""What a worker does: one run, from its configuration to the bytes that a store keeps."""

import pickle
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from implreg.errors import InputError
from implreg_book.runs.dependencies import versions
from implreg_book.runs.keys import Origin, known_code
from implreg_book.runs.tables import encode
from implreg_book.settings import checkpoint_of

# What may be gone the next time, as the same arguments may not.
_PASSING = (OSError, MemoryError)


@dataclass(frozen=True)
class Failure:
    """A run that failed.

    Attributes:
        config: its configuration.
        error: the exception's class and message, on one line.
        traceback: where it was raised, as Python prints it.
        date: when, in UTC.
        passing: whether the run is worth another try.
        seconds: that it took, as far as a worker knew.
    """

    config: Any
    error: str
    traceback: str
    date: str
    passing: bool
    seconds: float = 0.0


@dataclass(frozen=True)
class Unlike:
    """A worker that has other code or libraries than the client; it did not run anything."""

    difference: str

    def error(self) -> InputError:
        """What a user is told."""
        return InputError(
            f"the workers must have the same code and libraries as the client, but have "
            f"{self.difference}; install the same there, or start them where they find it."
        )


@dataclass(frozen=True)
class Shipped:
    """Data in a file that all workers can read, each once."""

    path: Path

    def open(self) -> Any:
        """Return the data."""
        return _load(self.path)


@lru_cache(maxsize=1)
def _load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())


def perform(
    run: Callable[..., pd.DataFrame | bytes], config: Any, data: Any, origin: Origin
) -> bytes | Failure | Unlike:
    """Return what is kept of one run, or why there is nothing.

    That is its table as `encode` gives it, or what the run itself has made into bytes.
    """
    begin = time.perf_counter()
    try:
        difference = _difference(origin)
        if difference:
            return Unlike(difference)
        shared = data.open() if isinstance(data, Shipped) else data
        begin = time.perf_counter()
        with checkpoint_of(lambda: origin.key(config)):
            table = run(config) if shared is None else run(config, shared)
        seconds = time.perf_counter() - begin
        if isinstance(table, bytes):
            return table
        if not isinstance(table, pd.DataFrame):
            kind = type(table).__name__
            raise InputError(
                f"run must return a pandas DataFrame, got an object of the type {kind}; return one."
            )
        meta = {
            **asdict(origin),
            "config": asdict(config),
            "seconds": round(seconds, 6),
            "date": _now(),
        }
        return encode(table, meta)
    except (Exception, SystemExit) as error:  # whatever a run raises
        return failed(config, error, time.perf_counter() - begin)


def unpack_and_perform(packed: bytes, data: Any, origin: Origin) -> bytes | Failure | Unlike:
    """`perform` for a run and its configuration, whose modules this worker may not have."""
    try:
        run, config = pickle.loads(packed)
    except ModuleNotFoundError as error:
        return Unlike(f"no module {error.name}")
    return perform(run, config, data, origin)


def failed(config: Any, error: BaseException, seconds: float = 0.0) -> Failure:
    """Return what is told of the run of `config` that ended with `error`."""
    told = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    where = "".join(traceback.format_exception(error))
    return Failure(config, told, where, _now(), isinstance(error, _PASSING), round(seconds, 6))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _difference(origin: Origin) -> str:
    """How this process differs from that of the client, in words; "" if it does not."""
    here = versions()
    other = [f"{name} {here.get(name)}" for name in here | origin.versions
             if here.get(name) != origin.versions.get(name)]  # fmt: skip
    if other:
        return f"{', '.join(other)} where the client has other versions"
    module = origin.experiment.rpartition(".")[0]
    # Asked in any case, as a version is that of the time when it is asked for first.
    code = known_code(module)
    if code and origin.code and code != origin.code:
        return f"other code of {module}, or of what it imports"
    return ""
