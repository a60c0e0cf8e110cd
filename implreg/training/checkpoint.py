"""The file of one training: written beside its place and moved there, so always whole."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from implreg.errors import InputError, write_whole


def restore(path: Path, what: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """The state of a training and its rows as they were saved; None if there is no file.

    Args:
        path: of the file.
        what: which training it is to be.

    Raises:
        InputError: the file is of another training, or damaged.
        OSError: it cannot be opened.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            if name := parts.testzip():  # torch looks at no checksum
                raise zipfile.BadZipFile(name)
        told = dict(torch.load(io.BytesIO(content), weights_only=True))
        saved, state, rows = told["what"], told["ensemble"], json.loads(told["rows"])
    except Exception as error:  # torch has no class of its own for a damaged file
        raise InputError(
            f"checkpoint must be a file that this training wrote, but {path} is damaged "
            f"({type(error).__name__}); delete it to train from the start."
        ) from error
    if saved != what:
        raise InputError(
            f"checkpoint must be of the same networks, samples, settings, seeds and epochs, "
            f"but {path} is of another training; delete it or name another file."
        )
    return state, rows


def save(
    path: Path, what: str, state: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write what `restore` gives.

    Raises:
        OSError: the file cannot be written; one that was there is as before.
    """
    content = io.BytesIO()  # torch hides why it cannot write to a file
    torch.save({"what": what, "ensemble": state, "rows": json.dumps(rows)}, content)
    write_whole(path, content.getbuffer())
