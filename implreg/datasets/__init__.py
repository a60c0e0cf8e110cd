"""Named data sets, the paper's preprocessing, and pairs of samples."""

from implreg.datasets.archives import fetch
from implreg.datasets.drawing import KINDS, pairs, shared_members, shared_pairs
from implreg.datasets.loading import ORIGINS, Dataset, describe, load, preprocess

__all__ = [
    "KINDS",
    "ORIGINS",
    "Dataset",
    "describe",
    "fetch",
    "load",
    "pairs",
    "preprocess",
    "shared_members",
    "shared_pairs",
]
