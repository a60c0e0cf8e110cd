"""How networks are trained: plain SGD as in the paper, and recipes that go beyond it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from implreg.checks import check_choice, check_count, check_number, check_share
from implreg.errors import InputError

OPTIMISERS = ("sgd", "adam")
_LEAST_MIXUP = 0.01  # below, random numbers of the beta distribution underflow


@dataclass(frozen=True)
class SGD:
    r"""Plain SGD on the softmax cross-entropy, with the paper's linear warm-up.

    The learning rate rises from step to step: in the first `warmup_epochs` passes over N samples
    step j = 0, 1, ... takes

    .. math::
        \eta_0 + (\eta - \eta_0) \, \frac{j B}{N \, \mathrm{epochs}},

    B samples per step, from `warmup_from` to `learning_rate`; where the last batch of an epoch is
    smaller it ends a little above. Then it is `learning_rate`.

    Args:
        learning_rate: after the warm-up; above 0.
        epochs: passes over the training samples.
        batch: samples per step; the last batch of an epoch may be smaller.
        warmup_epochs: length of the warm-up; 0 for none.
        warmup_from: learning rate at the start of the warm-up; above 0.

    The defaults are those of the released program of Kubo et al. (2019) for figure 3.

    Raises:
        InputError: a setting out of its range.

    >>> sgd = SGD(0.1, epochs=4, warmup_epochs=2, batch=50)
    >>> [round(sgd.rate(epoch, step, 100), 6) for epoch in (1, 2, 3) for step in (0, 1)]
    [1e-05, 0.025008, 0.050005, 0.075002, 0.1, 0.1]
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

    def rate(self, epoch: int, step: int, samples: int) -> float:
        """Learning rate of a step.

        Args:
            epoch: which, counted from 1.
            step: which in its epoch, counted from 0.
            samples: N, in one epoch.
        """
        if epoch > self.warmup_epochs:
            return self.learning_rate
        done = (epoch - 1) * math.ceil(samples / self.batch) + step
        share = done * self.batch / (samples * self.warmup_epochs)
        return self.warmup_from + share * (self.learning_rate - self.warmup_from)


@dataclass(frozen=True)
class Recipe(SGD):
    r"""How a network is trained, beyond plain SGD: optimiser, noise and explicit regularisation.

    Each step takes a batch, disturbs it as asked, and steps down the softmax cross-entropy. With
    the defaults it is the same as `SGD`, bit for bit. A `batch` of all samples is gradient descent.

    Args:
        learning_rate: as of `SGD`, whose other settings it has too.
        epochs: passes over the training samples.
        batch: samples per step.
        warmup_epochs: length of the warm-up; 0 for none.
        warmup_from: learning rate at the start of the warm-up.
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
            check_share(name, getattr(self, name), whole=False)
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

    @staticmethod
    def of(settings: SGD) -> "Recipe":
        """The recipe that settings are; that of `SGD` has the defaults for the rest.

        Args:
            settings: of either kind.

        >>> Recipe.of(SGD(0.1)) == Recipe(0.1)
        True
        """
        return settings if isinstance(settings, Recipe) else Recipe(**vars(settings))

    @property
    def disturbs(self) -> bool:
        """Whether batches differ from the samples."""
        return bool(self.label_noise or self.mixup or self.input_noise or self.shift)

    def rule(self, net: nn.Module) -> torch.optim.Optimizer:
        """By which a network's parameters follow their gradients; its rate is set at every step.

        Args:
            net: the network.
        """
        parameters, rate, decay = net.parameters(), self.learning_rate, self.weight_decay
        if self.optimiser == "adam":
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
        return torch.optim.SGD(parameters, lr=rate, momentum=self.momentum, weight_decay=decay)


def disturbed(x: Tensor, y: Tensor, classes: int, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """A batch as a recipe disturbs it, with random numbers of torch's global generator.

    Args:
        x: samples, (B, ...); (B, channels, ...) for shifts.
        y: their labels, (B,) int64.
        classes: how many there are.
        recipe: what to do; a plain one changes nothing.

    Returns:
        Samples, (B, ...), and labels, (B,) int64, or with mixup their shares, (B, classes).

    >>> x, y = torch.eye(2), torch.tensor([0, 1])
    >>> mixed, shares = disturbed(x, y, 2, Recipe(mixup=1.0))
    >>> bool(torch.allclose(mixed, shares)), bool(torch.allclose(shares.sum(1), torch.ones(2)))
    (True, True)
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
