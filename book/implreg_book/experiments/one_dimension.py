"""Chapter "One dimension": networks with one input against the splines that limit them."""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from implreg import measures
from implreg.checks import check_choice, check_count
from implreg.theory.splines import Start, kernel_spline, least_variation
from implreg.tracing import Trace, trace
from implreg_book.experiments.types import Checked, Count, Index, NotNegative, Positive, among

Floats = NDArray[np.float64]
TRAINED = ("output", "all")
WINDOW = 1 / 40  # width of a knot, over the length of the path
SHARE = 0.95  # of the total variation that the counted knots hold
_EVERY = 100  # steps between two looks at the loss


@dataclass(frozen=True)
class Config(Checked):
    r"""Independent networks :math:`f(x) = \sum_i v_i \, \mathrm{relu}(w_i x + b_i)`.

    Hidden weights start at :math:`(w_i, b_i) = \alpha n^{-1/2} (w, b)` with (w, b) drawn from
    `start`, output weights at :math:`v_i = \sigma \xi_i / \alpha` with unit Gaussians
    :math:`\xi_i`. All samples are used in every step of gradient descent on half the sum of
    squares, in float64. A step is the smaller of `rate` and :math:`1 / (\alpha^2 \lambda)`, where
    :math:`\lambda` is the largest eigenvalue of the kernel of `start` among the samples. A network
    stops when the mean of its squared errors is at most `loss`; this is looked at every 100 steps.

    Args:
        x: samples, rising, (N,).
        y: targets, (N,).
        start: distribution of hidden weights and biases.
        trained: "output" weights alone, or "all".
        width: n, hidden units.
        networks: how many.
        seed: of the first network; the others follow.
        scale: alpha, of the hidden weights, above 0.
        output: sigma, of the output weights, at least 0; if 0, the network starts as f = 0.
        steps: the most that a network may take.
        loss: at which a network stops, above 0.
        rate: the longest step, above 0.

    Raises:
        InputError: samples that do not rise, or a number out of its range.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    start: Start
    trained: Annotated[str, among(*TRAINED)]
    width: Count
    networks: Count
    seed: Index
    scale: Positive = 1.0
    output: NotNegative = 0.0
    steps: Count = 200_000
    loss: Positive = 1e-8
    rate: Positive = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        kernel_spline(self.start, self.x, self.y)  # refuses samples that it cannot use


@dataclass(frozen=True)
class Networks:
    """Networks of one shape.

    Attributes:
        hidden: weight and bias of each unit, (networks, width, 2).
        output: output weights, (networks, width).
        steps: of gradient descent taken, (networks,).
        loss: mean of squared errors, (networks,).
    """

    hidden: Tensor
    output: Tensor
    steps: Tensor
    loss: Tensor

    def module(self, index: int) -> nn.Sequential:
        """One of them as a module that maps (N, 1) to (N, 1)."""
        width = self.hidden.shape[1]
        first = nn.Linear(1, width, dtype=torch.float64)
        last = nn.Linear(width, 1, bias=False, dtype=torch.float64)
        with torch.no_grad():
            first.weight.copy_(self.hidden[index, :, :1])
            first.bias.copy_(self.hidden[index, :, 1])
            last.weight.copy_(self.output[index : index + 1])
        return nn.Sequential(first, nn.ReLU(), last)


def run(config: Config) -> pd.DataFrame:
    """One row per network after training.

    Columns: `network`; `kind` of the start; `reached` (whether the loss is at most the target),
    `steps` taken and `loss`. Then, over the interval of the samples: root mean square distances
    `to_limit` (the limit of wide networks whose output weights alone are trained), `to_natural`
    (the same with the natural cubic spline in place of that of the start) and `to_linear` (the
    linear spline); `from_chords`, the largest distance from the linear spline; `variation`, the
    total variation of the slope, and `variation_ratio`, over the least possible;
    `quadratic_variation`, `gap_deviation` and `switches`; `near`, the share of the total variation
    that lies within half a `WINDOW` of a sample between the first and the last; `knots`, see
    `knots`. Slopes are per unit of x. Measures are missing where the loss is not finite.
    """
    before, after = start(config), train(config)
    x = np.asarray(config.x)
    rows: list[dict[str, object]] = []
    for i in range(config.networks):
        loss = float(after.loss[i])
        row: dict[str, object] = {
            "network": config.seed + i,
            "kind": config.start.kind,
            "reached": loss <= config.loss,
            "steps": int(after.steps[i]),
            "loss": loss,
        }
        if math.isfinite(loss):
            traced = path(after, i, x)
            limits = references(config, path(before, i, x))
            row |= _distances(config, traced, limits) | _bends(config, traced)
        rows.append(row)
    return pd.DataFrame(rows)


def functions(config: Config, points: int = 141) -> pd.DataFrame:
    """Networks and their limits along the interval of the samples.

    Columns: `network`, `x` (evenly spaced), `value` and `slope` of the network, `limit`, `natural`
    and `linear` as in `run`, and `reached`. A network whose loss is not finite has no values.
    """
    check_count("points", points, at_least=2)
    before, after = start(config), train(config)
    x = np.asarray(config.x)
    t = torch.linspace(0, 1, points, dtype=torch.float64)
    length, tables = x[-1] - x[0], []
    for i in range(config.networks):
        values, slopes = torch.nan * t, torch.nan * t
        if after.loss[i].isfinite():
            values, slopes = (a[0, :, 0] for a in measures.along(path(after, i, x), t))
        columns = {
            "network": config.seed + i,
            "x": x[0] + length * t.numpy(),
            "value": values.numpy(),
            "slope": slopes.numpy() / length,
            **references(config, path(before, i, x), points),
            "reached": bool(after.loss[i] <= config.loss),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def solve(config: Config) -> pd.DataFrame:
    """Where training the output weights alone ends, by least squares in place of training.

    Of all weights that fit the samples, gradient descent ends at those nearest to its start. This
    takes a fraction of the time of training; the width may be large.

    Returns:
        One row per network: `network`, `kind` of the start, and `to_limit` as in `run`.

    Raises:
        InputError: all weights are to be trained.
    """
    check_choice("trained", config.trained, TRAINED[:1])
    x, y = np.asarray(config.x), np.asarray(config.y)
    at = np.linspace(x[0], x[-1], 401)
    before = start(config)
    rows = []
    for i in range(config.networks):
        w, b = before.hidden[i].numpy().T
        units, along = (np.maximum(np.multiply.outer(p, w) + b, 0) for p in (x, at))
        first = before.output[i].numpy()
        rest = y - units @ first
        moved = np.linalg.lstsq(units, rest, rcond=None)[0]
        off = along @ moved - kernel_spline(config.start, x, rest)(at)
        rows.append((config.seed + i, config.start.kind, math.sqrt(float(np.mean(off**2)))))
    return pd.DataFrame(rows, columns=["network", "kind", "to_limit"])


def start(config: Config) -> Networks:
    """The networks before training; each depends on its own seed alone."""
    hidden, output = [], []
    for seed in range(config.seed, config.seed + config.networks):
        random = torch.Generator().manual_seed(seed)
        hidden.append(config.start.draw(config.width, random))
        output.append(torch.randn(config.width, generator=random, dtype=torch.float64))
    u = torch.stack(hidden) * (config.scale / math.sqrt(config.width))
    v = torch.stack(output) * (config.output / config.scale)
    steps = torch.zeros(config.networks, dtype=torch.int64)
    x, y = (torch.tensor(a, dtype=torch.float64) for a in (config.x, config.y))
    return Networks(u, v, steps, _errors(u, v, x, y).square().mean(dim=1))


def train(config: Config) -> Networks:
    """The networks after gradient descent, each at the step where it stops."""
    first = start(config)
    x, y = (torch.tensor(a, dtype=torch.float64) for a in (config.x, config.y))
    kernel = config.start.kernel(np.asarray(config.x)[:, None], config.x)
    stable = 1 / (config.scale**2 * float(np.linalg.eigvalsh(kernel)[-1]))
    rate = min(config.rate, stable)
    hidden, output, steps, loss = (
        a.clone() for a in (first.hidden, first.output, first.steps, first.loss)
    )
    # Networks that stop leave the batch; what the others do does not depend on it.
    active, u, v = torch.arange(config.networks), hidden.clone(), output.clone()
    for done in range(0, config.steps + 1, _EVERY):
        squares = _errors(u, v, x, y).square().mean(dim=1)
        ended = (squares <= config.loss) | ~squares.isfinite()
        if done + _EVERY > config.steps:
            ended = torch.ones_like(ended)
        at = active[ended]
        hidden[at], output[at], steps[at], loss[at] = u[ended], v[ended], done, squares[ended]
        active, u, v = active[~ended], u[~ended], v[~ended]
        if not len(active):
            break
        _descend(u, v, x, y, rate, config.trained)
    return Networks(hidden, output, steps, loss)


def _descend(u: Tensor, v: Tensor, x: Tensor, y: Tensor, rate: float, trained: str) -> None:
    """Take some steps in place."""
    samples = torch.stack([x, torch.ones_like(x)])
    row = v[:, None]  # (networks, 1, width)
    active = torch.matmul(u, samples).relu_()
    for _ in range(_EVERY):
        if trained == "all":
            active = torch.matmul(u, samples).relu_()
        error = torch.matmul(row, active) - y
        by_output = torch.matmul(error, active.mT)
        if trained == "all":
            back = torch.matmul((active > 0) * error, samples.mT)
            u.sub_(back.mul_(row.mT), alpha=rate)
        row.sub_(by_output, alpha=rate)


def _errors(u: Tensor, v: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Outputs less targets, (networks, N)."""
    z = torch.matmul(u, torch.stack([x, torch.ones_like(x)]))
    return torch.matmul(v[:, None], z.relu_())[:, 0] - y


