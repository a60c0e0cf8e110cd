r"""Chapter "Where it fails": what the measures become when the activation is smooth.

On a path of a smooth network there are no breakpoints. One can still take n + 1 evenly spaced
positions :math:`t_k = k/n` and call :math:`g_k = \varphi'(t_k) - \varphi'(t_{k-1})` gaps, n of
them. This module does so for softplus, :math:`\mathrm{sp}_\beta(z) = \log(1 + e^{\beta z})/\beta`,
which goes to ReLU as the sharpness :math:`\beta` grows.
"""

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from implreg import measures
from implreg.checks import check_number
from implreg.datasets import load, pairs
from implreg.errors import InputError
from implreg.networks import mlp
from implreg.tracing import trace
from implreg_book.experiments.types import Checked, Count, Index, Positive

_CHUNK = 512  # positions at once, whose activations the processor's cache holds
# Sharpness times input from where torch takes softplus as linear: exact to 1e-13.
_LINEAR_FROM = 30.0


@dataclass(frozen=True)
class Config(Checked):
    """One random network with one hidden layer, and the same with softplus of some sharpness.

    Args:
        dataset: name of the data set.
        width: hidden units.
        seed: of weights and pairs.
        sharpness: the beta of each softplus.
        samples: numbers n of intervals, rising, each dividing the last.
        pairs: of training samples of any two classes.

    Raises:
        InputError: a number out of its range, or samples that do not divide the last.
    """

    dataset: str
    width: Count
    seed: Index
    sharpness: tuple[Positive, ...]
    samples: tuple[Count, ...]
    pairs: Count = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        rising = list(self.samples) == sorted(set(self.samples))
        if not self.samples or not rising or any(self.samples[-1] % n for n in self.samples):
            raise InputError(
                f"samples must be one or more, rise and divide the last, got {list(self.samples)}; "
                f"take for example powers of 2."
            )


def softened(net: nn.Sequential, sharpness: float) -> nn.Sequential:
    """The same layers with softplus of a sharpness in place of each ReLU.

    >>> softened(mlp(3, 4, 1, seed=0), 10.0)[1]
    Softplus(beta=10.0, threshold=30.0)
    """
    check_number("sharpness", sharpness, above=0)
    smooth = nn.Softplus(beta=sharpness, threshold=_LINEAR_FROM)
    return nn.Sequential(*(smooth if isinstance(layer, nn.ReLU) else layer for layer in net))


def slopes(net: nn.Module, x0: Tensor, x1: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    r"""First and second derivative of the outputs along a path, at t = 0, 1/n, ..., 1.

    Args:
        net: twice differentiable.
        x0: start of the path, (d,).
        x1: its end, (d,).
        samples: n.

    Returns:
        :math:`\varphi'` and :math:`\varphi''`, (n + 1, C) each.

    >>> first, second = slopes(nn.Softplus(), torch.zeros(1), torch.ones(1), 4)
    >>> bool(first[0] == 0.5), bool(second[0] == 0.25)
    (True, True)
    """
    found = []
    for t in torch.linspace(0, 1, samples + 1, dtype=x0.dtype).split(_CHUNK):
        direction = (x1 - x0).expand(len(t), -1)

        def slope(at: Tensor, towards: Tensor = direction) -> Tensor:
            made: Tensor = torch.func.jvp(net, (at,), (towards,))[1]
            return made

        with torch.no_grad():
            found.append(torch.func.jvp(slope, (torch.lerp(x0, x1, t[:, None]),), (direction,)))
    first, second = (torch.cat(parts) for parts in zip(*found, strict=True))
    return first, second


def run(config: Config) -> pd.DataFrame:
    r"""One row per sharpness (and "ReLU" for none) and number of samples: means over all outputs.

    Columns `activation`, `sharpness` (missing for ReLU), `samples` and, of the sampled gaps,
    `total_variation`, `quadratic_variation`, `gap_deviation` (root of V/n) and `deflection`;
    besides, on the finest grid, `bend`, :math:`\int_0^1 |\varphi''| dt`, and `square`,
    :math:`\int_0^1 \varphi''^2 dt` (both by the trapezoidal rule). For ReLU, `bend` is the exact
    :math:`\sum_i |g_i|`, and `square` is missing. `largest_bend_ratio` and `largest_square_ratio`:
    the largest over pairs and outputs of :math:`\sum_k |g_k|` over `bend` and of n V over `square`,
    which theory says are at most 1 (but for the error of
    the trapezoidal rule).
    """
    data = load(config.dataset)
    net = mlp(data.x_train.shape[1], config.width, data.classes, seed=config.seed,
              dtype=torch.float64)  # fmt: skip
    drawn = pairs(data, kind="random", count=config.pairs, seed=config.seed)
    finest = config.samples[-1]
    rows: list[dict[str, object]] = []
    for beta in config.sharpness:
        smooth = softened(net, beta)
        found = [slopes(smooth, x0, x1, finest) for x0, x1 in zip(drawn.x0, drawn.x1, strict=True)]
        first, second = (torch.stack(parts) for parts in zip(*found, strict=True))
        bend, square = (torch.trapezoid(f, dx=1 / finest, dim=1) for f in (second.abs(), second**2))
        known: dict[str, object] = {"activation": f"softplus {beta:,g}", "sharpness": beta}
        rows += [known | _sampled(first, n, bend, square) for n in config.samples]
    exact = trace(net, drawn)
    t = torch.linspace(0, 1, finest + 1, dtype=torch.float64)
    _, first = measures.along(exact, t)
    bend = measures.total_variation(exact)
    relu: dict[str, object] = {"activation": "ReLU"}
    rows += [relu | _sampled(first, n, bend, None) for n in config.samples]
    return pd.DataFrame(rows)


def _sampled(first: Tensor, n: int, bend: Tensor, square: Tensor | None) -> dict[str, object]:
    """Measures of the slopes (P, T, C) at every so-manieth position, such that n intervals stay."""
    gaps = first[:, :: (first.shape[1] - 1) // n].diff(dim=1)
    total, quadratic = gaps.abs().sum(dim=1), gaps.square().sum(dim=1)
    row: dict[str, object] = {
        "samples": n,
        "total_variation": float(total.mean()),
        "quadratic_variation": float(quadratic.mean()),
        "gap_deviation": measures.pool((quadratic / n).sqrt()),
        "deflection": measures.pool(quadratic.sqrt() / 2),
        "bend": float(bend.mean()),
        "largest_bend_ratio": float((total / bend).max()),
    }
    if square is not None:
        row["square"] = float(square.mean())
        row["largest_square_ratio"] = float((n * quadratic / square).max())
    return row
