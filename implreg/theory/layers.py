"""The layers that the theory knows: rules for second moments, dense and convolutional alike.

Each layer takes second moments from its inputs to its outputs, by the methods that `Pair` and
`Moments` have in common; says which pairs of pixels it needs before it for those behind it; and
takes the mean squared derivative of an output backwards. A dense layer is a convolution of one
pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self, TypeVar

import torch
from torch import Tensor

from implreg.theory.kernels import Pair
from implreg.theory.pixels import Grid, Moments, Window

S = TypeVar("S", Pair, Moments)


@dataclass(frozen=True)
class Site:
    r"""A layer of activations.

    Attributes:
        width: number n of its units; of a convolution, of its channels.
        strength: how much its gaps, squared and summed, weigh in the outputs, (pixels,):
            :math:`n \Delta^2 B_p`, with the jump :math:`\Delta` of the activation's slope at zero
            and the mean squared derivative :math:`B_p` of an output by an activation.
    """

    width: int
    strength: Tensor


@dataclass(frozen=True)
class _Placed:
    """A layer that knows the pairs of pixels behind it."""

    after: Grid = field(default=Grid(), kw_only=True)

    @property
    def before(self) -> Grid:
        """The pairs of pixels that it needs."""
        return self.after

    def placed(self, after: Grid) -> Self:
        """The same layer before other pairs of pixels."""
        return replace(self, after=after)


@dataclass(frozen=True)
class Scale(_Placed):
    """It multiplies by the root of `factor`: batch norm that has not seen data, or a residual."""

    factor: float

    def __call__(self, state: S) -> S:
        """Second moments of its outputs from those of its inputs."""
        return state.scaled(self.factor)

    def back(self, gain: Tensor, sites: list[Site]) -> Tensor:
        """Mean squared derivative of an output by an input at each pixel, from that behind it."""
        return self.factor * gain


@dataclass(frozen=True)
class Weights(_Placed):
    """A layer with random weights: a convolution, or a dense layer, of one pixel.

    Attributes:
        channels: of its inputs and of its outputs.
        weight: variance of the weights times the number of inputs of a unit.
        bias: variance of the biases.
        window: what a unit sees; behind flattening the whole image.
    """

    channels: tuple[int, int]
    weight: float
    bias: float
    window: Window = field(default_factory=Window)

    @cached_property
    def before(self) -> Grid:
        """The pairs of pixels that it needs."""
        down, across = self.window.stride
        apart = tuple((down * i, across * j) for i, j in self.after.differences)
        return Grid(self.window.space, apart)

    def __call__(self, state: S) -> S:
        """Second moments of its outputs from those of its inputs."""
        return state.averaged(self.window, self.after).weighted(self.weight, self.bias)

    def back(self, gain: Tensor, sites: list[Site]) -> Tensor:
        """Mean squared derivative of an output by an input at each pixel, from that behind it."""
        n_in, n_out = self.channels
        return self.weight * n_out / (n_in * self.window.entries) * self.window.spread(gain)


@dataclass(frozen=True)
class Pool(_Placed):
    """The mean over windows that do not overlap."""

    window: Window

    @cached_property
    def before(self) -> Grid:
        """The pairs of pixels that it needs."""
        (down, across), (high, wide) = self.window.stride, self.window.size
        sums = {
            (down * i + k, across * j + m) for i, j in self.after.differences
            for k in range(1 - high, high) for m in range(1 - wide, wide)
        }  # fmt: skip
        return Grid(self.window.space, tuple(sorted({max((i, j), (-i, -j)) for i, j in sums})))

    def __call__(self, state: S) -> S:
        """Second moments of its outputs from those of its inputs."""
        return state.pooled(self.window, self.after)

    def back(self, gain: Tensor, sites: list[Site]) -> Tensor:
        """Mean squared derivative of an output by an input at each pixel, from that behind it."""
        return self.window.spread(gain) / self.window.entries**2


@dataclass(frozen=True)
class Relu(_Placed):
    """A leaky ReLU for each of so many channels: slope 1 above zero and `leak` below."""

    channels: int
    leak: float

    def __call__(self, state: S) -> S:
        """Second moments of its outputs from those of its inputs."""
        return state.rectified(self.leak)

    def back(self, gain: Tensor, sites: list[Site]) -> Tensor:
        """Mean squared derivative of an output by an input at each pixel, from that behind it."""
        strength = self.channels * (1 - self.leak) ** 2 * gain
        sites.append(Site(self.channels, strength.flatten()))
        return (1 + self.leak**2) / 2 * gain


@dataclass(frozen=True)
class Block(_Placed):
    """A sum of two routes: a branch, and a shortcut, which may be no layer at all."""

    branch: tuple["Layer", ...]
    shortcut: tuple["Layer", ...]

    @property
    def before(self) -> Grid:
        """The pairs of pixels that it needs."""
        return self.branch[0].before

    def placed(self, after: Grid) -> "Block":
        """The same layer before other pairs of pixels."""
        branch, shortcut = placed(self.branch, after), placed(self.shortcut, after)
        return replace(self, branch=branch, shortcut=shortcut, after=after)

    def __call__(self, state: S) -> S:
        """Second moments of its outputs from those of its inputs."""
        added = through(self.branch, state)
        return through(self.shortcut, state) + added

    def back(self, gain: Tensor, sites: list[Site]) -> Tensor:
        """Mean squared derivative of an output by an input at each pixel, from that behind it."""
        return back(self.branch, gain, sites) + back(self.shortcut, gain, sites)


Layer = Scale | Weights | Pool | Relu | Block


def through(layers: Sequence[Layer], state: S) -> S:
    """Second moments behind some layers."""
    for layer in layers:
        state = layer(state)
    return state


def back(layers: Sequence[Layer], gain: Tensor, sites: list[Site]) -> Tensor:
    """The same backwards, see `Block.back`; `sites` get the layers of activations, last first."""
    for layer in reversed(layers):
        gain = layer.back(gain, sites)
    return gain


def placed(layers: Sequence[Layer], after: Grid) -> tuple[Layer, ...]:
    """The same layers before certain pairs of pixels."""
    made: list[Layer] = []
    for layer in reversed(layers):
        made.append(layer.placed(after))
        after = made[-1].before
    return tuple(reversed(made))


@dataclass(frozen=True)
class Architecture:
    """A network as the theory sees it.

    Attributes:
        inputs: number d of entries of a sample.
        outputs: of the network.
        layers: the last is `Weights`.
        dense: whether it begins with a dense layer, so that all of it is dense.

    >>> import implreg as ir
    >>> seen = ir.theory.architecture(ir.mlp(4, 8, 2, seed=0), ir.HE)
    >>> seen.inputs, seen.outputs, len(seen.layers), seen.dense
    (4, 2, 3, True)
    """

    inputs: int
    outputs: int
    layers: tuple[Layer, ...]
    dense: bool

    @property
    def first(self) -> Weights:
        """The first layer of a dense network."""
        assert isinstance(self.layers[0], Weights)
        return self.layers[0]

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Its layers of activations, in order."""
        sites: list[Site] = []
        back(self.layers, torch.ones(1, 1, dtype=torch.float64) / self.outputs, sites)
        return tuple(reversed(sites))

    @cached_property
    def received(self) -> Tensor:
        """Of a dense network, what its layers of activations and then an output vary by.

        Returns:
            Offset and gain, (2, L + 1), float64: the variance at a sample x is gain |x|^2 / d +
            offset, that of the derivative along a path gain |D|^2 / d.
        """
        at_origin = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64).view(4, 1, 1, 1, 1, 1, 1)
        made = through(self.layers, Moments(at_origin, Grid()))
        return torch.cat([*made.sites, made.values[[0, 1, 3]].view(3, 1, 1)], dim=2)[[0, 2], 0]
