"""The chapters on ablations: one network per run, changed in one way, at common training losses."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from implreg import complexity, measures
from implreg.checks import check_count, check_number
from implreg.datasets import Dataset, Pairs, load, pairs
from implreg.errors import InputError
from implreg.experiments.generalisation import noisy_labels
from implreg.experiments.sgd import bending, learning
from implreg.experiments.variants import Start, Variant
from implreg.tracing import Trace, trace
from implreg.training import Diverged, evaluate
from implreg.training.recipes import Recipe, train

REFERENCE = "reference"


@dataclass(frozen=True)
class Config:
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
    train: int
    side: int
    network: Variant
    recipe: Recipe
    seed: int
    target_losses: tuple[float, ...]
    random_labels: float = 0.0
    pairs: int = 128
    probes: int = 200
    radius: float = 1.0

    def __post_init__(self) -> None:
        for name in ("train", "pairs", "probes"):
            check_count(name, getattr(self, name))
        check_number("radius", self.radius, above=0)
        for name in ("seed", "side"):
            check_count(name, getattr(self, name), at_least=0)
        if check_number("random_labels", self.random_labels, at_least=0) > 1:
            raise InputError(
                f"random_labels must be a share of at most 1, got {self.random_labels!r}; lower it."
            )
        losses = [check_number("target_losses", loss, above=0) for loss in self.target_losses]
        if not losses or losses != sorted(set(losses), reverse=True):
            raise InputError(
                f"target_losses must be one or more falling numbers, got {losses}; sort them."
            )

    def data(self) -> Dataset:
        """The data set with its true labels."""
        return load(self.dataset, train=self.train, shaped=True, side=self.side or None)


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
    own = {REFERENCE: reference} | {
        name: changed(reference, what, condition=name) for name, what in conditions.items()
    }
    return [replace(config, seed=seed) for config in own.values() for seed in range(seeds)]


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
    true. Columns are those of `learning` and `bending` in `implreg.experiments.sgd` (normalised
    measures are relative to the usual random start of the same architecture and seed, and missing
    if that, or the network, is zero at an end of a path, as very narrow ones can be), those of
    `implreg.complexity.summary`, `sharpness`, and `epochs`.
    """
    data = config.data()
    learnt = noisy_labels(data, config.random_labels, config.seed)
    drawn = pairs(data, kind="same", count=config.pairs, seed=config.seed)
    like = data.shape, data.classes, config.seed
    usual = trace(replace(config.network, start=Start()).build(*like), drawn)
    net = config.network.build(*like)
    initial = deepcopy(net)

    def measured() -> dict[str, float]:
        traced = trace(net, drawn)
        return {
            **learning(net, learnt),
            **_bending(traced, drawn, usual),
            **complexity.summary(
                net, initial, traced, drawn, data.x_test[: config.probes], radius=config.radius
            ),
            "sharpness": complexity.sharpness(net, learnt.x_train, learnt.y_train),
        }

    rows: list[dict[str, Any]] = []
    targets = list(config.target_losses)
    diverged, epoch = False, 0
    try:
        for epoch in train(net, learnt.x_train, learnt.y_train, config.recipe, seed=config.seed):
            loss, _ = evaluate(net, learnt.x_train, learnt.y_train)
            found: dict[str, float] | None = None
            while targets and loss <= targets[0]:
                found = found or measured()
                rows.append(
                    {"target_loss": targets.pop(0), "reached": True, "epochs": epoch} | found
                )
            if not targets:
                break
    except Diverged:
        diverged = True
    if targets:
        found = {} if diverged else measured()
        rows += [
            {"target_loss": target, "reached": False, "epochs": epoch} | found for target in targets
        ]
    return pd.DataFrame(rows).assign(diverged=[diverged and not row["reached"] for row in rows])


def _bending(traced: Trace, drawn: Pairs, usual: Trace) -> dict[str, float]:
    ends = [x for t in (traced, usual) for x in (t.values[t.first_pieces], t.ends)]
    if all(bool(x.any(dim=1).all()) for x in ends):
        return bending(traced, drawn, usual)
    return measures.summary(traced.per_unit_length(), drawn)
