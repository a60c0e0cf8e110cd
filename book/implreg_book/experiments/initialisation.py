"""Chapter "Initialisation": the same network and data, trained from different starts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import pandas as pd
import torch
from torch import Tensor, nn

from implreg.datasets import Dataset, load, pairs
from implreg.networks import Initialisation, mlp
from implreg.tracing import trace
from implreg.tracing.paths import Pairs
from implreg.training import SGD
from implreg_book.experiments.sgd import bending, learning
from implreg_book.experiments.targets import Moment, TargetLosses, train_to
from implreg_book.experiments.types import Checked, Count, Index, Part, Positive, among

STARTS = ("random", "large scale", "random labels", "adversarial")
DEFLECTIONS = ("deflection", "normalized_deflection")


@dataclass(frozen=True)
class Config(Checked):
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
    width: Count
    seed: Index
    start: Annotated[str, among(*STARTS)]
    target_losses: TargetLosses
    sgd: SGD
    pretrain_error: Part = 0.01
    scale: Positive = 4.0
    copies: Count = 3
    zeroed: Part = 0.2
    pairs: Count = 128
    kind: str = "same"

    def drawn(self) -> tuple[Dataset, Pairs]:
        """The data set and the pairs."""
        data = load(self.dataset, train=self.train)
        return data, pairs(data, kind=self.kind, count=self.pairs, seed=self.seed)


def run(config: Config) -> pd.DataFrame:
    """One row per target loss: the network when its training loss first is at most the target.

    Columns are those of `learning` and `bending` in `experiments.sgd`, the `epochs` that it took,
    `reached` (whether it got there; if not, all measures are missing), `diverged` (whether it did
    not because the loss became infinite), and the deflections before training as `start_deflection`
    and `start_normalized_deflection`. Whatever the start, normalised measures are relative to the
    random network of the same seed.
    """
    data, drawn = config.drawn()
    reference = trace(_network(data, replace(config, start="random")), drawn)
    found: dict[float, dict[str, float]] = {}
    diverged = False
    for moment in moments(config, data):
        diverged = moment.diverged
        if moment.reached:
            row = {"epochs": moment.epoch} | learning(moment.net, data)
            row |= bending(trace(moment.net, drawn), drawn, reference)
            found |= dict.fromkeys(moment.targets, row)
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


def moments(config: Config, data: Dataset) -> Iterator[Moment]:
    """The network at its start, a target of infinity, and at each target loss, as it trains.

    If the random labels of the start cannot be fitted, there is only the moment that says so.
    """
    net = _network(data, config)
    if config.start in ("random labels", "adversarial"):
        x, y = _random_labels(data, config)
        wanted = (config.pretrain_error,)
        *_, last = train_to(net, x, y, config.sgd, wanted, seed=config.seed, of="error")
        if not last.reached:
            yield last
            return
    targets = (math.inf, *config.target_losses)
    yield from train_to(net, data.x_train, data.y_train, config.sgd, targets, seed=config.seed)


def first_path(config: Config) -> pd.DataFrame:
    """Outputs along the path of the first pair when the loss is at most the last target.

    Columns `t` (0, the breakpoints, 1), `output`, `value`, and `label`, the class of the sample at
    t = 0. Empty if the run diverged or did not get there.
    """
    data, drawn = config.drawn()
    *_, last = moments(config, data)
    if not last.reached:
        return pd.DataFrame(columns=["t", "output", "value", "label"])
    path = trace(last.net, drawn)[0]
    values = torch.cat([path.values, path.ends])
    table = pd.DataFrame(values.numpy(), index=[*path.piece_start.tolist(), 1.0])
    tidy = table.rename_axis("t").reset_index().melt("t", var_name="output", value_name="value")
    return tidy.assign(label=int(drawn.y0[0]))


def _network(data: Dataset, config: Config) -> nn.Module:
    usual = Initialisation()
    factor = config.scale if config.start == "large scale" else 1.0
    weights = replace(usual, sigma_w=factor * usual.sigma_w)
    return mlp(data.x_train.shape[1], config.width, data.classes, seed=config.seed,
               initialisation=weights)  # fmt: skip


def _random_labels(data: Dataset, config: Config) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(config.seed)
    x = data.x_train
    if config.start == "adversarial":
        x = x.repeat(config.copies, 1)
        x = x * (torch.rand(x.shape, generator=random, dtype=x.dtype) >= config.zeroed)
    return x, torch.randint(data.classes, (len(x),), generator=random)
