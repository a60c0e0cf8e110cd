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
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from implreg.theory.convolution.pixels import Grid, Points, Space

_ENTRIES = 2**18  # numbers in one array of a batch of points
_SWAPPED = [0, 2, 1, 3]  # K, K_s, K_t, K_st with the roles of the two points exchanged

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

    @classmethod
    def of(cls, layers: tuple[Layer, ...], outputs: int) -> "Network":
        """Layers with so many outputs at the end, all of them one pixel."""
        sites: list[Site] = []
        _back(layers, torch.ones(1, 1, dtype=torch.float64) / outputs, sites)
        return cls(layers, tuple(reversed(sites)))

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
