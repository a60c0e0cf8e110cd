r"""Predictions at random initialisation, in the limit of wide layers, without a free parameter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from implreg.checks import check_positions
from implreg.networks import HE, Initialisation
from implreg.theory import quadrature
from implreg.theory.architecture import architecture
from implreg.theory.layers import Architecture
from implreg.theory.lines import Lines, Part, Straight, lines
from implreg.tracing.paths import straight_ends

_BISECTIONS = 60  # halves [0, 1] below the spacing of float64
_END = 1e-9  # the slope at an end is taken this far inside, where no window is all zero


@dataclass(frozen=True)
class Prediction:
    r"""What a wide network at initialisation does along P paths; float64 tensors.

    Slopes and gaps are per unit of t, of one output; see `per_unit_length`.

    Attributes:
        layer_switches: expected switches (T1) of each of the L layers of activations, (P, L).
        layer_variation: what each layer adds to the quadratic variation, (P, L).
        mid_path_deflection: standard deviation of the mid-path deflection (T4), (P,).
        lengths: of the paths, (P,).

    >>> import implreg as ir
    >>> x0, x1 = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([[0, 2.0, 0, 0]])
    >>> predicted = at_initialisation(ir.mlp(4, 100, 100, 1, seed=0), (x0, x1))
    >>> predicted.layer_switches.round(decimals=6)
    tensor([[50., 50.]], dtype=torch.float64)
    """

    layer_switches: Tensor
    layer_variation: Tensor
    mid_path_deflection: Tensor
    lengths: Tensor

    @property
    def switches(self) -> Tensor:
        """:math:`E[M]` (T1), (P,)."""
        return self.layer_switches.sum(dim=1)

    @property
    def gap_deviation(self) -> Tensor:
        r""":math:`\sqrt{E[V]/E[M]}` (T2), (P,)."""
        return (self.quadratic_variation / self.switches).sqrt()

    @property
    def layer_gap_deviation(self) -> Tensor:
        """The same for the gaps made by each layer, (P, L)."""
        return (self.layer_variation / self.layer_switches).sqrt()

    @property
    def quadratic_variation(self) -> Tensor:
        """:math:`E[V]` (T3), (P,)."""
        return self.layer_variation.sum(dim=1)

    @property
    def deflection(self) -> Tensor:
        r""":math:`\sqrt{E[V]}/2`, the gradient deflection, (P,)."""
        return self.quadratic_variation.sqrt() / 2

    @property
    def bridge_ratio(self) -> Tensor:
        r""":math:`\sigma_\mathrm{bridge}/\sigma_\mathrm{gap}`, 1 for one hidden layer, (P,)."""
        return self.mid_path_deflection / self.deflection

    def per_unit_length(self) -> "Prediction":
        """The same predictions for slopes per unit length."""
        return replace(
            self,
            layer_variation=self.layer_variation / self.lengths[:, None] ** 2,
            mid_path_deflection=self.mid_path_deflection / self.lengths,
        )

    def summary(self) -> dict[str, float]:
        """The predictions pooled over paths as `implreg.measures.summary` pools measurements."""

        def rms(x: Tensor) -> float:
            return float(x.square().mean().sqrt())

        return {
            "switches": float(self.switches.mean()),
            "gap_deviation": rms(self.gap_deviation),
            "quadratic_variation": float(self.quadratic_variation.mean()),
            "deflection": rms(self.deflection),
            "mid_path_deflection": rms(self.mid_path_deflection),
            "bridge_deviation": rms(self.mid_path_deflection / (self.switches.sqrt() / 2)),
        }


def at_initialisation(
    net: nn.Module, paths: Straight, initialisation: Initialisation = HE
) -> Prediction:
    r"""Expected switches, gaps and deflections of a random network along straight paths.

    In the limit of wide layers and many channels the units of a layer l are independent Gaussian
    processes of the pixel p (a dense layer has one) and of the position on the path. With K the
    covariance of a pre-activation at one pixel and one moment, s = t,

    .. math::
        E[M] = \sum_l n_l \sum_p \int_0^1 r_{lp} \, dt, \quad
        r_{lp} = \frac{\sqrt{K_{st} K - K_s^2}}{\pi K}, \qquad
        E[V] = \sum_l n_l \Delta_l^2 \sum_p B_{lp}
            \int_0^1 2 \Bigl(K_{st} - \frac{K_s^2}{K}\Bigr) r_{lp} \, dt

    with :math:`n_l` units or channels, :math:`\Delta_l` the jump of the activation's slope, 1 for a
    ReLU, and :math:`B_{lp}` the mean squared derivative of an output by an activation, which goes
    backwards through the layers as K goes forwards. The mid-path deflection follows from
    :math:`\partial_s \partial_t K_f` of the output between both ends of the path and the moment at
    which half of the expected switches have happened.

    **Dense networks.** Layer l has pre-activations of variance
    :math:`c_l \lVert X_t \rVert^2 / d + b_l`. With the angles :math:`\psi_l(0), \psi_l(1)` of the
    ends of the path, see `implreg.theory.lines`, and :math:`\theta_l = \psi_l(1) - \psi_l(0)`,

    .. math::
        E[M] = \frac1\pi \sum_l n_l \theta_l, \qquad
        E[V] = \frac{\|D\|^2}{\pi d} \sum_l n_l \Delta_l^2 B_l c_l
               \bigl(\theta_l + \cos(\psi_l(0) + \psi_l(1)) \sin \theta_l\bigr).

    Without biases all :math:`\theta_l` are the angle between the two samples. E[M] and E[V] are
    exact at every width for one hidden layer, and up to a share of the order of n / 2^n for any
    number of ReLU layers of n units without biases and residual blocks; else they hold up to
    corrections of order 1/width.

    **Convolutional networks.** Integrals are exact for the first layer of activations and by
    adaptive Gauss-Legendre quadrature for the others, to 1e-6. For n channels, corrections are of
    order 1/n times the number of layers.

    Args:
        net: gives the layers, see `implreg.theory.architecture`; its weights are not looked at.
            `vgg`, `resnet`, `mlp` and `residual_mlp` among others.
        paths: P straight paths between samples (d,), (channels, length) or
            (channels, height, width), as in `implreg.trace`.
        initialisation: the distribution that the weights were drawn from, that of a unit with k
            entries in the window of each of n input channels being N(0, sigma_w^2 / (k n)). For
            `resnet` it is the default, He initialisation.

    Returns:
        One row per path; layers are those of `trace.layers`.

    Raises:
        InputError: as `implreg.trace`; polylines; a layer that the theory does not know, named; a
            sample that does not fit; or a path that, without biases, runs through the origin, where
            every unit of the first layer switches at the same moment; for a convolutional network,
            one that is zero at one moment in all pixels that some unit behind the first layer sees.

    Source: theorems T1 to T4 and T8 of the book; Rice (1944), Cho and Saul (2009).

    >>> import implreg as ir
    >>> from math import isclose, pi, sin
    >>> x0, x1 = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([[0, 2.0, 0, 0]])
    >>> predicted = at_initialisation(ir.mlp(4, 100, 1, seed=0), (x0, x1)).per_unit_length()
    >>> round(float(predicted.switches), 9), round(float(predicted.bridge_ratio), 9)
    (50.0, 1.0)
    >>> closed = 2 / (4 * 100) * (1 + sin(pi / 2) / (pi / 2))
    >>> isclose(predicted.gap_deviation.item() ** 2, closed)
    True
    >>> data = ir.load("digits", shaped=True)
    >>> predicted = at_initialisation(ir.vgg(3, shape=data.shape, seed=0), ir.pairs(data, count=2))
    >>> predicted.layer_switches.shape, bool((predicted.bridge_ratio < 1).all())
    (torch.Size([2, 5]), True)
    """
    x0, x1 = straight_ends(paths)
    seen = architecture(net, initialisation, tuple(x0.shape[1:]))
    return _on_lines(seen, x0, x1) if seen.dense else _on_grids(seen, x0, x1)


def _on_lines(seen: Architecture, x0: Tensor, x1: Tensor) -> Prediction:
    """Of a dense network, by angles."""
    path = Lines.of(seen, x0, x1)
    parts = [path.layers(seen)]
    return _predicted(parts, lambda t: path.outputs(seen, t[:, None], t).dsdt, x1 - x0)


def _on_grids(seen: Architecture, x0: Tensor, x1: Tensor) -> Prediction:
    """Of any network, pixel by pixel."""
    parts = [f(seen, x0, x1) for f in (quadrature.first_layer, quadrature.later_layers)]

    def slopes(t: Tensor) -> Tensor:
        return quadrature.moments_between(seen, x0, x1, t.clamp(_END, 1 - _END))[3]

    return _predicted(parts, slopes, x1 - x0)


def _predicted(
    parts: Sequence[Part], slopes: Callable[[Tensor], Tensor], ways: Tensor
) -> Prediction:
    """From some of the layers each, and the slopes' covariance between times (T, P), (T, T, P)."""
    layer_switches, layer_variation = torch.cat([part.totals for part in parts], dim=2)
    lengths = ways.flatten(1).norm(dim=1)
    middle = halfway(lambda t: torch.stack([part.passed(t) for part in parts]).sum(0), lengths)
    t = torch.stack([torch.zeros_like(middle), middle, torch.ones_like(middle)])
    weights = torch.tensor([-0.5, 1, -0.5], dtype=torch.float64)
    bends = torch.einsum("i,ijp,j->p", weights, slopes(t), weights).clamp(min=0)
    return Prediction(layer_switches, layer_variation, bends.sqrt(), lengths)


