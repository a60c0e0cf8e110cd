"""Stochastic gradient descent as in the paper, of one network."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

    The caller measures whatever it wants between epochs, and may stop early. The network is then in
    eval mode; steps are taken in training mode. Many networks train faster in an `Ensemble`.

    Args:
        net: maps (N, ...) to logits (N, classes); its parameters set dtype and device.
        x: training samples, (N, ...).
        y: labels, (N,) int64.
        settings: of the optimiser.
        seed: of the order of the samples, and of dropout if there is any.

    Raises:
        InputError: samples and labels that do not fit, or are not finite.
        Diverged: the loss of a batch is not finite.

    >>> net = nn.Sequential(nn.Linear(2, 2))
    >>> x, y = torch.eye(2), torch.tensor([0, 1])
    >>> list(train(net, x, y, SGD(0.1, epochs=2), seed=0))
    [0, 1, 2]
    """
    check_samples([net], x, y)
    parameter = next(net.parameters())
    x, y = x.to(parameter), y.to(parameter.device, torch.int64)
    random = generator(seed)
    yield 0
    for epoch in range(1, settings.epochs + 1):
        one_epoch(net, x, y, settings, epoch, random)
        yield epoch


def check_samples(nets: Sequence[nn.Module], x: Tensor, y: Tensor) -> None:
    """Raise `InputError` unless x is finite, fits all `nets`, and has a label for each sample.

    Leaves `nets` in eval mode.
    """
    check_finite("x", x)
    whole = not (y.is_floating_point() or y.is_complex() or y.dtype is torch.bool)
    if y.shape != x.shape[:1] or not whole or not len(x):
        raise InputError(
            f"y must hold one whole-number label for each of the {len(x)} samples of x, at least "
            f"one, got shape {tuple(y.shape)} and dtype {y.dtype}; pass labels of shape "
            f"({len(x)},)."
        )
    low, high = map(int, torch.aminmax(y))
    for net in nets:
        try:
            with torch.no_grad():
                logits = net.eval()(x[:1].to(next(net.parameters())))
        except RuntimeError as error:
            raise InputError(
                f"x must hold samples that the network takes, got shape {tuple(x.shape)} "
                f"({' '.join(str(error).split())}); reshape them."
            ) from error
        if logits.ndim != 2 or not 0 <= low <= high < logits.shape[1]:
            raise InputError(
                f"y must hold labels from 0 to below the network's number of outputs, got "
                f"{low} to {high} for outputs of shape {tuple(logits.shape[1:])}; number "
                f"the classes from 0 or give the network more outputs."
            )


def generator(seed: int) -> torch.Generator:
    """What draws the order of the samples."""
    return torch.Generator().manual_seed(check_count("seed", seed, at_least=0))


def one_epoch(
    net: nn.Module, x: Tensor, y: Tensor, settings: SGD, epoch: int, random: torch.Generator
) -> tuple[float, float]:
    """Take the steps of one epoch, in training mode, and leave `net` in eval mode.

    Returns:
        Mean loss and share of errors of the samples, each as its batch came up.

    Raises:
        Diverged: the loss of a batch is not finite; `net` is as it was before that batch.
    """
    optimiser = torch.optim.SGD(net.parameters(), lr=settings.rate(epoch))
    order = torch.randperm(len(x), generator=random).to(x.device)
    total, wrong = x.new_zeros(()), x.new_zeros(())
    net.train()
    try:
        with _dropout(net, x.device, random):
            for rows in order.split(settings.batch):
                optimiser.zero_grad()
                labels = y[rows]
                before = [buffer.clone() for buffer in net.buffers()]  # as of batch norm
                logits = net(x[rows])
                loss = nn.functional.cross_entropy(logits, labels)
                if not loss.isfinite():
                    for buffer, then in zip(net.buffers(), before, strict=True):
                        buffer.copy_(then)
                    raise Diverged(
                        f"the training loss is {loss.item()} in epoch {epoch}; lower learning_rate "
                        f"(now {settings.learning_rate:g}) or the scale of the initial weights."
                    )
                loss.backward()
                optimiser.step()
                total += loss.detach() * len(rows)
                wrong += (logits.detach().argmax(dim=1) != labels).sum()
    finally:
        net.eval()
    return float(total) / len(x), float(wrong) / len(x)


@contextmanager
def _dropout(net: nn.Module, device: torch.device, random: torch.Generator) -> Iterator[None]:
    """Seed what dropout draws from, which is global in torch, and put it back as it was."""
    if not any(isinstance(m, nn.modules.dropout._DropoutNd) for m in net.modules()):
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(torch.randint(2**62, (), generator=random)))
        yield


@torch.no_grad()
def evaluate(net: nn.Module, x: Tensor, y: Tensor, *, batch: int = 4096) -> tuple[float, float]:
    """Mean cross-entropy in nats, and share of samples classified wrongly.

    Args:
        net: maps (N, ...) to logits (N, classes).
        x: samples, (N, ...).
        y: labels, (N,) int64.
        batch: how many samples are taken at once, which bounds the memory.

    >>> evaluate(nn.Identity(), torch.tensor([[30.0, 0.0], [30.0, 0.0]]), torch.tensor([0, 1]))
    (15.0, 0.5)
    """
    parameter = next(net.parameters(), x)
    loss, wrong = 0.0, 0
    for rows, labels in zip(x.split(batch), y.split(batch), strict=True):
        logits, labels = net(rows.to(parameter)), labels.to(parameter.device)
        loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        wrong += int((logits.argmax(dim=1) != labels).sum())
    return loss / len(x), wrong / len(x)
