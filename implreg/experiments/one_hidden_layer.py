"""Chapter "One hidden layer": theory against many random networks on one pair."""

import math
from dataclasses import dataclass

import pandas as pd
import torch

from implreg import measures, theory
from implreg.checks import check_count, check_number
from implreg.networks import Initialisation, mlp
from implreg.tracing import trace


@dataclass(frozen=True)
class Config:
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

    depth: int
    width: int
    angle: float
    norm: float
    networks: int
    seed: int
    sigma_b: float = 0.0
    inputs: int = 20
    outputs: int = 4

    def __post_init__(self) -> None:
        for name, least in (("depth", 1), ("width", 1), ("networks", 2), ("inputs", 2)):
            check_count(name, getattr(self, name), at_least=least)
        check_number("angle", math.pi - check_number("angle", self.angle, above=0), above=0)
        check_number("norm", self.norm, above=0)

    @property
    def pair(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The two samples, (1, inputs) each."""
        x0, x1 = torch.zeros(2, 1, self.inputs, dtype=torch.float64)
        x0[0, 0] = math.sqrt(self.inputs)
        x1[0, 0] = self.norm * math.sqrt(self.inputs) * math.cos(self.angle)
        x1[0, 1] = self.norm * math.sqrt(self.inputs) * math.sin(self.angle)
        return x0, x1


def run(config: Config) -> pd.DataFrame:
    """One row per network and quantity: measured, and the predicted expectation.

    Quantities: "switches" M, "quadratic variation" V and "squared mid-path deflection", the latter
    two as means over the outputs, per unit of t.
    """
    initialisation = Initialisation(sigma_b=config.sigma_b)
    sizes = (config.inputs, *[config.width] * config.depth, config.outputs)
    predicted = theory.at_initialisation(mlp(*sizes, seed=0), config.pair, initialisation)
    expected = {
        "switches": predicted.switches,
        "quadratic variation": predicted.quadratic_variation,
        "squared mid-path deflection": predicted.mid_path_deflection.square(),
    }
    rows = []
    for seed in range(config.seed, config.seed + config.networks):
        traced = trace(mlp(*sizes, seed=seed, initialisation=initialisation), config.pair)
        measured = {
            "switches": traced.switches.double(),
            "quadratic variation": measures.quadratic_variation(traced).mean(dim=1),
            "squared mid-path deflection": measures.mid_path_deflection(traced)
            .square()
            .mean(dim=1),
        }
        rows += [
            {
                "seed": seed,
                "quantity": name,
                "measured": float(x),
                "predicted": float(expected[name]),
            }
            for name, x in measured.items()
        ]
    return pd.DataFrame(rows)
