r"""Predictions at random initialisation for convolutional networks, in the limit of many channels.

The channels of a layer are then independent Gaussian processes of the pixel p and of the position t
on the path. A network is known by their covariances :math:`K(p, q; s, t)` and by the derivatives of
these as the two points of the path move, :math:`K_s, K_t, K_{st}`; every layer is a rule that takes
the four through it. A convolution averages over the entries o of its window,

.. math:: K(p, q) = \sigma_b^2 + \frac{\sigma_w^2}{k} \sum_o C(p + o, q + o),

pooling over two windows, one around p and one around q, and a dense layer over all pixels p = q.
Since a convolution keeps :math:`q - p`, only those differences are followed that pooling brings
together in the end.

**ReLU.** With :math:`a = K(p, p; s, s)`, :math:`b = K(q, q; t, t)`, the halves
:math:`\lambda_s, \lambda_t` of the derivatives of their logarithms,
:math:`\Delta = \sqrt{ab - K^2}` and :math:`u = \arccos(K / \sqrt{ab})`, the activations have

.. math::
    C &= \frac{\Delta + (\pi - u) K}{2 \pi}, \qquad
    C_s = \frac{(\pi - u) K_s + \lambda_s \Delta}{2 \pi}, \\
    C_{st} &= \frac{1}{2 \pi} \Bigl( (\pi - u) K_{st} + \lambda_s \lambda_t \Delta
        + \frac{(K_s - \lambda_s K)(K_t - \lambda_t K)}{\Delta} \Bigr),

the last term being 0 where the two are proportional, above all at p = q and s = t.

Sources: Cho and Saul (2009); Novak et al. (2019) and Garriga-Alonso et al. (2019), who have the
recursion of K for convolutions; Rice (1944).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product
from typing import Protocol

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor, nn
from torch.nn import functional

from implreg.datasets import Pairs
from implreg.errors import InputError
from implreg.networks import HE, Initialisation, PreActivationBlock, Residual
from implreg.theory.initialisation import Prediction
from implreg.tracing.paths import segments

_NODES = 16  # of the quadrature over a panel
_TAIL = 1e-5  # share of a layer's integral that the last terms of a panel's series may have
_PANELS = 200  # at most, per path on average
_RADIAL = 1e-13  # squared sine between path and ray below which it is rounding alone
_ENTRIES = 2**18  # numbers in one array of a batch of points
_BISECTIONS = 60  # halves [0, 1] below the spacing of float64
_END = 1e-9  # the slope at an end is taken this far inside, where no window is all zero
_SWAPPED = [0, 2, 1, 3]  # K, K_s, K_t, K_st with the roles of the two points exchanged

Space = tuple[int, int]


def convolutional(
    net: nn.Module,
    paths: Pairs | tuple[Tensor, Tensor],
    initialisation: Initialisation = HE,
) -> Prediction:
    r"""Expected switches, gaps and deflections of a random convolutional network along paths.

    With K the covariance of a pre-activation at one pixel p of layer l and at one moment, s = t,

    .. math::
        E[M] = \sum_l n_l \sum_p \int_0^1 r_{lp} \, dt, \quad
        r_{lp} = \frac{\sqrt{K_{st} K - K_s^2}}{\pi K}, \qquad
        E[V] = \sum_l n_l \sum_p B_{lp} \int_0^1 2 \Bigl(K_{st} - \frac{K_s^2}{K}\Bigr) r_{lp} \, dt

    with :math:`n_l` channels and :math:`B_{lp}` the mean squared derivative of an output by an
    activation, which goes backwards through the layers as K goes forwards. The mid-path deflection
    follows from :math:`\partial_s \partial_t K_f` of the output between both ends of the path and
    the moment at which half of the expected switches have happened. Integrals are exact for the
    first layer of activations and by adaptive Gauss-Legendre quadrature for the others, to 1e-6.

    The limit is that of many channels in every layer; for n channels, corrections are of order
    1/n times the number of layers.

    Args:
        net: gives the layers; its weights are not looked at. `nn.Sequential`, nested or not, of
            `Conv1d`, `Conv2d`, `Linear`, `ReLU`, `AvgPool1d`, `AvgPool2d`, `AdaptiveAvgPool1d(1)`,
            `AdaptiveAvgPool2d(1)`, `Flatten`, `BatchNorm1d` and `BatchNorm2d` in eval mode that
            have not seen data, and the blocks of `implreg.networks`, with a `Linear` layer at the
            end; `vgg`, `resnet`, `mlp` and `residual_mlp` among others.
        paths: P straight paths between samples (channels, height, width), (channels, length) or
            (d,), as in `implreg.trace`.
        initialisation: the distribution that the weights were drawn from, that of a unit with k
            entries in the window of each of n input channels being N(0, sigma_w^2 / (k n)). For
            `resnet` it is the default, He initialisation.

    Returns:
        One row per path; layers are those of `trace.layers`.

    Raises:
        InputError: as `implreg.trace`; polylines; a layer that the theory does not know, named; a
            sample that does not fit; or a path that, without biases, is zero at one moment in all
            pixels that some unit behind the first layer sees.

    Source: theorems T1 to T4 of the book, pixel by pixel.

    >>> import implreg as ir
    >>> data = ir.load("digits", shaped=True)
    >>> predicted = convolutional(ir.vgg(3, shape=data.shape, seed=0), ir.pairs(data, count=2))
    >>> predicted.layer_switches.shape, bool((predicted.bridge_ratio < 1).all())
    (torch.Size([2, 5]), True)
    """
    x0, x1 = _ends(paths)
    seen = read(net, tuple(x0.shape[1:]), initialisation)
    first, others = _First.of(seen, x0, x1), _Others.of(seen, x0, x1)
    layer_switches, layer_variation = (
        torch.cat([one[:, None], more], dim=1)
        for one, more in zip((first.switches, first.variation), others.totals, strict=True)
    )
    switches, variation = layer_switches.sum(dim=1), layer_variation.sum(dim=1)
    middle = _middle(first, others)
    return Prediction(
        switches=switches,
        layer_switches=layer_switches,
        gap_deviation=(variation / switches).sqrt(),
        layer_gap_deviation=(layer_variation / layer_switches).sqrt(),
        quadratic_variation=variation,
        deflection=variation.sqrt() / 2,
        mid_path_deflection=_mid_path(seen, x0, x1, middle).sqrt(),
        lengths=(x1 - x0).flatten(1).norm(dim=1),
    )


def _ends(paths: Pairs | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Starts and ends, checked; float64, on the CPU."""
    x0, x1, number = segments(paths, torch.float64)
    if number > 1:
        raise InputError(
            f"paths must be straight, got polylines of {number} segments; pass two tensors "
            f"(x0, x1)."
        )
    return x0.cpu(), x1.cpu()


