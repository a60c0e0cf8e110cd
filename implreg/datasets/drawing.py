"""Pairs of samples, drawn from a data set."""

from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from implreg.checks import check_choice, check_count
from implreg.datasets.loading import Dataset
from implreg.errors import InputError
from implreg.tracing.paths import Pairs

KINDS = ("same", "different", "random")  # of pairs, see `pairs`


def pairs(
    data: Dataset, *, kind: str = "same", count: int = 128, split: str = "train", seed: int = 0
) -> Pairs:
    """Draw pairs of samples, none twice in the same order.

    The start is drawn uniformly over the samples of its split, the end uniformly over those that
    `kind` allows. Ends that coincide to nine decimals after preprocessing, be it one sample or a
    duplicate, are never paired: there would be no path. A larger `count` keeps the pairs of a
    smaller one and adds to them. The shape of the samples does not matter: shaped and flat ones
    give the same pairs.

    Args:
        data: where to draw from; samples of any shape, which those of the pairs keep.
        kind: "same" pairs two samples of one class, "different" of two classes, "random" any two.
        count: P, the number of pairs.
        split: "train", "test", or "train-test": starts from the training, ends from the test set.
        seed: of the draw, which neither uses nor changes torch's global random state.

    Returns:
        P pairs with their labels, to be traced.

    Raises:
        InputError: an unknown `kind` or `split`, more pairs than there are, or, for "same", a
            class that has no two samples to pair.

    >>> from implreg.datasets import load
    >>> p = pairs(load("digits"), count=3)
    >>> len(p), p.x0.shape, bool((p.y0 == p.y1).all())
    (3, torch.Size([3, 64]), True)
    """
    check_choice("kind", kind, KINDS)
    check_choice("split", split, ("train", "test", "train-test"))
    check_count("count", count)
    check_count("seed", seed, at_least=0)
    x0, y0 = (data.x_test, data.y_test) if split == "test" else (data.x_train, data.y_train)
    x1, y1 = (data.x_train, data.y_train) if split == "train" else (data.x_test, data.y_test)
    content = _content(x0) if x0 is x1 else _content(x0, x1)
    c0, c1 = content[: len(x0)], content[-len(x1) :]
    size, alike = _equal(y0, y1), _equal(c0, c1)
    twins = _equal(c0 * data.classes + y0, c1 * data.classes + y1)  # same content and class
    ends = torch.full_like(y0, len(y1))
    room = {"same": size, "different": ends - size, "random": ends}[kind]
    barred = {"same": twins, "different": alike - twins, "random": alike}[kind]
    _check_supply(kind, split, count, y0, room - barred)

    # Ends in order of class: those of one class are a block, so that an end of the same or of
    # another class is a position inside or outside of the start's block.
    order = torch.argsort(y1, stable=True)
    begin = torch.searchsorted(y1[order].contiguous(), y0)

    generator = torch.Generator().manual_seed(seed)
    drawn: dict[int, None] = {}  # start * len(x1) + end, in order of drawing
    while len(drawn) < count:
        i = torch.randint(len(x0), (1024,), generator=generator)
        u = torch.rand(1024, generator=generator, dtype=torch.float64)
        i, u = i[room[i] > 0], u[room[i] > 0]
        position = (u * room[i]).long()
        if kind == "same":
            position += begin[i]
        elif kind == "different":
            position += torch.where(position >= begin[i], size[i], 0)
        j = order[position]
        drawn.update(dict.fromkeys((i * len(x1) + j)[c0[i] != c1[j]].tolist()))
    codes = torch.tensor(list(drawn)[:count])
    i, j = codes // len(x1), codes % len(x1)
    return Pairs(x0=x0[i], x1=x1[j], y0=y0[i], y1=y1[j], kind=kind)


