"""Chapter "During SGD" (figure 3): one network per run, measured while it trains."""

from dataclasses import dataclass

import pandas as pd
from torch import nn

from implreg import measures
from implreg.checks import check_count
from implreg.datasets import Dataset, Pairs, load, pairs
from implreg.errors import InputError
from implreg.networks import mlp
from implreg.tracing import Trace, trace
from implreg.training import SGD, evaluate, train


@dataclass(frozen=True)
class Config:
    """One network with one hidden layer, trained by SGD.

    Args:
        dataset: name of the data set.
        train: how many training samples.
        width: hidden units.
        seed: of the weights, the pairs and the order of samples.
        sgd: the optimiser's settings.
        epochs: after which to measure, in rising order; 0 is before the first step.
        pairs: number of pairs of training samples.
        kind: of pairs: "same", "different" or "random" classes.

    Raises:
        InputError: a number out of its range, or epochs that do not rise from 0 or more to at most
            `sgd.epochs`.
    """

    dataset: str
    train: int
    width: int
    seed: int
    sgd: SGD
    epochs: tuple[int, ...]
    pairs: int = 128
    kind: str = "same"

    def __post_init__(self) -> None:
        check_count("width", self.width)
        check_count("seed", self.seed, at_least=0)
        check_count("pairs", self.pairs)
        rising = all(a < b for a, b in zip(self.epochs, self.epochs[1:], strict=False))
        if (
            not self.epochs
            or not rising
            or not 0 <= self.epochs[0] <= self.epochs[-1] <= self.sgd.epochs
        ):
            raise InputError(
                f"epochs must rise from 0 or more to at most {self.sgd.epochs}, got "
                f"{list(self.epochs)}; choose such epochs."
            )


def run(config: Config) -> pd.DataFrame:
    """One row per measured epoch: losses, errors, and all measures of the pairs.

    Measures of slopes and gaps are per unit length; those of the normalised trace carry the prefix
    `normalized_`.
    """
    data = load(config.dataset, train=config.train)
    drawn = pairs(data, kind=config.kind, count=config.pairs, seed=config.seed)
    net = mlp(data.x_train.shape[1], config.width, data.classes, seed=config.seed)
    initial = trace(net, drawn)
    rows = []
    for epoch in train(net, data.x_train, data.y_train, config.sgd, seed=config.seed):
        if epoch in config.epochs:
            rows.append({"epoch": epoch} | measure(net, data, drawn, initial))
        if epoch == config.epochs[-1]:
            break
    return pd.DataFrame(rows)


def measure(net: nn.Module, data: Dataset, drawn: Pairs, initial: Trace) -> dict[str, float]:
    """Losses, errors and measures of a network in training; `initial` is its trace before."""
    train_loss, train_error = evaluate(net, data.x_train, data.y_train)
    test_loss, test_error = evaluate(net, data.x_test, data.y_test)
    traced = trace(net, drawn)
    normalized = measures.summary(measures.normalize(traced, initial).per_unit_length())
    return {
        "train_loss": train_loss,
        "train_error": train_error,
        "test_loss": test_loss,
        "test_error": test_error,
        **measures.summary(traced.per_unit_length(), drawn),
        **{f"normalized_{name}": value for name, value in normalized.items()},
    }
