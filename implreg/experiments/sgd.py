"""Chapters "During SGD" and "Margin and fluctuation" (figures 3 to 6): networks in training."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd
import torch
from torch import nn

from implreg import measures
from implreg.checks import check_choice, check_count
from implreg.datasets import Dataset, Pairs, pairs
from implreg.errors import InputError
from implreg.experiments.families import Network
from implreg.settings import checkpoint_file
from implreg.tracing import Trace, trace
from implreg.training import SGD, Ensemble, evaluate

# Which classes the two samples of a pair have, and which sets they are from.
KINDS = {
    "same": ("same", "train"),
    "different": ("different", "train"),
    "train-test": ("same", "train-test"),
}

_STACKED = 256  # hidden units up to which training side by side is much quicker


@dataclass(frozen=True)
class Config:
    """Networks of one size, trained side by side by SGD and measured on the way.

    Args:
        dataset: name of the data set.
        train: how many training samples.
        network: family and size.
        seeds: of the weights, the pairs and the order of samples; one network each.
        sgd: the optimiser's settings.
        epochs: after which to measure, in rising order; 0 is before the first step.
        pairs: number of pairs of each kind.
        kinds: of pairs: "same" and "different" classes, both training samples, or "train-test", a
            training and a test sample of the same class.
        side: to which images are resized; 0 leaves them as they are.

    Raises:
        InputError: a number out of its range, unknown kinds, or epochs that do not rise from 0 or
            more to at most `sgd.epochs`.
    """

    dataset: str
    train: int
    network: Network
    seeds: tuple[int, ...]
    sgd: SGD
    epochs: tuple[int, ...]
    pairs: int = 128
    kinds: tuple[str, ...] = ("same",)
    side: int = 0

    def __post_init__(self) -> None:
        check_count("train", self.train)
        check_count("pairs", self.pairs)
        check_count("side", self.side, at_least=0)
        for name, given in (("seeds", self.seeds), ("kinds", self.kinds)):
            if not given or len(set(given)) < len(given):
                raise InputError(
                    f"{name} must be one or more, none twice, got {list(given)}; list them once."
                )
        for seed in self.seeds:
            check_count("seeds", seed, at_least=0)
        for kind in self.kinds:
            check_choice("kinds", kind, KINDS)
        rising = all(a < b for a, b in pairwise(self.epochs))
        if (
            not self.epochs
            or not rising
            or not 0 <= self.epochs[0] <= self.epochs[-1] <= self.sgd.epochs
        ):
            raise InputError(
                f"epochs must rise from 0 or more to at most {self.sgd.epochs}, got "
                f"{list(self.epochs)}; choose such epochs."
            )

    def data(self) -> Dataset:
        """The data set in the shape that the network takes."""
        return self.network.load(self.dataset, train=self.train, side=self.side)

    def ensemble(self, data: Dataset) -> Ensemble:
        """The networks before the first step."""
        nets = [self.network.build(data, seed) for seed in self.seeds]
        return Ensemble(nets, data.x_train, data.y_train, self.sgd, seeds=self.seeds)

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
    return [
        Config(network=network, seeds=group, **settings)
        for network in sorted(networks, key=lambda network: -network.size)
        for group in (
            [tuple(range(seeds))]
            if network.family == "mlp" and network.size <= _STACKED
            else [(seed,) for seed in range(seeds)]
        )
    ]


def run(config: Config) -> pd.DataFrame:
    """One row per network, measured epoch and kind of pairs: losses, errors, and all measures.

    Measures of slopes and gaps are per unit length; those of the normalised trace carry the prefix
    `normalized_`. Of a network that has diverged there is one row per epoch, `diverged` and without
    measures, and so without `kind`.
    """
    data = config.data()
    ends = [config.drawn(data, seed) for seed in config.seeds]
    initial: dict[int, dict[str, Trace]] = {}

    def measure_all(i: int, net: nn.Module) -> list[dict[str, Any]]:
        if i not in initial:
            start = config.network.build(data, config.seeds[i])
            initial[i] = {kind: trace(start, drawn) for kind, drawn in ends[i].items()}
        learned = learning(net, data)
        return [
            {"kind": kind} | learned | bending(trace(net, drawn), drawn, initial[i][kind])
            for kind, drawn in ends[i].items()
        ]

    table = config.ensemble(data).follow(
        measure_all, config.epochs, checkpoint=checkpoint_file(), progress=False
    )
    seeds = table.network.map(dict(enumerate(config.seeds)))
    return table.drop(columns="network").assign(seed=seeds, **config.network.named())


def learning(net: nn.Module, data: Dataset) -> dict[str, float]:
    """Losses and errors of a network on both sets."""
    train_loss, train_error = evaluate(net, data.x_train, data.y_train)
    test_loss, test_error = evaluate(net, data.x_test, data.y_test)
    return {
        "train_loss": train_loss,
        "train_error": train_error,
        "test_loss": test_loss,
        "test_error": test_error,
    }


def bending(traced: Trace, drawn: Pairs, initial: Trace) -> dict[str, float]:
    """Measures of a network in training; `initial` is its trace before."""
    normalized = measures.summary(measures.normalize(traced, initial).per_unit_length())
    return {
        **measures.summary(traced.per_unit_length(), drawn),
        **{f"normalized_{name}": value for name, value in normalized.items()},
    }


def measure(net: nn.Module, data: Dataset, drawn: Pairs, initial: Trace) -> dict[str, float]:
    """Losses, errors and measures of a network in training; `initial` is its trace before."""
    return learning(net, data) | bending(trace(net, drawn), drawn, initial)


def first_path(config: Config, points: int = 501) -> pd.DataFrame:
    """Outputs and slopes along the first pair of the first network, at every measured epoch.

    Columns `epoch`, `t` (evenly spaced), `output`, `value`, `slope` (per unit length), and `label`,
    the class of the sample at t = 0.
    """
    data = config.data()
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

    table = config.ensemble(data).follow(
        along, config.epochs, checkpoint=checkpoint_file(), progress=False
    )
    return table.drop(columns=["network", "running_loss"]).assign(label=int(drawn.y0[0]))