def shared_pairs(data: Dataset, *, count: int = 128, seed: int = 20190114) -> Pairs:
    """Draw the pairs that all networks share in the released program.

    See `shared_members`, which says where in the training set their samples are.

    Args:
        data: its training samples, of any shape.
        count: P, the number of pairs.
        seed: of NumPy's old generator, which the program uses.

    Returns:
        P pairs of the same class, with their labels.

    Raises:
        InputError: a class with a single training sample.

    Source: the released program of Kubo et al. (2019).

    >>> from implreg.datasets import load
    >>> shared_pairs(load("mnist-5000"), count=4).y0.tolist()
    [6, 6, 1, 0]
    """
    i, j = shared_members(data.y_train, count=count, seed=seed).unbind(1)
    x, y = data.x_train, data.y_train
    return Pairs(x0=x[i], x1=x[j], y0=y[i], y1=y[j], kind="same")


def shared_members(y: Tensor, *, count: int = 128, seed: int = 20190114) -> Tensor:
    """Where the samples of `shared_pairs` are in a training set.

    Classes are uniform with replacement; both members are uniform with replacement among the first
    n samples of the class in the order of the set, n the size of the smallest class. The second of
    two that coincide is moved on by a random number of places, back to the first behind the n-th;
    how the program draws that number is not known. With all of MNIST, 50,000 training samples in
    the order of the files, the others are those of the program, with its seed 20190114 those of
    figure 2, with 2019014 those of figure 3.

    Args:
        y: labels of the training samples, (N,) int64.
        count: P, the number of pairs.
        seed: of NumPy's old generator, which draws all classes, all first and all second members.

    Returns:
        Numbers of training samples, (P, 2) int64.

    Raises:
        InputError: a class with a single training sample.

    Source: the released program of Kubo et al. (2019).
    """
    check_count("count", count)
    check_count("seed", seed, at_least=0)
    sizes = torch.bincount(y)
    smallest = int(sizes.min())
    if smallest < 2:
        raise InputError(
            f"y must have two samples of every class, but class {int(sizes.argmin())} has "
            f"{smallest}; use more samples."
        )
    random = np.random.RandomState(seed)
    classes = torch.from_numpy(random.randint(len(sizes), size=count))
    first, second = (random.randint(smallest, size=count) for _ in range(2))
    twice = first == second
    second[twice] = (second[twice] + random.randint(1, smallest, size=twice.sum())) % smallest
    order = torch.argsort(y, stable=True)
    begin = (sizes.cumsum(0) - sizes)[classes]
    return torch.stack([order[begin + torch.from_numpy(rank)] for rank in (first, second)], dim=1)


def _content(*sets: Tensor) -> Tensor:
    """Number the samples of all sets so that two have one number if they agree to nine decimals."""
    numbers: dict[bytes, int] = {}
    # Adding 0 turns -0.0 into 0.0, whose bytes differ. In chunks, not to copy a whole set.
    chunks = ((torch.round(part, decimals=9) + 0.0).numpy() for x in sets for part in x.split(1024))
    digests = (blake2b(row.tobytes(), digest_size=16).digest() for part in chunks for row in part)
    return torch.tensor([numbers.setdefault(digest, len(numbers)) for digest in digests])


def _equal(a: Tensor, b: Tensor) -> Tensor:
    """How many of the numbers b are equal to each of the numbers a."""
    return torch.bincount(b, minlength=int(a.max()) + 1)[a]


def _check_supply(kind: str, split: str, count: int, y0: Tensor, free: Tensor) -> None:
    """Refuse more pairs of a kind than there are, with so many ends `free` for each start."""
    poor = {*y0.tolist()} - {*y0[free > 0].tolist()}
    if kind == "same" and poor:
        raise InputError(
            f"kind 'same' needs two different samples of every class, but class {min(poor)} has no "
            f"two in the split {split!r}; use more samples or another kind."
        )
    supply = int(free.sum())
    if count > supply:
        raise InputError(
            f"count must be at most {supply}, the number of {kind} pairs in the split {split!r}, "
            f"got {count}; ask for fewer pairs or use more samples."
        )
