"""Chapter "Depth at initialisation" (figures 4 a-c and 5 a-c): one random network per run."""

from dataclasses import dataclass

import pandas as pd

from implreg import measures, theory
from implreg.datasets import Dataset, pairs
from implreg.tracing import trace
from implreg.tracing.paths import Pairs
from implreg_book.experiments.families import Network
from implreg_book.experiments.types import Checked, Count, Index

LAGS = (1, 3, 10, 30, 100, 300)  # of `implreg.measures.variance_ratio`, in switches


@dataclass(frozen=True)
class Config(Checked):
    """One random network, and pairs of training samples of the same class.

    Args:
        dataset: name of the data set.
        network: family and size.
        seed: of the weights and of the pairs.
        pairs: number of pairs.
        side: to which images are resized; 0 leaves them as they are.

    Raises:
        InputError: a number out of its range; `run` checks the name.
    """

    dataset: str
    network: Network
    seed: Index
    pairs: Count
    side: Index = 0

    def drawn(self) -> tuple[Dataset, Pairs]:
        """The data set and the pairs."""
        data = self.network.load(self.dataset, side=self.side)
        return data, pairs(data, count=self.pairs, seed=self.seed)


def run(config: Config) -> pd.DataFrame:
    """One row: family and size, measures per unit length, `variance_ratio_k` for k of `LAGS`."""
    data, drawn = config.drawn()
    traced = trace(config.network.build(data, config.seed), drawn).per_unit_length()
    ratios = measures.variance_ratio(traced, LAGS).tolist()
    named = {f"variance_ratio_{lag}": x for lag, x in zip(LAGS, ratios, strict=True)}
    return pd.DataFrame([config.network.named() | measures.summary(traced) | named])


def predict(config: Config) -> pd.DataFrame:
    """One row: what theory says of the same pairs, in the limit of many channels.

    For a vgg or resnet; the weights play no part.
    """
    data, drawn = config.drawn()
    net = config.network.build(data, config.seed)
    found = theory.at_initialisation(net, drawn).per_unit_length().summary()
    return pd.DataFrame([config.network.named() | found])
