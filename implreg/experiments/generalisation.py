"""The error of networks of growing width, with and without noise in the labels (claim C1)."""

from dataclasses import dataclass, replace

import pandas as pd
import torch

from implreg.checks import check_count, check_number
from implreg.datasets import Dataset
from implreg.errors import InputError
from implreg.experiments.families import Network
from implreg.experiments.sgd import learning
from implreg.settings import checkpoint_file
from implreg.training import SGD, Ensemble


@dataclass(frozen=True)
class Config:
    """Networks of one size, trained side by side.

    Args:
        dataset: name of the data set.
        train: how many training samples.
        network: family and size.
        seeds: of the weights, the noise and the order of samples; one network each.
        sgd: the optimiser's settings.
        noise: share of the training labels that are replaced by labels drawn at random.

    Raises:
        InputError: a number out of its range.
    """

    dataset: str
    train: int
    network: Network
    seeds: tuple[int, ...]
    sgd: SGD
    noise: float = 0.0

    def __post_init__(self) -> None:
        check_count("train", self.train)
        for seed in self.seeds:
            check_count("seeds", seed, at_least=0)
        if check_number("noise", self.noise, at_least=0) > 1:
            raise InputError(f"noise must be a share of at most 1, got {self.noise}; lower it.")


def run(config: Config) -> pd.DataFrame:
    """One row per network after training: losses and errors, those of training on noisy labels.

    Of a network that has diverged the losses and errors are missing, and `diverged` is true.
    """
    data = config.network.load(config.dataset, train=config.train)
    noisy = [noisy_labels(data, config.noise, seed) for seed in config.seeds]
    ensemble = Ensemble(
        [config.network.build(data, seed) for seed in config.seeds],
        data.x_train,
        torch.stack([own.y_train for own in noisy]),
        config.sgd,
        seeds=config.seeds,
    )
    table = ensemble.follow(
        lambda i, net: learning(net, noisy[i]),
        [config.sgd.epochs],
        checkpoint=checkpoint_file(),
        progress=False,
    )
    seeds = table.network.map(dict(enumerate(config.seeds)))
    return table.drop(columns="network").assign(seed=seeds, **config.network.named())


def noisy_labels(data: Dataset, noise: float, seed: int) -> Dataset:
    """The data set with a share of the training labels replaced, the same for the same seed."""
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(data.y_train), generator=random)
    chosen = chosen[: round(noise * len(chosen))]
    y = data.y_train.clone()
    y[chosen] = torch.randint(data.classes, (len(chosen),), generator=random)
    return replace(data, y_train=y)
