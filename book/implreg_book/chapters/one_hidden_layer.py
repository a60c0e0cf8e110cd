"""Chapter "One hidden layer": closed forms of random networks, and random networks."""

import math
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product

import numpy as np
import pandas as pd
import torch
from pandas.io.formats.style import Styler
from scipy import stats
from torch import Tensor

from implreg import theory
from implreg.figures import Figure, show, style
from implreg.figures.display import CATEGORIES, MUTED, new_figure
from implreg.networks import mlp
from implreg.tracing import trace
from implreg_book import figures
from implreg_book.chapters import protocols
from implreg_book.chapters.missing import nothing_to_draw
from implreg_book.evidence import claims, rules
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.statistics import NONE, Estimate, mean_interval
from implreg_book.experiments import one_hidden_layer as experiment
from implreg_book.parameters.one_hidden_layer import Parameters
from implreg_book.protocol import Aspects
from implreg_book.runs.grids import Grid, Grids, tables_of

_SETTING = ["depth", "angle", "norm", "sigma_b"]
_SILENT = "No network of the random walk has enough switches on its paths."
_ROUNDING = 1e-9  # a share of the variance below which two ways to compute it differ by rounding
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SHOWN = 5  # networks


def grids(p: Parameters) -> Grids:
    """Networks of each setting, each its own, and walks of each depth."""
    every = enumerate(product(p.depths, p.angles, p.norms, p.sigma_bs))
    sides, path = (p.inputs, p.outputs), (p.walk_angle, p.walk_norm, p.pairs)
    settings = [
        experiment.Config(L, p.width, angle, r, p.networks, p.seed + i * p.networks, b, *sides)
        for i, (L, angle, r, b) in every
    ]
    walks = {
        L: [experiment.Walk(L, n, *path, p.seed + i, 0.0, *sides) for i in range(p.walks)]
        for L, n in _walkers(p).items()
    }
    deeper = [config for L, configs in walks.items() if L > 1 for config in configs]
    made = {
        "settings": Grid(experiment.run, settings, "settings"),
        "walks": Grid(experiment.walk, walks[1], "walks"),
    }
    return made | ({"deeper": Grid(experiment.walk, deeper, "walks")} if deeper else {})


def protocol(p: Parameters) -> Aspects:
    """What these runs have of the aspects of a protocol."""
    return {
        "data sets": f"random directions in {p.inputs:,} dimensions",
        **protocols.of_perceptrons([p.width], p.networks, p.depths),
        **protocols.TRACED,
        "pairs": 1,
    }


def _walkers(p: Parameters) -> dict[int, int]:
    """Widths of the networks of the random walk, by depth."""
    return {1: p.walk_width} | {depth: p.width for depth in p.depths if depth > 1}


