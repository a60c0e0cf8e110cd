"""Chapter "Where it fails": pairs that are far apart or of two classes, and paths off the data."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd
import torch
from torch import Tensor, nn

from implreg import measures
from implreg.datasets import Dataset, load
from implreg.errors import InputError
from implreg.networks import mlp
from implreg.tracing import Trace, trace
from implreg.tracing.paths import Pairs
from implreg.training import SGD, Ensemble
from implreg_book.experiments.types import Checked, Count, Index, NotNegative, Seeds

OFF = ("beyond", "to noise", "noise", "to the mean")  # kinds of paths off the data
_REACH = 3.0  # where a path that goes on beyond its second sample ends
_WINDOW = 0.05  # half of the stretch of a path over which a slope is taken
_APART, _FARTHEST = 0.1, 0.25  # of the boundary from 1/2: told apart from its mirror image
_MORE = 8  # times as many pairs for slopes at the boundary, of which some count


@dataclass(frozen=True)
class Config(Checked):
    """Networks with one hidden layer, trained side by side by SGD.

    Args:
        dataset: name of the data set.
        train: how many training samples; 0 for all.
        width: hidden units.
        seeds: of the weights, the paths and the order of samples; one network each.
        sgd: the optimiser's settings.
        pairs: number of paths of each kind.
        angles: bounds in radians, rising, between which pairs are sorted by their angle.

    Raises:
        InputError: a number out of its range, a seed twice, or angles that do not rise.
    """

    dataset: str
    train: Index
    width: Count
    seeds: Seeds
    sgd: SGD
    pairs: Count = 128
    angles: tuple[NotNegative, ...] = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds = list(self.angles)
        if len(bounds) < 2 or any(a >= b for a, b in pairwise(bounds)):
            raise InputError(f"angles must be two or more, rising, got {bounds}; sort them.")

    def data(self) -> Dataset:
        """The data set, with flat samples."""
        return load(self.dataset, train=self.train or None)

    def networks(self, data: Dataset) -> Iterator[tuple[str, int, nn.Module]]:
        """Phase ("before" or "after" training), seed and network; none after it diverged."""
        sizes = (data.x_train.shape[1], self.width, data.classes)
        nets = [mlp(*sizes, seed=seed) for seed in self.seeds]
        yield from (("before", seed, net) for seed, net in zip(self.seeds, nets, strict=True))
        ensemble = Ensemble(nets, data.x_train, data.y_train, self.sgd, seeds=self.seeds)
        for _ in ensemble:
            pass
        for seed, net, lost in zip(self.seeds, nets, ensemble.diverged.tolist(), strict=True):
            if not lost:
                yield "after", seed, net


class Drawing:
    """Pairs of training samples of several kinds; a seed gives the same ones in every call.

    Args:
        data: where to draw from.
        count: pairs of each kind.
        seed: of the draw.
    """

    def __init__(self, data: Dataset, count: int, seed: int) -> None:
        self.x, self.y, self.count = data.x_train, data.y_train, count
        self._random = torch.Generator().manual_seed(seed)
        unit = nn.functional.normalize(self.x, dim=1)
        self.angle = (unit @ unit.T).clamp(-1, 1).arccos()
        self._two = self.angle > 1e-6  # of a sample and its duplicate there is no path
        self._alike = self.y[:, None] == self.y

    def kinds(self) -> dict[str, Pairs]:
        """Pairs by kind: "same", "different", "nearest", "farthest"; see the chapter."""
        same, different = self.among(self._alike), self.among(~self._alike)
        if same is None or different is None:
            most = min(int((m & self._two).sum()) for m in (self._alike, ~self._alike))
            raise InputError(
                f"pairs must be at most {most}, the number of pairs of one kind among these "
                f"samples, got {self.count}; ask for fewer or use more samples."
            )
        other = self._alike & self._two
        near = torch.where(other, self.angle, torch.inf).argmin(dim=1)
        far = torch.where(other, self.angle, -torch.inf).argmax(dim=1)
        usable = torch.nonzero(other.any(dim=1))[:, 0]
        order = torch.randint(len(usable), (self.count,), generator=self._random)
        start = usable[order]
        return {
            "same": same,
            "different": different,
            "nearest": self._pairs(start, near[start]),
            "farthest": self._pairs(start, far[start]),
        }

    def by_angle(self, bounds: Sequence[float]) -> Iterator[tuple[str, float, Pairs]]:
        """Class of the pairs, lower bound of the angle, and pairs, where there are enough."""
        for name, alike in (("same", self._alike), ("different", ~self._alike)):
            for low, high in pairwise(bounds):
                found = self.among(alike & (self.angle >= low) & (self.angle < high))
                if found is not None:
                    yield name, low, found

    def off(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Ends of paths off the data by kind, see `OFF`, and of those "between" any two samples."""
        drawn = self.among(torch.ones_like(self._two))
        assert drawn is not None  # there are at least as many as of one kind
        x0, x1 = drawn.x0, drawn.x1
        noise = torch.randn(2, *x0.shape, generator=self._random, dtype=x0.dtype)
        noise *= x0.norm(dim=1)[:, None] / noise.norm(dim=2, keepdim=True)
        return {
            "between": (x0, x1),
            "beyond": (x1, x0 + _REACH * (x1 - x0)),
            "to noise": (x0, noise[0]),
            "noise": (noise[0], noise[1]),
            "to the mean": (x0, self.x.mean(dim=0).expand_as(x0)),
        }

    def among(self, allowed: Tensor) -> Pairs | None:
        """`count` of the pairs (N, N) that are allowed, none twice; None if they are fewer."""
        rows = torch.nonzero(allowed & self._two)
        if len(rows) < self.count:
            return None
        # Drawn with replacement and made unique: a permutation of millions would take seconds.
        chosen: dict[int, None] = {}
        while len(chosen) < self.count:
            draws = torch.randint(len(rows), (self.count,), generator=self._random)
            chosen.update(dict.fromkeys(draws.tolist()))
        start, end = rows[list(chosen)[: self.count]].unbind(dim=1)
        return self._pairs(start, end)

    def _pairs(self, i: Tensor, j: Tensor) -> Pairs:
        return Pairs(x0=self.x[i], x1=self.x[j], y0=self.y[i], y1=self.y[j], kind="random")


