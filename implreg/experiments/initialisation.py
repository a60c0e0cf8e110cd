"""Chapter "Initialisation": the same network and data, trained from different starts."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from implreg.checks import check_choice, check_count, check_number
from implreg.datasets import Dataset, load, pairs
from implreg.experiments.sgd import measure
from implreg.networks import Initialisation, mlp
from implreg.tracing import trace
from implreg.training import SGD, Diverged, evaluate, train

STARTS = ("random", "large scale", "random labels", "adversarial")


@dataclass(frozen=True)
class Config:
    """One network with one hidden layer, one start, one seed.

    Starts: "random" is He initialisation; "large scale" multiplies the hidden weights by `scale`;
    "random labels" first fits the training samples with random labels; "adversarial" first fits
    `copies` copies of each training sample, in which a random share `zeroed` of the features is
    set to zero, all with random labels (Liu et al. 2020).

    Args:
        dataset: name of the data set.
        train: how many training samples.
        width: hidden units.
        seed: of weights, pairs, order of samples and random labels.
        start: one of `STARTS`.
        target_loss: training goes on until the training loss is at most this.
        sgd: the optimiser's settings; its epochs are the most that training may take.
        pretrain_error: fitting random labels stops when at most this share is wrong.
        scale: of the "large scale" start.
        copies: of the "adversarial" start.
        zeroed: share of features of the "adversarial" start.
        pairs: number of pairs of training samples.
        kind: of pairs: "same", "different" or "random" classes.

    Raises:
        InputError: an unknown start, or a number out of its range.
    """

    dataset: str
    train: int
    width: int
    seed: int
    start: str
    target_loss: float
    sgd: SGD
    pretrain_error: float = 0.01
    scale: float = 4.0
    copies: int = 3
    zeroed: float = 0.2
    pairs: int = 128
    kind: str = "same"

    def __post_init__(self) -> None:
        check_choice("start", self.start, STARTS)
        for name in ("width", "copies", "pairs"):
            check_count(name, getattr(self, name))
        check_count("seed", self.seed, at_least=0)
        for name in ("target_loss", "scale"):
            check_number(name, getattr(self, name), above=0)
        check_number("pretrain_error", self.pretrain_error, at_least=0)
        check_number("zeroed", 1 - check_number("zeroed", self.zeroed, at_least=0), above=0)


def run(config: Config) -> pd.DataFrame:
    """One row: how the network looks when its training loss first is at most the target.

    Columns as in `implreg.experiments.sgd.measure`, the epochs that it took, `reached` (whether it
    got there at all), `diverged`, and what the start itself looked like as `start_deflection`.
    """
    data = load(config.dataset, train=config.train)
    drawn = pairs(data, kind=config.kind, count=config.pairs, seed=config.seed)
    # Normalisation is relative to the random network, before any pre-training.
    net = _network(data, config)
    initial = trace(net, drawn)
    try:
        pretrain_epochs = _pretrain(net, data, config)
        start = measure(net, data, drawn, initial)
        epochs = _until(
            net,
            data.x_train,
            data.y_train,
            config.sgd,
            config.seed,
            lambda loss, error: loss <= config.target_loss,
        )
    except Diverged:
        return pd.DataFrame([{"reached": False, "diverged": True}])
    final = measure(net, data, drawn, initial)
    row = {
        "epochs": epochs,
        "pretrain_epochs": pretrain_epochs,
        "reached": final["train_loss"] <= config.target_loss,
        "diverged": False,
        "start_deflection": start["deflection"],
        **final,
    }
    return pd.DataFrame([row])


def _network(data: Dataset, config: Config) -> nn.Module:
    usual = Initialisation()
    factor = config.scale if config.start == "large scale" else 1.0
    weights = replace(usual, sigma_w=factor * usual.sigma_w)
    return mlp(data.x_train.shape[1], config.width, data.classes, seed=config.seed,
               initialisation=weights)  # fmt: skip


def _pretrain(net: nn.Module, data: Dataset, config: Config) -> int:
    """Fit random labels where the start asks for it; the number of epochs that it took."""
    if config.start not in ("random labels", "adversarial"):
        return 0
    random = torch.Generator().manual_seed(config.seed)
    x = data.x_train
    if config.start == "adversarial":
        x = x.repeat(config.copies, 1)
        x = x * (torch.rand(x.shape, generator=random, dtype=x.dtype) >= config.zeroed)
    y = torch.randint(data.classes, (len(x),), generator=random)
    return _until(
        net, x, y, config.sgd, config.seed, lambda loss, error: error <= config.pretrain_error
    )


def _until(
    net: nn.Module, x: Tensor, y: Tensor, sgd: SGD, seed: int, done: Callable[[float, float], bool]
) -> int:
    """Train until `done(training loss, training error)`; the number of epochs that it took."""
    for epoch in train(net, x, y, sgd, seed=seed):
        if done(*evaluate(net, x, y)):
            return epoch
    return sgd.epochs