# Pairs of pixels


@dataclass(frozen=True)
class Grid:
    """Pairs of pixels (p, q): all p of an image and certain differences q - p.

    Of two opposite differences only the larger is held, as K(p, q; s, t) = K(q, p; t, s).

    Attributes:
        space: height and width; a signal has height 1, what dense layers make is one pixel.
        differences: down and across, increasing from (0, 0).

    Moments of N pairs of points are tensors (4, N, differences, height, width) of K, K_s, K_t and
    K_st; they are 0 where q lies outside the image.
    """

    space: Space
    differences: tuple[Space, ...] = ((0, 0),)

    @property
    def pixels(self) -> int:
        """Their number."""
        return math.prod(self.space)

    @cached_property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Flat indices of p and q for each pair, (differences, height, width); -1 outside."""
        height, width = self.space
        row, column = torch.arange(height)[:, None], torch.arange(width)
        down, across = torch.tensor(self.differences).T[..., None, None]
        to_row, to_column = row + down, column + across
        inside = (to_row < height) & (to_column >= 0) & (to_column < width)
        p = (row * width + column).expand(inside.shape)
        return p, torch.where(inside, to_row * width + to_column, -1)

    @cached_property
    def inside(self) -> Tensor:
        """Whether q lies in the image, (differences, height, width)."""
        return self.ends[1] >= 0

    @cached_property
    def listed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Places of the pairs inside the image in the flattened grid, and their p and q."""
        p, q = (x.flatten() for x in self.ends)
        at = self.inside.flatten().nonzero().flatten()
        return at, p[at], q[at]


@dataclass
class Points:
    """N pairs of points of paths, and what the layers of activations see there.

    Attributes:
        first: for each pair the number of the pair that is its first point twice; (N,).
        second: likewise for its second point.
        swapped: the number of the pair with the two points exchanged, (N,).
        sites: K, K_s and K_st at p = q and s = t, (3, N', pixels), for each layer of activations;
            filled as the moments go through the network.

    The N' pairs of a point and itself come first.
    """

    first: Tensor
    second: Tensor
    swapped: Tensor
    sites: list[Tensor] = field(default_factory=list)

    @classmethod
    def alone(cls, number: int) -> "Points":
        """So many points, each of them with itself."""
        each = torch.arange(number)
        return cls(each, each, each)

    @classmethod
    def three(cls, number: int) -> "Points":
        """Three times so many points: each with itself, and on each of that many paths all pairs.

        By blocks of that many: the first, second and third with itself; the first with the second,
        the second with the third, the first with the third; these three the other way round.
        """
        a, b, c = torch.arange(3 * number).view(3, number)
        blocks = torch.arange(9 * number).view(9, number)
        return cls(
            torch.cat([a, b, c, a, b, a, b, c, c]),
            torch.cat([a, b, c, b, c, c, a, b, a]),
            blocks[[0, 1, 2, 6, 7, 8, 3, 4, 5]].flatten(),
        )

    @cached_property
    def number(self) -> int:
        """N', the number of pairs of a point and itself."""
        return int((self.first == self.second).sum())


# Layers. Each knows the pairs of pixels behind it and says which it needs before it.


@dataclass(frozen=True)
class Scale:
    """Batch norm that has not seen data: it multiplies by the root of `factor`."""

    factor: float
    after: Grid

    @property
    def before(self) -> Grid:
        """The pairs of pixels that it needs."""
        return self.after

    def __call__(self, moments: Tensor, points: Points) -> Tensor:
        """Moments of its outputs from those of its inputs."""
        return self.factor * moments

    def back(self, gain: Tensor, sites: list["Site"]) -> Tensor:
        """Mean squared derivative of an output by an input at each pixel, from that behind it."""
        return self.factor * gain