def run(config: Config) -> pd.DataFrame:
    """One row per network, phase and set of paths, and the slopes near the decision boundary.

    Columns `phase`, `seed`, `group` and `paths`: of the group "kind" those of `Drawing.kinds`, of
    "off" those of `Drawing.off`; after training also, of "angle", the classes "same" and
    "different" with the lower bound `from_angle`. Measures, with slopes per unit length: `angle`
    (mean, radians), `length` (mean), `switches` (mean), `bridge_ratio` (bridge estimate over gap
    deviation), `curvature` (quadratic variation per unit length, mean), `fluctuation` (mean),
    `output_change` (root mean square of phi(1) - phi(0)) and, between samples, `edge_margin`
    (mean). The kind "different" has the columns of `shape` besides. The group "boundary", after
    training, has those of `steepness` and no others.
    """
    data = config.data()
    tables = []
    for phase, seed, net in config.networks(data):
        draw = Drawing(data, config.pairs, seed)
        kinds = draw.kinds()
        sets: list[tuple[str, str, float, Pairs | tuple[Tensor, Tensor]]] = [
            *(("kind", name, math.nan, drawn) for name, drawn in kinds.items()),
            *(("off", name, math.nan, ends) for name, ends in draw.off().items()),
        ]
        if phase == "after":
            sets += [("angle", *found) for found in draw.by_angle(config.angles)]
        rows = [
            {"group": group, "paths": name, "from_angle": low} | _measured(net, paths)
            for group, name, low, paths in sets
        ]
        rows[list(kinds).index("different")] |= shape(net, kinds["different"])
        found = [pd.DataFrame(rows)]
        if phase == "after":  # before, nearly no pair is told apart
            wide = Drawing(data, _MORE * config.pairs, seed).kinds()["different"]
            found.append(steepness(net, wide).assign(group="boundary"))
        tables += [table.assign(phase=phase, seed=seed) for table in found]
    return pd.concat(tables, ignore_index=True)


def _measured(net: nn.Module, paths: Pairs | tuple[Tensor, Tensor]) -> dict[str, float]:
    x0, x1 = (paths.x0, paths.x1) if isinstance(paths, Pairs) else paths
    traced = trace(net, paths).per_unit_length()
    change = traced.ends - traced.values[traced.first_pieces]
    gap = measures.pool(measures.gap_deviation(traced))
    variation = measures.quadratic_variation(traced) / traced.lengths[:, None]
    row = {
        "angle": float(nn.functional.cosine_similarity(x0, x1).clamp(-1, 1).arccos().mean()),
        "length": float(traced.lengths.mean()),
        "switches": float(traced.switches.double().mean()),
        "bridge_ratio": measures.bridge_deviation(traced) / gap,
        "curvature": float(variation.mean()),
        "fluctuation": float(measures.fluctuation(traced).mean()),
        "output_change": measures.pool(change),
        "edge_margin": math.nan,
    }
    if isinstance(paths, Pairs):
        row["edge_margin"] = float(measures.edge_margin(traced, paths).mean())
    return row


