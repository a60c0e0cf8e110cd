"""Chapter "Depth": the theory of wide networks against many random ones."""

import math
from dataclasses import dataclass
from itertools import product

import pandas as pd
import torch
from torch import Tensor, nn

from implreg import measures, theory
from implreg.checks import check_count
from implreg.networks import Initialisation, mlp, residual_mlp
from implreg.tracing import Trace, trace
from implreg_book.experiments.one_hidden_layer import samples_at
from implreg_book.experiments.types import Angle, Checked, Count, Index, Many, NotNegative, Positive

_HALF = torch.tensor([0.0, 0.5, 1.0])
_DRAWS = 20_000  # of the limiting process: its own error is far below that of the networks


@dataclass(frozen=True)
class Config(Checked):
    """Independent random networks of one shape, each traced on the same pairs.

    Args:
        depth: layers of activations; a residual network has one block fewer.
        width: of each.
        angles: between the two samples of a pair, in radians, in (0, pi).
        norms: of the second sample over that of the first, which is sqrt(inputs); every angle is
            taken with every norm.
        networks: how many.
        seed: of the first network.
        sigma_w: scale of the hidden weights.
        sigma_b: deviation of the hidden biases.
        leak: slope of the activations below zero.
        branch: scale of the branches of a residual network; 0 for a plain one.
        inputs: d, at least 2.
        outputs: C.

    Raises:
        InputError: a number out of its range.
    """

    depth: Count
    width: Count
    angles: tuple[Angle, ...]
    norms: tuple[Positive, ...]
    networks: Many
    seed: Index
    sigma_w: float = math.sqrt(2)
    sigma_b: NotNegative = 0.0
    leak: float = 0.0
    branch: NotNegative = 0.0
    inputs: Many = 20
    outputs: Count = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("depth", self.depth, at_least=2 if self.branch else 1)

    @property
    def initialisation(self) -> Initialisation:
        """The distribution of the weights."""
        return Initialisation(self.sigma_w, self.sigma_b)

    @property
    def cases(self) -> list[tuple[float, float]]:
        """Angle and norm of each pair."""
        return list(product(self.angles, self.norms))

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """The samples, (P, inputs) each."""
        plane = torch.eye(self.inputs, dtype=torch.float64)[None, :2]
        ends = [samples_at(plane, angle, norm) for angle, norm in self.cases]
        return torch.cat([a for a, _ in ends]), torch.cat([b for _, b in ends])

    def network(self, seed: int) -> nn.Sequential:
        """One of the networks."""
        how, leak = self.initialisation, self.leak
        if self.branch:
            sizes = (self.inputs, self.width, self.depth - 1, self.outputs)
            return residual_mlp(*sizes, scale=self.branch, seed=seed, initialisation=how, leak=leak)
        plain = (self.inputs, *[self.width] * self.depth, self.outputs)
        return mlp(*plain, seed=seed, initialisation=how, leak=leak)


def run(config: Config) -> pd.DataFrame:
    """One row per pair and quantity: the mean over networks beside the prediction.

    Quantities, of one output and per unit of t: "switches"; "quadratic variation"; "squared
    mid-path deflection" (after half of the switches); "slope product", of the slopes at the ends;
    "squared chord deviation", at t = 1/2; "squared fluctuation"; without a prediction (NaN)
    "squared change" from end to end, and the shares of the squared difference of the end slopes
    that come from pairs of gaps "within layers" and "across layers". Columns: `angle`, `norm`,
    `quantity`, `mean`, `sem` (its standard error over networks), `predicted`, `error` (standard
    error of the prediction itself).
    """
    predicted = _predicted(config)
    seeds = range(config.seed, config.seed + config.networks)
    measured = torch.stack([_measured(trace(config.network(seed), config.pairs)) for seed in seeds])
    sem = measured.std(dim=0) / math.sqrt(config.networks)
    tables = []
    for quantity, *found in zip(QUANTITIES, measured.mean(dim=0), sem, strict=True):
        unknown = torch.full_like(found[0], math.nan)
        numbers = [x.numpy() for x in (*found, *predicted.get(quantity, (unknown, unknown)))]
        named = dict(zip(("mean", "sem", "predicted", "error"), numbers, strict=True))
        cases = pd.DataFrame(config.cases, columns=["angle", "norm"])
        tables.append(cases.assign(quantity=quantity, **named))
    return pd.concat(tables, ignore_index=True)


QUANTITIES = (
    "switches", "quadratic variation", "squared mid-path deflection", "slope product",
    "squared chord deviation", "squared fluctuation", "squared change", "within layers",
    "across layers",
)  # fmt: skip


def _measured(traced: Trace) -> Tensor:
    """The quantities of one network, means over outputs, (Q, P)."""
    values, slopes = measures.along(traced, _HALF)
    chord = values[:, 1] - (values[:, 0] + values[:, 2]) / 2
    variation = measures.quadratic_variation(traced)
    layers = traced.gaps.new_zeros(len(traced), len(traced.layers), traced.gaps.shape[1])
    layers.index_put_((traced.path, traced.layer), traced.gaps, accumulate=True)
    of_layers = layers.square().sum(dim=1)
    found = (
        traced.switches[:, None].double(),
        variation,
        measures.mid_path_deflection(traced).square(),
        slopes[:, 0] * slopes[:, 2],
        chord.square(),
        measures.fluctuation(traced).square(),
        (values[:, 2] - values[:, 0]).square(),
        of_layers - variation,
        layers.sum(dim=1).square() - of_layers,
    )
    return torch.stack([x.mean(dim=1) for x in found])


def _predicted(config: Config) -> dict[str, tuple[Tensor, Tensor]]:
    """Predictions and their own standard errors, (P,) each, by quantity."""
    net, pairs, how = config.network(0), config.pairs, config.initialisation
    start = theory.at_initialisation(net, pairs, how)
    ends = theory.slope_covariance(net, pairs, torch.tensor(0.0), torch.tensor(1.0), how)
    middle = theory.chord_deviation(net, pairs, torch.tensor([0.5]), how)[:, 0]
    largest = theory.fluctuation(net, pairs, how, draws=_DRAWS, seed=config.seed).square()
    exact = {
        "switches": start.switches,
        "quadratic variation": start.quadratic_variation,
        "squared mid-path deflection": start.mid_path_deflection.square(),
        "slope product": ends,
        "squared chord deviation": middle.square(),
    }
    drawn = (largest.mean(dim=1), largest.std(dim=1) / math.sqrt(_DRAWS))
    return {name: (x, torch.zeros_like(x)) for name, x in exact.items()} | {
        "squared fluctuation": drawn
    }
