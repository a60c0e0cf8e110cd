"""Raw samples of the data sets that come with the package."""

import zipfile
import zlib
from importlib import resources

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from implreg.datasets.archives import Split
from implreg.errors import InputError

_FOLDER = resources.files("implreg.datasets") / "data"


def shipped(name: str) -> tuple[Split, Split]:
    """Read the training and the test samples of a data set that comes with the package.

    Args:
        name: digits, mnist1d, fashion-mnist, of which it is a subset, or mnist-5000.

    Returns:
        Features (N, d) and labels (N,) of both splits, of the types that they are published in.

    Raises:
        InputError: the file is not there, or damaged.
    """
    place = _FOLDER / f"{name}.npz"
    try:
        with place.open("rb") as file, np.load(file) as arrays:
            train, test = (
                (arrays[f"x_{split}"].reshape(len(arrays[f"y_{split}"]), -1), arrays[f"y_{split}"])
                for split in ("train", "test")
            )
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(
            f"{place} is missing or damaged; install implreg again or put the file {place.name} of "
            f"its source in that folder."
        ) from error
    return train, test


def rank_in_class(y: NDArray[np.generic]) -> NDArray[np.int64]:
    """For each sample, how many of its class come before it."""
    return np.asarray(pd.Series(y).groupby(y).cumcount(), np.int64)
