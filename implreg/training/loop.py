"""The training loop: one epoch of one network, or of many side by side."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from implreg.checks import check_count, check_finite
from implreg.errors import InputError
from implreg.training.recipes import SGD, Recipe, disturbed
from implreg.training.stack import Stack, finite


class Diverged(ArithmeticError):
    """The training loss is no longer finite."""


def train(net: nn.Module, x: Tensor, y: Tensor, settings: SGD, *, seed: int) -> Iterator[int]:
    """Train `net` in place and yield the epoch number, 0 before the first step, then after each.

    The caller measures whatever it wants between epochs, and may stop early. The network is then in
    eval mode; steps are taken in training mode. Many networks train faster in an `Ensemble`.

    Args:
        net: maps (N, ...) to logits (N, classes); its parameters set dtype and device.
        x: training samples, (N, ...); (N, channels, ...) for shifts.
        y: labels, (N,) int64.
        settings: `SGD`, or a `Recipe`: other optimisers, noise and regularisation.
        seed: of the order of the samples, of dropout if there is any, and of all noise.

    Yields:
        The epoch, 0 before the first step, then after each one.

    Raises:
        InputError: samples and labels that do not fit, or are not finite, or flat samples that are
            to be shifted.
        Diverged: the loss of a batch is not finite; the network is as it was before that batch.

    >>> net = nn.Sequential(nn.Linear(2, 2))
    >>> x, y = torch.eye(2), torch.tensor([0, 1])
    >>> list(train(net, x, y, SGD(0.1, epochs=2), seed=0))
    [0, 1, 2]
    >>> list(train(net, x, y, Recipe(0.1, epochs=1, momentum=0.5), seed=0))
    [0, 1]
    """
    learner = Learner(net, x, y, settings, seed)
    x = x.to(next(net.parameters()))
    yield 0
    for epoch in range(1, settings.epochs + 1):
        loss, _ = one_epoch([learner], x, epoch)
        if loss.isnan():
            raise Diverged(
                f"the training loss is no longer finite in epoch {epoch}; lower learning_rate "
                f"(now {settings.learning_rate:g}) or the scale of the initial weights."
            )
        yield epoch


class Learner:
    """A network in training, and all that its next epoch depends on.

    Args: see `train`.

    Attributes:
        recipe: its settings.
        y: its labels, (N,) int64.
        random: draws the order of samples, and seeds dropout and noise.
        rule: the optimiser, which may remember earlier steps.
    """

    def __init__(self, net: nn.Module, x: Tensor, y: Tensor, settings: SGD, seed: int) -> None:
        self._classes = check_samples(net, x, y)
        self.net, self.recipe = net, Recipe.of(settings)
        if self.recipe.shift and x.ndim < 3:
            raise InputError(
                f"x must hold images or signals to be shifted, (N, channels, ...), got shape "
                f"{tuple(x.shape)}; load the data with shaped=True or set shift to 0."
            )
        self.y = y.to(next(net.parameters()).device, torch.int64)
        self.random = torch.Generator().manual_seed(check_count("seed", seed, at_least=0))
        self.rule = self.recipe.rule(net)

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Training mode. Torch's global generator is seeded if it is used, and then put back."""
        dropout = any(isinstance(m, nn.modules.dropout._DropoutNd) for m in self.net.modules())
        draws, device = dropout or self.recipe.disturbs, self.y.device
        self.net.train()
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else [], enabled=draws):
                if draws:
                    torch.manual_seed(int(torch.randint(2**62, (), generator=self.random)))
                yield
        finally:
            self.net.eval()

    def step(self, x: Tensor, y: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step, or none if the loss is not finite: a `Stack.step` of one network."""
        inputs, targets = disturbed(x[0], y[0], self._classes, self.recipe)
        before = [buffer.clone() for buffer in self.net.buffers()]  # as of batch norm
        self.rule.zero_grad()
        logits = self.net(inputs)
        loss = nn.functional.cross_entropy(logits, targets)
        if math.isfinite(loss.item()):
            loss.backward()
            for group in self.rule.param_groups:
                group["lr"] = float(rate)
            self.rule.step()
        else:
            for buffer, then in zip(self.net.buffers(), before, strict=True):
                buffer.copy_(then)
        return loss.detach()[None], (logits.detach().argmax(dim=1) != y).sum(dim=1)


def one_epoch(
    learners: Sequence[Learner], x: Tensor, epoch: int, stack: Stack | None = None
) -> tuple[Tensor, Tensor]:
    """Train for one epoch; of a network whose loss is not finite, up to the step before.

    Args:
        learners: S of one batch size.
        x: training samples, (N, ...), with the parameters' dtype and device.
        epoch: counted from 1.
        stack: of their networks; None if there is but one.

    Returns:
        Mean loss and share of errors of each network, every sample's as its batch came up, (S,)
        float64 each; NaN if its loss was not finite.
    """
    found = torch.full((2, len(learners)), math.nan, dtype=torch.float64)
    left, batch = torch.arange(len(learners)), learners[0].recipe.batch
    orders = torch.stack([_order(one, len(x)) for one in learners])
    labels = torch.stack([one.y for one in learners]).gather(1, orders)
    losses, errors = x.new_zeros(2, len(learners))
    longest = max(one.recipe.warmup_epochs for one in learners)  # else rates stay in an epoch
    step, start, rates = stack.step if stack else learners[0].step, 0, torch.empty(0)
    with nullcontext() if stack else learners[0].learning():
        while start < len(x):
            if not start or epoch <= longest:
                rates = _rates([learners[i] for i in left.tolist()], epoch, start // batch, len(x))
            rows, y = orders[:, start : start + batch], labels[:, start : start + batch]
            samples = x.index_select(0, rows.reshape(-1)).view(*rows.shape, *x.shape[1:])
            loss, wrong = step(samples, y, rates)
            if finite(loss):
                losses += loss * rows.shape[1]
                errors += wrong
                start += batch
                continue
            fine = loss.isfinite().cpu()
            for i in left[~fine].tolist():  # it would keep the parameters of all
                for parameter in learners[i].net.parameters():
                    parameter.data = parameter.data.clone()
            left, rates, orders, labels, losses, errors = (
                of_all[fine] for of_all in (left, rates, orders, labels, losses, errors)
            )
            if not len(left):
                break
            step = Stack([learners[i].net for i in left.tolist()]).step
    found[:, left] = torch.stack([losses, errors]).double().cpu() / len(x)
    return found[0], found[1]


def _rates(learners: Sequence[Learner], epoch: int, step: int, samples: int) -> Tensor:
    rates = [one.recipe.rate(epoch, step, samples) for one in learners]
    return torch.tensor(rates, dtype=torch.float64)


def fill_statistics(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    batches: int = 20,
    batch: int = 500,
    learning_rate: float = 1e-8,
    seed: int,
) -> None:
    """Let batch norm see data, in place, before anything is measured or trained.

    The network takes `batches` steps of SGD in training mode, dropout on, along random permutations
    of the samples, with a learning rate so small that its weights stay as they are but for
    rounding. Running statistics are then a mean over those of the batches, in which the starting
    values keep the weight :math:`0.9^{20} = 0.12` with the defaults. A network without batch norm
    is left as it is.

    Args:
        net: maps (N, ...) to logits (N, classes); left in eval mode.
        x: training samples, (N, ...).
        y: labels, (N,) int64.
        batches: their number; in the paper 20, for figures 5 a-c, or 79, for 5 d-f.
        batch: samples in each; in the paper 500, or 128. All of them if there are fewer.
        learning_rate: of the steps; in the paper 1e-8, or 1e-6.
        seed: of the permutations and of dropout.

    Raises:
        InputError: as `train`.
        Diverged: the loss of a batch is not finite.

    Source: the released program of Kubo et al. (2019).

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    >>> x, y = torch.tensor([[5.0, 0], [9.0, 0]]), torch.tensor([0, 1])
    >>> fill_statistics(net, x, y, batches=99, seed=0)
    >>> bool(torch.allclose(net[1].running_mean, net[0](x).mean(0), rtol=1e-3))
    True
    """
    check_count("batches", batches)
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules()):
        return
    settings = SGD(learning_rate, epochs=1, batch=min(batch, len(x)), warmup_epochs=0)
    learner = Learner(net, x, y, settings, seed)
    x, rate = x.to(learner.y.device, next(net.parameters()).dtype), torch.tensor(learning_rate)
    rows = torch.cat(
        [_order(learner, len(x)) for _ in range(-(-batches * settings.batch // len(x)))]
    )
    with learner.learning():
        for part in rows.split(settings.batch)[:batches]:
            loss, _ = learner.step(x[part][None], learner.y[part][None], rate)
            if not finite(loss):
                raise Diverged("the loss of a batch is not finite; lower the initial weights.")


def _order(learner: Learner, samples: int) -> Tensor:
    return torch.randperm(samples, generator=learner.random).to(learner.y.device)


def check_samples(net: nn.Module, x: Tensor, y: Tensor) -> int:
    """The number of outputs of `net`, which is left in eval mode.

    Raises:
        InputError: x is not finite, does not fit the network, or lacks a label for each sample.
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
    try:
        with torch.no_grad():
            logits: Tensor = net.eval()(x[:1].to(next(net.parameters())))
    except (RuntimeError, ValueError) as error:
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
    return logits.shape[1]


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
