"""Training to target losses, so that networks are compared where they fit equally well."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from implreg.checks import check_choice
from implreg.errors import InputError
from implreg.training import SGD, Diverged, evaluate, train
from implreg_book.experiments.types import Positive


def falling(name: str, values: Sequence[float]) -> None:
    """Refuse no numbers at all, and numbers that do not fall."""
    if not values or list(values) != sorted(set(values), reverse=True):
        raise InputError(
            f"{name} must be one or more falling numbers, got {list(values)}; sort them."
        )


TargetLosses = Annotated[tuple[Positive, ...], falling]


@dataclass(frozen=True)
class Moment:
    """A network when it first is at some targets; or, where training ends, with those left.

    Attributes:
        net: in eval mode; it is the same object at every moment.
        targets: that this epoch is the first to reach, or that none has, falling.
        reached: whether it is at them.
        epoch: after which it is, 0 before the first step.
        loss: on the training samples; NaN if the targets are not reached.
        diverged: whether they are not because the loss became infinite. The network is then as it
            was before that step.
    """

    net: nn.Module
    targets: tuple[float, ...]
    reached: bool
    epoch: int
    loss: float = math.nan
    diverged: bool = False


def train_to(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    settings: SGD,
    targets: Sequence[float],
    *,
    seed: int,
    of: str = "loss",
) -> Iterator[Moment]:
    """Train `net` in place until the last target, or for all epochs of the settings.

    Args:
        net: maps (N, ...) to logits (N, classes).
        x: training samples, (N, ...).
        y: labels, (N,) int64.
        settings: of `implreg.train`.
        targets: falling; a network is at one when it is at most that on all training samples.
        seed: of `implreg.train`.
        of: "loss" or "error".

    Yields:
        The moments at which targets are reached and, if some are not, the last one.

    Raises:
        InputError: samples, labels or settings that `implreg.train` refuses, or an unknown `of`.

    >>> from implreg import mlp
    >>> x, y = torch.eye(2), torch.tensor([0, 1])
    >>> how = SGD(1.0, epochs=9, warmup_epochs=0)
    >>> moments = train_to(mlp(2, 8, 2, seed=0), x, y, how, (9.0, 8.0, 0.3, 1e-9), seed=0)
    >>> [(moment.targets, moment.reached, moment.epoch) for moment in moments]
    [((9.0, 8.0), True, 0), ((0.3,), True, 1), ((1e-09,), False, 9)]
    """
    kinds = ("loss", "error")
    number = kinds.index(check_choice("of", of, kinds))
    left, epoch, diverged = tuple(targets), 0, False
    try:
        for epoch in train(net, x, y, settings, seed=seed):
            found = evaluate(net, x, y)
            if passed := tuple(target for target in left if found[number] <= target):
                left = left[len(passed) :]
                yield Moment(net, passed, True, epoch, found[0])
            if not left:
                return
    except Diverged:
        diverged = True
    yield Moment(net, left, False, epoch, diverged=diverged)


def descend(
    loss: Callable[[], Tensor], optimiser: torch.optim.Optimizer, steps: int
) -> Iterator[Tensor]:
    """Descend a loss of all samples at once, for one network or many side by side.

    Args:
        loss: of each network, () or (S,), from its parameters as they are.
        optimiser: of these parameters; what it does to one must not depend on the others.
        steps: how many to take.

    Yields:
        The losses before each step, which is taken when the next ones are asked for, and after the
        last one: steps + 1 times.

    >>> w = torch.ones(2, requires_grad=True)
    >>> [x.tolist() for x in descend(lambda: w.square() / 2, torch.optim.SGD([w], lr=0.5), 2)]
    [[0.5, 0.5], [0.125, 0.125], [0.03125, 0.03125]]
    """
    for step in range(steps + 1):
        losses = loss()
        yield losses.detach()
        if step < steps:
            optimiser.zero_grad()
            losses.sum().backward()
            optimiser.step()
