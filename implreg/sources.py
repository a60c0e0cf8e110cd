"""Where the raw samples come from: installed packages, shipped files, folders, downloads."""

import gzip
import os
import random
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path

import numpy as np
import pooch
from numpy.typing import NDArray

from implreg.checks import check_choice
from implreg.errors import InputError

# Each file of the full set: md5 of the official archive, sha256 of what it holds. Distributions
# rewrite the archive's header, so a file on disk is always judged by what it holds.
_FILES = {
    "train-images-idx3-ubyte.gz": (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte.gz": (
        "25c81989df183df01b3e8a0aad5dffbe",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte.gz": (
        "bef4ecab320f06d8554ea6380940ec79",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "bb300cfdad3c16e7a12a480ee83cd310",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_SHIPPED = resources.files("implreg") / "data" / "fashion-mnist.npz"

Split = tuple[NDArray[np.generic], NDArray[np.generic]]  # features (N, d), labels (N,)


def fetch(name: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a full data set, after downloading what is missing or damaged there.

    Args:
        name: "fashion-mnist"; the other data sets need no download.
        folder: where to keep the four files (30 MB). Without it, a place that has them already
            (`$IMPLREG_DATA/fashion-mnist` or, if that variable is not set, the user's cache; the
            folder of Debian's package dataset-fashion-mnist), else the first of these places.

    Raises:
        InputError: another name, no network, no permission to write, or a download that is not
            the published file.
    """
    check_choice("name", name, ("fashion-mnist",))
    where = Path(folder) if folder is not None else found() or _home()
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=30)
    for file, (md5, _) in _FILES.items():
        try:
            _read(where / file)
            continue
        except InputError:
            pass  # missing or damaged: download it
        try:
            pooch.retrieve(_URL + file, f"md5:{md5}", fname=file, path=where, downloader=downloader)
        except (OSError, ValueError) as error:
            reason = (
                "what came is not the published file"
                if isinstance(error, ValueError)
                else getattr(error, "strerror", None) or type(error).__name__
            )
            raise InputError(
                f"{file} could not be downloaded from {_URL} to {where} ({reason}); "
                f"put a copy of it in that folder, or name another folder."
            ) from error
    return where


def found() -> Path | None:
    """Return the first place that has all four files of the full Fashion-MNIST, if any."""
    return next(
        (p for p in (_home(), _DEBIAN) if all((p / file).is_file() for file in _FILES)), None
    )


def _home() -> Path:
    """Where a download of Fashion-MNIST goes unless a folder is named."""
    return Path(os.environ.get("IMPLREG_DATA") or pooch.os_cache("implreg")) / "fashion-mnist"


def _read(path: Path) -> bytes:
    """Return what a file of the full Fashion-MNIST holds, if it is the published content."""
    advice = f"put the file {path.name} of Fashion-MNIST in the folder {path.parent}"
    try:
        with gzip.open(path) as archive:
            content = archive.read()
    except FileNotFoundError as error:
        raise InputError(f"{path.name} is missing in {path.parent}; {advice}.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}); {advice}.") from error
    if sha256(content).hexdigest() != _FILES[path.name][1]:
        raise InputError(f"{path} does not hold what was published; {advice}.")
    return content


def full_fashion_mnist(folder: Path) -> tuple[Split, Split]:
    """Read the four files in a folder."""
    return _idx(folder, "train"), _idx(folder, "t10k")


def _idx(folder: Path, split: str) -> Split:
    # The checksums vouch for the headers, 16 and 8 bytes long.
    images = _read(folder / f"{split}-images-idx3-ubyte.gz")
    labels = _read(folder / f"{split}-labels-idx1-ubyte.gz")
    y = np.frombuffer(labels, np.uint8, offset=8)
    return np.frombuffer(images, np.uint8, offset=16).reshape(len(y), -1).copy(), y.copy()


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
