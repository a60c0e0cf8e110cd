r"""Wide networks after training on the squared loss: mean and covariance along paths.

Gradient flow on :math:`\frac12 \sum_i \lVert f(x_i) - y_i \rVert^2` moves the outputs of an
infinitely wide network by its tangent kernel, which does not move (Jacot et al. 2018; Lee et al.
2019). At time T, with the samples X and :math:`R_T = \Theta^{-1} (1 - e^{-T \Theta})`,

.. math::
    f_T(x) = f_0(x) + \Theta(x, X)\, R_T\, (y - f_0(X)).

As :math:`f_0` is Gaussian, so is :math:`f_T`, and so are its slopes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from implreg.checks import check_count, check_finite, check_number
from implreg.errors import InputError
from implreg.networks import HE, Initialisation
from implreg.theory import kernels
from implreg.theory.kernels import Pair
from implreg.theory.layers import Architecture, through
from implreg.theory.lines import Lines, Straight, dense, lines
from implreg.theory.process import symmetric_root

_ENTRIES = 2**21  # numbers in one array of a batch of paths


@dataclass(frozen=True)
class Trained:
    r"""Outputs along P paths at T positions after training; float64 tensors.

    The 2T entries of `response`, `mean` and `covariance` are the values at the positions, then the
    slopes there, per unit of t; at the ends of a path the slopes towards its inside.

    Attributes:
        t: the positions, (T,).
        response: what values and slopes gain by a unit of error at each of the N training samples
            before training, (P, 2T, N).
        mean: over initialisations, (P, 2T, C).
        covariance: of one output, over initialisations, (P, 2T, 2T).

    >>> import implreg as ir
    >>> x, y = 2 * torch.eye(4), torch.tensor([[1.0], [-1.0], [0.0], [0.0]])
    >>> trained = after_training(ir.mlp(4, 100, 1, seed=0), x, y, (x[:1], x[1:2]))
    >>> trained.mean[0, [0, len(trained.t) - 1], 0].round(decimals=6)  # the labels at both ends
    tensor([ 1., -1.], dtype=torch.float64)
    """

    t: Tensor
    response: Tensor
    mean: Tensor
    covariance: Tensor

    def given(self, along: Tensor, at_samples: Tensor, y: Tensor) -> Tensor:
        """What training makes of a network that is known before it.

        Args:
            along: its values at the positions, then its slopes, (P, 2T, C).
            at_samples: its outputs for the training samples, (N, C).
            y: the targets, (N, C).

        Returns:
            Values and slopes after training, (P, 2T, C).
        """
        return along + self.response @ (y - at_samples)

    @property
    def chord_deviation(self) -> Tensor:
        """Root mean square distance of an output from the line between its ends, (P, T)."""
        t, points = self.t, len(self.t)
        away = torch.eye(points, 2 * points, dtype=torch.float64)
        away[:, 0] -= 1 - t
        away[:, points - 1] -= t
        return self._root_mean_square(away)

    @property
    def bend(self) -> Tensor:
        """Weights of values and slopes whose sum is the mid-path deflection at t = 1/2, (2T,)."""
        points = len(self.t)
        weights = torch.zeros(2 * points, dtype=torch.float64)
        weights[points + points // 2] = 1
        weights[points], weights[-1] = -0.5, -0.5
        return weights

    @property
    def mid_path_deflection(self) -> Tensor:
        """Root mean square of the slope at t = 1/2 minus the mean of the end slopes, (P,)."""
        return self._root_mean_square(self.bend[None])[:, 0]

    def _root_mean_square(self, of: Tensor) -> Tensor:
        """Of linear functions of values and slopes, (Q, 2T) -> (P, Q)."""
        variance = torch.einsum("qa,pab,qb->pq", of, self.covariance, of)
        return (variance + (of @ self.mean).square().mean(dim=2)).clamp(min=0).sqrt()

    def fluctuation(self, draws: int = 1000, seed: int = 0) -> Tensor:
        """Draws of the largest distance from the chord, as the mean over outputs.

        Args:
            draws: their number.
            seed: of the draws, which all paths share.

        Returns:
            (P, draws), float64.

        Raises:
            InputError: a number out of its range.
        """
        check_count("draws", draws)
        points, outputs = len(self.t), self.mean.shape[2]
        random = torch.Generator().manual_seed(check_count("seed", seed, at_least=0))
        t = self.t[:, None]
        root = symmetric_root(self.covariance[:, :points, :points])
        found = []
        for _ in range(draws):
            normal = torch.randn(points, outputs, generator=random, dtype=torch.float64)
            f = self.mean[:, :points] + root @ normal
            chord = (1 - t) * f[:, :1] + t * f[:, -1:]
            found.append((f - chord).abs().amax(dim=1).mean(dim=1))
        return torch.stack(found, dim=1)


def tangent_kernel(net: nn.Module, x: Tensor, initialisation: Initialisation = HE) -> Tensor:
    r"""The tangent kernel of a wide network among samples.

    .. math::
        \Theta(x, x') = \sum_\theta \sigma_\theta^2\,
        \frac{\partial f(x)}{\partial \theta} \frac{\partial f(x')}{\partial \theta}

    over all parameters, each with its variance at initialisation, f one output.

    Args:
        net: gives the layers, see `implreg.theory.at_initialisation`.
        x: samples, (N, ...).
        initialisation: the distribution of the weights.

    Returns:
        (N, N), float64.

    Raises:
        InputError: layers that the theory does not know, or samples that do not fit them.

    Source: Jacot et al. (2018). With one hidden layer and |x|^2 = d each of the two layers of
    weights contributes 1 on the diagonal:

    >>> import implreg as ir
    >>> kernel = tangent_kernel(ir.mlp(4, 100, 1, seed=0), 2 * torch.eye(4))
    >>> kernel.diagonal().round(decimals=9)
    tensor([2., 2., 2., 2.], dtype=torch.float64)
    """
    seen = dense(net, initialisation, tuple(x.shape[1:]))
    return _among(seen, _samples(seen, x))[1]


def after_training(
    net: nn.Module, x: Tensor, y: Tensor, paths: Straight, initialisation: Initialisation = HE, *,
    time: float = math.inf, points: int = 33,
) -> Trained:  # fmt: skip
    r"""Mean and covariance of a wide network along paths, after gradient flow from random weights.

    Each parameter is taken to be its deviation at initialisation times a unit Gaussian that is
    trained; ordinary gradient descent does the same with the step size of a parameter multiplied by
    its variance.

    Args:
        net: gives the layers, see `implreg.theory.at_initialisation`.
        x: training samples, (N, ...).
        y: targets, (N, C).
        paths: P straight paths, as in `implreg.trace`.
        initialisation: the distribution of the weights before training.
        time: how long the gradient flows, in units of one over the loss; for ever by default.
        points: number of evenly spaced positions, both ends included; odd, at least 3.

    Raises:
        InputError: as `at_initialisation`; samples and targets that do not fit or are not finite;
            two equal samples, if the time is infinite.

    Source: Jacot et al. (2018); Lee et al. (2019).

    >>> import implreg as ir
    >>> x, y = torch.eye(3), torch.tensor([[1.0], [-1.0], [0.0]])
    >>> trained = after_training(ir.mlp(3, 100, 1, seed=0), x, y, (x[:1], x[1:2]))
    >>> trained.mean[0, [0, 32], 0].round(decimals=6).tolist()  # the targets of the two ends
    [1.0, -1.0]
    >>> bool(trained.covariance[0, 0, 0].abs() < 1e-12)  # whatever the initial weights
    True
    """
    check_finite("y", y)
    if y.ndim != 2 or len(y) != len(x):
        raise InputError(
            f"y must be of shape ({len(x)}, outputs), one row per sample of x, got "
            f"{tuple(y.shape)}; reshape it."
        )
    if time != math.inf:
        check_number("time", time, above=0)
    if check_count("points", points, at_least=3) % 2 == 0:
        raise InputError(
            f"points must be odd, so that one lies in the middle, got {points}; add one."
        )
    seen, path = lines(net, paths, initialisation)
    x, y = _samples(seen, x), y.detach().cpu().double()
    before, tangent = _among(seen, x)
    values, vectors = torch.linalg.eigh(tangent)
    if time == math.inf and values[0] <= len(x) * torch.finfo(x.dtype).eps * values[-1]:
        raise InputError(
            "x must hold no sample twice (or along one ray, without biases), as the time is "
            "infinite, but the tangent kernel of its samples is singular; leave one out or set "
            "time."
        )
    values = values.clamp(min=torch.finfo(x.dtype).tiny)
    rate = 1 / values if time == math.inf else -torch.expm1(-time * values) / values
    solve = (vectors * rate) @ vectors.T

    t = torch.linspace(0, 1, points, dtype=torch.float64)
    batch = max(1, _ENTRIES // (points * max(points, len(x))))
    parts = [_along(seen, some, t, x, solve, before) for some in path.batches(batch)]
    response, covariance = (torch.cat(part) for part in zip(*parts, strict=True))
    return Trained(t, response, response @ y, covariance)


def _samples(seen: Architecture, x: Tensor) -> Tensor:
    check_finite("x", x)
    if x.ndim < 2 or x[0].numel() != seen.inputs:
        raise InputError(
            f"x must hold samples of {seen.inputs} entries, as many as the network has inputs, got "
            f"shape {tuple(x.shape)}; reshape them."
        )
    return x.detach().flatten(1).cpu().double()


def _among(seen: Architecture, x: Tensor) -> tuple[Tensor, Tensor]:
    """Covariance and tangent kernel of an output among samples, (N, N) each."""
    pair = _outputs(seen, x, torch.zeros_like(x), x.new_ones(len(x)), x)
    assert pair.tangent is not None
    return (pair.k + pair.k.T) / 2, (pair.tangent[0] + pair.tangent[0].T) / 2


def _outputs(seen: Architecture, x: Tensor, way: Tensor, side: Tensor, y: Tensor) -> Pair:
    """Outputs at points that move against those at points that rest, with the tangent kernel."""
    pair = kernels.between_points(x, way, side, y, seen.first.weight, seen.first.bias)
    return through(seen.layers[1:], pair.with_tangent())


def _along(
    seen: Architecture, path: Lines, t: Tensor, x: Tensor, solve: Tensor, among: Tensor
) -> tuple[Tensor, Tensor]:
    """Response (P, 2T, N) and covariance (P, 2T, 2T) of some paths."""
    paths, points = len(path.foot), len(t)
    # Each position from the end that is nearer, so that the ends are the samples themselves.
    at = torch.lerp(path.x0[:, None], path.x1[:, None], t[:, None])
    side = torch.where(t < 0.5, 1.0, -1.0).double().repeat(paths)
    ways = (path.x1 - path.x0).repeat_interleave(points, dim=0)
    pair = _outputs(seen, at.flatten(0, 1), ways, side, x)
    assert pair.tangent is not None

    def rows(values: Tensor, slopes: Tensor) -> Tensor:
        return torch.cat([v.view(paths, points, -1) for v in (values, slopes)], dim=1)

    response = rows(pair.tangent[0], pair.tangent[1]) @ solve
    to_samples = rows(pair.k, pair.d[0])
    own = path.outputs(seen, t[:, None, None], t[None, :, None])
    by_s, by_t = own.d
    before = torch.cat([torch.cat([own.k, by_t], dim=1), torch.cat([by_s, own.dsdt], dim=1)])
    before = before.permute(2, 0, 1)
    mixed = response @ to_samples.mT
    covariance = before - mixed - mixed.mT + response @ among @ response.mT
    return response, covariance
