"""What a grid tells its user, above the progress bar."""

import sys

from tqdm import tqdm


class LostWorkers(RuntimeError):
    """Workers that are gone and cannot be replaced; the message says why and what to do."""


def say(text: str) -> None:
    """Print a line on the error stream."""
    tqdm.write(text, file=sys.stderr)


def counted(number: int, of: int) -> str:
    """Return such as "57 of 200 runs"."""
    return f"{number:,} of {of:,} run{'' if of == 1 else 's'}"
