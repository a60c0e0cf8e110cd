"""Stochastic gradient descent as in the paper."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from implreg.checks import check_count, check_finite, check_number
from implreg.errors import InputError


class Diverged(ArithmeticError):
    """The training loss is no longer finite."""


@dataclass(frozen=True)
class SGD:
    """Plain SGD on the softmax cross-entropy, with the paper's linear warm-up.

    In epoch e = 1, 2, ... the learning rate is `warmup_from` plus the share (e - 1) /
    `warmup_epochs` of the way to `learning_rate`, and `learning_rate` once that share is 1.

    Args:
        learning_rate: after the warm-up; above 0.
        epochs: passes over the training samples.
        batch: samples per step; the last batch of an epoch may be smaller.
        warmup_epochs: length of the warm-up; 0 for none.
        warmup_from: learning rate at the start of the warm-up; above 0.

    The defaults are figure 3's protocol in Kubo et al. (2019).

    Raises:
        InputError: a setting out of its range.

    >>> [round(SGD(0.1, epochs=4, warmup_epochs=2).rate(epoch), 6) for epoch in (1, 2, 3, 4)]
    [1e-05, 0.050005, 0.1, 0.1]
    """

    learning_rate: float = 0.001
    epochs: int = 2500
    batch: int = 128
    warmup_epochs: int = 200
    warmup_from: float = 1e-5

    def __post_init__(self) -> None:
        check_number("learning_rate", self.learning_rate, above=0)
        check_count("epochs", self.epochs)
        check_count("batch", self.batch)
        check_count("warmup_epochs", self.warmup_epochs, at_least=0)
        check_number("warmup_from", self.warmup_from, above=0)

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 1."""
        if epoch > self.warmup_epochs:
            return self.learning_rate
        share = (epoch - 1) / self.warmup_epochs
        return self.warmup_from + share * (self.learning_rate - self.warmup_from)


def train(net: nn.Module, x: Tensor, y: Tensor, settings: SGD, *, seed: int) -> Iterator[int]:
    """Train `net` in place and yield the epoch number, 0 before the first step, then after each.

    The caller measures whatever it wants between epochs, and may stop early.

    Args:
        net: maps (N, ...) to logits (N, classes); its parameters set dtype and device.
        x: training samples, (N, ...).
        y: labels, (N,) int64.
        settings: of the optimiser.
        seed: of the order of the samples.

    Raises:
        InputError: samples and labels that do not fit, or are not finite.
        Diverged: the loss of a batch is not finite.

    >>> net = nn.Sequential(nn.Linear(2, 2))
    >>> x, y = torch.eye(2), torch.tensor([0, 1])
    >>> list(train(net, x, y, SGD(0.1, epochs=2), seed=0))
    [0, 1, 2]
    """
    check_finite("x", x)
    if y.shape != x.shape[:1] or y.is_floating_point():
        raise InputError(
            f"y must hold one whole-number label for each of the {len(x)} samples of x, got shape "
            f"{tuple(y.shape)} and dtype {y.dtype}; pass labels of shape ({len(x)},)."
        )
    parameter = next(net.parameters())
    x, y = x.to(parameter), y.to(parameter.device)
    random = torch.Generator().manual_seed(check_count("seed", seed, at_least=0))
    optimiser = torch.optim.SGD(net.parameters(), lr=settings.learning_rate)
    yield 0
    for epoch in range(1, settings.epochs + 1):
        optimiser.param_groups[0]["lr"] = settings.rate(epoch)
        for rows in torch.randperm(len(x), generator=random).to(x.device).split(settings.batch):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
            if not loss.isfinite():
                raise Diverged(
                    f"the training loss is {loss.item()} in epoch {epoch}; lower learning_rate "
                    f"(now {settings.learning_rate:g}) or the scale of the initial weights."
                )
            loss.backward()
            optimiser.step()
        yield epoch


@torch.no_grad()
def evaluate(net: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean cross-entropy in nats, and share of samples classified wrongly.

    >>> evaluate(nn.Identity(), torch.tensor([[30.0, 0.0], [30.0, 0.0]]), torch.tensor([0, 1]))
    (15.0, 0.5)
    """
    parameter = next(net.parameters(), x)
    x, y = x.to(parameter), y.to(parameter.device)
    logits = net(x)
    loss = nn.functional.cross_entropy(logits, y)
    return float(loss), float((logits.argmax(dim=1) != y).double().mean())
