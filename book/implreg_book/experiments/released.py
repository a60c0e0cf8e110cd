"""Chapter "What the released program measures": exact measures and the estimates from samples."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any, Literal

import pandas as pd
from torch import nn

from implreg import measures
from implreg.checks import check_count
from implreg.sampled import Samples, sample
from implreg.tracing import Trace, trace
from implreg.tracing.paths import Pairs
from implreg_book.experiments import sgd
from implreg_book.experiments.types import Checked, distinct

# What the estimators do, one trait more each, and what that trait is compared with.
ESTIMATORS: dict[str, tuple[Literal["released", "corrected"], bool]] = {
    "merging alone": ("corrected", False),
    "merging and index": ("released", False),
    "merging and biases": ("corrected", True),
    "released program": ("released", True),
}
EXACT = "exact"
Positions = Annotated[int, partial(check_count, at_least=3)]  # how many are sampled


@dataclass(frozen=True)
class Config(Checked):
    """Networks trained as in `implreg_book.experiments.sgd`, measured in both ways.

    Args:
        training: networks, data, epochs and pairs, of which the first kind is used.
        points: how many positions are sampled on each path; each number is an estimate of its own.

    Raises:
        InputError: no number of points, one below 3, or one twice.
    """

    training: sgd.Config
    points: Annotated[tuple[Positions, ...], distinct] = (1000,)


def run(config: Config) -> pd.DataFrame:
    """One row per network, epoch, `estimator`, `points` (0 for the exact one) and `variant`.

    Measures are per unit length; the `variant` is "raw" or "normalized".
    """
    training = config.training
    data = training.data()
    ends = [training.drawn(data, seed)[training.kinds[0]] for seed in training.seeds]
    starts = training.networks(data)

    @cache
    def initial(i: int) -> Trace:
        return trace(starts[i], ends[i])

    def compare(i: int, net: nn.Module) -> list[dict[str, Any]]:
        rows = list(_exact(trace(net, ends[i]), initial(i)))
        for points in config.points:
            rows += _sampled(net, starts[i], ends[i], points)
        return rows

    return training.follow(training.ensemble(data), compare, training.epochs)


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
