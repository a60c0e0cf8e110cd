"""Chapter "What the released program measures": exact measures and the program's estimates."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor, nn

from implreg import measures
from implreg.checks import check_count
from implreg.sampled import PLAIN, PROGRAM, Samples, Traits, sample
from implreg.tracing import Trace, trace
from implreg.tracing.paths import Pairs
from implreg_book.experiments import sgd
from implreg_book.experiments.families import Network
from implreg_book.experiments.types import Checked, distinct

EXACT, SAMPLED, PROGRAMS = "exact", "sampled", "program"
SEAM = 500  # positions of a chunk in figure 5
# The estimates: of samples without any trait, with one of them, and with all; P17, single
# precision, is of the samples, and the seam needs the drift whose jump it is.
ESTIMATORS: Mapping[str, Traits] = {
    SAMPLED: PLAIN,
    "merging": replace(PLAIN, merging=True),
    "index": replace(PLAIN, index=True),
    "offsets": replace(PLAIN, offsets=True),
    "drift": replace(PLAIN, drift=True),
    "seam": replace(PLAIN, drift=True, seam=SEAM),
    "means": replace(PLAIN, means=True),
    "average switches": replace(PLAIN, average_switches=True),
    "single precision": PLAIN,
    PROGRAMS: PROGRAM,
    "program with seam": replace(PROGRAM, seam=SEAM),
}
_SINGLE = ("single precision", PROGRAMS, "program with seam")
_NORMALISED = ("drift", "seam", "program with seam")  # the same as others without a normaliser
REFERENCE_SEED = 10**6  # of the reference network, which is no other one's
Positions = Annotated[int, partial(check_count, at_least=3)]  # how many are sampled


@dataclass(frozen=True)
class Config(Checked):
    """Networks trained as in `implreg_book.experiments.sgd`, measured in both ways.

    Args:
        training: networks, data, epochs and pairs, of which the first kind, of one class each, is
            used.
        reference: family and size of the network whose outputs before training the program
            compares with; the same one for all networks.
        points: how many positions are sampled on each path; each number is an estimate of its own.

    Raises:
        InputError: no number of points, one below 3, or one twice.
    """

    training: sgd.Config
    reference: Network
    points: Annotated[tuple[Positions, ...], distinct] = (1000,)


def run(config: Config) -> pd.DataFrame:
    """One row per network, epoch, `estimator`, `points` (0 for the exact one) and `variant`.

    Measures are per unit length; the `variant` is what outputs are divided by: "raw", "own" (the
    network before training) or "reference". `own_fluctuation` is that of the class of the pair.
    """
    training = config.training
    data = training.data()
    ends = [training.drawn(data, seed)[training.kinds[0]] for seed in training.seeds]
    starts = training.networks(data)
    reference = config.reference.build(data, REFERENCE_SEED)

    def compare(i: int, net: nn.Module) -> list[dict[str, Any]]:
        norms = {"raw": None, **{
            name: norms_at_ends(of, ends[i].x0, ends[i].x1)
            for name, of in (("own", starts[i]), ("reference", reference))
        }}  # fmt: skip
        rows = list(_exact(trace(net, ends[i]), ends[i], norms))
        for points in config.points:
            rows += _sampled(net, ends[i], norms, points)
        return rows

    return training.follow(training.ensemble(data), compare, training.epochs)


@torch.no_grad()
def norms_at_ends(net: nn.Module, x0: Tensor, x1: Tensor) -> Tensor:
    """The norms of a network's outputs at both ends of P paths, (P, ...) each: (P, 2) float64."""
    parameter = next(net.parameters())
    found = [net(x.to(parameter)).norm(dim=1).double() for x in (x0, x1)]
    return torch.stack(found, dim=1)


def _exact(
    traced: Trace, ends: Pairs, norms: Mapping[str, Tensor | None]
) -> Iterator[dict[str, Any]]:
    for variant, of in norms.items():
        seen = traced if of is None else measures.normalize(traced, of)
        found = measures.summary(seen.per_unit_length(), ends)
        own = measures.fluctuation(seen).gather(1, ends.y0[:, None])
        yield {"estimator": EXACT, "points": 0, "variant": variant} | {
            name: found[name]
            for name in (
                "switches", "gap_deviation", "bridge_deviation", "deflection",
                "mid_path_deflection", "fluctuation", "edge_margin",
            )
        } | {"own_fluctuation": float(own.mean())}  # fmt: skip


def _sampled(
    net: nn.Module, ends: Pairs, norms: Mapping[str, Tensor | None], points: int
) -> Iterator[dict[str, Any]]:
    double, single = (
        sample(net, ends, points=points, dtype=t) for t in (torch.float64, torch.float32)
    )
    for variant, of in norms.items():
        for estimator, traits in ESTIMATORS.items():
            if of is None and estimator in _NORMALISED:
                continue
            samples = single if estimator in _SINGLE else double
            samples = samples if of is None else samples.relative_to(of)
            yield {"estimator": estimator, "points": points, "variant": variant} | _estimates(
                samples, traits, ends.y0
            )


def _estimates(samples: Samples, traits: Traits, labels: Tensor) -> dict[str, float]:
    return samples.estimate(traits).per_unit_length().summary() | {
        "fluctuation": float(samples.fluctuation().mean()),
        "own_fluctuation": float(samples.fluctuation(labels).mean()),
        "edge_margin": float(samples.edge_margin(labels).mean()),
    }
