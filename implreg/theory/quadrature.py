"""Integrals of the densities of switches and of quadratic variation, pixel by pixel."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from implreg.errors import InputError
from implreg.theory.layers import Architecture, through
from implreg.theory.lines import Part, by_angles
from implreg.theory.pixels import Moments

_ENTRIES = 2**18  # numbers in one array of a batch of points
_NODES = 16  # of the quadrature over a panel
_TAIL = 1e-5  # share of a layer's integral that the last terms of a panel's series may have
_PANELS = 200  # at most, per path on average
_RADIAL = 1e-13  # squared sine between path and ray below which it is rounding alone


def first_layer(seen: Architecture, x0: Tensor, x1: Tensor) -> Part:
    """The first layer of activations, whose covariance is a polynomial of s and t at each pixel.

    Args:
        seen: the network.
        x0: starts of the paths, (P, *sample).
        x1: their ends.

    Raises:
        InputError: a path that is zero at one moment in all pixels that a unit of a later layer
            sees. In the first layer the units of a window that passes through the origin switch at
            once, and that is counted; a switch in a later layer at that very moment would not be.
    """
    each = torch.arange(len(x0))
    every = [sites[0] for sites in _seen(seen, x0, x1, each, torch.zeros(len(x0)))]
    start, inner, square = torch.cat(every, dim=1)
    area = start * square - inner.square()
    cross = torch.where(area > _RADIAL * start * square, area, 0.0).sqrt()
    meets = ((cross == 0) & (start + inner < 0)).nonzero()
    if len(meets):
        moments = (-inner / square)[tuple(meets.T)]
        for _, *later in _seen(seen, x0, x1, meets[:, 0], moments):
            if any(bool((k < _RADIAL * both).any()) for k, _, both in later):
                raise InputError(
                    "paths must not run through the origin in all pixels that a unit behind the "
                    "first layer sees when there are no biases, as such units switch at once, got "
                    "such a pair; leave it out or set sigma_b."
                )
    site, one = seen.sites[0], torch.ones_like(start[0])
    pixels = by_angles(site.width * one, site.strength, start, inner, square, cross)
    return Part(pixels.totals.sum(dim=2, keepdim=True), pixels.passed)


def later_layers(seen: Architecture, x0: Tensor, x1: Tensor) -> Part:
    """All layers of activations but the first; arguments as `first_layer`.

    The densities of switches and of quadratic variation are held as series of Legendre polynomials
    on panels, parts of paths, which are halved until the series end: a window that passes near the
    origin makes a narrow peak.
    """
    nodes, weights = legendre.leggauss(_NODES)
    basis = legendre.legvander(nodes, _NODES - 1) * weights[:, None] * (np.arange(_NODES) + 0.5)
    path, low, width = torch.arange(len(x0)), torch.zeros(len(x0), dtype=torch.float64), 1.0
    totals, panels, done = torch.zeros(()), len(x0), []
    while len(path):
        t = low[:, None] + width * torch.from_numpy(1 + nodes) / 2
        densities = _densities(seen, x0, x1, path.repeat_interleave(_NODES), t.flatten())
        terms = densities.unflatten(2, t.shape) @ torch.from_numpy(basis)  # (2, L, panels, n)
        integrals = width * terms[..., 0]
        whole = totals + _summed(integrals, path, len(x0))
        tail = width * terms[..., -2:].abs().amax(dim=-1)
        rough = (tail > _TAIL * whole[..., path]).flatten(0, 1).any(dim=0)
        panels += int(rough.sum())
        rough &= panels <= _PANELS * len(x0)
        kept = ~rough
        totals = totals + _summed(integrals[..., kept], path[kept], len(x0))
        rates = width / 2 * terms[0].sum(dim=0)
        done.append((path[kept], low[kept], torch.full_like(low[kept], width), rates[kept]))
        width /= 2
        path, low = path[rough].repeat(2), torch.cat([low[rough], low[rough] + width])
    path, low, widths, rates = map(torch.cat, zip(*done, strict=True))
    # Integrals of the density of switches from the start of each panel.
    integral = legendre.legint(rates.T.numpy(), lbnd=-1, axis=0)

    def passed(t: Tensor) -> Tensor:
        place = ((t[path] - low) / widths).clamp(0, 1)
        done = legendre.legval(2 * place.numpy() - 1, integral, tensor=False)
        return _summed(torch.from_numpy(done), path, len(x0))

    return Part(totals.transpose(1, 2), passed)


def _summed(values: Tensor, path: Tensor, paths: int) -> Tensor:
    """Sums over the panels of each path, (..., R) -> (..., P)."""
    return values.new_zeros(*values.shape[:-1], paths).index_add_(-1, path, values)


def _densities(seen: Architecture, x0: Tensor, x1: Tensor, path: Tensor, t: Tensor) -> Tensor:
    """Densities of switches and of quadratic variation at times t of certain paths.

    Returns:
        (2, L, N), for N times and all L layers of activations but the first.
    """
    found = []
    for sites in _seen(seen, x0, x1, path, t):
        rows = []
        for site, (k, slope, both) in zip(seen.sites, sites, strict=True):
            spread = torch.where(k > 0, both - slope.square() / k, 0.0)
            spread = torch.where(spread > _RADIAL * both, spread, 0.0)
            rate = torch.where(k > 0, (spread / k).sqrt(), 0.0) / math.pi
            variation = (2 * spread * rate) @ site.strength
            rows.append(torch.stack([site.width * rate.sum(dim=1), variation]))
        found.append(torch.stack(rows, dim=1)[:, 1:])
    return torch.cat(found, dim=2)


def _seen(
    seen: Architecture, x0: Tensor, x1: Tensor, path: Tensor, t: Tensor
) -> Iterator[list[Tensor]]:
    """In batches, what the layers of activations see at times t of certain paths.

    Yields:
        K, K_s and K_st, (3, N, pixels) for each layer.
    """
    batch = _batch(seen)
    for these, times in zip(path.split(batch), t.split(batch), strict=True):
        yield _moments(seen, x0[these], x1[these], times[None]).sites


def moments_between(seen: Architecture, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
    """K_f, K_s, K_t and K_st of an output between T times.

    Args:
        seen: the network.
        x0: starts of the paths, (P, *sample).
        x1: their ends.
        t: times for each path, (T, P).

    Returns:
        (4, T, T, P), float64.
    """
    batch = max(1, _batch(seen) // len(t) ** 2)
    parts = zip(x0.split(batch), x1.split(batch), t.split(batch, dim=1), strict=True)
    return torch.cat([_moments(seen, *part).values.flatten(3) for part in parts], dim=3)


def _moments(seen: Architecture, x0: Tensor, x1: Tensor, t: Tensor) -> Moments:
    """Those of an output; arguments as `Moments.along`."""
    return through(seen.layers, Moments.along(x0, x1, t, seen.layers[0].before))


def _batch(seen: Architecture) -> int:
    """How many pairs of points to take at once."""
    grids = [layer.before for layer in seen.layers]
    entries = [len(grid.differences) * grid.pixels for grid in grids]
    return max(1, _ENTRIES // (4 * max(len(grids[0].differences) * seen.inputs, *entries)))
