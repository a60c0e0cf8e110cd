"""Full data sets that are published as files: where they are, downloads, checksums, readers."""

import gzip
import io
import os
import shlex
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import md5, sha256
from pathlib import Path, PurePosixPath

import numpy as np
import pooch
from numpy.typing import NDArray

from implreg.checks import check_choice
from implreg.errors import InputError

Split = tuple[NDArray[np.generic], NDArray[np.generic]]  # features (N, d), labels (N,)
Reader = Callable[[Callable[[str], bytes]], tuple[Split, Split]]  # from a file's name to its bytes


@dataclass(frozen=True)
class Archive:
    """A data set that is published as files.

    Attributes:
        url: where its files are published, with a slash at the end.
        files: for each file the md5 as published and, for a file that gzip packed, the sha256 of
            what it holds: others pack it again, so such a file on disk is judged by what it holds.
        read: makes the training and the test split of what the files hold; the checksums vouch
            for the layout.
        elsewhere: folders outside of the user's own that may have the files.
    """

    url: str
    files: Mapping[str, tuple[str, str | None]]
    read: Reader
    elsewhere: tuple[Path, ...] = ()


def _idx(content: Callable[[str], bytes]) -> tuple[Split, Split]:
    """Read the four files of MNIST or Fashion-MNIST: headers of 16 and 8 bytes, then the data."""
    splits = []
    for split in ("train", "t10k"):
        images = content(f"{split}-images-idx3-ubyte.gz")
        y = np.frombuffer(content(f"{split}-labels-idx1-ubyte.gz"), np.uint8, offset=8)
        x = np.frombuffer(images, np.uint8, offset=16).reshape(len(y), -1)
        splits.append((x.copy(), y.copy()))
    return splits[0], splits[1]


def _cifar(
    file: str, labels: int, test: str, train: Sequence[str], content: Callable[[str], bytes]
) -> tuple[Split, Split]:
    """Read an archive of CIFAR, whose records are `labels` bytes, the last one ours, and 3072."""
    parts = {}
    with tarfile.open(fileobj=io.BytesIO(content(file)), mode="r:gz") as archive:
        for member in archive:  # in the order of the archive, which gzip cannot search
            name = PurePosixPath(member.name).name
            if name in (*train, test) and (opened := archive.extractfile(member)) is not None:
                records = np.frombuffer(opened.read(), np.uint8)
                parts[name] = records.reshape(-1, labels + 3072)

    def split(*names: str) -> Split:
        x = np.concatenate([parts[name][:, labels:] for name in names])
        return x, np.concatenate([parts[name][:, labels - 1] for name in names])

    return split(*train), split(test)


_BATCHES = [f"data_batch_{i}.bin" for i in range(1, 6)]
ARCHIVES = {
    "fashion-mnist": Archive(
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        files={
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
        },
        read=_idx,
        elsewhere=(Path("/usr/share/datasets/fashion-mnist"),),  # Debian's dataset-fashion-mnist
    ),
    "mnist": Archive(
        url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        files={
            "train-images-idx3-ubyte.gz": (
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            "train-labels-idx1-ubyte.gz": (
                "d53e105ee54ea40749a09fcbcd1e9432",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            "t10k-images-idx3-ubyte.gz": (
                "9fb629c4189551a2d022fa330f9573f3",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "ec29112dd5afa0611ce80d1b7f02629c",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        },
        read=_idx,
    ),
    "cifar10": Archive(
        url="https://www.cs.toronto.edu/~kriz/",
        files={"cifar-10-binary.tar.gz": ("c32a1d4ab5d03f1284b67883e8d87530", None)},
        read=partial(_cifar, "cifar-10-binary.tar.gz", 1, "test_batch.bin", _BATCHES),
    ),
    "cifar100": Archive(
        url="https://www.cs.toronto.edu/~kriz/",
        files={"cifar-100-binary.tar.gz": ("03b5dce01913d631647c71ecec9e9cb8", None)},
        read=partial(_cifar, "cifar-100-binary.tar.gz", 2, "test.bin", ["train.bin"]),
    ),
}


def fetch(name: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a full data set, after downloading what is missing or damaged there.

    Args:
        name: "fashion-mnist" (30 MB), "mnist" (12 MB), "cifar10" (170 MB) or "cifar100" (169 MB);
            the other data sets need no download.
        folder: where to keep the files. Without it, a place that has them already
            (`$IMPLREG_DATA/<name>` or, if that variable is not set, the user's cache; for
            "fashion-mnist" also the folder of Debian's package dataset-fashion-mnist), else the
            first of these places.

    Returns:
        The folder, for `folder` of `load`.

    Raises:
        InputError: another name, no network, no permission to write, or a download that is not
            the published file.
    """
    check_choice("name", name, ARCHIVES)
    archive = ARCHIVES[name]
    where = Path(folder) if folder is not None else found(name) or _home(name)
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=30)
    for file, (checksum, _) in archive.files.items():
        with suppress(InputError):  # missing or damaged: download it
            _content(name, where, file)
            continue
        try:
            pooch.retrieve(
                archive.url + file, f"md5:{checksum}", fname=file, path=where, downloader=downloader
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", "what came is not the published file")
            raise InputError(
                f"{file} could not be downloaded from {archive.url} to {where} "
                f"({reason or type(error).__name__}); put a copy there, or name another folder."
            ) from error
    return where


def found(name: str) -> Path | None:
    """Return the first place that has all files of a full data set, if any; they are not read."""
    archive = ARCHIVES[name]
    places = (_home(name), *archive.elsewhere)
    return next((p for p in places if all((p / file).is_file() for file in archive.files)), None)


def read(name: str, folder: Path) -> tuple[Split, Split]:
    """Read the files of a full data set in a folder: uint8 features (N, d) and labels (N,)."""
    return ARCHIVES[name].read(partial(_content, name, folder))


def _home(name: str) -> Path:
    """Where a download goes unless a folder is named."""
    return Path(os.environ.get("IMPLREG_DATA") or pooch.os_cache("implreg")) / name


def _content(name: str, folder: Path, file: str) -> bytes:
    """Return what a file holds, unpacked if gzip packed it alone, if that was published."""
    path = folder / file
    advice = (
        f"put the file {file} of {name} in the folder {folder}, or download it with "
        f"`python -m implreg data --fetch {name} --folder {shlex.quote(str(folder))}`"
    )
    published, unpacked = ARCHIVES[name].files[file]
    try:
        content = path.read_bytes()
        if unpacked is not None:
            content = gzip.decompress(content)
    except FileNotFoundError as error:
        raise InputError(f"{file} is missing in {folder}; {advice}.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}); {advice}.") from error
    digest = md5(content, usedforsecurity=False) if unpacked is None else sha256(content)
    if digest.hexdigest() != (unpacked or published):
        raise InputError(f"{path} does not hold what was published; {advice}.")
    return content