def shape(net: nn.Module, drawn: Pairs) -> dict[str, float]:
    r"""What bends coherently on pairs of different classes.

    Each output is the start's (of the class at t = 0), the end's, or another. `start_mean`,
    `end_mean` and `other_mean`: mean over pairs of
    :math:`2 (s_\mathrm{mid} - (s_0 + s_M)/2) / \sqrt M`, divided by the gap deviation;
    `residual_ratio`: the ratio of bridge estimate to gap deviation after these means are taken away
    from the outputs.
    """
    traced = trace(net, drawn).per_unit_length()
    gap = measures.pool(measures.gap_deviation(traced))
    steps = traced.switches.to(traced.gaps).sqrt()[:, None] / 2
    scaled = measures.mid_path_deflection(traced) / steps / gap
    role = torch.full(scaled.shape, 2)
    role.scatter_(1, drawn.y0[:, None], 0).scatter_(1, drawn.y1[:, None], 1)
    means = torch.stack([scaled[role == k].nanmean() for k in range(3)])
    names = ("start_mean", "end_mean", "other_mean")
    return dict(zip(names, means.tolist(), strict=True)) | {
        "residual_ratio": measures.pool(scaled - means[role])
    }


def steepness(net: nn.Module, drawn: Pairs) -> pd.DataFrame:
    r"""How steep the difference of the two outputs is near the decision boundary.

    For a pair of classes a and b let :math:`m(t) = f_a(X_t) - f_b(X_t)`. Its chord is zero at
    :math:`t_c = m(0) / (m(0) - m(1))`, which depends on the two ends alone. Pairs count whose ends
    are told apart rightly (:math:`m(0) > 0 > m(1)`) and with :math:`t_c` between 0.1 and 0.25 away
    from the middle. One row per `place` u on the way from the boundary (0) to the middle of the
    path (1) and on to the mirror image of the boundary (2), :math:`t = t_c + u (1/2 - t_c)`. There
    `steepness` is the mean slope over pairs from t - 0.05 to t + 0.05, over the mean slope of the
    chords: 1 for straight paths. Besides, `used`, how many pairs count (no row if none does), and
    `crossings`, sign changes of m on them (mean).
    """
    every = trace(net, drawn)
    m0, m1 = difference(every, drawn, torch.tensor([0.0, 1.0])).unbind(dim=1)
    zero = m0 / (m0 - m1)
    apart = (zero - 0.5).abs()
    used = (m0 > 0) & (m1 < 0) & (apart >= _APART) & (apart <= _FARTHEST)
    if not bool(used.any()):
        return pd.DataFrame()
    places = torch.linspace(-0.5, 2.5, 13, dtype=torch.float64)
    t = zero[:, None] + places * (0.5 - zero[:, None])
    # Clamped only where a pair does not count: `along` wants positions of every path.
    below, above = (
        difference(every, drawn, (t + step).clamp(0, 1))[used].mean(dim=0)
        for step in (-_WINDOW, _WINDOW)
    )
    steep = (above - below) / (2 * _WINDOW) / (m1 - m0)[used].mean()
    signs = difference(every, drawn, torch.linspace(0, 1, 401))[used] > 0
    return pd.DataFrame(
        {
            "place": places.numpy(),
            "steepness": steep.numpy(),
            "used": int(used.sum()),
            "crossings": float((signs[:, 1:] != signs[:, :-1]).sum(dim=1).double().mean()),
        }
    )


def difference(traced: Trace, drawn: Pairs, t: Tensor) -> Tensor:
    """Output of the class at t = 0 minus that of the class at t = 1, (P, T).

    Args:
        traced: of the pairs.
        drawn: pairs of different classes.
        t: positions, the same on all paths (T,) or those of each (P, T).
    """
    values, _ = measures.along(traced, t.double())
    rows = torch.arange(len(drawn))
    return values[rows, :, drawn.y0] - values[rows, :, drawn.y1]
