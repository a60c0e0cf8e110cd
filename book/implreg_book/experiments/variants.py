"""Networks of the ablations, for configurations: each differs from the usual one in some way."""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated

import torch
from torch import Tensor, nn

from implreg.checks import check_count
from implreg.errors import InputError
from implreg.networks import Residual
from implreg_book.experiments.types import Checked, Count, NotNegative, Part, Positive, among

Layer = nn.Linear | nn.Conv1d | nn.Conv2d


@dataclass(frozen=True)
class Start(Checked):
    r"""The distribution of the weights before the first step.

    A hidden layer with :math:`n` inputs to each unit has weights of mean 0 and mean square
    :math:`2 s^2 / n` (He et al. 2015, for :math:`s = 1`), the output layer :math:`1/n`.

    Args:
        distribution: "gaussian", "uniform", or "orthogonal": rows or columns orthonormal up to the
            common factor that gives the same mean square (Saxe et al. 2014).
        scale: s, of the hidden weights; above 0.
        sigma_b: deviation of the Gaussian hidden biases.
        output_scale: :math:`\alpha`, a fixed factor of the outputs (Chizat et al. 2019); above 0.
            To train as fast the learning rate must be divided by its square.

    Raises:
        InputError: an unknown distribution or a number out of its range.
    """

    distribution: Annotated[str, among("gaussian", "uniform", "orthogonal")] = "gaussian"
    scale: Positive = 1.0
    sigma_b: NotNegative = 0.0
    output_scale: Positive = 1.0


@dataclass(frozen=True)
class Variant(Checked):
    """A network with dense or convolutional hidden layers, and what may be changed in it.

    Args:
        family: "mlp", or "conv": 3x3 convolutions (3 wide for signals), the first with stride 1
            and all others with stride 2; both end in a dense output layer.
        widths: units or channels of the hidden layers.
        leak: slope of the activations below zero, as a share of that above; below 1.
        skip: hidden layers after the first add what they make to their input; they must be as wide
            as it and, in a "conv", are of stride 1.
        batch_norm: a batch norm before each activation.
        dropout: share of the units after each activation that a step leaves out, below 1.
        start: the weights before the first step.

    Raises:
        InputError: an unknown family, no hidden layer, widths that differ with skip connections, or
            a number out of its range.
    """

    family: Annotated[str, among("mlp", "conv")] = "mlp"
    widths: tuple[Count, ...] = (256,)
    leak: Part = 0.0
    skip: bool = False
    batch_norm: bool = False
    dropout: Part = 0.0
    start: Start = field(default_factory=Start)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths:
            raise InputError("widths must name at least one hidden layer, got none; name one.")
        if self.skip and len(set(self.widths)) > 1:
            raise InputError(
                f"widths must be equal with skip connections, got {self.widths}; repeat one width."
            )

    def build(
        self, shape: tuple[int, ...], outputs: int, seed: int, *, dtype: torch.dtype = torch.float32
    ) -> nn.Sequential:
        """The network in eval mode, for samples (channels, ...); weights are drawn in float64.

        >>> net = Variant(widths=(32, 32), batch_norm=True).build((1, 8, 8), 10, seed=0)
        >>> net(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
        """
        random = torch.Generator().manual_seed(check_count("seed", seed, at_least=0))
        dense = self.family == "mlp"
        layers: list[nn.Module] = [nn.Flatten()] if dense else []
        n_in = math.prod(shape) if dense else shape[0]
        for i, n_out in enumerate(self.widths):
            layer = self._layer(n_in, n_out, len(shape), stride=2 if i and not self.skip else 1)
            _draw(layer, self.start, random)
            if self.skip and i:
                # What the first layer makes goes on linearly; each branch begins with its ReLU.
                layers.append(Residual(nn.Sequential(*self._active(n_in, len(shape)), layer), 1.0))
            elif self.skip:
                layers.append(layer)
            else:
                layers += [layer, *self._active(n_out, len(shape))]
            n_in = n_out
        if self.skip:
            layers += self._active(n_in, len(shape))
        if not dense:
            layers.append(nn.Flatten())
            with torch.no_grad():
                n_in = nn.Sequential(*layers).eval()(torch.zeros(1, *shape)).shape[1]
        output = nn.Linear(n_in, outputs, device="meta")
        _draw(output, replace(self.start, scale=math.sqrt(0.5), sigma_b=0.0), random)
        layers.append(output)
        if self.start.output_scale != 1:
            layers.append(Multiply(self.start.output_scale))
        return nn.Sequential(*layers).to(dtype).eval()

    def _layer(self, n_in: int, n_out: int, axes: int, stride: int) -> Layer:
        if self.family == "mlp":
            return nn.Linear(n_in, n_out, device="meta")
        kind = nn.Conv1d if axes == 2 else nn.Conv2d
        return kind(n_in, n_out, 3, stride, padding=1, device="meta")

    def _active(self, n: int, axes: int) -> list[nn.Module]:
        norm: list[nn.Module] = []
        if self.batch_norm:
            image = self.family == "conv" and axes == 3
            norm = [nn.BatchNorm2d(n) if image else nn.BatchNorm1d(n)]
        relu = nn.LeakyReLU(self.leak) if self.leak else nn.ReLU()
        return [*norm, relu, *([nn.Dropout(self.dropout)] if self.dropout else [])]


class Multiply(nn.Module):
    """A fixed factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, ...) to the same shape."""
        return self.factor * x


def parameters(network: Variant, shape: tuple[int, ...], outputs: int) -> int:
    """How many parameters a network has.

    >>> parameters(Variant(widths=(256,)), (64,), 10)
    19210
    """
    return sum(p.numel() for p in network.build(shape, outputs, seed=0).parameters())


def equal_width(depth: int, count: int, shape: tuple[int, ...], outputs: int) -> int:
    """The width of `depth` equal hidden layers with which an MLP has about `count` parameters.

    It is the largest one with no more than `count`; at least 1.

    >>> [equal_width(depth, 19_210, (64,), 10) for depth in (1, 2, 4)]
    [256, 105, 68]
    """
    check_count("depth", depth)
    d = math.prod(shape)
    # count = n d + n + (depth - 1)(n^2 + n) + n outputs + outputs
    a, b, c = depth - 1, d + depth + outputs, outputs - count
    n = (-b + math.sqrt(b * b - 4 * a * c)) / (2 * a) if a else -c / b
    return max(1, math.floor(n + 1e-9))


def _draw(layer: Layer, start: Start, random: torch.Generator) -> None:
    """Give an empty dense or convolutional layer, on no device, weights and biases."""
    weight = layer.weight
    rows, columns = len(weight), weight[0].numel()
    deviation = start.scale * math.sqrt(2 / columns)
    normal = torch.randn(rows, columns, generator=random, dtype=torch.float64)
    if start.distribution == "uniform":
        uniform = torch.rand(rows, columns, generator=random, dtype=torch.float64)
        normal = math.sqrt(3) * (2 * uniform - 1)
    elif start.distribution == "orthogonal":
        tall = normal if rows >= columns else normal.T
        q, r = torch.linalg.qr(tall)
        q = q * r.diagonal().sign()  # else not uniform over orthogonal matrices
        normal = math.sqrt(max(rows, columns)) * (q if rows >= columns else q.T)
    biases = start.sigma_b * torch.randn(rows, generator=random, dtype=torch.float64)
    layer.weight = nn.Parameter((deviation * normal).view(weight.shape).to(weight.dtype))
    layer.bias = nn.Parameter(biases.to(weight.dtype))