@dataclass(frozen=True)
class Found:
    """What the runs have found; see `implreg_book.experiments.one_hidden_layer` for the tables.

    Attributes:
        p: the parameters.
        table: networks of all settings, from `run`.
        walks: networks of all depths, from `walk`.
    """

    p: Parameters
    table: pd.DataFrame
    walks: pd.DataFrame

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Mean over networks and prediction, with z; it is missing if all networks are alike."""
        groups = self.table.groupby([*_SETTING, "quantity"], sort=False)
        found = groups.measured.agg(["mean", "sem"]).join(groups.predicted.first()).reset_index()
        spread = found["sem"].where(found["sem"] > 0)
        return found.assign(z=(found["mean"] - found.predicted) / spread)

    @property
    def checked(self) -> pd.DataFrame:
        """Those with a z."""
        return self.scores.dropna(subset="z").reset_index(drop=True)

    def walk(self, quantity: str, x: str) -> pd.DataFrame:
        """One quantity of the networks with one hidden layer, against x."""
        rows = self.walks[(self.walks.depth == 1) & (self.walks.quantity == quantity)]
        return rows.rename(columns={"at": x, "measured": quantity})

    def bridge(self, depth: int) -> Estimate:
        """Bridge estimate over gap deviation in mid-path, by mean squares."""
        rows = self.walks.query("depth == @depth and quantity == 'bridge curve' and at == 0.5")
        if rows.empty:
            return NONE
        return mean_interval(rows.measured**2).map(lambda square: math.sqrt(max(square, 0)))

    @property
    def wide(self) -> torch.nn.Module:
        """One of these networks."""
        return mlp(self.p.inputs, self.p.walk_width, 1, seed=self.p.seed)

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """One of their pairs."""
        p = self.p
        return experiment.Config(1, 1, p.walk_angle, p.walk_norm, 2, 0, inputs=p.inputs).pair

    def sizes(self, t: list[float]) -> list[float]:
        """Mean squared gaps at positions t, by theory."""
        at = torch.tensor(t, dtype=torch.float64)
        expected: list[float] = theory.gap_variance(self.wide, self.pair, at)[0, 0].tolist()
        return expected

    @property
    def agreement(self) -> Estimate:
        """Squared gaps, measured over predicted, averaged over the bins of t that have any."""
        rows = self.walk("squared gap", "t")
        if rows.empty:
            return NONE
        both = rows.assign(predicted=self.sizes(rows.t.tolist())).groupby("seed")
        sums = both[["squared gap", "predicted"]].sum()
        return mean_interval(sums["squared gap"] / sums.predicted)

    @property
    def clock(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions t, the angle from the first sample there, and v(t), by theory."""
        x0, x1 = self.pair
        t = torch.linspace(0, 1, 201, dtype=torch.float64)[1:]
        along = x0 + t[:, None] * (x1 - x0)
        part = theory.at_initialisation(self.wide, (x0.expand_as(along), along))
        angle = part.switches * math.pi / self.p.walk_width
        columns = (t, angle, part.quadratic_variation / t**2)
        first, second, third = (np.append(0, column) for column in columns)
        return first, second, third

    @property
    def off(self) -> float:
        """Largest difference of two ways to compute the covariance of slopes, over the variance."""
        steps = torch.linspace(0, 1, 12, dtype=torch.float64)
        s, t = torch.combinations(steps).unbind(dim=1)
        x0, x1 = self.pair
        points = (x0 + s[:, None] * (x1 - x0), x0 + t[:, None] * (x1 - x0))
        between = theory.at_initialisation(self.wide, points).quadratic_variation / (t - s) ** 2
        variance = float((x1 - x0).square().sum()) / self.p.inputs  # as h and sigma_o are 1
        ends = (x0.expand(len(s), -1), x1.expand(len(s), -1))
        kernel = theory.slope_covariance(self.wide, ends, s, t)
        return float((kernel - (variance - between / 2)).abs().max()) / variance


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    tables = tables_of(grids(p))
    return Found(p, tables.pop("settings"), pd.concat(tables.values(), ignore_index=True))


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p, bridge, z = found.p, found.bridge(1), found.checked.z.abs()
    count, without = len(z), len(found.scores) - len(z)
    off = math.ceil(math.log10(max(found.off, 1e-16)))
    told: dict[str, object] = {
        "networks": f"{p.networks:,}",
        "width": f"{p.width:,}",
        "walks": f"{p.walks:,}",
        "walk-width": f"{p.walk_width:,}",
        "walk-angle": f"{p.walk_angle:g}",
        "walk-norm": f"{p.walk_norm:g}",
        "pairs": p.pairs,
        "settings": len(found.table.groupby(_SETTING)),
        "scores": f"{count:,}",
        "without": f" ({without:,} more: no z, as all their networks are alike)" * (without > 0),
        "rms": f"{math.sqrt((z**2).mean()):.2f}" if count else "no",
        "worst": f"{z.max():.2f}" if count else "none",
        "worst-null": f"{stats.norm.isf((1 - 0.5 ** (1 / max(count, 1))) / 2):.2f}",
        "gap-agreement": f"{found.agreement:.3f}",
        "kernel": "10" + str(off).translate(_SUPERSCRIPT),
        "rounding": ": rounding" * (found.off < _ROUNDING),
        "bridge": f"{bridge:.3f}",
        "within": rules.WITHIN,
        "edge": "that of this page " + ("contains it" if 1 in bridge else "does not contain it")
        if bridge.n > 1
        else "on this page there is none",
    }
    for bound in (2, 3):
        told[f"beyond-{bound}"] = f"{int((z > bound).sum()):,}"
        told[f"beyond-{bound}-null"] = f"{2 * stats.norm.sf(bound) * count:.1f}"
    return told


