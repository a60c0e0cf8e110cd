"""What users are told when something cannot be done; light enough to import everywhere."""

import errno
import os
import tempfile
from pathlib import Path


class InputError(ValueError):
    """An argument that cannot be used; the message names it, what was expected, and what came."""


def prepare_folder(folder: Path) -> Path:
    """Make `folder` if it is missing and return it; raise `OSError` if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        reason = os.strerror(errno.ENOTDIR)
        raise NotADirectoryError(errno.ENOTDIR, reason, str(folder)) from error
    with tempfile.TemporaryFile(dir=folder):
        return folder


def explain_os_error(error: OSError, place: object) -> str:
    """Return one sentence for a file or folder, by default `place`, that cannot be written."""
    where = error.filename or place
    if error.errno == errno.ENOSPC:
        return f"the disk is full, {where} could not be written; free some space and try again."
    return f"{where} could not be written ({error.strerror or error}); choose another folder."


def explain_error(error: BaseException) -> str:
    """Return what an exception says and its type, on one line without a full stop."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