@dataclass(frozen=True)
class Convolution:
    """A convolution with random weights; a dense layer is one of a single pixel.

    Attributes:
        weight: variance of the weights times the number of inputs of a unit.
        bias: variance of the biases.
        channels: of its inputs and of its outputs.
        window: height and width of its window.
        stride: down and across.
        padding: zeros above and below, and on the left and right.
        space: of its inputs.
        after: pairs of pixels of its outputs.
    """

    weight: float
    bias: float
    channels: tuple[int, int]
    window: Space
    stride: Space
    padding: Space
    space: Space
    after: Grid

    @cached_property
    def before(self) -> Grid:
        """The pairs of pixels that it needs."""
        down, across = self.stride
        return Grid(self.space, tuple((down * i, across * j) for i, j in self.after.differences))

    def __call__(self, moments: Tensor, points: Points) -> Tensor:
        """Moments of its outputs from those of its inputs."""
        mean = self._mean(moments.flatten(0, 2)).unflatten(0, moments.shape[:3])
        made: Tensor = self.weight * mean
        made[0] += self.bias
        made *= self.after.inside
        return made

    def _mean(self, images: Tensor) -> Tensor:
        """Mean over every window, (N, height, width) -> (N, height, width)."""
        (above, left), (high, wide) = self.padding, self.window
        padded = functional.pad(images, (left, left, above, above))
        rows = sum(padded[:, i : padded.shape[1] - high + 1 + i] for i in range(high))
        assert isinstance(rows, Tensor)
        rows = rows[:, :: self.stride[0]]
        both = sum(rows[..., i : rows.shape[2] - wide + 1 + i] for i in range(wide))
        assert isinstance(both, Tensor)
        return both[..., :: self.stride[1]] / (high * wide)

    def back(self, gain: Tensor, sites: list["Site"]) -> Tensor:
        """Mean squared derivative of an output by an input at each pixel, from that behind it."""
        n_in, n_out = self.channels
        factor = self.weight * n_out / (n_in * math.prod(self.window))
        rest = [
            (n + 2 * pad - wide) % step
            for n, pad, wide, step in zip(
                self.space, self.padding, self.window, self.stride, strict=True
            )
        ]
        made: Tensor = functional.conv_transpose2d(
            gain[None, None],
            gain.new_ones(1, 1, *self.window),
            stride=self.stride,
            padding=self.padding,
            output_padding=rest,
        )
        return factor * made[0, 0]


@dataclass(frozen=True)
class Pool:
    """The mean over windows.

    Attributes:
        window: height and width.
        stride: down and across.
        space: of its inputs.
        after: pairs of pixels of its outputs.
    """

    window: Space
    stride: Space
    space: Space
    after: Grid

    @cached_property
    def before(self) -> Grid:
        """The pairs of pixels that it needs."""
        apart = product(*(range(1 - n, n) for n in self.window))
        sums = {
            (self.stride[0] * i + k, self.stride[1] * j + m)
            for (i, j), (k, m) in product(self.after.differences, list(apart))
        }
        return Grid(self.space, tuple(sorted({max((i, j), (-i, -j)) for i, j in sums})))

    @cached_property
    def _taken(self) -> Tensor:
        """Which pairs each mean takes, (pairs behind it, pairs of a mean).

        Flat indices, from the number of all pairs on for those with p and q exchanged.
        """
        high, wide = self.window
        stride = torch.tensor(self.stride)
        in_window = torch.cartesian_prod(torch.arange(high), torch.arange(wide)).view(-1, 2)
        pixels = torch.cartesian_prod(*(torch.arange(n) for n in self.after.space)).view(-1, 2)
        p = stride * pixels[:, None, None] + in_window[:, None]  # (pixels, i, 1, 2)
        apart = in_window - in_window[:, None]  # (i, j, 2)
        difference = stride * torch.tensor(self.after.differences)[:, None, None] + apart
        difference = difference[:, None]  # (differences, 1, i, j, 2)

        # Pairs of numbers as single ones, in the same order and with the same signs.
        held = torch.tensor(self.before.differences)
        radix = torch.tensor([2 * int(held[:, 1].abs().max()) + 1, 1])
        key = (difference * radix).sum(dim=-1)
        place = torch.searchsorted((held * radix).sum(dim=-1), key.abs())
        start = torch.where((key < 0)[..., None], p + difference, p)
        pixel = (start * torch.tensor([self.space[1], 1])).sum(dim=-1)
        pixel = pixel.clamp(0, self.before.pixels - 1)  # outside the image where q is, see __call__
        flat = (place + (key < 0) * len(held)) * self.before.pixels + pixel
        return flat.flatten(2).flatten(0, 1)

    def __call__(self, moments: Tensor, points: Points) -> Tensor:
        """Moments of its outputs from those of its inputs."""
        flat = moments.flatten(2)
        both = torch.cat([flat, flat[_SWAPPED][:, points.swapped]], dim=2)
        size = (len(self.after.differences), *self.after.space)
        made: Tensor = both[..., self._taken].mean(dim=-1).unflatten(2, size)
        made *= self.after.inside
        return made

    def back(self, gain: Tensor, sites: list["Site"]) -> Tensor:
        """Mean squared derivative of an output by an input at each pixel, from that behind it."""
        made = torch.zeros(self.space, dtype=torch.float64)
        (high, wide), (down, across) = self.window, self.stride
        rows, columns = ((n - 1) * s + 1 for n, s in zip(gain.shape, self.stride, strict=True))
        for i, j in product(range(high), range(wide)):
            made[i : i + rows : down, j : j + columns : across] += gain
        return made / math.prod(self.window) ** 2