def check(quantity: str, found: Found) -> Styler:
    """Measured over predicted, with z in brackets, in every setting."""
    rows = found.scores[found.scores.quantity == quantity].rename(columns={"depth": "layers"})
    cells = zip(rows["mean"] / rows.predicted, rows.z, strict=True)
    rows["cell"] = [
        f"{q:.4f} ({'no z' if math.isnan(z) else f'{z:+.1f}'})".replace("-", "−") for q, z in cells
    ]
    rows["case"] = [
        f"norms 1 : {r:g}, biases {b:g}" for r, b in zip(rows.norm, rows.sigma_b, strict=True)
    ]
    shown = rows.pivot(index=["layers", "angle"], columns="case", values="cell")
    shown = shown.reset_index().rename_axis(columns=None)
    return shown.style.hide(axis="index").format(precision=2)


def z_figure(found: Found) -> Figure:
    """Every z."""
    rows = found.checked
    if rows.empty:
        return nothing_to_draw("In every setting all networks are alike.")
    cases = [
        f"{L} layer{'s' * (L > 1)}, 1 : {r:g}, biases {b:g}"
        for L, r, b in zip(rows.depth, rows.norm, rows.sigma_b, strict=True)
    ]
    return figures.plot_z(rows.assign(case=cases), by="quantity")


def gaps_figure(found: Found) -> Figure:
    """Mean squared gap against position."""
    rows = found.walk("squared gap", "t")
    if rows.empty:
        return nothing_to_draw(_SILENT)
    t = sorted(rows.t.unique())
    return figures.plot_against(
        rows,
        "t",
        "squared gap",
        theory=pd.DataFrame({"t": t, "squared gap": found.sizes(t)}),
        xlabel="position t on the path",
        ylabel="mean squared gap",
    )


def walk_figure(found: Found) -> Figure:
    """Slopes of a few networks against the angle, with theory's band."""
    p, (grid, angle, clock) = found.p, found.clock
    degrees, half = np.degrees(angle), math.sqrt(clock[-1]) / 2
    inside = []
    with style():
        canvas = new_figure(3.4)
        panels = canvas.subplots(1, 2, sharey=True)
        for i in range(_SHOWN):
            path = trace(mlp(p.inputs, p.walk_width, 1, seed=p.seed + i), found.pair)
            slope = np.repeat(path.slopes[:, 0].numpy(), 2)
            ends = np.concatenate([[0], np.repeat(path.t.numpy(), 2), [1]])
            at, centre = np.interp(ends, grid, degrees), (slope[0] + slope[-1]) / 2
            for panel, reference in zip(panels, (slope[0], centre), strict=True):
                panel.plot(at, slope - reference, color=CATEGORIES[i], linewidth=1.3)
            inside.append(np.mean(np.abs(slope - centre) < half))
        spreads = (np.sqrt(clock), np.full(len(clock), half))
        for panel, letter, spread in zip(panels, "ab", spreads, strict=True):
            panel.fill_between(degrees, -spread, spread, color=MUTED, alpha=0.22, linewidth=0)
            panel.set_title(letter, loc="left", fontweight="bold")
            panel.set_xlabel("angle from the first sample (°)")
        panels[0].set_ylabel("slope − reference")
    return show(
        canvas,
        alt=f"Slopes of {_SHOWN} networks with {p.walk_width:,} hidden units against the angle "
        f"from the first sample, 0 to {degrees[-1]:.0f} degrees, and bands. Panel a, from the "
        f"slope at the start: the band widens to plus or minus {2 * half:.2f}. Panel b, from the "
        f"mean of the end slopes: a band of constant half-width {half:.2f}; slopes lie within it "
        f"for {100 * np.mean(inside):.0f} % of the way.",
    )


