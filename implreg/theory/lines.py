"""Straight paths as a random network sees them: by their distance from the origin alone."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from implreg.errors import InputError
from implreg.networks import Initialisation
from implreg.theory import kernels
from implreg.theory.architecture import architecture
from implreg.theory.kernels import Pair
from implreg.theory.layers import Architecture, through
from implreg.tracing.paths import Straight as Straight
from implreg.tracing.paths import straight_ends

_NEAR_ZERO = 1e-12  # distance from the origin, over the length of the path


@dataclass(frozen=True)
class Part:
    """Some of the layers of activations along P paths.

    Attributes:
        totals: expected switches of each layer and what it adds to E[V], (2, P, L).
        passed: expected switches before given times; both (P,).
    """

    totals: Tensor
    passed: Callable[[Tensor], Tensor]


def by_angles(
    count: Tensor, strength: Tensor, start: Tensor, inner: Tensor, square: Tensor, cross: Tensor
) -> Part:
    r"""Layers to whose pre-activations paths are straight lines, so that all goes with angles.

    That is, with :math:`K(s, t) = a_0 + a_1 (s + t) + a_2 s t`.

    Args:
        count: number of units of each layer, (L,).
        strength: how much their gaps, squared and summed, weigh in the outputs, over a_2; (L,).
        start: :math:`a_0`, (P, L).
        inner: :math:`a_1`, (P, L).
        square: :math:`a_2`, (P, L).
        cross: :math:`\sqrt{a_0 a_2 - a_1^2}`, (P, L).
    """
    first, last = torch.atan2(inner, cross), torch.atan2(inner + square, cross)
    theta = torch.atan2(cross, start + inner)
    turns = theta + (first + last).cos() * theta.sin()

    def passed(t: Tensor) -> Tensor:
        angle = torch.atan2(cross * t[:, None], start + inner * t[:, None])
        return (count * angle / math.pi).sum(dim=1)

    return Part(torch.stack([count * theta, strength * square * turns]) / math.pi, passed)


@dataclass(frozen=True)
class Lines:
    """P straight paths, in units of the root of the number d of inputs; float64, (P,) each.

    Attributes:
        x0: starts, (P, d), in their own units.
        x1: ends, (P, d), likewise.
        foot: distance of the line from the origin.
        middle: coordinate of the middle along the line, from the point nearest to the origin.
        speed: length of the path.
    """

    x0: Tensor
    x1: Tensor
    foot: Tensor
    middle: Tensor
    speed: Tensor

    @classmethod
    def of(cls, seen: Architecture, x0: Tensor, x1: Tensor) -> "Lines":
        """Paths from x0 to x1, (P, ...), before a dense network.

        Raises:
            InputError: a path that runs through the origin without biases, where every unit of
                the first layer switches at the same moment.
        """
        x0, x1, root = x0.flatten(1), x1.flatten(1), math.sqrt(seen.inputs)
        way, twice_middle = (x1 - x0) / root, (x0 + x1) / root
        speed = way.norm(dim=1)
        middle = (twice_middle * way).sum(dim=1) / (2 * speed)
        # From the middle, as nothing cancels there when the samples lie nearly opposite.
        foot = (twice_middle / 2 - (middle / speed)[:, None] * way).norm(dim=1)
        if not seen.first.bias and not (foot > _NEAR_ZERO * speed).all():
            raise InputError(
                "paths must not run through the origin when there are no biases, as all units "
                "switch at once there, got such a pair; leave it out or set sigma_b."
            )
        return cls(x0, x1, foot, middle, speed)

    def at(self, t: Tensor | float) -> Tensor:
        """Coordinates along the lines at times t, of a shape that broadcasts with (P,)."""
        return self.middle + (t - 0.5) * self.speed

    def heights(self, seen: Architecture) -> Tensor:
        """Distance from the origin of the lines as each layer of activations sees them, (P, L)."""
        offset, gain = seen.received[:, :-1]
        return torch.sqrt(self.foot[:, None].square() + offset / gain)

    def layers(self, seen: Architecture) -> Part:
        """How the layers of activations see them."""
        height, speed, gain = self.heights(seen), self.speed[:, None], seen.received[1, :-1]
        count = torch.tensor([site.width for site in seen.sites], dtype=torch.float64)
        strength = gain * torch.cat([site.strength for site in seen.sites])
        start, square = self.middle[:, None] - speed / 2, speed.square()
        origin = height.square() + start.square()
        return by_angles(count, strength, origin, start * speed, square, height * speed)

    def batches(self, size: int) -> Iterator["Lines"]:
        """So many of the paths at a time."""
        for some in zip(*(x.split(size) for x in vars(self).values()), strict=True):
            yield Lines(*some)

    def outputs(self, seen: Architecture, s: Tensor | float, t: Tensor | float) -> Pair:
        """Second moments of an output at times s and t; shapes broadcast with (P,) from the right.

        Args:
            seen: the network.
            s: first times, such as (T, 1, P) or (P,).
            t: second times.
        """
        return through(seen.layers[1:], self.first_layer(seen, s, t))

    def first_layer(self, seen: Architecture, s: Tensor | float, t: Tensor | float) -> Pair:
        """Second moments of a pre-activation of the first layer; arguments as `outputs`."""
        first = seen.first
        scale = math.sqrt(first.weight)
        foot = (first.weight * self.foot.square() + first.bias).sqrt()
        return kernels.on_line(foot, scale * self.at(s), scale * self.at(t), scale * self.speed)


def lines(
    net: nn.Module, paths: Straight, initialisation: Initialisation
) -> tuple[Architecture, Lines]:
    """A dense network and paths, checked, as the theory sees them.

    Raises:
        InputError: as `architecture`, `Lines.of` and `implreg.trace`; polylines; or a network that
            does not begin with a dense layer.
    """
    x0, x1 = straight_ends(paths)
    seen = dense(net, initialisation, tuple(x0.shape[1:]))
    return seen, Lines.of(seen, x0, x1)


def dense(net: nn.Module, initialisation: Initialisation, sample: tuple[int, ...]) -> Architecture:
    """As `architecture`, for dense networks alone."""
    seen = architecture(net, initialisation, sample)
    if not seen.dense:
        first = next(module for module in net.modules() if not any(module.children()))
        raise InputError(
            f"net must begin with a Linear layer for this prediction, but begins with "
            f"{type(first).__name__}; ask implreg.theory.at_initialisation, which knows it."
        )
    return seen