@dataclass(frozen=True)
class Flat:
    """Flattening before a dense layer: a mean over all pixels p = q.

    Attributes:
        space: of its inputs.
        after: the one pixel that is left.
    """

    space: Space
    after: Grid

    @property
    def before(self) -> Grid:
        """The pairs of pixels that it needs."""
        return Grid(self.space)

    def __call__(self, moments: Tensor, points: Points) -> Tensor:
        """Moments of its outputs from those of its inputs."""
        return moments.mean(dim=(-1, -2), keepdim=True)

    def back(self, gain: Tensor, sites: list["Site"]) -> Tensor:
        """Mean squared derivative of an output by an input at each pixel, from that behind it."""
        return gain.expand(self.space)


@dataclass(frozen=True)
class Rectifier:
    """A layer of ReLUs.

    Attributes:
        channels: their number.
        after: pairs of pixels.
    """

    channels: int
    after: Grid

    @property
    def before(self) -> Grid:
        """The pairs of pixels that it needs."""
        return self.after

    def __call__(self, moments: Tensor, points: Points) -> Tensor:
        """Moments of its outputs from those of its inputs."""
        own = moments[:, : points.number, 0].flatten(2)
        variance = own[0]
        log = torch.where(variance > 0, own[1] / variance, 0.0)
        points.sites.append(own[[0, 1, 3]])

        at, p, q = self.after.listed
        k, ds, dt, dsdt = moments.flatten(2)[:, :, at]
        log_s, log_t = log[points.first][:, p], log[points.second][:, q]
        size = variance[points.first][:, p] * variance[points.second][:, q]
        root = (size - k.square()).clamp(min=0).sqrt()
        rest = torch.atan2(root, -k)  # pi - u
        apart = (ds - log_s * k) * (dt - log_t * k)
        found = [
            root + rest * k,
            rest * ds + log_s * root,
            rest * dt + log_t * root,
            rest * dsdt + log_s * log_t * root + torch.where(root > 0, apart / root, 0.0),
        ]
        made = torch.zeros_like(moments)
        made.flatten(2)[:, :, at] = torch.stack(found) / (2 * math.pi)
        return made

    def back(self, gain: Tensor, sites: list["Site"]) -> Tensor:
        """Mean squared derivative of an output by an input at each pixel, from that behind it."""
        sites.append(Site(self.channels, gain.flatten()))
        return gain / 2


@dataclass(frozen=True)
class Block:
    """A sum of two routes: `scale` times a branch, and the input or a shortcut.

    Both the branch and the shortcut, if there is one, begin with what `head` makes of the input.
    """

    head: tuple["Layer", ...]
    branch: tuple["Layer", ...]
    shortcut: tuple["Layer", ...] | None
    scale: float
    before: Grid

    def __call__(self, moments: Tensor, points: Points) -> Tensor:
        """Moments of its outputs from those of its inputs."""
        active = _through(self.head, moments, points)
        kept = moments if self.shortcut is None else _through(self.shortcut, active, points)
        return kept + self.scale**2 * _through(self.branch, active, points)

    def back(self, gain: Tensor, sites: list["Site"]) -> Tensor:
        """Mean squared derivative of an output by an input at each pixel, from that behind it."""
        inner = _back(self.branch, self.scale**2 * gain, sites)
        if self.shortcut is not None:
            return _back(self.head, inner + _back(self.shortcut, gain, sites), sites)
        return gain + _back(self.head, inner, sites)


Layer = Scale | Convolution | Pool | Flat | Rectifier | Block


def _through(layers: Sequence[Layer], moments: Tensor, points: Points) -> Tensor:
    for layer in layers:
        moments = layer(moments, points)
    return moments


def _back(layers: Sequence[Layer], gain: Tensor, sites: list["Site"]) -> Tensor:
    """The same backwards; `sites` get the layers of activations, last first."""
    for layer in reversed(layers):
        gain = layer.back(gain, sites)
    return gain


@dataclass(frozen=True)
class Site:
    r"""A layer of activations.

    Attributes:
        channels: their number.
        gain: :math:`B_{lp}`, the mean squared derivative of an output by an activation, (pixels,).
    """

    channels: int
    gain: Tensor


