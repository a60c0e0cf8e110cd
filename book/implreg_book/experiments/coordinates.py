r"""Chapter "Where it fails": networks that map one coordinate to a signal.

A signal on the interval [-1, 1] is known at a few evenly spaced points and fitted there; what the
network does between two neighbouring points is measured on a fine grid, as sines have no
breakpoints.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import pandas as pd
import torch
from torch import Tensor, nn

from implreg import measures
from implreg.errors import InputError
from implreg.networks import Initialisation, mlp
from implreg.tracing import trace
from implreg_book.experiments.targets import descend
from implreg_book.experiments.types import Checked, Count, Many, NotNegative, Positive, Seeds, among

OPTIMISERS = {"gradient descent": torch.optim.SGD, "adam": torch.optim.Adam}
_BIASES = Initialisation(sigma_b=0.5)  # without biases all kinks would lie at x = 0


@dataclass(frozen=True)
class Config(Checked):
    """Networks with two hidden layers of one kind, one per seed, each with a signal of its own.

    Args:
        network: "relu" on the coordinate, "fourier": ReLU on Fourier features, or "sine".
        bandwidth: of "fourier" the deviation of the frequencies, in cycles over the interval; of
            "sine" the factor in front of every pre-activation; 0 for "relu".
        seeds: of weights, frequencies and signals.
        optimiser: one of `OPTIMISERS`, with all points in every step.
        rate: its learning rate.
        target_loss: mean square at which a network stops.
        steps: the most that it may take.
        points: where the signal is known, at least 2.
        frequencies: the signal has components of 1, ..., this many cycles over the interval.
        width: units of each hidden layer.
        features: frequencies of "fourier".
        samples: intervals of the grid between two neighbouring points, even.

    Raises:
        InputError: an unknown kind, a number out of its range, or a seed twice.

    Source: Tancik et al. (2020) for Fourier features, Sitzmann et al. (2020) for sines.
    """

    network: Annotated[str, among("relu", "fourier", "sine")]
    bandwidth: NotNegative
    seeds: Seeds
    optimiser: Annotated[str, among(*OPTIMISERS)] = "gradient descent"
    rate: Positive = 0.02
    target_loss: Positive = 1e-3
    steps: Count = 20_000
    points: Many = 12
    frequencies: Count = 3
    width: Count = 128
    features: Count = 64
    samples: Count = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.bandwidth > 0) != (self.network != "relu"):
            raise InputError(
                f"bandwidth must be above 0 for a network of sines and 0 for 'relu', got "
                f"{self.bandwidth!r} for {self.network!r}; change one of them."
            )
        if self.samples % 2:
            raise InputError(
                f"samples must be even, to be halved for a check, got {self.samples}; add one."
            )

    @property
    def known(self) -> Tensor:
        """The points where the signal is known, (points,)."""
        return torch.linspace(-1, 1, self.points, dtype=torch.float64)

    @property
    def grid(self) -> Tensor:
        """The fine grid, (gaps, samples + 1): the points between two neighbours, both included."""
        x, t = self.known[:, None], torch.linspace(0, 1, self.samples + 1, dtype=torch.float64)
        return torch.lerp(x[:-1], x[1:], t)


class Waves(nn.Module):
    r"""Fourier features :math:`\sqrt 2 \cos \pi b_j x, \sqrt 2 \sin \pi b_j x`, (N, 1) to (N, 2m).

    Over an interval of length 2 feature j makes :math:`b_j` cycles. The norm of the result is the
    root of its number of entries, as that of the samples in the rest of the book.
    """

    def __init__(self, frequencies: Tensor) -> None:
        super().__init__()
        self.frequencies: Tensor
        self.register_buffer("frequencies", frequencies)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1) to (N, 2m)."""
        phase = math.pi * x * self.frequencies
        return math.sqrt(2) * torch.cat([phase.cos(), phase.sin()], dim=-1)


class Sine(nn.Module):
    """The sine of a multiple of the input."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Map to the same shape."""
        return torch.sin(self.factor * x)


def network(config: Config, seed: int) -> nn.Sequential:
    """One network before training: (N, 1) to (N, 1), float64.

    Sine networks have the initialisation of Sitzmann et al. (2020), the others that of He with
    small random biases.
    """
    random = torch.Generator().manual_seed(seed)
    inputs = 2 * config.features if config.network == "fourier" else 1
    sizes = (inputs, config.width, config.width, 1)
    net = mlp(*sizes, seed=seed, initialisation=_BIASES, dtype=torch.float64)
    if config.network == "fourier":
        normal = torch.randn(config.features, generator=random, dtype=torch.float64)
        return nn.Sequential(Waves(config.bandwidth * normal), *net)
    if config.network == "relu":
        return net
    for i, layer in enumerate(module for module in net if isinstance(module, nn.Linear)):
        n = layer.in_features
        reach = math.sqrt(6 / n) / config.bandwidth if i else 1 / n
        for values, bound in ((layer.weight, reach), (layer.bias, 1 / math.sqrt(n))):
            uniform = torch.rand(values.shape, generator=random, dtype=torch.float64)
            values.data = bound * (2 * uniform - 1)
    layers = (Sine(config.bandwidth) if isinstance(m, nn.ReLU) else m for m in net)
    return nn.Sequential(*layers)


