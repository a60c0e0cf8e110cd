"""Chapter "Initialisation": the same network and data, trained from different starts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from implreg.checks import check_choice, check_count, check_number
from implreg.datasets import Dataset, load, pairs
from implreg.errors import InputError
from implreg.experiments.sgd import measure
from implreg.networks import Initialisation, mlp
from implreg.statistics import Estimate, ratio
from implreg.tracing import trace
from implreg.training import SGD, Diverged, evaluate, train

STARTS = ("random", "large scale", "random labels", "adversarial")
DEFLECTIONS = ("deflection", "normalized_deflection")


@dataclass(frozen=True)
class Config:
    """One network with one hidden layer, one start, one seed.

    Starts: "random" is He initialisation; "large scale" multiplies the hidden weights by `scale`;
    "random labels" first fits the training samples with random labels; "adversarial" first fits
    `copies` copies of each training sample, in which a random share `zeroed` of the features is
    set to zero, all with random labels.

    Args:
        dataset: name of the data set.
        train: how many training samples.
        width: hidden units.
        seed: of weights, pairs, order of samples and random labels.
        start: one of `STARTS`.
        target_losses: training losses at which to measure, falling; training ends at the last.
        sgd: the optimiser's settings; its epochs are the most that training may take, and so may
            fitting random labels.
        pretrain_error: fitting random labels stops when at most this share is wrong.
        scale: of the "large scale" start.
        copies: of the "adversarial" start.
        zeroed: share of features of the "adversarial" start, below 1.
        pairs: number of pairs of training samples.
        kind: of pairs: "same", "different" or "random" classes.

    Raises:
        InputError: an unknown start, losses that do not fall, or a number out of its range.

    Source: the adversarial start is that of Liu, Papailiopoulos and Achlioptas (2020).
    """

    dataset: str
    train: int
    width: int
    seed: int
    start: str
    target_losses: tuple[float, ...]
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
        check_number("scale", self.scale, above=0)
        for name in ("pretrain_error", "zeroed"):
            if check_number(name, getattr(self, name), at_least=0) >= 1:
                raise InputError(
                    f"{name} must be a share below 1, got {getattr(self, name)!r}; lower it."
                )
        losses = [check_number("target_losses", loss, above=0) for loss in self.target_losses]
        if not losses or losses != sorted(set(losses), reverse=True):
            raise InputError(
                f"target_losses must be one or more falling numbers, got {losses}; sort them."
            )


def run(config: Config) -> pd.DataFrame:
    """One row per target loss: the network when its training loss first is at most the target.

    Columns are those of `implreg.experiments.sgd.measure`, the `epochs` that it took, `reached`
    (whether it got there; if not, all measures are missing), `diverged` (whether it did not because
    the loss became infinite), and the deflections before training as `start_deflection` and
    `start_normalized_deflection`. Whatever the start, normalised measures are relative to the
    random network of the same seed.
    """
    data = load(config.dataset, train=config.train)
    drawn = pairs(data, kind=config.kind, count=config.pairs, seed=config.seed)
    reference = trace(_network(data, replace(config, start="random")), drawn)
    found: dict[float, dict[str, float]] = {}
    diverged = False
    try:
        for target, epoch, net in networks(config, data):
            found[target] = {"epochs": epoch} | measure(net, data, drawn, reference)
    except Diverged:
        diverged = True
    before = found.get(math.inf, {})
    start = {f"start_{name}": before.get(name, math.nan) for name in DEFLECTIONS}
    rows = [
        {
            "target_loss": target,
            "reached": target in found,
            "diverged": diverged and target not in found,
            **start,
            **found.get(target, {}),
        }
        for target in config.target_losses
    ]
    return pd.DataFrame(rows)


def networks(config: Config, data: Dataset) -> Iterator[tuple[float, int, nn.Module]]:
    """The network at its start and at each target loss that it reaches, as it trains.

    Yields the target (infinity for the start), the epoch, and the network, which is the same
    object every time; nothing, if the random labels of the start could not be fitted.

    Raises:
        Diverged: the loss of a batch is not finite.
    """
    net = _network(data, config)
    if not _pretrain(net, data, config):
        return
    targets = [math.inf, *config.target_losses]
    for epoch in train(net, data.x_train, data.y_train, config.sgd, seed=config.seed):
        loss, _ = evaluate(net, data.x_train, data.y_train)
        while loss <= targets[0]:
            yield targets.pop(0), epoch, net
            if not targets:
                return


def first_path(config: Config) -> pd.DataFrame:
    """Outputs along the path of the first pair when the loss is at most the last target.

    Columns `t` (0, the breakpoints, 1), `output`, `value`, and `label`, the class of the sample at
    t = 0. Empty if the run diverged or did not get there.
    """
    data = load(config.dataset, train=config.train)
    drawn = pairs(data, kind=config.kind, count=config.pairs, seed=config.seed)
    try:
        reached = {target: net for target, _, net in networks(config, data)}
    except Diverged:
        reached = {}
    if config.target_losses[-1] not in reached:
        return pd.DataFrame(columns=["t", "output", "value", "label"])
    path = trace(reached[config.target_losses[-1]], drawn)[0]
    values = torch.cat([path.values, path.ends])
    table = pd.DataFrame(values.numpy(), index=[*path.piece_start.tolist(), 1.0])
    tidy = table.rename_axis("t").reset_index().melt("t", var_name="output", value_name="value")
    return tidy.assign(label=int(drawn.y0[0]))


def ratios(table: pd.DataFrame, quantity: str) -> dict[str, Estimate]:
    """By start other than "random": its `quantity` over that of the random start of the same seed.

    Seeds of which either run did not reach the target are left out. An estimate from no seed at all
    is NaN with n = 0.

    Args:
        table: rows of `run` at one target loss, with the columns `start` and `seed`.
        quantity: column, positive.

    Raises:
        InputError: no run from the random start reached the target.
    """
    reached = table[table.reached]
    if "random" not in set(reached.start):
        raise InputError(
            "table must hold a run from the random start that reached the target loss, got none; "
            "raise the target loss or epochs, or lower learning_rate."
        )
    values = reached.pivot(index="seed", columns="start", values=quantity)
    both = {
        start: values.reindex(columns=["random", start]).dropna()
        for start in STARTS
        if start != "random" and start in set(table.start)
    }
    none = Estimate(math.nan, math.nan, math.nan, 0)
    return {
        start: ratio(rows[start], rows["random"]) if len(rows) else none
        for start, rows in both.items()
    }


def _network(data: Dataset, config: Config) -> nn.Module:
    usual = Initialisation()
    factor = config.scale if config.start == "large scale" else 1.0
    weights = replace(usual, sigma_w=factor * usual.sigma_w)
    return mlp(data.x_train.shape[1], config.width, data.classes, seed=config.seed,
               initialisation=weights)  # fmt: skip


def _pretrain(net: nn.Module, data: Dataset, config: Config) -> bool:
    """Fit random labels where the start asks for it; whether `net` is then what it asks for."""
    if config.start not in ("random labels", "adversarial"):
        return True
    x, y = _random_labels(data, config)
    return any(
        evaluate(net, x, y)[1] <= config.pretrain_error
        for _ in train(net, x, y, config.sgd, seed=config.seed)
    )


def _random_labels(data: Dataset, config: Config) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(config.seed)
    x = data.x_train
    if config.start == "adversarial":
        x = x.repeat(config.copies, 1)
        x = x * (torch.rand(x.shape, generator=random, dtype=x.dtype) >= config.zeroed)
    return x, torch.randint(data.classes, (len(x),), generator=random)
