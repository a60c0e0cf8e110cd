"""Chapter "One hidden layer": theory against many random networks."""

import math
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from implreg import measures, theory
from implreg.networks import Initialisation, mlp
from implreg.tracing import trace
from implreg_book.experiments.types import Angle, Checked, Count, Index, Many, NotNegative, Positive

_APART = 10**6  # between the seeds of weights and of directions, to draw other numbers


@dataclass(frozen=True)
class Config(Checked):
    """Networks of one shape, all traced on one pair of samples at a given angle.

    Args:
        depth: hidden layers.
        width: of each hidden layer.
        angle: between the two samples, in radians, in (0, pi).
        norm: of the second sample over that of the first, which is sqrt(inputs).
        networks: how many independent ones.
        seed: of the first network; the others follow.
        sigma_b: deviation of the hidden biases.
        inputs: d, at least 2.
        outputs: C.

    Raises:
        InputError: a number out of its range.
    """

    depth: Count
    width: Count
    angle: Angle
    norm: Positive
    networks: Many
    seed: Index
    sigma_b: NotNegative = 0.0
    inputs: Many = 20
    outputs: Count = 4

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """The two samples, (1, inputs) each."""
        plane = torch.eye(self.inputs, dtype=torch.float64)[None, :2]
        return samples_at(plane, self.angle, self.norm)


def run(config: Config) -> pd.DataFrame:
    """One row per network and quantity: measured, and the predicted expectation.

    Quantities: "switches" M, "quadratic variation" V and "squared mid-path deflection", the latter
    two as means over the outputs, per unit of t.
    """
    net, how = _network(config, seed=0), _initialisation(config)
    predicted = theory.at_initialisation(net, config.pair, how)
    rows = []
    for seed in range(config.seed, config.seed + config.networks):
        traced = trace(_network(config, seed), config.pair)
        variation = measures.quadratic_variation(traced).mean(dim=1)
        bend = measures.mid_path_deflection(traced).square().mean(dim=1)
        for name, found, expected in (
            ("switches", traced.switches.double(), predicted.switches),
            ("quadratic variation", variation, predicted.quadratic_variation),
            ("squared mid-path deflection", bend, predicted.mid_path_deflection.square()),
        ):
            rows.append((seed, name, float(found), float(expected)))
    return pd.DataFrame(rows, columns=["seed", "quantity", "measured", "predicted"])


@dataclass(frozen=True)
class Walk(Checked):
    """One network, traced on pairs in random directions that share an angle and norms.

    Args:
        depth: hidden layers.
        width: of each hidden layer.
        angle: between the two samples of a pair, in radians, in (0, pi).
        norm: of the second sample over that of the first, which is sqrt(inputs).
        pairs: how many.
        seed: of the weights and of the pairs.
        sigma_b: deviation of the hidden biases.
        inputs: d, at least 2.
        outputs: C.
        bins: intervals of equal length of t in which squared gaps are averaged.
        lags: distances, in switches, at which the walk is looked at.

    Raises:
        InputError: a number out of its range.
    """

    depth: Count
    width: Count
    angle: Angle
    norm: Positive
    pairs: Count
    seed: Index
    sigma_b: NotNegative = 0.0
    inputs: Many = 20
    outputs: Count = 4
    bins: Count = 20
    lags: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)


def walk(config: Walk) -> pd.DataFrame:
    """Are the gaps of one network the steps of a random walk? Rows of quantity, at and measured.

    Quantities, all pooled over pairs and outputs: "squared gap" at the middle of each bin of t, per
    unit of t; "variance ratio" and "gap correlation" at each lag; "bridge curve" at each share of
    the switches, over the gradient gap deviation. Bins and lags without a gap have no row.
    """
    random = torch.Generator().manual_seed(config.seed + _APART)
    frames = torch.randn(config.pairs, config.inputs, 2, generator=random, dtype=torch.float64)
    directions = torch.linalg.qr(frames).Q.mT
    paths = samples_at(directions, config.angle, config.norm)
    traced = trace(_network(config, config.seed), paths)

    squares = traced.gaps.square().mean(dim=1)
    box = (traced.t * config.bins).long().clamp(max=config.bins - 1)
    counts = torch.bincount(box, minlength=config.bins)
    binned = torch.bincount(box, squares, config.bins) / counts
    middles = [(i + 0.5) / config.bins for i in range(config.bins)]
    deviation = measures.pool(measures.gap_deviation(traced))
    curve = measures.bridge_curve(traced)
    shares = torch.linspace(0, 1, len(curve), dtype=torch.float64).tolist()
    lags = config.lags
    found = {
        "squared gap": zip(middles, binned.tolist(), strict=True),
        "variance ratio": zip(lags, measures.variance_ratio(traced, lags).tolist(), strict=True),
        "gap correlation": zip(lags, measures.gap_correlation(traced, lags).tolist(), strict=True),
        "bridge curve": zip(shares, (curve / deviation).tolist(), strict=True),
    }
    rows = [(name, at, x) for name, points in found.items() for at, x in points]
    return pd.DataFrame(rows, columns=["quantity", "at", "measured"]).dropna(ignore_index=True)


def _initialisation(config: Config | Walk) -> Initialisation:
    return Initialisation(sigma_b=config.sigma_b)


def _network(config: Config | Walk, seed: int) -> nn.Sequential:
    sizes = (config.inputs, *[config.width] * config.depth, config.outputs)
    return mlp(*sizes, seed=seed, initialisation=_initialisation(config))


def samples_at(directions: Tensor, angle: float, norm: float) -> tuple[Tensor, Tensor]:
    """Two samples (P, d) in the plane of two orthonormal directions, (P, 2, d)."""
    first, second = (math.sqrt(directions.shape[2]) * directions).unbind(dim=1)
    return first, norm * (math.cos(angle) * first + math.sin(angle) * second)
