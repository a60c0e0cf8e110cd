"""Integrals of the densities of switches and of quadratic variation along paths."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor, nn

from implreg.datasets import Pairs
from implreg.errors import InputError
from implreg.networks import HE, Initialisation
from implreg.theory.convolution.layers import Network
from implreg.theory.convolution.pixels import Points
from implreg.theory.convolution.reading import read
from implreg.theory.initialisation import Prediction, halfway
from implreg.tracing.paths import segments

_NODES = 16  # of the quadrature over a panel
_TAIL = 1e-5  # share of a layer's integral that the last terms of a panel's series may have
_PANELS = 200  # at most, per path on average
_RADIAL = 1e-13  # squared sine between path and ray below which it is rounding alone
_END = 1e-9  # the slope at an end is taken this far inside, where no window is all zero


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
    middle = halfway(lambda t: first.passed(t) + others.passed(t), first.switches)
    mid_path, lengths = _mid_path(seen, x0, x1, middle), (x1 - x0).flatten(1).norm(dim=1)
    return Prediction.of_layers(layer_switches, layer_variation, mid_path, lengths)


def _ends(paths: Pairs | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Starts and ends, checked; float64, on the CPU."""
    x0, x1, number = segments(paths, torch.float64)
    if number > 1:
        raise InputError(
            f"paths must be straight, got polylines of {number} segments; pass two tensors "
            f"(x0, x1)."
        )
    return x0.cpu(), x1.cpu()


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