def signal(config: Config, seed: int) -> Callable[[Tensor], Tensor]:
    r"""A random function of x with mean square 1 over [-1, 1]; elementwise.

    .. math:: \sum_k a_k \sin(\pi k x + p_k), \qquad \sum_k a_k^2 = 2

    >>> x = torch.arange(1000) / 500 - 1
    >>> round(float(signal(Config("relu", 0.0, (0,)), 0)(x).square().mean()), 6)
    1.0
    """
    random = torch.Generator().manual_seed(seed)
    size, phase = torch.rand(2, config.frequencies, generator=random, dtype=torch.float64)
    size = 2 * size - 1
    size *= math.sqrt(2) / size.norm()
    cycles = torch.arange(1, config.frequencies + 1)

    def at(x: Tensor) -> Tensor:
        waves = torch.sin(math.pi * (cycles * x[..., None] + 2 * phase))
        total: Tensor = (size * waves).sum(dim=-1)
        return total

    return at


@dataclass
class Fitted:
    """Networks after training, with `reached`, `diverged` (bool) and `steps`, (S,) each."""

    nets: list[nn.Sequential]
    reached: Tensor
    diverged: Tensor
    steps: Tensor


def fit(config: Config) -> Fitted:
    """Train the networks of all seeds, each as if it were alone, until its target loss."""
    nets = [network(config, seed) for seed in config.seeds]
    # In single precision, which is twice as fast; it is measured in double.
    parameters, buffers = torch.func.stack_module_state([copy.deepcopy(n).float() for n in nets])
    base = copy.deepcopy(nets[0]).float()
    x = config.known[:, None].float()
    y = torch.stack([signal(config, seed)(config.known) for seed in config.seeds]).float()

    def one(own: dict[str, Tensor], fixed: dict[str, Tensor]) -> Tensor:
        made: Tensor = torch.func.functional_call(base, (own, fixed), (x,))
        return made[:, 0]

    together = torch.func.vmap(one)
    optimiser = OPTIMISERS[config.optimiser](parameters.values(), lr=config.rate)
    kept = {name: values.detach().clone() for name, values in parameters.items()}
    reached, diverged = torch.zeros(2, len(nets), dtype=torch.bool)
    steps = torch.full((len(nets),), config.steps)
    losses = descend(
        lambda: (together(parameters, buffers) - y).square().mean(dim=1), optimiser, config.steps
    )
    for step, loss in enumerate(losses):
        now = ~reached & (loss <= config.target_loss)
        diverged |= ~reached & ~loss.isfinite()
        for name, values in parameters.items():
            kept[name][now] = values.detach()[now]
        reached |= now
        steps[now] = step
        if bool((reached | diverged).all()):
            break
    for name, values in parameters.items():  # those that did not arrive, as they are
        kept[name][~reached] = values.detach()[~reached]
    for i, net in enumerate(nets):
        net.load_state_dict({name: values[i] for name, values in kept.items()}, strict=False)
    return Fitted(nets, reached, diverged, steps)


def fluctuations(values: Tensor) -> Tensor:
    """Largest distance from the chord, of values at evenly spaced positions (..., T) -> (...).

    >>> fluctuations(torch.tensor([[0.0, 3.0, 2.0], [1.0, 2.0, 3.0]])).tolist()
    [2.0, 0.0]
    """
    t = torch.linspace(0, 1, values.shape[-1], dtype=values.dtype)
    return (values - torch.lerp(values[..., :1], values[..., -1:], t)).abs().amax(dim=-1)


def run(config: Config) -> pd.DataFrame:
    """One row per network: what it does between the points where it was fitted.

    Columns `seed`, `reached`, `diverged`, `steps`; `fluctuation`, the mean over gaps between
    neighbouring points, `coarse_fluctuation`, the same on every second point of the grid, and
    `exact_fluctuation`, by its breakpoints, which only "relu" has;
    `error`, the root mean square distance from the signal on the grid; `signal_fluctuation`, and
    `line_error`, of the straight lines between the points. Before training, `start_fluctuation` and
    `start_spread`, the deviation of the outputs on the grid. Of a network that diverged all
    measures after training are missing.
    """
    fitted = fit(config)
    rows = []
    for i, seed in enumerate(config.seeds):
        truth, grid = signal(config, seed)(config.grid), config.grid
        t = torch.linspace(0, 1, config.samples + 1, dtype=torch.float64)
        lines = torch.lerp(truth[:, :1], truth[:, -1:], t)
        start = _values(network(config, seed), grid)
        row: dict[str, object] = {
            "seed": seed,
            "reached": bool(fitted.reached[i]),
            "diverged": bool(fitted.diverged[i]),
            "steps": int(fitted.steps[i]),
            "start_fluctuation": float(fluctuations(start).mean()),
            "start_spread": float(start.std()),
            "signal_fluctuation": float(fluctuations(truth).mean()),
            "line_error": float((lines - truth).square().mean().sqrt()),
        }
        if not fitted.diverged[i]:
            net, x = fitted.nets[i], config.known[:, None]
            values = _values(net, grid)
            if config.network == "relu":
                exact = measures.fluctuation(trace(net, (x[:-1], x[1:])))
                row["exact_fluctuation"] = float(exact.mean())
            row |= {
                "fluctuation": float(fluctuations(values).mean()),
                "coarse_fluctuation": float(fluctuations(values[:, ::2]).mean()),
                "error": float((values - truth).square().mean().sqrt()),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def curve(config: Config) -> pd.DataFrame:
    """Signal and network of the first seed on the grid: columns `x`, `signal`, `value`, `known`."""
    net = fit(config).nets[0]
    grid = config.grid
    known = torch.zeros_like(grid, dtype=torch.bool)
    known[:, [0, -1]] = True
    columns = {
        "x": grid,
        "signal": signal(config, config.seeds[0])(grid),
        "value": _values(net, grid),
        "known": known,
    }
    return pd.DataFrame({name: values.flatten().numpy() for name, values in columns.items()})


@torch.no_grad()
def _values(net: nn.Module, grid: Tensor) -> Tensor:
    made: Tensor = net(grid.reshape(-1, 1))
    return made.view(grid.shape)
