r"""Covariances of a wide random network at pairs of pixels, layer by layer.

The channels of a layer are independent Gaussian processes of the pixel p and of the position t on
the path. `Moments` holds their covariances :math:`K(p, q; s, t)` and the derivatives of these as
the two points of the path move, :math:`K_s, K_t, K_{st}`; each of its methods takes the four
through one operation of the network. Since a convolution keeps :math:`q - p`, only those
differences are followed that pooling brings together in the end.

Sources: Cho and Saul (2009); Novak et al. (2019) and Garriga-Alonso et al. (2019), who have the
recursion of K for convolutions.
"""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from torch.nn import functional

Space = tuple[int, int]
_SWAPPED = [0, 2, 1, 3]  # K, K_s, K_t, K_st with the roles of the two points exchanged


@dataclass(frozen=True)
class Grid:
    """Pairs of pixels (p, q): all p of an image and certain differences q - p.

    Of two opposite differences only the larger is held, as K(p, q; s, t) = K(q, p; t, s).

    Attributes:
        space: height and width; a signal has height 1, what dense layers make is one pixel.
        differences: down and across, increasing from (0, 0).
    """

    space: Space = (1, 1)
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


@dataclass(frozen=True)
class Window:
    """What slides over an image; by default one pixel over one pixel, as in a dense layer.

    Attributes:
        size: height and width.
        stride: down and across.
        padding: zeros above and below, and on the left and right.
        space: of the image.
    """

    size: Space = (1, 1)
    stride: Space = (1, 1)
    padding: Space = (0, 0)
    space: Space = (1, 1)

    @property
    def entries(self) -> int:
        """Number of pixels that it sees at once."""
        return math.prod(self.size)

    @property
    def room(self) -> Space:
        """How far it can slide, down and across; negative if it does not fit."""
        (height, width), (above, left), (high, wide) = self.space, self.padding, self.size
        return height + 2 * above - high, width + 2 * left - wide

    @property
    def places(self) -> Space:
        """Number of its places, down and across."""
        return self.room[0] // self.stride[0] + 1, self.room[1] // self.stride[1] + 1

    def spread(self, values: Tensor) -> Tensor:
        """For each pixel the sum over the places from which it is seen, (*places) -> (*space)."""
        rest = [n % step for n, step in zip(self.room, self.stride, strict=True)]
        made: Tensor = functional.conv_transpose2d(
            values[None, None], values.new_ones(1, 1, *self.size), stride=self.stride,
            padding=self.padding, output_padding=rest,
        )  # fmt: skip
        return made[0, 0]