def path(networks: Networks, index: int, x: Floats) -> Trace:
    """A network along the straight path from the first to the last sample."""
    ends = torch.tensor([[[x[0]]], [[x[-1]]]], dtype=torch.float64)
    return trace(networks.module(index), (ends[0], ends[1]))


def references(config: Config, before: Trace, points: int = 401) -> dict[str, Floats]:
    """What the network may become: `limit`, `natural` and `linear`, at evenly spaced positions.

    The first two are the network before training plus a spline through what the targets leave of
    it.
    """
    x, y = np.asarray(config.x), np.asarray(config.y)
    at = np.linspace(x[0], x[-1], points)
    rest = y - _values(before, x, x)
    started = _values(before, at, x)
    return {
        "limit": started + kernel_spline(config.start, x, rest)(at),
        "natural": started + CubicSpline(x, rest, bc_type="natural")(at),
        "linear": np.interp(at, x, y),
    }


def _values(traced: Trace, at: Floats, x: Floats) -> Floats:
    t = torch.from_numpy(((at - x[0]) / (x[-1] - x[0])).clip(0, 1))
    values: Floats = traced.at(t)[:, 0].numpy()
    return values


def _distances(config: Config, traced: Trace, limits: dict[str, Floats]) -> dict[str, float]:
    x = np.asarray(config.x)
    at = np.linspace(x[0], x[-1], len(limits["linear"]))
    values = _values(traced, at, x)
    # The difference to the chords is piecewise linear: it is largest at a breakpoint or a sample.
    corners = np.concatenate([x, x[0] + (x[-1] - x[0]) * traced.t.numpy()])
    off = _values(traced, corners, x) - np.interp(corners, x, np.asarray(config.y))
    squares = {name: float(np.mean((values - line) ** 2)) for name, line in limits.items()}
    found = {f"to_{name}": math.sqrt(square) for name, square in squares.items()}
    return found | {"from_chords": float(np.abs(off).max())}


