"""Straight paths as a random network sees them: by their distance from the origin alone."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from implreg.datasets import Pairs
from implreg.errors import InputError
from implreg.networks import Initialisation
from implreg.theory import kernels
from implreg.theory.architecture import Architecture, architecture, through
from implreg.theory.kernels import Pair
from implreg.tracing.paths import flat_ends

_NEAR_ZERO = 1e-12  # distance from the origin, over the length of the path


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

    def at(self, t: Tensor) -> Tensor:
        """Coordinates along the lines at times t, of a shape that broadcasts with (P,)."""
        return self.middle + (t - 0.5) * self.speed

    def heights(self, net: Architecture) -> Tensor:
        """Distance from the origin of the lines as each layer of activations sees them, (P, L)."""
        lift = torch.tensor([site.offset / site.gain for site in net.sites], dtype=torch.float64)
        return (self.foot[:, None].square() + lift).sqrt()

    def select(self, chosen: slice) -> "Lines":
        """Some of the paths."""
        return Lines(
            self.x0[chosen], self.x1[chosen], self.foot[chosen], self.middle[chosen],
            self.speed[chosen],
        )  # fmt: skip

    def outputs(self, net: Architecture, s: Tensor, t: Tensor, *, tangent: bool = False) -> Pair:
        """Second moments of an output at times s and t; shapes broadcast with (P,) from the right.

        Args:
            net: the network.
            s: first times, such as (T, 1, P) or (P,).
            t: second times.
            tangent: whether the tangent kernel is asked for.
        """
        pair = self.first_layer(net, s, t)
        return through(net.layers[1:], pair.with_tangent() if tangent else pair)

    def first_layer(self, net: Architecture, s: Tensor, t: Tensor) -> Pair:
        """Second moments of a pre-activation of the first layer; arguments as `outputs`."""
        first = net.first
        scale = math.sqrt(first.weight)
        foot = (first.weight * self.foot.square() + first.bias).sqrt()
        return kernels.on_line(foot, scale * self.at(s), scale * self.at(t), scale * self.speed)


def lines(
    net: nn.Module, paths: Pairs | tuple[Tensor, Tensor], initialisation: Initialisation
) -> tuple[Architecture, Lines]:
    """The network and the paths, checked, as the theory sees them.

    Raises:
        InputError: as `architecture` and `implreg.trace`; or a path that runs through the origin
            without biases, where every unit of the first layer switches at the same moment.
    """
    seen = architecture(net, initialisation)
    x0, x1 = flat_ends(paths, seen.inputs)
    root = math.sqrt(seen.inputs)
    way, twice_middle = (x1 - x0) / root, (x0 + x1) / root
    speed = way.norm(dim=1)
    middle = (twice_middle * way).sum(dim=1) / (2 * speed)
    # From the middle, as nothing cancels there when the samples lie nearly opposite.
    foot = (twice_middle / 2 - (middle / speed)[:, None] * way).norm(dim=1)
    if not seen.first.bias and not (foot > _NEAR_ZERO * speed).all():
        raise InputError(
            "paths must not run through the origin when there are no biases, as all units switch "
            "at once there, got such a pair; leave it out or set sigma_b."
        )
    return seen, Lines(x0, x1, foot, middle, speed)
