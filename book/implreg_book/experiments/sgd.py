"""Chapters "During SGD" and "Margin and fluctuation" (figures 3 to 6): networks in training."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor, nn

from implreg import measures
from implreg.datasets import Dataset, pairs
from implreg.errors import InputError
from implreg.tracing import Trace, trace
from implreg.tracing.paths import Pairs
from implreg.training import SGD, Ensemble, evaluate
from implreg_book.experiments.families import Network
from implreg_book.experiments.types import Checked, Count, Index, Seeds, among, distinct
from implreg_book.settings import checkpoint_file

# Which classes the two samples of a pair have, and which sets they are from.
KINDS = {
    "same": ("same", "train"),
    "different": ("different", "train"),
    "train-test": ("same", "train-test"),
}

_STACKED = 256  # hidden units up to which training side by side is much quicker


@dataclass(frozen=True)
class Training(Checked):
    """Networks of one size, trained side by side by SGD.

    Args:
        dataset: name of the data set.
        train: how many training samples.
        network: family and size.
        seeds: of the weights and the order of samples; one network each.
        sgd: the optimiser's settings.

    Raises:
        InputError: a number out of its range, or a seed twice.
    """

    dataset: str
    train: Count
    network: Network
    seeds: Seeds
    sgd: SGD

    def networks(self, data: Dataset) -> list[nn.Module]:
        """The networks before the first step."""
        return [self.network.build(data, seed) for seed in self.seeds]

    def ensemble(self, data: Dataset, y: Tensor | None = None) -> Ensemble:
        """The networks as they begin to train; `y` are their labels if not those of the data."""
        y = data.y_train if y is None else y
        return Ensemble(self.networks(data), data.x_train, y, self.sgd, seeds=self.seeds)

    def follow(
        self, ensemble: Ensemble, measure: Callable[[int, nn.Module], Any], epochs: Sequence[int]
    ) -> pd.DataFrame:
        """Train the networks and measure them, see `implreg.training.Ensemble.follow`.

        In place of `network`, their number, the table has the columns `seed`, `family` and `size`.
        Where the run may keep a checkpoint, training goes on from that.
        """
        table = ensemble.follow(measure, epochs, checkpoint=checkpoint_file(), progress=False)
        seeds = table.network.map(dict(enumerate(self.seeds)))
        return table.drop(columns="network").assign(seed=seeds, **self.network.named())


@dataclass(frozen=True)
class Config(Training):
    """Networks that are measured on the way; their seeds are those of the pairs, too.

    Args: those of `Training`, and
        epochs: after which to measure, in rising order; 0 is before the first step.
        pairs: number of pairs of each kind.
        kinds: of pairs: "same" and "different" classes, both training samples, or "train-test", a
            training and a test sample of the same class.
        side: to which images are resized; 0 leaves them as they are.

    Raises:
        InputError: a number out of its range, unknown kinds, or epochs that do not rise from 0 or
            more to at most `sgd.epochs`.
    """

    epochs: tuple[int, ...]
    pairs: Count = 128
    kinds: Annotated[tuple[Annotated[str, among(*KINDS)], ...], distinct] = ("same",)
    side: Index = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        rising = bool(self.epochs) and all(a < b for a, b in pairwise((-1, *self.epochs)))
        if not rising or self.epochs[-1] > self.sgd.epochs:
            raise InputError(
                f"epochs must rise from 0 or more to at most {self.sgd.epochs}, got "
                f"{list(self.epochs)}; choose such epochs."
            )

    def data(self) -> Dataset:
        """The data set in the shape that the network takes."""
        return self.network.load(self.dataset, train=self.train, side=self.side)

    def drawn(self, data: Dataset, seed: int) -> dict[str, Pairs]:
        """The pairs of one network, by kind."""
        return {
            kind: pairs(data, kind=classes, split=split, count=self.pairs, seed=seed)
            for kind, (classes, split) in ((kind, KINDS[kind]) for kind in self.kinds)
        }


def grid(networks: Iterable[Network], seeds: int, **settings: Any) -> list[Config]:
    """One configuration for each network and seed 0, 1, ..., the largest networks first.

    All seeds of a narrow perceptron share one, as they train much quicker side by side.

    Args:
        networks: families and sizes.
        seeds: how many of each.
        settings: the other fields of `Config`.
    """
    configs = []
    for network in sorted(networks, key=lambda network: -network.size):
        stacked = network.family == "mlp" and network.size <= _STACKED
        groups = [tuple(range(seeds))] if stacked else [(seed,) for seed in range(seeds)]
        configs += [Config(network=network, seeds=group, **settings) for group in groups]
    return configs


def run(config: Config) -> pd.DataFrame:
    """One row per network, measured epoch and kind of pairs: losses, errors, and all measures.

    Measures of slopes and gaps are per unit length; those of the normalised trace carry the prefix
    `normalized_`. Of a network that has diverged there is one row per epoch, `diverged` and without
    measures, and so without `kind`.
    """
    data = config.data()
    ends = [config.drawn(data, seed) for seed in config.seeds]

    @cache  # a run that goes on from its last epoch does not ask
    def initial(i: int) -> dict[str, Trace]:
        net = config.network.build(data, config.seeds[i])
        return {kind: trace(net, drawn) for kind, drawn in ends[i].items()}

    def measure_all(i: int, net: nn.Module) -> list[dict[str, Any]]:
        learned = learning(net, data)
        return [
            {"kind": kind} | learned | bending(trace(net, drawn), drawn, initial(i)[kind])
            for kind, drawn in ends[i].items()
        ]

    return config.follow(config.ensemble(data), measure_all, config.epochs)


def learning(net: nn.Module, data: Dataset) -> dict[str, float]:
    """Losses and errors of a network on both sets."""
    names = ("train_loss", "train_error", "test_loss", "test_error")
    found = evaluate(net, data.x_train, data.y_train) + evaluate(net, data.x_test, data.y_test)
    return dict(zip(names, found, strict=True))


def bending(traced: Trace, drawn: Pairs, initial: Trace) -> dict[str, float]:
    """Measures of a network in training; `initial` is its trace before.

    Normalised ones are missing if an output vector is zero at an end of a path.
    """
    found = measures.summary(traced.per_unit_length(), drawn)
    ends = [x for t in (traced, initial) for x in (t.values[t.first_pieces], t.ends)]
    if all(bool(x.any(dim=1).all()) for x in ends):
        normalized = measures.summary(measures.normalize(traced, initial).per_unit_length())
        found |= {f"normalized_{name}": value for name, value in normalized.items()}
    return found


def first_path(config: Config, points: int = 501) -> pd.DataFrame:
    """Outputs and slopes along the first pair of the first network, at every measured epoch.

    Columns `epoch`, `t` (evenly spaced), `output`, `value`, `slope` (per unit length), and `label`,
    the class of the sample at t = 0.
    """
    config, data = replace(config, seeds=config.seeds[:1]), config.data()
    drawn = config.drawn(data, config.seeds[0])[config.kinds[0]]
    t = torch.linspace(0, 1, points, dtype=torch.float64)

    def along(i: int, net: nn.Module) -> Sequence[dict[str, Any]]:
        traced = trace(net, (drawn.x0[:1], drawn.x1[:1]))
        values, slopes = measures.along(traced, t)
        slopes = slopes / traced.lengths
        return [
            {"t": float(at), "output": k, "value": float(value), "slope": float(slope)}
            for at, row, steep in zip(t, values[0], slopes[0], strict=True)
            for k, (value, slope) in enumerate(zip(row, steep, strict=True))
        ]

    table = config.follow(config.ensemble(data), along, config.epochs)
    shown = table[["epoch", "diverged", "t", "output", "value", "slope"]]
    return shown.assign(label=int(drawn.y0[0]))
