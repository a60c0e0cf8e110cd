"""Chapter "What the released program measures": exact measures and the estimates from samples."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from torch import nn

from implreg import measures
from implreg.checks import check_count
from implreg.datasets import Pairs
from implreg.errors import InputError
from implreg.experiments import sgd
from implreg.sampled import Samples, sample
from implreg.settings import checkpoint_file
from implreg.tracing import Trace, trace

# What the estimators do, one trait more each, and what that trait is compared with.
ESTIMATORS: dict[str, tuple[Literal["released", "corrected"], bool]] = {
    "merging alone": ("corrected", False),
    "merging and index": ("released", False),
    "merging and biases": ("corrected", True),
    "released program": ("released", True),
}
EXACT = "exact"


@dataclass(frozen=True)
class Config:
    """Networks trained as in `implreg.experiments.sgd`, measured in both ways.

    Args:
        training: networks, data, epochs and pairs, of which the first kind is used.
        points: how many positions are sampled on each path; each number is an estimate of its own.

    Raises:
        InputError: no number of points, or one below 3.
    """

    training: sgd.Config
    points: tuple[int, ...] = (1000,)

    def __post_init__(self) -> None:
        if not self.points:
            raise InputError("points must hold at least one number of positions, got none; add it.")
        for number in self.points:
            check_count("points", number, at_least=3)


def run(config: Config) -> pd.DataFrame:
    """One row per network, epoch, `estimator`, `points` (0 for the exact one) and `variant`.

    Measures are per unit length; the `variant` is "raw" or "normalized".
    """
    training = config.training
    data = training.data()
    ends = [training.drawn(data, seed)[training.kinds[0]] for seed in training.seeds]

    def compare(i: int, net: nn.Module) -> list[dict[str, Any]]:
        start = training.network.build(data, training.seeds[i])
        rows = list(_exact(trace(net, ends[i]), trace(start, ends[i])))
        for points in config.points:
            rows += _sampled(net, start, ends[i], points)
        return rows

    table = training.ensemble(data).follow(
        compare, training.epochs, checkpoint=checkpoint_file(), progress=False
    )
    seeds = table.network.map(dict(enumerate(training.seeds)))
    return table.drop(columns="network").assign(seed=seeds, **training.network.named())


def _exact(traced: Trace, initial: Trace) -> Iterator[dict[str, Any]]:
    variants = {"raw": traced, "normalized": measures.normalize(traced, initial)}
    for variant, seen in variants.items():
        found = measures.summary(seen.per_unit_length())
        yield {"estimator": EXACT, "points": 0, "variant": variant} | {
            name: found[name]
            for name in ("switches", "gap_deviation", "bridge_deviation", "deflection")
        }


def _sampled(
    net: nn.Module, initial: nn.Module, ends: Pairs, points: int
) -> Iterator[dict[str, Any]]:
    both = sample(net, ends, points=points, initial=initial)
    variants: dict[str, Samples] = {"raw": both.raw(), "normalized": both}
    for variant, samples in variants.items():
        for estimator, (index, biases) in ESTIMATORS.items():
            found = samples.estimate(index=index, biases=biases).per_unit_length().summary()
            del found["mid_path_deflection"]
            yield {"estimator": estimator, "points": points, "variant": variant} | found
