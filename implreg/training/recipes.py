"""Training by a recipe: other optimisers than plain SGD, and explicit regularisation."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from implreg.checks import check_choice, check_count, check_number
from implreg.errors import InputError
from implreg.training.sgd import SGD, Diverged, check_samples, generator

OPTIMISERS = ("sgd", "adam")
_LEAST_MIXUP = 0.01  # below, random numbers of the beta distribution underflow


@dataclass(frozen=True)
class Recipe(SGD):
    r"""How a network is trained, beyond plain SGD: optimiser, noise and explicit regularisation.

    Each step takes a batch, disturbs it as asked, and steps down the softmax cross-entropy. With
    the defaults it is the same as `SGD`, bit for bit. A `batch` of all samples is gradient descent.

    Args:
        optimiser: "sgd", or "adam" (Kingma & Ba 2015) with its usual settings.
        momentum: share of the last step that is repeated, below 1; of "sgd" alone.
        weight_decay: the gradient of this times half the squared norm of all parameters is added;
            with "adam" the decay is decoupled (Loshchilov & Hutter 2019).
        label_noise: share of labels that every step replaces by labels drawn at random.
        mixup: :math:`\alpha` of mixup (Zhang et al. 2018): each sample and its label are averaged
            with those of another one, :math:`\lambda x + (1 - \lambda) x'` with
            :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)` drawn for each sample; at least 0.01,
            or 0 for none.
        input_noise: deviation of Gaussian noise on every feature.
        shift: the most by which every image or signal is shifted along each axis, in pixels; what
            leaves at one side is lost, zeros come in at the other.

    Raises:
        InputError: a setting out of its range, or momentum with "adam".

    >>> Recipe(0.1, epochs=3, batch=16, momentum=0.9).momentum
    0.9
    """

    optimiser: str = "sgd"
    momentum: float = 0.0
    weight_decay: float = 0.0
    label_noise: float = 0.0
    mixup: float = 0.0
    input_noise: float = 0.0
    shift: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("optimiser", self.optimiser, OPTIMISERS)
        for name in ("weight_decay", "mixup", "input_noise"):
            check_number(name, getattr(self, name), at_least=0)
        for name in ("momentum", "label_noise"):
            if check_number(name, getattr(self, name), at_least=0) >= 1:
                raise InputError(
                    f"{name} must be a share below 1, got {getattr(self, name)!r}; lower it."
                )
        check_count("shift", self.shift, at_least=0)
        if 0 < self.mixup < _LEAST_MIXUP:
            raise InputError(
                f"mixup must be 0 or at least {_LEAST_MIXUP}, got {self.mixup!r}; round it to 0."
            )
        if self.momentum and self.optimiser == "adam":
            raise InputError(
                f"momentum must be 0 with adam, which has its own, got {self.momentum!r}; leave it "
                f"out."
            )

    @property
    def disturbs(self) -> bool:
        """Whether batches differ from the samples."""
        return bool(self.label_noise or self.mixup or self.input_noise or self.shift)


def train(net: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, *, seed: int) -> Iterator[int]:
    """Train `net` in place by a recipe; else as `implreg.train`.

    Args:
        net: maps (N, ...) to logits (N, classes); its parameters set dtype and device.
        x: training samples, (N, ...); (N, channels, ...) for shifts.
        y: labels, (N,) int64.
        recipe: what to do.
        seed: of the order of the samples, and of all noise.

    Yields:
        The epoch, 0 before the first step, then after each one.

    Raises:
        InputError: samples and labels that do not fit, or flat samples that are to be shifted.
        Diverged: the loss of a batch is not finite.

    >>> net = nn.Sequential(nn.Linear(2, 2))
    >>> x, y = torch.eye(2), torch.tensor([0, 1])
    >>> list(train(net, x, y, Recipe(0.1, epochs=2, momentum=0.5), seed=0))
    [0, 1, 2]
    """
    check_samples([net], x, y)
    if recipe.shift and x.ndim < 3:
        raise InputError(
            f"x must hold images or signals to be shifted, (N, channels, ...), got shape "
            f"{tuple(x.shape)}; load the data with shaped=True or set shift to 0."
        )
    parameter = next(net.parameters())
    x, y = x.to(parameter), y.to(parameter.device, torch.int64)
    with torch.no_grad():
        classes = net(x[:1]).shape[1]
    random = generator(seed)
    optimiser = _optimiser(net, recipe)
    yield 0
    for epoch in range(1, recipe.epochs + 1):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate(epoch)
        order = torch.randperm(len(x), generator=random).to(x.device)
        net.train()
        try:
            with _drawing(net, recipe, random):
                for rows in order.split(recipe.batch):
                    inputs, targets = disturbed(x[rows], y[rows], classes, recipe)
                    optimiser.zero_grad()
                    loss = nn.functional.cross_entropy(net(inputs), targets)
                    if not loss.isfinite():
                        raise Diverged(
                            f"the training loss is {loss.item()} in epoch {epoch}; lower "
                            f"learning_rate (now {recipe.learning_rate:g})."
                        )
                    loss.backward()
                    optimiser.step()
        finally:
            net.eval()
        yield epoch


def disturbed(x: Tensor, y: Tensor, classes: int, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """A batch as a recipe disturbs it, with random numbers of torch's global generator.

    Returns:
        Samples, (B, ...), and labels, (B,) int64, or with mixup their shares, (B, classes).
    """
    if recipe.label_noise:
        chosen = torch.rand(len(y), device=y.device) < recipe.label_noise
        y = torch.where(chosen, torch.randint_like(y, classes), y)
    if recipe.shift:
        x = _shifted(x, recipe.shift)
    if recipe.input_noise:
        x = x + recipe.input_noise * torch.randn_like(x)
    if recipe.mixup:
        alpha = torch.tensor(recipe.mixup, dtype=torch.float64)
        share = torch.distributions.Beta(alpha, alpha).sample((len(x),)).to(x)
        other = torch.randperm(len(x), device=x.device)
        one_hot = nn.functional.one_hot(y, classes).to(x)
        wide = share.view(-1, *[1] * (x.ndim - 1))
        x = wide * x + (1 - wide) * x[other]
        return x, share[:, None] * one_hot + (1 - share[:, None]) * one_hot[other]
    return x, y


def _shifted(x: Tensor, most: int) -> Tensor:
    """Each sample of (B, channels, ...) moved by up to `most` along each further axis."""
    for axis in range(2, x.ndim):
        size = x.shape[axis]
        by = torch.randint(-most, most + 1, (len(x), 1), device=x.device)
        source = torch.arange(size, device=x.device) - by  # (B, size)
        inside = (source >= 0) & (source < size)
        shape = [len(x), *[1] * (axis - 1), size, *[1] * (x.ndim - axis - 1)]
        index = source.clamp(0, size - 1).view(shape).expand_as(x)
        x = x.gather(axis, index) * inside.view(shape)
    return x


def _optimiser(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters, rate, decay = net.parameters(), recipe.learning_rate, recipe.weight_decay
    if recipe.optimiser == "adam":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=rate, momentum=recipe.momentum, weight_decay=decay)


@contextmanager
def _drawing(net: nn.Module, recipe: Recipe, random: torch.Generator) -> Iterator[None]:
    """Seed torch's global generator, if anything draws from it, and put it back as it was."""
    dropout = any(isinstance(m, nn.modules.dropout._DropoutNd) for m in net.modules())
    if not (dropout or recipe.disturbs):
        yield
        return
    device = next(net.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(torch.randint(2**62, (), generator=random)))
        yield
