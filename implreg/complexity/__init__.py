r"""Complexity measures of neighbouring papers, beside those of `implreg.measures`.

Measures at samples return one number per sample, (N,), measures along paths one per path, (P,); the
papers take the mean, and so does `summary`. Measures of the weights are one number. Outputs are
logits unless a measure says otherwise, :math:`J = \partial f / \partial x` is their Jacobian, and
norms of matrices are Frobenius norms. The arithmetic is float64 whatever the type of the network,
which is read (`implreg.read`) and never changed.
"""

import math

from torch import Tensor, nn

from implreg.complexity.hessian import sharpness
from implreg.complexity.jacobians import program_of
from implreg.complexity.paths import (
    deviation_from_affine,
    function_path_length,
    gradient_path_length,
    region_density,
    switch_density,
)
from implreg.complexity.samples import gradient_norm, local_complexity, sensitivity
from implreg.complexity.weights import distance, norm_product, parameter_norm, weight_product
from implreg.tracing import Trace
from implreg.tracing.kinds import Hinges
from implreg.tracing.paths import Pairs

__all__ = [
    "deviation_from_affine",
    "distance",
    "function_path_length",
    "gradient_norm",
    "gradient_path_length",
    "local_complexity",
    "norm_product",
    "parameter_norm",
    "region_density",
    "sensitivity",
    "sharpness",
    "summary",
    "switch_density",
    "weight_product",
]


def summary(
    net: nn.Module,
    initial: nn.Module,
    trace: Trace,
    pairs: Pairs | tuple[Tensor, Tensor],
    x: Tensor,
    *,
    radius: float,
    directions: int = 20,
    seed: int = 0,
) -> dict[str, float]:
    r"""All measures of this module, each as one number: a row of a tidy table.

    Means over samples and paths. Measures that are not defined for the network are NaN, so that all
    rows have the same columns: `sensitivity` with one output, `weight_product` unless there is one
    layer of activations.

    Args:
        net: the network, in eval mode.
        initial: the network that training began with.
        trace: of `net` along `pairs`, with slopes per unit of t.
        pairs: straight paths.
        x: samples, (N, *input), for the measures at samples.
        radius: of `local_complexity`.
        directions: of `local_complexity`.
        seed: of `local_complexity`.

    Returns:
        One number for each measure, under its name here; "frobenius_product" and
        "spectral_product" are `norm_product`, and "relative_distance" is
        :math:`\|\theta - \theta_0\| / \|\theta_0\|`.

    Raises:
        InputError: as the measures.

    >>> import torch
    >>> import implreg as ir
    >>> net, ends = ir.mlp(3, 9, 1, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1])
    >>> row = summary(net, net, ir.trace(net, ends), ends, ends[0], radius=0.1, directions=3)
    >>> row["distance"], round(row["weight_product"] - weight_product(net, torch.ones(3)), 9)
    (0.0, 0.0)
    """
    program = program_of(net, x)
    start = parameter_norm(initial)
    moved = distance(net, initial)
    row = {
        "gradient_norm": gradient_norm(program, x),
        "function_path_length": function_path_length(trace),
        "gradient_path_length": gradient_path_length(program, trace, pairs),
        "deviation_from_affine": deviation_from_affine(trace),
        "switch_density": switch_density(trace),
        "region_density": region_density(trace),
        "local_complexity": local_complexity(
            program, x, radius=radius, directions=directions, seed=seed
        ),
    }
    several = program.size(program.output) > 1
    shallow = len(program.sites) == 1 and isinstance(program.operations[program.sites[0]], Hinges)
    return {name: float(value.mean()) for name, value in row.items()} | {
        "sensitivity": float(sensitivity(program, x).mean()) if several else math.nan,
        "weight_product": weight_product(program, x[0]) if shallow else math.nan,
        "parameter_norm": parameter_norm(net),
        "distance": moved,
        "relative_distance": moved / start if start else math.nan,
        "frobenius_product": norm_product(net, "frobenius"),
        "spectral_product": norm_product(net, "spectral"),
    }
