"""Chapter "Width at initialisation" (figure 2): one random network per run."""

from dataclasses import dataclass

import pandas as pd

from implreg import measures, theory
from implreg.datasets import load, pairs
from implreg.networks import mlp
from implreg.tracing import trace
from implreg_book.experiments.types import Checked, Count, Index


@dataclass(frozen=True)
class Config(Checked):
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
    width: Count
    seed: Index
    pairs: Count = 128
    kind: str = "same"


def run(config: Config) -> pd.DataFrame:
    """Measures per unit length of one network, and their predictions as `theory_...` columns."""
    data = load(config.dataset)
    drawn = pairs(data, kind=config.kind, count=config.pairs, seed=config.seed)
    net = mlp(data.x_train.shape[1], config.width, data.classes, seed=config.seed)
    measured = measures.summary(trace(net, drawn).per_unit_length())
    predicted = theory.at_initialisation(net, drawn).per_unit_length().summary()
    return pd.DataFrame([measured | {f"theory_{name}": x for name, x in predicted.items()}])
