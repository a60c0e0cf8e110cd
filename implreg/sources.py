"""Raw samples of the data sets that need no download: of packages and of a shipped file."""

import random
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from implreg.archives import Split
from implreg.errors import InputError

_SHIPPED = resources.files("implreg") / "data" / "fashion-mnist.npz"


def fashion_mnist() -> tuple[Split, Split]:
    """Read the subset that comes with the package."""
    try:
        with _SHIPPED.open("rb") as file, np.load(file) as arrays:
            train, test = (
                (arrays[f"x_{split}"].reshape(len(arrays[f"y_{split}"]), -1), arrays[f"y_{split}"])
                for split in ("train", "test")
            )
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(
            f"{_SHIPPED} is missing or damaged; install implreg again or put the file "
            f"{_SHIPPED.name} of its source in that folder."
        ) from error
    return train, test


def digits() -> tuple[Split, Split]:
    """Read scikit-learn's digits; every fifth sample of a class is a test sample."""
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    x, y = load_digits(return_X_y=True)
    test = rank_in_class(y) % 5 == 4
    return (x[~test], y[~test]), (x[test], y[test])


_generating = threading.Lock()


@cache
def mnist1d() -> tuple[Split, Split]:
    """Generate MNIST-1D (a second), once per process."""
    with _generating, _global_random_state_kept():
        from mnist1d.data import make_dataset  # imports pyplot

        made = make_dataset()
    return (made["x"], made["y"]), (made["x_test"], made["y_test"])


@contextmanager
def _global_random_state_kept() -> Iterator[None]:
    """Undo what a library does to the global random states of Python and NumPy."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def rank_in_class(y: NDArray[np.generic]) -> NDArray[np.int64]:
    """For each sample, how many of its class come before it."""
    rank = np.empty(len(y), np.int64)
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        rank[members] = np.arange(len(members))
    return rank
