"""Figures 2, 4 a-c and 5 a-c in both definitions: as the released program computes them, exactly.

One random network per run, on the pairs that all networks share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from implreg import measures
from implreg.datasets import Dataset, shared_members, shared_pairs
from implreg.sampled import PROGRAM, sample
from implreg.tracing import trace
from implreg.tracing.paths import Pairs
from implreg_book.experiments.families import Network
from implreg_book.experiments.released import REFERENCE_SEED, SEAM, norms_at_ends
from implreg_book.experiments.types import Checked, Count, Index

MEASURES = ("switches", "gap_deviation", "bridge_deviation", "deflection", "mid_path_deflection")


@dataclass(frozen=True)
class Config(Checked):
    """A random network, and how it is measured.

    Args:
        dataset: name of the data set.
        network: family and size.
        seed: of the weights, and of what fills the statistics of batch norm.
        reference: the network whose outputs the program divides by, the same for all.
        reference_dataset: whose training samples that network takes: the i-th one for a sample that
            is the i-th one of its own data set.
        pairs: number of shared pairs for the program's estimate.
        exact_pairs: how many of them are traced exactly, the first ones; at most `pairs`.
        side: to which images are resized; 0 leaves them as they are.

    Raises:
        InputError: a number out of its range; `run` checks the names.
    """

    dataset: str
    network: Network
    seed: Index
    reference: Network
    reference_dataset: str
    pairs: Count = 128
    exact_pairs: Index = 128
    side: Index = 0


def run(config: Config) -> pd.DataFrame:
    """Rows of `estimator` ("program", "exact") and `variant` ("raw", "reference") with measures.

    Slopes are per unit length. In both the bridge estimate is a standard deviation; gap deviation
    and deflections are the program's means in the one, root mean squares in the other.
    """
    data = config.network.load(config.dataset, side=config.side)
    drawn = shared_pairs(data, count=config.pairs)
    norms = _norms(config, data)
    net = config.network.build(data, config.seed)
    traits = replace(PROGRAM, seam=SEAM if config.network.family == "resnet" else None)
    samples = sample(net, drawn, dtype=torch.float32)
    found = {
        ("program", variant): of.estimate(traits).per_unit_length().summary()
        for variant, of in (("raw", samples), ("reference", samples.relative_to(norms)))
    }
    if config.exact_pairs:
        found |= _exact(net, drawn, norms, min(config.exact_pairs, config.pairs))
    rows = [
        {"estimator": estimator, "variant": variant} | {name: row[name] for name in MEASURES}
        for (estimator, variant), row in found.items()
    ]
    return pd.DataFrame(rows).assign(**config.network.named())


def _exact(
    net: nn.Module, drawn: Pairs, norms: Tensor, count: int
) -> Mapping[tuple[str, str], dict[str, float]]:
    traced = trace(net, (drawn.x0[:count], drawn.x1[:count]))
    normalised = measures.normalize(traced, norms[:count])
    return {
        ("exact", variant): measures.summary(of.per_unit_length())
        for variant, of in (("raw", traced), ("reference", normalised))
    }


def _norms(config: Config, data: Dataset) -> Tensor:
    """The norms of the reference network's outputs, (P, 2) float64."""
    members = shared_members(data.y_train, count=config.pairs)
    other = config.reference.load(config.reference_dataset, side=config.side)
    ends = other.x_train[members.T % len(other.x_train)]
    return norms_at_ends(config.reference.build(other, REFERENCE_SEED), *ends)