def lags_figure(found: Found) -> Figure:
    """Variance ratio and correlation against the number of switches between."""
    both = ["seed", "lag"]
    correlation = found.walk("gap correlation", "lag")[[*both, "gap correlation"]]
    lags = found.walk("variance ratio", "lag").merge(correlation, on=both)
    if lags.empty:
        return nothing_to_draw(_SILENT)
    _, angle, clock = found.clock
    switches = found.p.walk_width * angle[-1] / math.pi

    def uncorrelated(lag: int) -> float:
        """Mean growth of the clock v over `lag` switches, uniform in the angle."""
        share = min(lag / switches, 1)
        start = np.linspace(0, 1 - share, 400)
        here, there = (np.interp(x * angle[-1], angle, clock) for x in (start, start + share))
        return float((there - here).mean() / (share * clock[-1]))

    at = sorted(lags.lag.unique())
    line = pd.DataFrame(
        {"lag": at, "variance ratio": map(uncorrelated, at), "gap correlation": 0.0}
    )
    return figures.plot_against(
        lags,
        "lag",
        ["variance ratio", "gap correlation"],
        theory=line,
        log="x",
        xlabel="switches between, k",
    )


def bridge_figure(found: Found) -> Figure:
    """Bridge estimate for a split after any share of the switches."""
    split = found.walk("bridge curve", "share")
    if split.empty:
        return nothing_to_draw(_SILENT)
    return figures.plot_against(
        split,
        "share",
        "bridge curve",
        theory=pd.DataFrame({"share": [0.0, 1.0], "bridge curve": 1.0}),
        xlabel="share of the switches before the split",
        ylabel=r"$\sigma_\mathrm{bridge} / \sigma_\mathrm{gap}$",
    )


def deeper(found: Found) -> Styler:
    """The bridge ratio of all depths."""
    rows = []
    for depth, width in _walkers(found.p).items():
        net = mlp(found.p.inputs, *[width] * depth, 1, seed=found.p.seed)
        ratio = float(theory.at_initialisation(net, found.pair).bridge_ratio)
        rows.append((depth, width, f"{found.bridge(depth):.3f}", f"{ratio:.3f}"))
    names = ["hidden layers", "width", "measured [95 % interval]", "predicted"]
    return pd.DataFrame(rows, columns=names).style.hide(axis="index")


def verdicts(found: Found) -> dict[str, Verdict]:
    """What follows for the random walk."""
    p, bridge = found.p, found.bridge(1)
    scope = (
        f"random pairs at an angle of {p.walk_angle:g}, norms 1 : {p.walk_norm:g}, one hidden "
        f"layer of {p.walk_width:,} units, at initialisation"
    )
    if not bridge.n:
        return {"C5": claims.not_tested("C5", _SILENT, scope=scope)}
    return {"C5": claims.random_walk_bridge(bridge, scope=scope)}


FIGURES = {
    "z": z_figure,
    "gaps": gaps_figure,
    "walk": walk_figure,
    "lags": lags_figure,
    "bridge": bridge_figure,
}
TABLES = {
    "switches": partial(check, "switches"),
    "variation": partial(check, "quadratic variation"),
    "deflection": partial(check, "squared mid-path deflection"),
    "deeper": deeper,
}
