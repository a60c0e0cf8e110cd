"""The networks of the book and their random initialisations."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from implreg.checks import check_count, check_number, check_share
from implreg.errors import InputError


@dataclass(frozen=True)
class Initialisation:
    r"""A Gaussian initialisation of a multilayer perceptron or a plain convolutional network.

    A layer with :math:`n_\mathrm{in}` inputs to each unit draws, independently,

    .. math::
        W_{ij} \sim N(0, \sigma_w^2 / n_\mathrm{in}), \qquad b_i \sim N(0, \sigma_b^2),

    and the output layer :math:`W_{ij} \sim N(0, \sigma_o^2 / n_L)` with zero biases. The defaults
    are He initialisation (He et al. 2015), which keeps the size of activations from layer to layer.

    Args:
        sigma_w: scale of the hidden weights; above 0.
        sigma_b: deviation of the hidden biases; at least 0.
        sigma_o: scale of the output weights; above 0.

    Raises:
        InputError: a scale that is not finite or outside its range.

    >>> Initialisation(sigma_w=1.0, sigma_b=0.5)
    Initialisation(sigma_w=1.0, sigma_b=0.5, sigma_o=1.0)
    """

    sigma_w: float = math.sqrt(2)
    sigma_b: float = 0.0
    sigma_o: float = 1.0

    def __post_init__(self) -> None:
        check_number("sigma_w", self.sigma_w, above=0)
        check_number("sigma_b", self.sigma_b, at_least=0)
        check_number("sigma_o", self.sigma_o, above=0)


HE = Initialisation()
Convolution = nn.Conv1d | nn.Conv2d
L = TypeVar("L", bound=nn.Linear | nn.Conv1d | nn.Conv2d)
_EPSILON = 2e-5  # that batch norm adds to variances: the default of the program's library
_RENEWED = 0.1  # share of running statistics that a step in training mode replaces
_EMPTY = "meta"  # device of layers until their weights are drawn; PyTorch draws none of its own


def mlp(
    *sizes: int,
    seed: int,
    initialisation: Initialisation = HE,
    leak: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """A fully connected ReLU network with random weights.

    Args:
        sizes: inputs, the widths of the hidden layers, outputs; at least one hidden layer.
        seed: of the weights. They are drawn in float64, so that a seed gives the same network,
            up to rounding, in every `dtype`.
        initialisation: the distribution of the weights; He initialisation by default.
        leak: slope of the activations below zero, in [0, 1); they are `LeakyReLU` unless it is 0.
        dtype: of the parameters; `torch.float32` or `torch.float64`.

    Returns:
        `nn.Sequential` of `Linear, ReLU, ..., Linear`; it maps (N, inputs) to (N, outputs).

    Raises:
        InputError: fewer than three sizes, a size or seed that is no whole number, or a leak out of
            its range.

    >>> net = mlp(64, 512, 10, seed=0)
    >>> [tuple(p.shape) for p in net.parameters()]
    [(512, 64), (512,), (10, 512), (10,)]
    """
    if len(sizes) < 3:
        raise InputError(
            f"sizes must name inputs, at least one hidden width and outputs, got {sizes}; "
            f"write for example mlp(64, 512, 10, seed=0)."
        )
    for size in sizes:
        check_count("sizes", size)
    random = _random(seed)
    layers: list[nn.Module] = []
    last = len(sizes) - 2
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        layers.append(_dense(n_in, n_out, initialisation, random, dtype, output=i == last))
        if i < last:
            layers.append(_activation(leak))
    return nn.Sequential(*layers)


class Residual(nn.Module):
    r"""The sum of the input and what a branch makes of it, :math:`x + \alpha f(x)`.

    Args:
        branch: f, a module that keeps the shape of its input.
        scale: :math:`\alpha`.

    >>> Residual(nn.ReLU(), 0.5)(torch.tensor([[2.0, -2.0]]))
    tensor([[ 3., -2.]])
    """

    def __init__(self, branch: nn.Module, scale: float) -> None:
        super().__init__()
        self.branch, self.scale = branch, scale

    def forward(self, x: Tensor) -> Tensor:
        """The sum, of the same shape.

        Args:
            x: (N, ...).
        """
        made: Tensor = x + self.scale * self.branch(x)
        return made


def residual_mlp(
    inputs: int,
    width: int,
    blocks: int,
    outputs: int,
    *,
    scale: float = 1.0,
    seed: int,
    initialisation: Initialisation = HE,
    leak: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    r"""A fully connected residual network with random weights.

    A linear layer, `blocks` blocks :math:`x \mapsto x + \alpha W \, \mathrm{relu}(x) + \alpha b`, a
    ReLU and the output layer.

    Args:
        inputs: entries of a sample.
        width: units of every hidden layer.
        blocks: their number, at least 1; hidden layers of activations are one more.
        outputs: entries of the result.
        scale: :math:`\alpha`, above 0.
        seed: of the weights, drawn in float64 as in `mlp`.
        initialisation: the distribution of the weights.
        leak: slope of the activations below zero, in [0, 1).
        dtype: of the parameters; `torch.float32` or `torch.float64`.

    Returns:
        `nn.Sequential` that maps (N, inputs) to (N, outputs).

    Raises:
        InputError: a number or seed out of its range.

    >>> len(residual_mlp(4, 8, 3, 2, seed=0))
    6
    """
    for name, size in (("inputs", inputs), ("width", width), ("blocks", blocks)):
        check_count(name, size)
    check_count("outputs", outputs)
    check_number("scale", scale, above=0)
    random = _random(seed)

    def layer(n_in: int, n_out: int, output: bool = False) -> nn.Linear:
        return _dense(n_in, n_out, initialisation, random, dtype, output=output)

    return nn.Sequential(
        layer(inputs, width),
        *(
            Residual(nn.Sequential(_activation(leak), layer(width, width)), scale)
            for _ in range(blocks)
        ),
        _activation(leak),
        layer(width, outputs, output=True),
    )


def _activation(leak: float) -> nn.Module:
    if check_number("leak", leak, at_least=0) >= 1:
        raise InputError(
            f"leak must be at least 0 and below 1, got {leak!r}; with 1 the network is linear."
        )
    return nn.LeakyReLU(leak) if leak else nn.ReLU()


def vgg(
    convolutions: int,
    *,
    outputs: int = 10,
    shape: tuple[int, ...] = (1, 28, 28),
    width_factor: float = 1.0,
    dropout: float = 0.0,
    seed: int,
    initialisation: Initialisation = HE,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """A VGG-like network without batch norm, for small images or signals.

    Three stages of 3x3 convolutions, each followed by a ReLU, have 64, 128 and 256 channels and end
    in 2x2 average pooling (28 -> 14 -> 7 -> 3 pixels); two dense layers of 1,024 units with ReLU
    and the output layer follow. The first two stages have up to two convolutions, the last one all
    others: 3, 4, 5, 6 and 8 make 1-1-1, 1-1-2, 1-2-2, 2-2-2 and 2-2-4. For signals, windows are 3
    and 2 entries long. It is returned in training mode; call `.eval()` before `trace` if it has
    dropout.

    Args:
        convolutions: their number, at least 3; in the paper 3, 4, 5, 6 and 8.
        outputs: number of classes.
        shape: of a sample, (channels, height, width) or (channels, length); at least 8 entries
            along each axis but the first.
        width_factor: of all channels and dense layers, which are then rounded; 1 in the paper.
        dropout: share of the units of each dense layer that a step of training leaves out, below 1,
            and half that share after each pooling; 0.5 in the paper.
        seed: of the weights, drawn in float64 as in `mlp`.
        initialisation: the distribution of the weights; a unit of a convolution has 9 inputs per
            input channel, for signals 3.
        dtype: of the parameters; `torch.float32` or `torch.float64`.

    Returns:
        `nn.Sequential` that maps (N, *shape) to (N, outputs).

    Raises:
        InputError: fewer than three convolutions, a shape that is too small, or a number or seed
            out of its range.

    Source: the released program of Kubo et al. (2019), for figure 4.

    >>> net = vgg(3, seed=0)
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 3789834)
    """
    check_count("convolutions", convolutions, at_least=3)
    check_count("outputs", outputs)
    kinds, space = _for_shape(shape, at_least=8)
    check_share("dropout", dropout, whole=False)
    random, n_in = _random(seed), shape[0]
    layers: list[nn.Module] = []
    for stage, channels in enumerate((64, 128, 256)):
        n_out = _scaled(channels, width_factor)
        for _ in range(_per_stage(convolutions)[stage]):
            layer = kinds.convolution(n_in, n_out, 3, padding=1, dtype=dtype, device=_EMPTY)
            deviation = initialisation.sigma_w / math.sqrt(3 ** len(space) * n_in)
            layers += [_drawn(layer, random, deviation, initialisation.sigma_b), nn.ReLU()]
            n_in = n_out
        layers += [kinds.average(2), *_dropout(dropout / 2)]
    layers.append(nn.Flatten())
    wide = _scaled(1024, width_factor)
    sizes = (n_in * math.prod(n // 8 for n in space), wide, wide, outputs)
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        layers.append(_dense(n_in, n_out, initialisation, random, dtype, output=i == 2))
        if i < 2:
            layers += [nn.ReLU(), *_dropout(dropout)]
    return nn.Sequential(*layers)


def _per_stage(convolutions: int) -> tuple[int, int, int]:
    first, second = (min(2, (convolutions + stage) // 3) for stage in (0, 1))
    return first, second, convolutions - first - second


def _dropout(share: float) -> list[nn.Module]:
    return [nn.Dropout(share)] if share else []


def resnet(
    depth: int,
    *,
    outputs: int = 10,
    shape: tuple[int, ...] = (1, 28, 28),
    width_factor: float = 1.0,
    dropout: float = 0.0,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    r"""A pre-activation residual network with batch norm, for small images or signals.

    A 3x3 convolution with 16 channels; three stages of n blocks with 16, 32 and 64 channels times
    `width_factor`, the second and third of which begin with stride 2; batch norm, ReLU, the mean
    over all pixels and the output layer. A block adds to its input two rounds of batch norm, ReLU
    and 3x3 convolution; where the shape changes, the shortcut is a 1x1 convolution of the input
    itself, without batch norm. The depth 6n + 4 counts the output layer and all convolutions, two
    such shortcuts included. A factor below 1 scales the first convolution too; one above 1 does
    not, and the first block then has a shortcut as well. For signals, windows are 3 and 1 entries
    long.

    Convolutions have no bias and weights :math:`N(0, 2/n_\mathrm{in})`, output weights are
    :math:`N(0, 1/n)` with zero biases. Batch norm begins with scale 1 and shift 0, adds 2e-5 to
    variances, and keeps nine tenths of its running statistics in each step.

    It is returned in training mode, as torch does. Call `.eval()` before `trace`: in training mode
    an output depends on the other samples of its batch. In eval mode batch norm uses its running
    statistics, which are mean 0 and variance 1 until the network has seen data in training mode;
    `implreg.fill_statistics` lets it see some, as the released program does first.

    Args:
        depth: 6n + 4 with n at least 1; in the paper 10, 16, 22, 28, 34 and 40.
        outputs: number of classes.
        shape: of a sample, (channels, height, width) or (channels, length).
        width_factor: of the channels of all stages, which are then rounded; 1 in the paper.
        dropout: share of the entries that a step of training leaves out between the second ReLU and
            the second convolution of every block, below 1; 0.5 in the paper.
        seed: of the weights, drawn in float64 as in `mlp`.
        dtype: of the parameters; `torch.float32` or `torch.float64`.

    Returns:
        A module that maps (N, *shape) to (N, outputs).

    Raises:
        InputError: a depth that is not 6n + 4, or a number, shape or seed out of its range.

    Source: the released program of Kubo et al. (2019), for figure 5; He et al. (2016), "Identity
    mappings in deep residual networks".

    >>> net = resnet(10, seed=0).eval()
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 77562)
    """
    check_count("depth", depth)
    if depth < 10 or depth % 6 != 4:
        raise InputError(
            f"depth must be 10, 16, 22 or another 6n + 4 with n of at least 1, got {depth}; choose "
            f"such a depth."
        )
    check_count("outputs", outputs)
    check_share("dropout", dropout, whole=False)
    kinds, space = _for_shape(shape, at_least=1)
    random = _random(seed)

    def convolution(n_in: int, n_out: int, size: int, stride: int = 1) -> Convolution:
        layer = kinds.convolution(
            n_in, n_out, size, stride, padding=size // 2, bias=False, dtype=dtype, device=_EMPTY
        )
        return _drawn(layer, random, math.sqrt(2 / (size ** len(space) * n_in)))

    def norm(channels: int) -> nn.BatchNorm1d | nn.BatchNorm2d:
        return kinds.norm(channels, eps=_EPSILON, momentum=_RENEWED, dtype=dtype)

    def block(n_in: int, n_out: int, stride: int) -> nn.Module:
        alike = n_in == n_out and stride == 1
        return PreActivationBlock(
            norm(n_in),
            convolution(n_in, n_out, 3, stride),
            norm(n_out),
            convolution(n_out, n_out, 3),
            None if alike else convolution(n_in, n_out, 1, stride),
            dropout,
        )

    n_in = min(16, _scaled(16, width_factor))
    parts: OrderedDict[str, nn.Module] = OrderedDict(convolution=convolution(shape[0], n_in, 3))
    for stage in range(3):
        n_out = _scaled(16 * 2**stage, width_factor)
        blocks = []
        for i in range((depth - 4) // 6):
            blocks.append(block(n_in, n_out, stride=2 if stage and not i else 1))
            n_in = n_out
        parts[f"stage{stage + 1}"] = nn.Sequential(*blocks)
    parts["norm"] = norm(n_in)
    parts["relu"] = nn.ReLU()
    parts["pool"] = kinds.adaptive(1)
    parts["flatten"] = nn.Flatten()
    parts["output"] = _dense(n_in, outputs, HE, random, dtype, output=True)
    return nn.Sequential(parts)


@dataclass(frozen=True)
class _Kinds:
    """The layers for samples with one axis (signals) or two (images) besides the channels."""

    convolution: type[nn.Conv1d] | type[nn.Conv2d]
    norm: type[nn.BatchNorm1d] | type[nn.BatchNorm2d]
    average: type[nn.AvgPool1d] | type[nn.AvgPool2d]
    adaptive: type[nn.AdaptiveAvgPool1d] | type[nn.AdaptiveAvgPool2d]


_KINDS = {
    2: _Kinds(nn.Conv1d, nn.BatchNorm1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d),
    3: _Kinds(nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
}


def _for_shape(shape: tuple[int, ...], *, at_least: int) -> tuple[_Kinds, tuple[int, ...]]:
    """The kinds of layers for samples of a shape, and its axes but the channels."""
    if len(shape) not in _KINDS or min(shape[1:]) < at_least:
        raise InputError(
            f"shape must be (channels, height, width) or (channels, length) with at least "
            f"{at_least} entries along each axis but the first, got {tuple(shape)}; pass such "
            f"a shape, for example data.shape of load(..., shaped=True)."
        )
    for size in shape:
        check_count("shape", size)
    return _KINDS[len(shape)], tuple(shape[1:])


def _scaled(channels: int, width_factor: float) -> int:
    return max(1, round(channels * check_number("width_factor", width_factor, above=0)))


class PreActivationBlock(nn.Module):
    """Two rounds of batch norm, ReLU and convolution beside a shortcut of the input.

    Args:
        norm1: batch norm of the input.
        convolution1: of what the first ReLU returns; it may have a stride.
        norm2: batch norm of what `convolution1` returns.
        convolution2: of what the second ReLU returns; its result has the shape of the shortcut's.
        shortcut: of the input, where the shape changes; None adds the input itself.
        dropout: share of what the second ReLU returns that a step of training leaves out.

    Source: He et al. (2016), "Identity mappings in deep residual networks".
    """

    def __init__(
        self,
        norm1: nn.Module,
        convolution1: nn.Module,
        norm2: nn.Module,
        convolution2: nn.Module,
        shortcut: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1, self.relu1, self.convolution1 = norm1, nn.ReLU(), convolution1
        self.norm2, self.relu2, self.convolution2 = norm2, nn.ReLU(), convolution2
        self.shortcut, self.dropout = shortcut, nn.Sequential(*_dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """What the block makes of its input, (N, channels out, ...).

        Args:
            x: (N, channels in, ...).
        """
        inner = self.convolution1(self.relu1(self.norm1(x)))
        inner = self.convolution2(self.dropout(self.relu2(self.norm2(inner))))
        made: Tensor = inner + (x if self.shortcut is None else self.shortcut(x))
        return made


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(check_count("seed", seed, at_least=0))


def _drawn(layer: L, random: torch.Generator, deviation: float, bias_deviation: float = 0.0) -> L:
    """Give an empty layer Gaussian weights and biases, drawn in float64 whatever its dtype."""
    for name, scale in (("weight", deviation), ("bias", bias_deviation)):
        empty = getattr(layer, name)
        if empty is not None:
            normal = torch.randn(empty.shape, generator=random, dtype=torch.float64)
            setattr(layer, name, nn.Parameter((scale * normal).to(empty.dtype)))
    return layer


def _dense(
    n_in: int,
    n_out: int,
    initialisation: Initialisation,
    random: torch.Generator,
    dtype: torch.dtype,
    *,
    output: bool,
) -> nn.Linear:
    """A hidden linear layer or the output layer."""
    scale = initialisation.sigma_o if output else initialisation.sigma_w
    return _drawn(
        nn.Linear(n_in, n_out, dtype=dtype, device=_EMPTY),
        random,
        scale / math.sqrt(n_in),
        0.0 if output else initialisation.sigma_b,
    )
