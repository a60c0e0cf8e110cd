"""Chapter "Architecture": networks before training, and what batch norm divides by."""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from implreg import measures, theory
from implreg.errors import InputError
from implreg.networks import Initialisation
from implreg.tracing import trace
from implreg.training import evaluate
from implreg_book.experiments import ablations
from implreg_book.experiments.ablations import Config
from implreg_book.experiments.types import Checked, Count
from implreg_book.experiments.variants import Variant

BATCHES = 4  # whose statistics are looked at, one by one


@dataclass(frozen=True)
class Networks(Checked):
    """Networks of one kind, as many as there are seeds 0, 1, ...

    Args:
        config: of any of them; its own seed does not matter.
        seeds: how many.

    Raises:
        InputError: no seed.
    """

    config: Config
    seeds: Count

    def measured(self, measure: Callable[[Config], pd.DataFrame]) -> pd.DataFrame:
        """What `measure` says of each, with `condition` and `seed`."""
        configs = [replace(self.config, seed=seed) for seed in range(self.seeds)]
        return pd.concat(
            [measure(one).assign(condition=one.condition, seed=one.seed) for one in configs],
            ignore_index=True,
        )


def before(networks: Networks) -> pd.DataFrame:
    """One row per network: what it is before the first step.

    Columns are `condition`, `seed`, `units` (hidden ones), `parameters`, `output_size` (root mean
    square of the outputs at the ends of the pairs), the measures of `implreg.measures.summary` per
    unit length, and, for a perceptron with Gaussian weights, `theory_...` for what
    `implreg.theory.at_initialisation` predicts of them. A batch norm that has seen no data changes
    nothing.
    """
    return networks.measured(_before)


def _before(config: Config) -> pd.DataFrame:
    data = config.data()
    drawn, net = config.drawn(data), config.build(data)
    traced = trace(net, drawn)
    starts = traced.values[traced.first_pieces]
    row: dict[str, Any] = {
        "units": _units(net, data.x_train[:1]),
        "parameters": sum(p.numel() for p in net.parameters()),
        "output_size": measures.pool(torch.cat([starts, traced.ends])),
        **measures.summary(traced.per_unit_length(), drawn),
    }
    start = config.network.start
    if config.network.family == "mlp" and start.distribution == "gaussian":
        how = Initialisation(math.sqrt(2) * start.scale, start.sigma_b, start.output_scale)
        plain = config.build(data, batch_norm=False, start=replace(start, output_scale=1.0))
        predicted = theory.at_initialisation(plain, drawn, how).per_unit_length().summary()
        row |= {f"theory_{name}": value for name, value in predicted.items()}
    return pd.DataFrame([row])


def _units(net: nn.Module, x: Tensor) -> int:
    """How many hidden units a network has, for one sample x."""
    counted: list[int] = []
    for module in net.modules():
        if isinstance(module, nn.ReLU | nn.LeakyReLU):
            module.register_forward_hook(lambda *call: counted.append(call[-1].numel()))
    with torch.no_grad():
        deepcopy(net)(x.to(next(net.parameters())))
    return sum(counted)


def normalisations(networks: Networks) -> pd.DataFrame:
    """Trained networks with batch norm, with different means and variances in their batch norms.

    They are those of `ablations.run` at the last target loss. Each has one row for each of the
    `statistics` "running" (the averages that training has kept, as in eval mode), "all samples" (of
    the whole training set), and "one batch", as in training mode: of some batches of as many
    training samples as a step takes, numbered by `batch`. Columns are `condition`, `seed`, `loss`,
    that of the training samples that the statistics are from ("running": of all), `test_error`, the
    measures of `implreg.measures.summary` per unit length, and `reached`, whether the target was.
    Of a network that diverged there is one row, without measures.

    Raises:
        InputError: a network without batch norm.
    """
    if not networks.config.network.batch_norm:
        raise InputError(
            "config.network must have a batch norm, got one without; set batch_norm=True."
        )
    return networks.measured(_normalisations)


def _normalisations(config: Config) -> pd.DataFrame:
    data = config.data()
    drawn = config.drawn(data)
    *_, last = ablations.moments(config, data)
    if last.diverged:
        return pd.DataFrame([{"statistics": "running", "batch": 0, "reached": False}])
    net, x, y = last.net, data.x_train, data.y_train
    every = torch.arange(len(x))
    size = min(config.recipe.batch, len(x))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(config.seed))
    batches = [rows for rows in order.split(size) if len(rows) == size][:BATCHES]
    cases = [("running", 0, net, every), ("all samples", 0, with_statistics(net, x), every)]
    cases += [
        ("one batch", i, with_statistics(net, x[rows]), rows) for i, rows in enumerate(batches)
    ]
    return pd.DataFrame(
        [
            {
                "statistics": name,
                "batch": i,
                "reached": last.reached,
                "loss": evaluate(frozen, x[rows], y[rows])[0],
                "test_error": evaluate(frozen, data.x_test, data.y_test)[1],
                **measures.summary(trace(frozen, drawn).per_unit_length(), drawn),
            }
            for name, i, frozen, rows in cases
        ]
    )


def with_statistics(net: nn.Module, x: Tensor) -> nn.Module:
    """A copy in eval mode that normalises every input as training mode normalises these samples.

    Args:
        net: with batch norms; in eval mode, unchanged.
        x: samples (N, ...), N at least 2.

    >>> net = nn.Sequential(nn.BatchNorm1d(1, eps=0.0))
    >>> with_statistics(net, torch.tensor([[1.0], [3.0]]))(torch.tensor([[4.0]])).item()
    2.0
    """
    frozen = deepcopy(net).eval()
    norms = [m for m in frozen.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        hooks = [norm.register_forward_pre_hook(_hold) for norm in norms]
        frozen(x.to(next(frozen.parameters())))
    for hook in hooks:
        hook.remove()
    return frozen


def _hold(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    """Give a batch norm the mean and variance of what is about to enter it."""
    axes = [0, *range(2, inputs[0].ndim)]
    variance, mean = torch.var_mean(inputs[0], dim=axes, correction=0)
    norm.running_mean, norm.running_var = mean, variance


def usual_size(network: Variant) -> Variant:
    r"""A perceptron with skip connections, its weights so small that outputs have the usual size.

    In the limit of wide layers the outputs of L hidden layers with skip connections have the
    variance :math:`s^2 (1 + s^2)^{L-1}` in units of that of a plain network, for hidden weights s
    times as large as usual. This solves :math:`s^2 (1 + s^2)^{L-1} = 1`.

    >>> round(usual_size(Variant(widths=(9, 9), skip=True)).start.scale ** 2, 3)  # golden ratio
    0.618
    """
    blocks = len(network.widths) - 1
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if middle * (1 + middle) ** blocks > 1 else (middle, high)
    return replace(network, start=replace(network.start, scale=math.sqrt(high)))
