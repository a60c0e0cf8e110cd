"""Pairs of pixels, and pairs of points of paths, between which covariances are followed."""

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

Space = tuple[int, int]


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
