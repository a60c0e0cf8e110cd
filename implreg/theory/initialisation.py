r"""Predictions at random initialisation, in the limit of wide layers, without a free parameter.

Along a straight path the first-layer pre-activation of a unit is the scalar product of a random
Gaussian vector with :math:`(\sigma_w X_t / \sqrt d, \sigma_b)`, a straight line in one more
dimension. A zero of the process is a moment at which that line is orthogonal to the random vector,
so that everything follows from angles: seen from the origin, the point at time t stands at the
angle :math:`\psi(t)` from the foot of the perpendicular on the line. A deeper layer sees the same
line with another last coordinate, since a ReLU layer keeps, up to a common factor, the variance of
a pre-activation and of its derivative (theorems T1 to T3 of the book).
"""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from implreg.checks import InputError
from implreg.datasets import Pairs
from implreg.networks import HE, Initialisation, linear_layers
from implreg.theory.kernels import output_covariance
from implreg.tracing.paths import flat_ends

_BISECTIONS = 60  # halves [0, 1] below the spacing of float64


@dataclass(frozen=True)
class Prediction:
    r"""What a wide network at initialisation does along P paths; float64 tensors.

    Slopes and gaps are per unit of t, of one output; see `per_unit_length`.

    Attributes:
        switches: :math:`E[M]` (T1), (P,).
        layer_switches: the same for each of the L hidden layers, (P, L).
        gap_deviation: :math:`\sqrt{E[V]/E[M]}` (T2), (P,).
        layer_gap_deviation: the same for the gaps made by each layer, (P, L).
        quadratic_variation: :math:`E[V]` (T3), (P,).
        deflection: :math:`\sqrt{E[V]}/2`, the gradient deflection, (P,).
        mid_path_deflection: standard deviation of the mid-path deflection (T4), (P,).
        lengths: of the paths, (P,).
    """

    switches: Tensor
    layer_switches: Tensor
    gap_deviation: Tensor
    layer_gap_deviation: Tensor
    quadratic_variation: Tensor
    deflection: Tensor
    mid_path_deflection: Tensor
    lengths: Tensor

    @property
    def bridge_ratio(self) -> Tensor:
        r""":math:`\sigma_\mathrm{bridge}/\sigma_\mathrm{gap}`, 1 for one hidden layer, (P,)."""
        return self.mid_path_deflection / self.deflection

    def per_unit_length(self) -> "Prediction":
        """The same predictions for slopes per unit length."""
        length = self.lengths
        return replace(
            self,
            gap_deviation=self.gap_deviation / length,
            layer_gap_deviation=self.layer_gap_deviation / length[:, None],
            quadratic_variation=self.quadratic_variation / length**2,
            deflection=self.deflection / length,
            mid_path_deflection=self.mid_path_deflection / length,
        )

    def summary(self) -> dict[str, float]:
        """The predictions pooled over paths as `implreg.measures.summary` pools measurements."""

        def rms(x: Tensor) -> float:
            return float(x.square().mean().sqrt())

        means = {"switches", "quadratic_variation"}
        names = [f.name for f in fields(self) if f.name != "lengths" and "layer" not in f.name]
        row = {
            name: float(getattr(self, name).mean()) if name in means else rms(getattr(self, name))
            for name in names
        }
        bridge = self.mid_path_deflection / (self.switches.sqrt() / 2)
        return row | {"bridge_deviation": rms(bridge)}


@dataclass(frozen=True)
class _Lines:
    """P straight lines as each of the L layers sees them, seen from the origin."""

    along: Tensor  # (P,) coordinate of the start along the line
    height: Tensor  # (P, L) distance of the line from the origin
    speed: Tensor  # (P,) deviation of the derivative of a first-layer pre-activation

    def angle(self, t: Tensor) -> Tensor:
        """Angle from the foot of the perpendicular at times t (P,), (P, L)."""
        return torch.atan2((self.along + t * self.speed)[:, None], self.height)


def _lines(x0: Tensor, x1: Tensor, depth: int, initialisation: Initialisation) -> _Lines:
    scale = initialisation.sigma_w / math.sqrt(x0.shape[1])
    start, way = scale * x0, scale * (x1 - x0)
    speed = way.norm(dim=1)
    along = (start * way).sum(dim=1) / speed
    foot = (start - (along / speed)[:, None] * way).norm(dim=1)
    half = initialisation.sigma_w**2 / 2
    # Biases of all layers so far, as the first layer would have to draw them.
    last = torch.tensor([half**-layer for layer in range(depth)], dtype=x0.dtype).cumsum(0)
    height = (foot[:, None].square() + initialisation.sigma_b**2 * last).sqrt()
    return _Lines(along, height, speed)


