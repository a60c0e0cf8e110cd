"""Implicit regularisation of ReLU networks, measured exactly along paths between samples."""

from implreg import claims, experiments, figures, measures, runs, statistics, theory
from implreg.checks import InputError
from implreg.datasets import Dataset, Pairs, load, pairs
from implreg.measures import (
    bridge_deviation,
    deflection,
    edge_margin,
    fluctuation,
    gap_deviation,
    mid_path_deflection,
    normalize,
    pool,
    quadratic_variation,
    total_variation,
)
from implreg.networks import HE, Initialisation, mlp, residual_mlp, resnet, vgg
from implreg.tracing import Interrupted, Program, Trace, polyline, read, stream, trace
from implreg.training import SGD, Diverged, evaluate, train

__version__ = "0.1.0"

__all__ = [
    "HE",
    "SGD",
    "Dataset",
    "Diverged",
    "Initialisation",
    "InputError",
    "Interrupted",
    "Pairs",
    "Program",
    "Trace",
    "bridge_deviation",
    "claims",
    "deflection",
    "edge_margin",
    "evaluate",
    "experiments",
    "figures",
    "fluctuation",
    "gap_deviation",
    "load",
    "measures",
    "mid_path_deflection",
    "mlp",
    "normalize",
    "pairs",
    "polyline",
    "pool",
    "quadratic_variation",
    "read",
    "residual_mlp",
    "resnet",
    "runs",
    "statistics",
    "stream",
    "theory",
    "total_variation",
    "trace",
    "train",
    "vgg",
]
