"""The error of networks of growing width, with and without noise in the labels (claim C1)."""

from dataclasses import dataclass, replace

import pandas as pd
import torch

from implreg.datasets import Dataset
from implreg_book.experiments.sgd import Training, learning
from implreg_book.experiments.types import Share


@dataclass(frozen=True)
class Config(Training):
    """Networks that learn labels with noise; their seeds are those of the noise, too.

    Args: those of `Training`, and
        noise: share of the training labels that are replaced by labels drawn at random.

    Raises:
        InputError: a number out of its range, or a seed twice.
    """

    noise: Share = 0.0


def run(config: Config) -> pd.DataFrame:
    """One row per network after training: losses and errors, those of training on noisy labels.

    Of a network that has diverged the losses and errors are missing, and `diverged` is true.
    """
    data = config.network.load(config.dataset, train=config.train)
    noisy = [noisy_labels(data, config.noise, seed) for seed in config.seeds]
    ensemble = config.ensemble(data, torch.stack([own.y_train for own in noisy]))
    return config.follow(ensemble, lambda i, net: learning(net, noisy[i]), [config.sgd.epochs])


def noisy_labels(data: Dataset, noise: float, seed: int) -> Dataset:
    """The data set with a share of the training labels replaced, the same for the same seed."""
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(data.y_train), generator=random)
    chosen = chosen[: round(noise * len(chosen))]
    y = data.y_train.clone()
    y[chosen] = torch.randint(data.classes, (len(chosen),), generator=random)
    return replace(data, y_train=y)