def at_initialisation(
    net: nn.Module,
    paths: Pairs | tuple[Tensor, Tensor],
    initialisation: Initialisation = HE,
) -> Prediction:
    r"""Expected switches, gaps and deflections of a random network along straight paths.

    With :math:`h = \sigma_w^2/2`, layer widths :math:`n_1, \dots, n_L`, and for layer l the angles
    :math:`\psi_l(0), \psi_l(1)` of the ends of the path (see the module's page) and
    :math:`\theta_l = \psi_l(1) - \psi_l(0)`,

    .. math::
        E[M] = \frac1\pi \sum_l n_l \theta_l, \qquad
        E[V] = \frac{\sigma_o^2 \sigma_w^2 h^{L-1} \|D\|^2}{\pi d}
               \sum_l \bigl(\theta_l + \cos(\psi_l(0) + \psi_l(1)) \sin \theta_l\bigr).

    Without biases all :math:`\theta_l` are the angle between the two samples. E[M] and E[V] are
    exact at any width for one hidden layer; for more they hold up to corrections of order 1/width.

    Args:
        net: gives the widths; its weights are not looked at.
        paths: as in `implreg.trace`.
        initialisation: the distribution that the weights were drawn from.

    Raises:
        InputError: as `implreg.trace`; or a path that runs through the origin without biases, where
            every unit of the first layer switches at the same moment.

    Source: theorems T1 to T4 of the book; Rice (1944), Cho and Saul (2009).

    >>> import implreg as ir
    >>> x0, x1 = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([[0, 2.0, 0, 0]])
    >>> predicted = at_initialisation(ir.mlp(4, 100, 1, seed=0), (x0, x1)).per_unit_length()
    >>> round(float(predicted.switches), 9), round(float(predicted.bridge_ratio), 9)
    (50.0, 1.0)
    >>> theta = math.pi / 2
    >>> closed = 2 / (4 * 100) * (1 + math.sin(theta) / theta)
    >>> math.isclose(predicted.gap_deviation.item() ** 2, closed)
    True
    """
    layers = [layer for _, layer in linear_layers(net)]
    widths = torch.tensor([layer.out_features for layer in layers[:-1]], dtype=torch.float64)
    depth = len(widths)
    x0, x1 = flat_ends(paths, layers[0].in_features)
    lines = _lines(x0, x1, depth, initialisation)
    if not (lines.height > 1e-12 * lines.speed[:, None]).all():
        raise InputError(
            "paths must not run through the origin when there are no biases, as all units switch "
            "at once there, got such a pair; leave it out or set sigma_b."
        )
    start, end = torch.zeros_like(lines.along), torch.ones_like(lines.along)
    first, last = lines.angle(start), lines.angle(end)
    theta = last - first

    layer_switches = widths * theta / math.pi
    switches = layer_switches.sum(dim=1)
    gain = initialisation.sigma_o**2 * (initialisation.sigma_w**2 / 2) ** (depth - 1)
    turns = theta + (first + last).cos() * theta.sin()
    layer_variation = gain * lines.speed[:, None].square() / math.pi * turns
    variation = layer_variation.sum(dim=1)

    middle = _middle(lines, widths)

    def slopes(s: Tensor, t: Tensor) -> Tensor:
        return output_covariance(x0, x1, s, t, depth, initialisation).cross.dsdt

    square = gain / 2 * lines.speed.square()  # E[phi'(t)^2], the same at every t
    mid_path = (
        1.5 * square
        + slopes(start, end) / 2
        - slopes(start, middle)
        - slopes(middle, end)
    )  # fmt: skip
    return Prediction(
        switches=switches,
        layer_switches=layer_switches,
        gap_deviation=(variation / switches).sqrt(),
        layer_gap_deviation=(layer_variation / layer_switches).sqrt(),
        quadratic_variation=variation,
        deflection=variation.sqrt() / 2,
        mid_path_deflection=mid_path.clamp(min=0).sqrt(),
        lengths=(x1 - x0).norm(dim=1),
    )


def _middle(lines: _Lines, widths: Tensor) -> Tensor:
    """Time at which half of the expected switches have happened, (P,)."""
    low, high = torch.zeros_like(lines.along), torch.ones_like(lines.along)
    half = (lines.angle(low) + lines.angle(high)) @ widths / 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        early = lines.angle(middle) @ widths < half
        low, high = torch.where(early, middle, low), torch.where(early, high, middle)
    return (low + high) / 2


def gap_variance(
    net: nn.Module,
    paths: Pairs | tuple[Tensor, Tensor],
    t: Tensor,
    initialisation: Initialisation = HE,
) -> Tensor:
    r"""Variance of a gradient gap that happens at time t, for each path and layer (T2).

    .. math::
        E[g^2 \mid t, l] = \frac{2 \sigma_o^2 \sigma_w^2 h^{L-1} \|D\|^2}{d \, n_l} \cos^2 \psi_l(t)

    which without biases and for He initialisation is
    :math:`4 \sigma_o^2 A^2 / (d \, n_l \|X_t\|^2)`, :math:`A = \|X_0\| \|X_1\| \sin\theta`.

    Args:
        net: gives the widths.
        paths: as in `implreg.trace`.
        t: times in [0, 1], (T,).
        initialisation: the distribution that the weights were drawn from.

    Returns:
        (P, L, T), float64.
    """
    layers = [layer for _, layer in linear_layers(net)]
    widths = torch.tensor([layer.out_features for layer in layers[:-1]], dtype=torch.float64)
    x0, x1 = flat_ends(paths, layers[0].in_features)
    lines = _lines(x0, x1, len(widths), initialisation)
    gain = initialisation.sigma_o**2 * (initialisation.sigma_w**2 / 2) ** (len(widths) - 1)
    times = t.double().expand(len(x0), -1)
    cosines = torch.stack([lines.angle(column) for column in times.T], dim=2).cos()
    size = 2 * gain * lines.speed[:, None].square() / widths
    return size[..., None] * cosines.square()


def slope_covariance(
    net: nn.Module,
    paths: Pairs | tuple[Tensor, Tensor],
    s: Tensor,
    t: Tensor,
    initialisation: Initialisation = HE,
) -> Tensor:
    r"""Covariance of the slope at times s and t, :math:`\partial_s \partial_t K_f(s, t)` (T4).

    Args:
        net: gives the depth.
        paths: as in `implreg.trace`.
        s: times in [0, 1], one per path, (P,).
        t: likewise.
        initialisation: the distribution that the weights were drawn from.

    Returns:
        (P,), float64, of one output and per unit of t.
    """
    layers = linear_layers(net)
    x0, x1 = flat_ends(paths, layers[0][1].in_features)
    return output_covariance(
        x0, x1, s.double(), t.double(), len(layers) - 1, initialisation
    ).cross.dsdt
