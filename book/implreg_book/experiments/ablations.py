"""The chapters on ablations: one network per run, changed in one way, at common training losses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from torch import nn

from implreg import complexity
from implreg.datasets import Dataset, load, pairs
from implreg.errors import InputError
from implreg.tracing import trace
from implreg.tracing.paths import Pairs
from implreg.training import Recipe
from implreg_book.experiments.generalisation import noisy_labels
from implreg_book.experiments.sgd import bending, learning
from implreg_book.experiments.targets import Moment, TargetLosses, train_to
from implreg_book.experiments.types import Checked, Count, Index, Positive, Share
from implreg_book.experiments.variants import Start, Variant

REFERENCE = "reference"


@dataclass(frozen=True)
class Config(Checked):
    """One network, trained in one way, with one seed.

    Args:
        condition: what is special about it, in words; `REFERENCE` if nothing is.
        dataset: name of the data set.
        train: how many training samples.
        side: to which images are resized; 0 leaves them as they are.
        network: what is trained.
        recipe: how; its epochs are the most that training may take.
        seed: of weights, pairs, order of samples and all noise.
        target_losses: training losses at which to measure, falling; training ends at the last.
        random_labels: share of the training labels that are replaced by labels drawn at random,
            before training and for all of it.
        pairs: number of pairs of training samples of the same true class.
        probes: number of test samples for the measures of complexity at samples.
        radius: of local complexity; samples have the norm sqrt(d).

    Raises:
        InputError: losses that do not fall, or a number out of its range.
    """

    condition: str
    dataset: str
    train: Count
    side: Index
    network: Variant
    recipe: Recipe
    seed: Index
    target_losses: TargetLosses
    random_labels: Share = 0.0
    pairs: Count = 128
    probes: Count = 200
    radius: Positive = 1.0

    def data(self) -> Dataset:
        """The data set with its true labels."""
        return load(self.dataset, train=self.train, shaped=True, side=self.side or None)

    def drawn(self, data: Dataset, kind: str = "same") -> Pairs:
        """The pairs of a kind."""
        return pairs(data, kind=kind, count=self.pairs, seed=self.seed)

    def build(self, data: Dataset, **changes: Any) -> nn.Sequential:
        """The network before the first step, with fields of its `Variant` changed."""
        return replace(self.network, **changes).build(data.shape, data.classes, self.seed)


def grid(
    reference: Config, conditions: Mapping[str, Mapping[str, Any]], seeds: int
) -> list[Config]:
    """The reference and every condition, for each seed 0, 1, ...

    Args:
        reference: the usual configuration; its seed does not matter.
        conditions: by condition, what differs from the reference: fields of `Config`, and within
            `network`, `start` and `recipe` mappings of theirs.
        seeds: how many of each.

    Raises:
        InputError: a field that there is not.
    """
    others = [changed(reference, what, condition=name) for name, what in conditions.items()]
    return [replace(one, seed=seed) for one in (reference, *others) for seed in range(seeds)]


def changed(config: Config, what: Mapping[str, Any], **more: Any) -> Config:
    """A configuration with fields replaced, those of its parts given as mappings.

    The `start` is that of the network.
    """
    parts: dict[str, Any] = dict(what)
    try:
        network = replace(config.network, **parts.pop("network", {}))
        if "start" in parts:
            network = replace(network, start=replace(network.start, **parts.pop("start")))
        recipe = replace(config.recipe, **parts.pop("recipe", {}))
        return replace(config, network=network, recipe=recipe, **parts, **more)
    except TypeError as error:
        raise InputError(
            f"conditions must name fields of Config, Variant, Start or Recipe, got {dict(what)!r} "
            f"({error}); correct the name."
        ) from error


def run(config: Config) -> pd.DataFrame:
    """One row per target loss: the network when its training loss first is at most the target.

    Of a target that is not reached, the row has the network as it was after the last epoch, and
    `reached` is false; if the loss became infinite, the row is without measures and `diverged` is
    true. Columns are those of `learning` and `bending` in `experiments.sgd` (normalised
    measures are relative to the usual random start of the same architecture and seed, and missing
    if that, or the network, is zero at an end of a path, as very narrow ones can be), those of
    `implreg.complexity.summary`, `sharpness`, and `epochs`.
    """
    data = config.data()
    learnt = noisy_labels(data, config.random_labels, config.seed)
    drawn = config.drawn(data)
    usual = trace(config.build(data, start=Start()), drawn)
    initial = config.build(data)

    rows: list[dict[str, Any]] = []
    for moment in moments(config, data):
        row: dict[str, Any] = {"reached": moment.reached, "epochs": moment.epoch}
        if not moment.diverged:
            net, traced = moment.net, trace(moment.net, drawn)
            probes = data.x_test[: config.probes]
            row |= learning(net, learnt) | bending(traced, drawn, usual)
            row |= complexity.summary(net, initial, traced, drawn, probes, radius=config.radius)
            row["sharpness"] = complexity.sharpness(net, learnt.x_train, learnt.y_train)
        row["diverged"] = moment.diverged
        rows += [{"target_loss": target} | row for target in moment.targets]
    return pd.DataFrame(rows)


def moments(config: Config, data: Dataset) -> Iterator[Moment]:
    """The network as it trains, at each target loss.

    Args:
        config: of the network.
        data: its data set, with true labels.
    """
    learnt = noisy_labels(data, config.random_labels, config.seed)
    x, y, net = learnt.x_train, learnt.y_train, config.build(data)
    return train_to(net, x, y, config.recipe, config.target_losses, seed=config.seed)