def _bends(config: Config, traced: Trace) -> dict[str, object]:
    x = np.asarray(config.x)
    per_length = traced.per_unit_length()
    variation = float(measures.total_variation(per_length))
    sizes = per_length.gaps[:, 0].abs().numpy()
    inner = (x[1:-1] - x[0]) / (x[-1] - x[0])
    apart = np.abs(traced.t.numpy()[:, None] - inner).min(axis=1, initial=np.inf)
    near = float(sizes[apart <= WINDOW / 2].sum())
    least = least_variation(x, config.y)
    return {
        "variation": variation,
        "variation_ratio": variation / least if least > 0 else math.nan,
        "quadratic_variation": float(measures.quadratic_variation(per_length)),
        "gap_deviation": float(measures.gap_deviation(per_length)),
        "switches": int(traced.switches),
        "near": near / variation if variation > 0 else math.nan,
        "knots": knots(traced.t.numpy(), sizes),
    }


def knots(t: Floats, sizes: Floats, window: float = WINDOW, share: float = SHARE) -> int:
    """How many windows hold a share of all bends, the fullest first.

    The window with the largest sum of sizes is taken, its breakpoints are removed, and so on until
    the windows taken hold the share. A function with few knots needs as many windows; one that
    bends everywhere needs nearly all that there is room for.

    Args:
        t: breakpoints, rising, (S,).
        sizes: of the gaps there, not negative, (S,).
        window: length of a window, in the units of t.
        share: of the sum of all sizes.

    >>> knots(np.array([0.1, 0.11, 0.5]), np.array([1.0, 1.0, 2.0]))
    2
    """
    left = np.array(sizes, dtype=float)
    wanted = (1 - share) * left.sum()
    beyond = np.searchsorted(t, t + window, side="right")
    count = 0
    while left.sum() > wanted:
        sums = np.concatenate([[0.0], left.cumsum()])
        fullest = int((sums[beyond] - sums[:-1]).argmax())
        left[fullest : beyond[fullest]] = 0
        count += 1
    return count
