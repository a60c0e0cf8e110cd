"""What users are told when something cannot be done; light enough to import everywhere."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


class InputError(ValueError):
    """An argument that cannot be used; the message names it, what was expected, and what came."""


def prepare_folder(folder: Path) -> Path:
    """Make `folder` if it is missing and return it; raise `OSError` if it cannot be written."""
    with suppress(FileExistsError):  # a file, which can hold no other
        folder.mkdir(parents=True, exist_ok=True)
    with writing(folder), tempfile.TemporaryFile(dir=folder, suffix=".part"):
        pass
    return folder


@contextmanager
def writing(place: object) -> Iterator[None]:
    """Let an `OSError` name `place`, unless it names a file itself, not one on its way (.part).

    That a disk is full is noticed when a file is written, and then no file is named.
    """
    try:
        yield
    except OSError as error:
        named = str(error.filename2 or error.filename or ".part")
        if named.endswith(".part") and error.errno is not None:
            error.filename, error.filename2 = str(place), None
        raise


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write so that `path` holds either what it did or `content`, never half of it.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{uuid4().hex}.part")
    with writing(path):
        try:
            part.write_bytes(content)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def explain_os_error(error: OSError, place: object = "a file") -> str:
    """Return one sentence for a file or folder, by default `place`, that cannot be written."""
    where = error.filename2 or error.filename or place  # of two that where it should have gone
    if full := _FULL.get(error.errno or 0):
        return f"{full}, {where} could not be written; free some space and try again."
    return f"{where} could not be written ({error.strerror or error}); choose another folder."


def explain_error(error: BaseException) -> str:
    """Return what an exception says and its type, on one line without a full stop."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