@dataclass(frozen=True)
class Network:
    """A network as the theory sees it: its layers, and those of activations."""

    layers: tuple[Layer, ...]
    sites: tuple[Site, ...]

    def moments(self, x0: Tensor, x1: Tensor, t: Tensor, points: Points) -> Tensor:
        """K_f, K_s, K_t and K_st of an output at pairs of points.

        Args:
            x0: starts of paths, one for each of N' points, (N', *sample).
            x1: their ends.
            t: where each point is, (N',).
            points: which of the points make the N pairs; its `sites` are filled.

        Returns:
            (4, N), float64.
        """
        grid = self.layers[0].before
        size = (len(t), -1, grid.pixels)
        x0, x1 = x0.reshape(size), x1.reshape(size)
        t = t.double()[:, None, None]
        state = torch.stack([(1 - t) * x0 + t * x1, x1 - x0])
        p, q = grid.ends
        there = functional.pad(state, (0, 1))  # 0 outside, at index -1
        early, late = state[:, points.first][..., p], there[:, points.second][..., q]
        moments = torch.stack(
            [(early[i] * late[j]).mean(dim=1) for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
        )
        return _through(self.layers, moments, points)[..., 0, 0, 0]

    def batch(self, channels: int) -> int:
        """How many pairs of points to take at once, for samples with so many channels."""

        def grids(layers: Sequence[Layer]) -> Iterator[Grid]:
            for layer in layers:
                yield layer.before
                if isinstance(layer, Block):
                    yield from grids(layer.branch)

        pairs = [len(grid.differences) * grid.pixels for grid in grids(self.layers)]
        return max(1, _ENTRIES // (4 * max(channels * pairs[0], *pairs)))


# Reading a network


@dataclass(frozen=True)
class _State:
    """What a layer is given: the shape of a sample, and whether its entries are Gaussian."""

    channels: int
    space: Space
    axes: int  # of space: 2 for images, 1 for signals, 0 for what dense layers take
    gaussian: bool


class _Maker(Protocol):
    """Makes a layer, given the pairs of pixels behind it."""

    def __call__(self, *, after: Grid) -> Layer: ...


_KNOWN = (
    "Conv1d, Conv2d, Linear, ReLU, AvgPool1d, AvgPool2d, AdaptiveAvgPool1d, AdaptiveAvgPool2d, "
    "Flatten, BatchNorm1d, BatchNorm2d and the blocks of implreg.networks"
)


def read(net: nn.Module, sample: tuple[int, ...], initialisation: Initialisation) -> Network:
    """Read the layers of a network; its weights are not looked at.

    Args:
        net: see `convolutional`.
        sample: shape of a sample.
        initialisation: the distribution that its weights were drawn from.

    Raises:
        InputError: see `convolutional`.
    """
    if not isinstance(net, nn.Module):
        raise InputError(
            f"net must be a torch.nn.Module, got {type(net).__name__}; pass for example "
            f"implreg.vgg(3, seed=0)."
        )
    if len(sample) > 3:
        raise InputError(
            f"paths must be of samples (channels, height, width), (channels, length) or (d,), got "
            f"samples of shape {sample}; reshape them."
        )
    axes = len(sample) - 1
    height, width = (1, 1, *sample[1:])[-2:]
    reader = _Reader(initialisation)
    state, makers = reader.layers(net, "", _State(sample[0], (height, width), axes, gaussian=False))
    last = makers[-1] if makers else None
    if not (isinstance(last, partial) and last.func is Convolution and state.axes == 0):
        raise InputError(f"net must end with a Linear layer, but ends with {reader.last}; add one.")
    makers[-1] = partial(last, weight=initialisation.sigma_o**2, bias=0.0)
    layers, _ = _made(makers, Grid((1, 1)))
    sites: list[Site] = []
    _back(layers, torch.ones(1, 1, dtype=torch.float64) / state.channels, sites)
    if not sites:
        raise InputError("net must have a ReLU, but has none; add one.")
    return Network(layers, tuple(reversed(sites)))


def _made(makers: Sequence[_Maker], after: Grid) -> tuple[tuple[Layer, ...], Grid]:
    """Layers, from the last one on, and the pairs of pixels that the first one needs."""
    layers: list[Layer] = []
    for maker in reversed(makers):
        layers.append(maker(after=after))
        after = layers[-1].before
    return tuple(reversed(layers)), after


@dataclass
class _Reader:
    """Reads modules one after the other; `last` says which one was read last."""

    initialisation: Initialisation
    last: str = "nothing"

    def layers(self, module: nn.Module, name: str, state: _State) -> tuple[_State, list[_Maker]]:
        """How to make the layers of a module, and what it hands on."""
        if type(module) is nn.Sequential:
            makers: list[_Maker] = []
            for key, child in module.named_children():
                state, more = self.layers(child, f"{name}.{key}" if name else key, state)
                makers += more
            return state, makers
        self.last = f"its layer {name or 'net'!r}, {type(module).__name__}"
        if isinstance(module, nn.Identity) or (
            isinstance(module, nn.Dropout) and not module.training
        ):
            return state, []
        if isinstance(module, nn.Linear):
            return self._dense(module, name, state)
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            return self._convolution(module, name, state)
        if isinstance(module, nn.ReLU):
            if not state.gaussian:
                raise InputError(
                    f"net must have a layer with weights before each ReLU, but there is none "
                    f"before its layer {name or 'net'!r}; rearrange it."
                )
            channels = state.channels
            return _State(channels, state.space, state.axes, gaussian=False), [
                partial(Rectifier, channels)
            ]
        if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
            pixels = math.prod(state.space)
            flat = _State(state.channels * pixels, (1, 1), 0, state.gaussian and pixels == 1)
            return flat, [partial(Flat, state.space)]
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            return state, [partial(Scale, self._norm(module, name))]
        if isinstance(module, PreActivationBlock):
            return self._pre_activation(module, name, state)
        if isinstance(module, Residual):
            return self._residual(module, name, state)
        pool = self._pool(module, name, state)
        if pool is not None:
            return pool
        mode = " in training mode" if isinstance(module, nn.Dropout) else ""
        raise InputError(
            f"net may hold {_KNOWN} alone, but its layer {name or 'net'!r} is {module}{mode}; "
            f"{'call net.eval()' if mode else 'replace it'}."
        )

    def _dense(self, module: nn.Linear, name: str, state: _State) -> tuple[_State, list[_Maker]]:
        if state.axes or state.channels != module.in_features:
            raise _misfit(name, module, f"{module.in_features} numbers", state)
        one = (1, 1)
        maker = self._weights(module, (module.in_features, module.out_features))
        maker = partial(maker, window=one, stride=one, padding=(0, 0), space=one)
        return _State(module.out_features, one, 0, gaussian=True), [maker]

    def _convolution(
        self, module: nn.Conv1d | nn.Conv2d, name: str, state: _State
    ) -> tuple[_State, list[_Maker]]:
        if (
            module.groups != 1
            or set(module.dilation) != {1}
            or isinstance(module.padding, str)
            or (module.padding_mode != "zeros" and any(module.padding))
        ):
            raise InputError(
                f"net may hold convolutions with numbers of zeros as padding and without groups "
                f"and dilation alone, but its layer {name or 'net'!r} is {module}; replace it."
            )
        window, stride = _two(module.kernel_size, 1), _two(module.stride, 1)
        padding = _two(module.padding, 0)
        axes = len(module.kernel_size)
        sizes = [
            n + 2 * pad - wide for n, pad, wide in zip(state.space, padding, window, strict=True)
        ]
        if axes != state.axes or state.channels != module.in_channels or min(sizes) < 0:
            raise _misfit(name, module, f"{module.in_channels} channels", state)
        maker = self._weights(module, (module.in_channels, module.out_channels))
        maker = partial(maker, window=window, stride=stride, padding=padding, space=state.space)
        space = (sizes[0] // stride[0] + 1, sizes[1] // stride[1] + 1)
        after = _State(module.out_channels, space, axes, gaussian=True)
        return after, [maker]

    def _weights(
        self, module: nn.Linear | nn.Conv1d | nn.Conv2d, channels: tuple[int, int]
    ) -> partial[Convolution]:
        bias = 0.0 if module.bias is None else self.initialisation.sigma_b**2
        return partial(
            Convolution, weight=self.initialisation.sigma_w**2, bias=bias, channels=channels
        )

    def _norm(self, module: nn.BatchNorm1d | nn.BatchNorm2d, name: str) -> float:
        """The factor on variances of a batch norm that has not seen data."""
        fresh = module.running_mean is not None and not module.training
        for values, at_first in (
            (module.running_mean, 0), (module.running_var, 1), (module.weight, 1), (module.bias, 0),
        ):  # fmt: skip
            fresh = fresh and (values is None or bool((values == at_first).all()))
        if not fresh:
            raise InputError(
                f"net must have batch norm in eval mode and as it begins, with means and shifts 0 "
                f"and variances and scales 1, but its layer {name or 'net'!r} is not; call "
                f"net.eval() on a network that has not seen data."
            )
        return 1 / (1 + module.eps)

    def _pre_activation(
        self, module: PreActivationBlock, name: str, state: _State
    ) -> tuple[_State, list[_Maker]]:
        def read(*names: str, given: _State) -> tuple[_State, list[_Maker]]:
            makers: list[_Maker] = []
            for part in names:
                given, more = self.layers(getattr(module, part), f"{name}.{part}", given)
                makers += more
            return given, makers

        active, head = read("norm1", "relu1", given=state)
        after, branch = read("convolution1", "norm2", "relu2", "convolution2", given=active)
        kept, shortcut = state, None
        if module.shortcut is not None:
            kept, shortcut = read("shortcut", given=active)
        return self._block(name, (kept, after), partial(_block, name, head, branch, shortcut, 1.0))

    def _residual(self, module: Residual, name: str, state: _State) -> tuple[_State, list[_Maker]]:
        after, branch = self.layers(module.branch, f"{name}.branch", state)
        return self._block(
            name, (state, after), partial(_block, name, [], branch, None, module.scale)
        )

    def _block(
        self, name: str, routes: tuple[_State, _State], maker: _Maker
    ) -> tuple[_State, list[_Maker]]:
        if routes[0] != routes[1] or not routes[1].gaussian:
            raise InputError(
                f"net must have blocks that add what layers with weights make, of one shape, but "
                f"its layer {name or 'net'!r} is another; rearrange it."
            )
        return routes[1], [maker]

    def _pool(
        self, module: nn.Module, name: str, state: _State
    ) -> tuple[_State, list[_Maker]] | None:
        """As `layers`, for pooling of a kind that is known."""
        if isinstance(module, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d):
            axes = 1 if isinstance(module, nn.AdaptiveAvgPool1d) else 2
            if module.output_size not in (1, (1,), (1, 1)):
                return None
            window = stride = state.space
        elif isinstance(module, nn.AvgPool1d | nn.AvgPool2d):
            axes = 1 if isinstance(module, nn.AvgPool1d) else 2
            divisor = getattr(module, "divisor_override", None)
            if module.padding not in (0, (0,), (0, 0)) or module.ceil_mode or divisor is not None:
                return None
            window, stride = _two(module.kernel_size, 1, axes), _two(module.stride, 1, axes)
        else:
            return None
        sizes = [n - wide for n, wide in zip(state.space, window, strict=True)]
        if axes != state.axes or min(sizes) < 0:
            raise _misfit(name, module, "larger ones", state)
        space = (sizes[0] // stride[0] + 1, sizes[1] // stride[1] + 1)
        after = _State(state.channels, space, axes, state.gaussian)
        return after, [partial(Pool, window=window, stride=stride, space=state.space)]


def _block(
    name: str,
    head: Sequence[_Maker],
    branch: Sequence[_Maker],
    shortcut: Sequence[_Maker] | None,
    scale: float,
    *,
    after: Grid,
) -> Block:
    made, active = _made(branch, after)
    kept = None if shortcut is None else _made(shortcut, after)
    begun, before = _made(head, active)
    if (before if kept is None else active) != (after if kept is None else kept[1]):
        raise InputError(
            f"net must have blocks with the same strides on both routes and no pooling, but its "
            f"layer {name or 'net'!r} is another; replace it."
        )
    return Block(begun, made, None if kept is None else kept[0], scale, before)


def _two(sizes: int | tuple[int, ...], other: int, axes: int = 0) -> Space:
    """Sizes down and across; for signals `other` down."""
    if isinstance(sizes, int):
        sizes = (sizes,) * axes
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (other, sizes[0])


def _misfit(name: str, module: nn.Module, wanted: str, state: _State) -> InputError:
    given = (state.channels, *state.space[2 - state.axes :])
    return InputError(
        f"paths must be of samples that fit net, but its layer {name or 'net'!r}, {module}, which "
        f"takes {wanted}, is given {given}; pass samples of another shape."
    )


# Integrals along the path


@dataclass(frozen=True)
class _First:
    r"""The first layer of activations, whose covariance is a polynomial of s and t at each pixel.

    With :math:`K(s, t) = a_0 + a_1 (s + t) + a_2 s t`, the path as a window sees it is a straight
    line and its switches go with the angle, so that all integrals are known.

    Attributes:
        channels: their number.
        start: :math:`a_0`, (P, pixels).
        inner: :math:`a_1`.
        cross: :math:`\sqrt{a_0 a_2 - a_1^2}`.
        switches: expected ones, (P,).
        variation: what they add to E[V], (P,).
    """

    channels: int
    start: Tensor
    inner: Tensor
    cross: Tensor
    switches: Tensor
    variation: Tensor

    @classmethod
    def of(cls, seen: Network, x0: Tensor, x1: Tensor) -> "_First":
        """The first layer of a network on paths.

        Raises:
            InputError: as `_check_later_layers`.
        """
        every = []
        for chosen in torch.arange(len(x0)).split(seen.batch(x0.shape[1])):
            points = Points.alone(len(chosen))
            seen.moments(x0[chosen], x1[chosen], torch.zeros(len(chosen)), points)
            every.append(points.sites[0])
        a0, a1, a2 = torch.cat(every, dim=1)
        area = a0 * a2 - a1.square()  # the square of `cross`
        cross = torch.where(area > _RADIAL * a0 * a2, area, 0.0).sqrt()
        end, ends = a0 + 2 * a1 + a2, a0 + a1  # K(1, 1) and K(0, 1)
        meets = ((cross == 0) & (ends < 0)).nonzero()
        if len(meets):
            path, moment = meets[:, 0], (-a1 / a2)[tuple(meets.T)]
            _check_later_layers(seen, x0[path], x1[path], moment)
        angle = torch.atan2(cross, ends)
        late, early = (
            torch.where(k > 0, slope / k, 0.0) for k, slope in ((end, a1 + a2), (a0, a1))
        )
        site = seen.sites[0]
        variation = (a2 * angle + cross * (late - early)) @ site.gain
        return cls(
            channels=site.channels,
            start=a0,
            inner=a1,
            cross=cross,
            switches=site.channels * angle.sum(dim=1) / math.pi,
            variation=site.channels * variation / math.pi,
        )

    def passed(self, t: Tensor) -> Tensor:
        """Expected switches before the times t, (P,)."""
        t = t[:, None]
        angle = torch.atan2(self.cross * t, self.start + self.inner * t)
        return self.channels * angle.sum(dim=1) / math.pi


def _check_later_layers(seen: Network, x0: Tensor, x1: Tensor, t: Tensor) -> None:
    """Refuse points, each of one path, where all that a later layer sees somewhere is zero.

    In the first layer the units of a window that passes through the origin switch at once, and that
    is counted; a switch in a later layer at that very moment would not be.
    """
    for chosen in torch.arange(len(t)).split(seen.batch(x0.shape[1])):
        points = Points.alone(len(chosen))
        seen.moments(x0[chosen], x1[chosen], t[chosen], points)
        if any(bool((k < _RADIAL * both).any()) for k, _, both in points.sites[1:]):
            raise InputError(
                "paths must not run through the origin in all pixels that a unit behind the first "
                "layer sees when there are no biases, as such units switch at once, got such a "
                "pair; leave it out or set sigma_b."
            )


@dataclass(frozen=True)
class _Others:
    """The densities of switches and of quadratic variation in all layers but the first.

    They are held as series of Legendre polynomials on R panels, parts of paths, which are halved
    until the series end: a window that passes near the origin makes a narrow peak.

    Attributes:
        paths: number of paths, P.
        path: that each panel is a part of, (R,).
        low: where it begins, (R,).
        width: of the panel, (R,).
        terms: of the densities, (2, layers, R, n).
    """

    paths: int
    path: Tensor
    low: Tensor
    width: Tensor
    terms: Tensor

    @property
    def totals(self) -> Tensor:
        """Integrals of both densities over the paths, (2, P, layers)."""
        return _summed(self.width * self.terms[..., 0], self.path, self.paths).transpose(1, 2)

    @classmethod
    def of(cls, seen: Network, x0: Tensor, x1: Tensor) -> "_Others":
        """Those of a network on paths."""
        nodes, weights = legendre.leggauss(_NODES)
        order = np.arange(_NODES)
        basis = legendre.legvander(nodes, _NODES - 1) * weights[:, None] * (order + 0.5)
        path, low = torch.arange(len(x0)), torch.zeros(len(x0), dtype=torch.float64)
        width = 1.0
        done: list[_Others] = []
        panels = len(path)
        while len(path):
            t = low[:, None] + width * torch.from_numpy(1 + nodes) / 2
            densities = _densities(seen, x0, x1, path.repeat_interleave(_NODES), t.flatten())
            terms = densities[:, 1:].unflatten(2, t.shape) @ torch.from_numpy(basis)
            done.append(cls(len(x0), path, low, torch.full_like(low, width), terms))
            whole = torch.stack([p.totals for p in done]).sum(dim=0).transpose(1, 2)[..., path]
            tail = width * terms[..., -2:].abs().amax(dim=-1)
            rough = (tail > _TAIL * whole).flatten(0, 1).any(dim=0)
            panels += int(rough.sum())
            rough &= panels <= _PANELS * len(x0)
            done[-1] = done[-1]._select(~rough)
            width /= 2
            path, low = path[rough].repeat(2), torch.cat([low[rough], low[rough] + width])
        return cls(
            paths=len(x0),
            path=torch.cat([p.path for p in done]),
            low=torch.cat([p.low for p in done]),
            width=torch.cat([p.width for p in done]),
            terms=torch.cat([p.terms for p in done], dim=2),
        )

    def _select(self, chosen: Tensor) -> "_Others":
        path, low, width = self.path[chosen], self.low[chosen], self.width[chosen]
        return _Others(self.paths, path, low, width, self.terms[:, :, chosen])

    @cached_property
    def _integral(self) -> np.ndarray:
        """Series of the integral of the density of switches from the start of each panel."""
        rates = self.width[:, None] / 2 * self.terms[0].sum(dim=0)
        integral: np.ndarray = legendre.legint(rates.T.numpy(), lbnd=-1, axis=0)
        return integral

    def passed(self, t: Tensor) -> Tensor:
        """Expected switches before the times t, (P,)."""
        place = ((t[self.path] - self.low) / self.width).clamp(0, 1)
        done = legendre.legval(2 * place.numpy() - 1, self._integral, tensor=False)
        return _summed(torch.from_numpy(done), self.path, self.paths)


def _summed(values: Tensor, path: Tensor, paths: int) -> Tensor:
    """Sums over the panels of each path, (..., R) -> (..., P)."""
    return values.new_zeros(*values.shape[:-1], paths).index_add_(-1, path, values)


def _densities(seen: Network, x0: Tensor, x1: Tensor, path: Tensor, t: Tensor) -> Tensor:
    """Densities of switches and of quadratic variation at times t of certain paths.

    Returns:
        (2, L, N), for N times and L layers of activations.
    """
    found = []
    for chosen in torch.arange(len(path)).split(seen.batch(x0.shape[1])):
        these, points = path[chosen], Points.alone(len(chosen))
        seen.moments(x0[these], x1[these], t[chosen], points)
        rows = []
        for site, (k, slope, both) in zip(seen.sites, points.sites, strict=True):
            spread = torch.where(k > 0, both - slope.square() / k, 0.0)
            spread = torch.where(spread > _RADIAL * both, spread, 0.0)
            rate = torch.where(k > 0, (spread / k).sqrt(), 0.0) * site.channels / math.pi
            rows.append(torch.stack([rate.sum(dim=1), (2 * spread * rate) @ site.gain]))
        found.append(torch.stack(rows, dim=1))
    return torch.cat(found, dim=2)


def _middle(first: _First, others: _Others) -> Tensor:
    """Time at which half of the expected switches have happened, (P,)."""
    low, high = torch.zeros_like(first.switches), torch.ones_like(first.switches)
    half = (first.passed(high) + others.passed(high)) / 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        early = first.passed(middle) + others.passed(middle) < half
        low, high = torch.where(early, middle, low), torch.where(early, high, middle)
    return (low + high) / 2


def _mid_path(seen: Network, x0: Tensor, x1: Tensor, middle: Tensor) -> Tensor:
    """Mean square of the slope at `middle` minus the mean of the slopes at the ends, (P,)."""
    t = torch.stack([torch.full_like(middle, _END), middle, torch.full_like(middle, 1 - _END)])
    start, mid, end, early, late, whole = moments_between(seen, x0, x1, t)[3]
    square: Tensor = mid + (start + end) / 4 + whole / 2 - early - late
    return square.clamp(min=0)


def moments_between(seen: Network, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
    """K_f, K_s, K_t and K_st of an output between three times.

    Args:
        seen: the network.
        x0: starts of the paths, (P, *sample).
        x1: their ends.
        t: three times for each path, (3, P).

    Returns:
        (4, 6, P): at each time alone, then between the first and the second, the second and the
        third, the first and the third.
    """
    found = []
    for chosen in torch.arange(len(x0)).split(max(1, seen.batch(x0.shape[1]) // 9)):
        number = len(chosen)
        starts, ends = (x[chosen].repeat(3, *[1] * (x.ndim - 1)) for x in (x0, x1))
        moments = seen.moments(starts, ends, t[:, chosen].flatten(), Points.three(number))
        found.append(moments.view(4, 9, number)[:, :6])
    return torch.cat(found, dim=2)