def halfway(passed: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Time at which half of the expected switches have happened, (P,).

    Args:
        passed: expected switches before given times; both (P,).
        like: any numbers of the paths, for shape and dtype.
    """
    low, high = torch.zeros_like(like), torch.ones_like(like)
    half = (passed(low) + passed(high)) / 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        early = passed(middle) < half
        low, high = torch.where(early, middle, low), torch.where(early, high, middle)
    return (low + high) / 2


def gap_variance(
    net: nn.Module, paths: Straight, t: Tensor, initialisation: Initialisation = HE
) -> Tensor:
    r"""Variance of a gradient gap that happens at time t, for each path and layer (T2).

    With the symbols of `at_initialisation`,

    .. math::
        E[g^2 \mid t, l] = \frac{2 \Delta^2 r_l c_l \|D\|^2}{d \, n_l} \cos^2 \psi_l(t)

    which without biases and for He initialisation is
    :math:`4 \sigma_o^2 A^2 / (d \, n_l \|X_t\|^2)`, :math:`A = \|X_0\| \|X_1\| \sin\theta`.

    Args:
        net: gives the layers.
        paths: as in `implreg.trace`.
        t: times in [0, 1], (T,).
        initialisation: the distribution that the weights were drawn from.

    Returns:
        (P, L, T), float64.

    Raises:
        InputError: as `at_initialisation`, or a time outside [0, 1].

    Source: theorem T2 of the book.

    >>> import implreg as ir
    >>> x0, x1 = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([[0, 2.0, 0, 0]])
    >>> found = gap_variance(ir.mlp(4, 100, 1, seed=0), (x0, x1), torch.tensor([0.0]))
    >>> found.shape, round(found.item(), 9)  # 4 A^2 / (d n |X_0|^2) with A = 4
    (torch.Size([1, 1, 1]), 0.04)
    """
    seen, path = lines(net, paths, initialisation)
    height = path.heights(seen)[..., None]
    along = path.at(check_positions("t", t.double())[:, None]).T[:, None]
    strength = seen.received[1, :-1] * torch.cat([2 * x.strength / x.width for x in seen.sites])
    cosines = height.square() / (height.square() + along.square())
    return strength[:, None] * path.speed[:, None, None].square() * cosines
