"""Chapter "Width at initialisation" (figure 2): one random network per run."""

from dataclasses import dataclass

import pandas as pd

from implreg import measures, theory
from implreg.checks import check_count
from implreg.datasets import load, pairs
from implreg.networks import mlp
from implreg.tracing import trace


@dataclass(frozen=True)
class Config:
    """One network with one hidden layer, and pairs of training samples.

    Args:
        dataset: name of the data set.
        width: hidden units.
        seed: of the weights and of the pairs.
        pairs: number of pairs.
        kind: of pairs: "same", "different" or "random" classes.

    Raises:
        InputError: a number out of its range; `run` checks the names.
    """

    dataset: str
    width: int
    seed: int
    pairs: int = 128
    kind: str = "same"

    def __post_init__(self) -> None:
        check_count("width", self.width)
        check_count("seed", self.seed, at_least=0)
        check_count("pairs", self.pairs)


def run(config: Config) -> pd.DataFrame:
    """Measures per unit length of one network, and their predictions as `theory_...` columns."""
    data = load(config.dataset)
    drawn = pairs(data, kind=config.kind, count=config.pairs, seed=config.seed)
    net = mlp(data.x_train.shape[1], config.width, data.classes, seed=config.seed)
    measured = measures.summary(trace(net, drawn).per_unit_length())
    predicted = theory.at_initialisation(net, drawn).per_unit_length().summary()
    return pd.DataFrame([measured | {f"theory_{name}": x for name, x in predicted.items()}])
