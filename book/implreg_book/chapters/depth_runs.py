"""Chapter "Depth": its random networks, and what theory says of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from implreg import theory
from implreg.networks import mlp
from implreg_book.evidence.statistics import NONE, Estimate, mean_interval
from implreg_book.experiments import depth as experiment
from implreg_book.parameters.depth import Parameters
from implreg_book.runs.grids import Grid, Grids, tables_of

_PLAIN = {"sigma_w": math.sqrt(2), "sigma_b": 0.0, "leak": 0.0, "branch": 0.0}
_ZERO, _ONE = torch.tensor(0.0), torch.tensor(1.0)
ENDS = ((_ZERO, _ZERO), (_ONE, _ONE), (_ZERO, _ONE))  # of the path: twice one, then both
LIMIT = "slope product, limit"
REFINED = "slope product, first order in 1/width"


def settings(p: Parameters) -> dict[str, dict[str, Any]]:
    """What is changed in each setting, by its name."""
    layers = {n: f"{n} layer{'s' * (n > 1)}" for n in (*p.depths, *p.biased_depths, p.middle)}
    middle, blocks = layers[p.middle], f"{p.middle - 1} residual block{'s' * (p.middle > 2)}"
    bias, branch = {"sigma_b": p.sigma_b}, {"depth": p.middle, "branch": p.branch}
    weights = {"depth": p.middle, "leak": p.leaks[0], "sigma_w": p.sigma_w} | bias
    return (
        {layers[n]: {"depth": n} for n in p.depths}
        | {f"{layers[n]}, biases": {"depth": n} | bias for n in p.biased_depths}
        | {f"{middle}, leak {leak:g}": {"depth": p.middle, "leak": leak} for leak in p.leaks}
        | {f"{middle}, leak, biases, weights": weights}
        | {blocks: branch, f"{blocks}, biases": branch | bias}
    )


def grids(p: Parameters) -> Grids:
    """Networks of each setting, narrow ones and some of several widths; no seed is used twice."""

    def configs(setting: dict[str, Any], first: int, count: int, **of: Any) -> list[Any]:
        each = count // p.groups
        shared: dict[str, Any] = {
            "width": p.width,
            "angles": p.angles,
            "norms": p.norms,
            "networks": each,
        }
        shared |= {"inputs": p.inputs, "outputs": p.outputs} | _PLAIN | setting | of
        return [experiment.Config(seed=first + i * each, **shared) for i in range(p.groups)]

    def grid(label: str, several: list[list[Any]]) -> Grid:
        return Grid(experiment.run, [one for configs in several for one in configs], label)

    every, middle, equal = settings(p), {"depth": p.middle}, p.norms[:1]
    narrow = p.seed + len(every) * p.networks
    first = narrow + p.narrow_networks
    small = {"width": p.narrow, "angles": _turns(p), "norms": equal}
    right = {"angles": (right_angle(p),), "norms": equal}
    several = [
        configs(setting, p.seed + i * p.networks, p.networks)
        for i, setting in enumerate(every.values())
    ]
    wider = [
        configs(middle, first + i * p.networks, p.networks, width=n, **right)
        for i, n in enumerate(p.widths)
    ]
    return {
        "settings": grid("groups of networks", several),
        "narrow": grid(
            "groups of narrow networks", [configs(middle, narrow, p.narrow_networks, **small)]
        ),
        "widths": grid("groups of networks by width", wider),
    }


def _turns(p: Parameters) -> tuple[float, ...]:
    """Angles of the narrow networks' pairs: all but the smallest, at which they hardly switch."""
    return p.angles[1:] or p.angles


def right_angle(p: Parameters) -> float:
    """The angle nearest to a right one."""
    return min(p.angles, key=lambda angle: abs(angle - math.pi / 2))


def plain(p: Parameters, width: int, depth: int) -> nn.Sequential:
    """A plain network, for theory, to which its weights do not matter."""
    return mlp(p.inputs, *[width] * depth, 1, seed=0)