@dataclass(frozen=True)
class Moments:
    """Second moments of a process at pairs of pixels and pairs of T points of P paths.

    Attributes:
        values: K, K_s, K_t and K_st, (4, T, T, P, differences, height, width), float64; 0 where q
            lies outside the image.
        grid: the pairs of pixels.
        sites: K, K_s and K_st at p = q and s = t, (3, T P, pixels), for each layer of activations;
            filled as the moments go through the network.
    """

    values: Tensor
    grid: Grid
    sites: list[Tensor] = field(default_factory=list)

    @classmethod
    def along(cls, x0: Tensor, x1: Tensor, t: Tensor, grid: Grid) -> "Moments":
        """Those of samples on paths, as means over their channels.

        Args:
            x0: starts of paths, (P, *sample).
            x1: their ends.
            t: T times for each path, (T, P).
            grid: the pairs of pixels.
        """
        x0, x1 = (x.reshape(len(x), -1, grid.pixels) for x in (x0, x1))
        t, (p, q) = t.double()[..., None, None], grid.ends
        at = (1 - t) * x0 + t * x1
        state = torch.stack([at, (x1 - x0).expand_as(at)])
        there = functional.pad(state, (0, 1))  # 0 outside, at index -1
        early, late = state[:, :, None, ..., p], there[:, None, ..., q]
        means = [(early[i] * late[j]).mean(dim=3) for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
        return cls(torch.stack(means), grid)

    def scaled(self, factor: float) -> "Moments":
        """Those of the process times the root of `factor`."""
        return replace(self, values=factor * self.values)

    def __add__(self, other: "Moments") -> "Moments":
        """Those of the sum of two independent processes."""
        return replace(self, values=self.values + other.values)

    def weighted(self, weight: float, bias: float) -> "Moments":
        """Those behind random weights and biases of each pixel; see `Pair.weighted`."""
        made = self.scaled(weight)
        made.values[0] += bias * self.grid.inside
        return made

    def averaged(self, window: Window, after: Grid) -> "Moments":
        r"""Means over the entries of a window, the same around p and q: of a convolution.

        .. math:: \frac1k \sum_o K(p + o, q + o)
        """
        (above, left), images = window.padding, self.values.flatten(0, -3)
        padded = functional.pad(images, (left, left, above, above))
        means = functional.avg_pool2d(padded, window.size, window.stride)
        made = means.unflatten(0, self.values.shape[:-2]) * after.inside
        return replace(self, values=made, grid=after)

    def pooled(self, window: Window, after: Grid) -> "Moments":
        r"""Means over two windows, one around p and one around q: of average pooling.

        .. math:: \frac1{k^2} \sum_{o, o'} K(p + o, q + o')
        """
        flat = self.values.flatten(-3)
        both = torch.cat([flat, flat[_SWAPPED].transpose(1, 2)], dim=-1)
        means = both[..., _taken(window, self.grid, after)].mean(dim=-1)
        made = means.unflatten(-1, after.inside.shape) * after.inside
        return replace(self, values=made, grid=after)

    def rectified(self, leak: float) -> "Moments":
        r"""Those of leaky ReLUs; `sites` gets what they see.

        With :math:`a = K(p, p; s, s)`, :math:`b = K(q, q; t, t)`, the halves
        :math:`\lambda_s, \lambda_t` of the derivatives of their logarithms,
        :math:`\Delta = \sqrt{ab - K^2}` and :math:`u = \arccos(K / \sqrt{ab})`, ReLUs have

        .. math::
            C &= \frac{\Delta + (\pi - u) K}{2 \pi}, \qquad
            C_s = \frac{(\pi - u) K_s + \lambda_s \Delta}{2 \pi}, \\
            C_{st} &= \frac{1}{2 \pi} \Bigl( (\pi - u) K_{st} + \lambda_s \lambda_t \Delta
                + \frac{(K_s - \lambda_s K)(K_t - \lambda_t K)}{\Delta} \Bigr),

        the last term being 0 where the two are proportional, above all at p = q and s = t. Leaky
        ones have :math:`(1 - \alpha)^2 C + \alpha K`, and likewise for the derivatives.
        """
        own = self.values[..., 0, :, :].flatten(-2).diagonal(dim1=1, dim2=2).movedim(-1, 1)
        variance = own[0]
        log = torch.where(variance > 0, own[1] / variance, 0.0)
        self.sites.append(own[[0, 1, 3]].flatten(1, 2))

        at, p, q = self.grid.listed
        k, ds, dt, dsdt = self.values.flatten(-3)[..., at]
        log_s, log_t = log[:, None, ..., p], log[..., q]
        size = variance[:, None, ..., p] * variance[..., q]
        root = (size - k.square()).clamp(min=0).sqrt()
        rest = torch.atan2(root, -k)  # pi - u
        apart = (ds - log_s * k) * (dt - log_t * k)
        found = [
            root + rest * k,
            rest * ds + log_s * root,
            rest * dt + log_t * root,
            rest * dsdt + log_s * log_t * root + torch.where(root > 0, apart / root, 0.0),
        ]
        made = leak * self.values
        made.flatten(-3)[..., at] += (1 - leak) ** 2 / (2 * math.pi) * torch.stack(found)
        return replace(self, values=made)


@lru_cache(maxsize=64)
def _taken(window: Window, before: Grid, after: Grid) -> Tensor:
    """Which pairs each mean of pooling takes, (pairs behind it, pairs of a mean).

    Flat indices, from the number of all pairs on for those with p and q exchanged.
    """
    stride = torch.tensor(window.stride)
    in_window, pixels = (
        torch.cartesian_prod(*map(torch.arange, sides)).view(-1, 2)
        for sides in (window.size, after.space)
    )
    p = stride * pixels[:, None, None] + in_window[:, None]  # (pixels, i, 1, 2)
    apart = in_window - in_window[:, None]  # (i, j, 2)
    difference = stride * torch.tensor(after.differences)[:, None, None] + apart
    difference = difference[:, None]  # (differences, 1, i, j, 2)

    # Pairs of numbers as single ones, in the same order and with the same signs.
    held = torch.tensor(before.differences)
    radix = torch.tensor([2 * int(held[:, 1].abs().max()) + 1, 1])
    key = (difference * radix).sum(dim=-1)
    place = torch.searchsorted((held * radix).sum(dim=-1), key.abs())
    start = torch.where((key < 0)[..., None], p + difference, p)
    pixel = (start * torch.tensor([before.space[1], 1])).sum(dim=-1)
    pixel.clamp_(0, before.pixels - 1)  # outside the image where q is, see `pooled`
    flat = (place + (key < 0) * len(held)) * before.pixels + pixel
    return flat.flatten(2).flatten(0, 1)
