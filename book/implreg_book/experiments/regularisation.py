"""Chapter "Labels and explicit regularisation": what mixup asks of a path, and what it gets."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from scipy import optimize, special
from torch import Tensor

from implreg import measures
from implreg.checks import check_count, check_number
from implreg.errors import InputError
from implreg.tracing import Trace, trace
from implreg.tracing.paths import Pairs
from implreg_book.experiments import ablations
from implreg_book.experiments.types import Checked, Count, among, distinct

_Kind = Annotated[str, among("same", "different")]
_NODES = 200  # of the quadrature over mixing shares
_STEEPEST = 1e3  # of the lines among which the best one is sought


@dataclass(frozen=True)
class Config(Checked):
    """A network of the ablations, looked at along pairs of several kinds.

    Args:
        network: what is trained and how; training ends at its last target loss.
        kinds: of pairs of training samples: of the "same" true class or of "different" ones.
        points: positions on each path at which probabilities are looked at.

    Raises:
        InputError: unknown kinds, none, or one twice; `points` not positive.
    """

    network: ablations.Config
    kinds: Annotated[tuple[_Kind, ...], distinct] = ("same", "different")
    points: Count = 100


def run(config: Config) -> pd.DataFrame:
    """One row per target loss and kind of pairs, of the same networks as `ablations.run` measures.

    Columns are `reached` and `epochs` as there, `condition`, `seed`, `kind`, `train_loss`, the
    measures of `implreg.measures.summary` per unit length, and `misplaced`. The row of a target
    that is not reached has no measures.
    """
    own = config.network
    data = own.data()
    drawn = {kind: own.drawn(data, kind) for kind in config.kinds}
    rows: list[dict[str, Any]] = []
    for moment in ablations.moments(own, data):
        for kind, ends in drawn.items():
            row: dict[str, Any] = {"kind": kind, "epochs": moment.epoch, "reached": moment.reached}
            if moment.reached:
                traced = trace(moment.net, ends)
                row |= {"train_loss": moment.loss}
                row |= measures.summary(traced.per_unit_length(), ends)
                row |= {"misplaced": float(misplaced(traced, ends, config.points).mean())}
            rows += [{"target_loss": target} | row for target in moment.targets]
    return pd.DataFrame(rows).assign(condition=own.condition, seed=own.seed)


def profile(config: Config) -> pd.DataFrame:
    """The course of outputs along the paths between different classes, as means over the pairs.

    One row per target loss that is reached and position t, which is in the middle of one of
    `points` equal parts. Columns: `probability`, of the class at t = 1, and `difference`, the
    output of the class at t = 0 minus that of the class at t = 1; `condition` and `seed`.
    """
    own = config.network
    data = own.data()
    ends = own.drawn(data, "different")
    path, t = torch.arange(len(ends)), _middles(config.points)
    tables = []
    for moment in ablations.moments(own, data):
        if not moment.reached:
            continue
        outputs, _ = measures.along(trace(moment.net, ends), t)
        first, last = outputs[path, :, ends.y0], outputs[path, :, ends.y1]
        likely = outputs.softmax(dim=2)[path, :, ends.y1]
        course = {"t": t, "probability": likely.mean(0), "difference": (first - last).mean(0)}
        table = pd.DataFrame({name: column.numpy() for name, column in course.items()})
        tables += [table.assign(target_loss=at) for at in moment.targets]
    table = pd.concat(tables) if tables else pd.DataFrame()
    return table.assign(condition=own.condition, seed=own.seed)


def _middles(points: int) -> Tensor:
    return (torch.arange(points, dtype=torch.float64) + 0.5) / points


def misplaced(traced: Trace, ends: Pairs, points: int = 100) -> Tensor:
    r"""The share of probability that is not where mixed labels want it, (P,).

    With :math:`p_k(t)` the softmax of the outputs and :math:`q(t) = (1-t) e_{y_0} + t e_{y_1}`,

    .. math:: \int_0^1 \tfrac12 \sum_k |p_k(t) - q_k(t)| \, dt,

    by the midpoint rule. It is 0 where probabilities go from label to label in a straight line, and
    1/4 where they jump in the middle between two classes.

    Args:
        traced: of straight paths.
        ends: the pairs that were traced.
        points: of the midpoint rule.

    >>> import implreg as ir
    >>> net = ir.mlp(2, 3, 2, seed=0)
    >>> for parameter in net.parameters():
    ...     _ = torch.nn.init.zeros_(parameter)  # each class has probability 1/2 everywhere
    >>> ends = Pairs(*torch.eye(2).split(1), torch.tensor([0]), torch.tensor([1]), kind="different")
    >>> round(misplaced(ir.trace(net, ends), ends).item(), 12)
    0.25
    """
    t = _middles(check_count("points", points))
    outputs, _ = measures.along(traced, t)
    classes = outputs.shape[2]
    first, last = (torch.nn.functional.one_hot(y, classes)[:, None] for y in (ends.y0, ends.y1))
    wanted = (1 - t)[:, None] * first + t[:, None] * last
    return (outputs.softmax(dim=2) - wanted).abs().sum(dim=2).mean(dim=1) / 2


@dataclass(frozen=True)
class Line:
    """The best straight path under mixup between samples of two classes.

    Attributes:
        steepness: a, of the difference of the two outputs, a (1 - 2t).
        end_loss: cross-entropy at either end, log(1 + exp(-a)).
        mixup_loss: mean cross-entropy on the path.
        least_loss: the same of the best path of any shape, on which probabilities are straight.
    """

    steepness: float
    end_loss: float
    mixup_loss: float
    least_loss: float


def best_line(alpha: float) -> Line:
    r"""The straight path :math:`z(t) = a (1 - 2t)` that mixup rewards most.

    z is the difference of the two outputs. With :math:`\sigma(z) = 1 / (1 + e^{-z})` and t from
    :math:`\mathrm{Beta}(\alpha, \alpha)` the steepness a solves

    .. math:: \mathbb E \bigl[ (\sigma(a (1 - 2t)) - (1 - t)) (1 - 2t) \bigr] = 0,

    where expectations are by Gauss-Jacobi quadrature.

    Args:
        alpha: of mixup, from 0.1 on.

    Raises:
        InputError: a smaller alpha.

    Source: theorem "What mixup asks of a path" of the book.

    >>> line = best_line(1.0)
    >>> round(line.steepness, 3), round(line.end_loss, 3)
    (2.6, 0.072)
    """
    if check_number("alpha", alpha, above=0) < 0.1:
        raise InputError(f"alpha must be at least 0.1, got {alpha!r}; raise it.")
    t, weight = special.roots_sh_jacobi(_NODES, 2 * alpha - 1, alpha)
    weight = weight / weight.sum()

    def mean(values: np.ndarray) -> float:
        return float((weight * values).sum())

    def loss_slope(a: float) -> float:
        return mean((special.expit(a * (1 - 2 * t)) - (1 - t)) * (1 - 2 * t))

    a = float(optimize.brentq(loss_slope, 0, _STEEPEST))
    z = a * (1 - 2 * t)
    return Line(
        steepness=a,
        end_loss=math.log1p(math.exp(-a)),
        mixup_loss=mean((1 - t) * np.logaddexp(0, -z) + t * np.logaddexp(0, z)),
        least_loss=mean(special.entr(t) + special.entr(1 - t)),
    )