@dataclass(frozen=True)
class Found:
    """What the runs have found; see `implreg_book.experiments.depth.run` for the tables.

    Attributes:
        p: the parameters.
        table: groups of networks of all settings.
        narrow: groups of narrow networks.
        widths: groups of networks of several widths.
    """

    p: Parameters
    table: pd.DataFrame
    narrow: pd.DataFrame
    widths: pd.DataFrame

    @property
    def samples(self) -> str:
        """The samples of the pair whose angle is nearest to a right one, in words."""
        right = right_angle(self.p)
        if abs(right - math.pi / 2) < 0.005:
            return "orthogonal samples"
        return f"samples at an angle of {right:.2f}"

    @property
    def deepest(self) -> int:
        """Layers of the deepest plain networks."""
        return max(self.p.depths)

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """One pair for each angle, with the first ratio of norms."""
        p = self.p
        return experiment.Config(1, 1, p.angles, p.norms[:1], 2, 0, inputs=p.inputs).pairs

    @property
    def at(self) -> int:
        """Where the angle nearest to a right one stands among the angles."""
        return self.p.angles.index(right_angle(self.p))

    @property
    def length(self) -> float:
        """Length of the path at that angle."""
        x0, x1 = self.pairs
        return float((x1 - x0)[self.at].norm())

    def drawn(self, networks: int) -> int:
        """How many of so many networks make up groups of equal size."""
        return networks // self.p.groups * self.p.groups

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Measured beside predicted, in all settings."""
        names = {tuple((_PLAIN | s).values()): name for name, s in settings(self.p).items()}
        keys = self.table[[*_PLAIN, "depth"]].itertuples(index=False, name=None)
        return _pooled(self.table.assign(setting=[names[key] for key in keys]), "setting")

    @property
    def checked(self) -> pd.DataFrame:
        """Those with a z."""
        return self.scores.dropna(subset="z").reset_index(drop=True)

    @cached_property
    def groups(self) -> pd.DataFrame:
        """Plain networks and the first ratio of norms: one row for each group, depth and angle."""
        rows = self.table[(self.table[["sigma_b", "leak", "branch"]] == 0).all(axis=1)]
        rows = rows[rows.norm == self.p.norms[0]]
        means = _by_group(rows, ["depth", "angle"]).rename(columns={"depth": "layers"})
        variation = means["quadratic variation"].where(means["quadratic variation"] > 0)
        return means.assign(
            angle=[f"{radians:.2f}" for radians in means.angle],
            bridge=(4 * means["squared mid-path deflection"] / variation) ** 0.5,
            straightness=(means["squared chord deviation"] / means["squared change"]) ** 0.5,
        )

    @property
    def here(self) -> pd.DataFrame:
        """Those whose angle is nearest to a right one."""
        return self.groups[self.groups.angle == f"{right_angle(self.p):.2f}"]

    @property
    def bridge(self) -> Estimate:
        """Bridge estimate over gap deviation of the deepest networks, by mean squares."""
        ratios = self.here[self.here.layers == self.deepest].bridge.dropna()
        if ratios.empty:
            return NONE
        return mean_interval(ratios**2).map(lambda square: math.sqrt(max(square, 0)))

    @property
    def expected(self) -> float:
        """The same by theory."""
        return float(self.predicted(self.deepest).bridge_ratio[self.at])

    @property
    def depths(self) -> range:
        """Depths of the lines of theory."""
        return range(1, 2 * self.deepest + 1)

    def predicted(self, depth: int, width: int = 2) -> theory.Prediction:
        """Theory of plain networks, by angle; the width matters to single gaps alone."""
        return theory.at_initialisation(plain(self.p, width, depth), self.pairs)

    def curves(self, column: str, of: Callable[[int], Tensor]) -> pd.DataFrame:
        """What theory says at every depth and angle."""
        rows = [
            {"layers": depth, "angle": f"{angle:.2f}", column: float(x)}
            for depth in self.depths
            for angle, x in zip(self.p.angles, of(depth), strict=True)
        ]
        return pd.DataFrame(rows)

    def shares(self, depth: int) -> list[Estimate]:
        """Sums over pairs of gaps within and across layers and of both, over expected variation."""
        rows = self.here[self.here.layers == depth]
        within, across = rows["within layers"], rows["across layers"]
        total = float(self.predicted(depth).quadratic_variation[self.at])
        return [mean_interval(x / total) for x in (within, across, within + across)]

    def straightness(self, depth: int) -> Tensor:
        """Distance from the chord in the middle over the change, root mean squares, by angle."""
        net, half = plain(self.p, 2, depth), torch.tensor([0.5])
        first, last, both = (theory.output_covariance(net, self.pairs, s, t) for s, t in ENDS)
        change = (first + last - 2 * both).sqrt()
        return theory.chord_deviation(net, self.pairs, half)[:, 0] / change

    @cached_property
    def by_width(self) -> pd.DataFrame:
        """Gap deviation and deflection per unit length, of groups with gaps."""
        rows = _by_group(self.widths, ["width"])
        rows = rows[rows["quadratic variation"] > 0]
        variation = rows["quadratic variation"]
        gap, deflection = (variation / rows.switches) ** 0.5, variation**0.5 / 2
        return rows.assign(deflection=deflection / self.length, gap_deviation=gap / self.length)

    @cached_property
    def small(self) -> pd.DataFrame:
        """Narrow networks: measured beside predicted, also to first order in 1/width."""
        p, rows = self.p, _pooled(self.narrow, "depth")
        rows["quantity"] = rows.quantity.replace("slope product", LIMIT)
        turned = experiment.Config(1, 1, _turns(p), p.norms[:1], 2, 0, inputs=p.inputs).pairs
        net = plain(p, p.narrow, p.middle)
        better = theory.slope_covariance(net, turned, *ENDS[2], corrected=True)
        refined = rows[rows.quantity == LIMIT].assign(quantity=REFINED, predicted=better.numpy())
        return pd.concat([rows, _with_z(refined)], ignore_index=True)


def _by_group(rows: pd.DataFrame, of: list[str]) -> pd.DataFrame:
    """One row for each group, which `seed` numbers, with its quantities as columns."""
    means = rows.pivot(index=[*of, "seed"], columns="quantity", values="mean").reset_index()
    return means.assign(seed=means.groupby(of).seed.rank())


def _pooled(rows: pd.DataFrame, setting: str) -> pd.DataFrame:
    """Groups of equal size as one: mean, standard error and prediction, with z."""

    def error(several: pd.Series) -> float:
        return float(np.sqrt((several**2).sum()) / len(several))

    by = rows.dropna(subset="predicted").groupby([setting, "quantity", "angle", "norm"], sort=False)
    columns: Any = {"mean": ("mean", "mean"), "sem": ("sem", error)}
    columns |= {"predicted": ("predicted", "mean"), "error": ("error", error)}
    return _with_z(by.agg(**columns).reset_index())


def _with_z(rows: pd.DataFrame) -> pd.DataFrame:
    """Standard errors between measured and predicted; missing if all networks are alike."""
    spread = (rows["sem"] ** 2 + rows.error**2) ** 0.5
    return rows.assign(z=(rows["mean"] - rows.predicted) / spread.where(rows["sem"] > 0))


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    tables = tables_of(grids(p))
    return Found(p, tables["settings"], tables["narrow"], tables["widths"])
