"""Chapter "From one photograph to another": figure 1 of the paper."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from implreg.figures import Figure, show, style
from implreg.figures.display import CATEGORIES, MUTED
from implreg_book.chapters import long_path as path
from implreg_book.chapters.long_path import protocol as protocol
from implreg_book.chapters.missing import NOT_TESTED, told
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.rules import in_words
from implreg_book.evidence.statistics import NONE, Estimate
from implreg_book.experiments import photographs as experiment
from implreg_book.parameters.photographs import Parameters
from implreg_book.parameters.schema import listed
from implreg_book.runs.grids import Grid, Grids, tables_of

_MEASURES = {
    "gap deviation": "gap_deviation",
    "deflection δ": "deflection",
    "bend in mid-path": "mid_path_deflection",
}


@dataclass(frozen=True)
class Found:
    """What the runs have found.

    Attributes:
        p: the parameters.
        sampled: the large path and that of the network that is trained here, as the program sees
            them; see `implreg_book.experiments.photographs.sampled`.
        windows: the same in short windows; see `implreg_book.experiments.photographs.windows`.
        whole: paths traced from end to end; see `implreg_book.experiments.photographs.whole`.
    """

    p: Parameters
    sampled: pd.DataFrame
    windows: pd.DataFrame
    whole: pd.DataFrame

    @cached_property
    def large(self) -> pd.DataFrame:
        """The large path at the positions that are sampled."""
        return self.sampled[self.sampled.network == self.p.network]

    @cached_property
    def stretches(self) -> pd.DataFrame:
        """The windows of the large path."""
        return self.windows[self.windows.network == self.p.network]

    @cached_property
    def paths(self) -> dict[str, pd.DataFrame]:
        """Every path that is known from end to end, by name."""
        table, network = self.whole, self.p.network
        ours = table[table.network == "here"]
        return {
            f"{n} pixels": table[(table.network == network) & (table.side == n)]
            for n in self.p.whole_sides
        } | {f"ours, {phase}": ours[ours.phase == phase] for phase in ("before", "after")}

    @cached_property
    def chances(self) -> dict[str, pd.DataFrame]:
        """What depends on the order of gaps, beside chance, for each of them."""
        return {name: path.chance(table) for name, table in self.paths.items()}

    @property
    def largest(self) -> str:
        """The name of the largest path of the network of the chapter that is known whole."""
        return f"{max(self.p.whole_sides)} pixels"

    @cached_property
    def total(self) -> Estimate:
        """Switches of the large path."""
        return path.switches(self.stretches)

    @cached_property
    def gap(self) -> Estimate:
        """Gap deviation of the large path."""
        return path.gap_deviation(self.stretches)

    @cached_property
    def each(self) -> pd.DataFrame:
        """One row for each window, with the deviation of its gaps and switches per step."""
        found = path.per_window(self.stretches)
        size = (found.squares / found.switches) ** 0.5
        return found.assign(size=size, per_step=found.density / (self.p.points - 1))

    @cached_property
    def ratios(self) -> dict[int, Estimate]:
        """Variance ratios of the large path in windows, by lag."""
        return path.variance_ratios(self.stretches)

    @cached_property
    def passed(self) -> float:
        """Changes of units that the program sees on the large path."""
        return path.number(self.large, "switches seen", "program")

    @cached_property
    def layers(self) -> pd.DataFrame:
        """Shares of switches and of squared gaps, by the size of the layers' maps."""
        return path.by_group(self.stretches, path.scales())

    def of_large(self, measure: str, way: str) -> float:
        """A measure of the large path at sampled positions, pooled over the outputs kept."""
        kept = path.by_output(self.stretches[self.stretches["at"] == 0], "squares").index
        return path.pooled(self.large, measure, way, kept)


def grids(p: Parameters) -> Grids:
    """The large path sampled and in windows, smaller ones whole; and a network trained here."""
    here = {"train": p.train, "epochs": p.epochs}
    own = experiment.Config("here", p.own_side, p.points, **here)
    start = experiment.Config("here", p.own_side, p.points, train=p.train, epochs=0)
    whole = [experiment.Config(p.network, n, p.points) for n in p.whole_sides]
    windows = [
        experiment.Windows(p.network, p.side, p.points, windows=p.windows, switches=p.switches),
        experiment.Windows("here", p.own_side, p.points, **here, windows=30, switches=20),
    ]
    large = experiment.Config(p.network, p.side, p.points)
    return {
        "sampled": Grid(experiment.sampled, [large, own], "figure 1"),
        "windows": Grid(experiment.windows, windows, "windows"),
        "whole": Grid(experiment.whole, [*whole, start, own], "whole paths"),
    }


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    return Found(p, **tables_of(grids(p)))


def over(above: float, below: float, spec: str = ".2f") -> str:
    """A ratio in figures, or that there is none.

    >>> over(1.0, 2.0), over(1.0, 0.0)
    ('0.50', 'not tested')
    """
    found = above / below if below else np.nan
    return f"{found:{spec}}" if np.isfinite(found) else NOT_TESTED


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _named(found: Found) -> dict[int, str]:
    """The outputs that are largest at an end of the large path, with their names."""
    starts, ends = path.tops(found.large)
    return {k: path.label(found.p.network, k) for k in dict.fromkeys([*starts, *ends])}


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p, total, gap, each = found.p, found.total, found.gap, found.each
    starts, ends = path.tops(found.large)
    straight = path.straight(found.large)
    named = straight[list(_named(found))]
    step = total.value / (p.points - 1)
    check = path.switches(found.windows[found.windows.network == "here"])
    known = path.number(found.paths["ours, after"], "switches")
    lag = max(found.ratios, default=0)
    ratio = found.ratios.get(lag, NONE)
    return {
        "network": f"MobileNetV2, {path.WEIGHTS[p.network]},",
        "weights": path.WEIGHTS[p.network],
        "samples": "photographs" if p.network == "imagenet" else "items of clothing",
        "start": path.label(p.network, next(iter(starts))),
        "end": path.label(p.network, next(iter(ends))),
        "side": p.side,
        "sides": listed([str(side) for side in p.whole_sides]),
        "largest": found.largest,
        "points": f"{p.points:,}",
        "windows": p.windows,
        "switches": p.switches,
        "epochs": p.epochs,
        "step": _count(float(f"{step:.2g}")),
        "thinnest": _count(each.per_step.min()),
        "densest": _count(each.per_step.max()),
        "length": f"{each.length.mean() * (p.points - 1):.2g}",
        "total": f"{total.map(lambda x: x / 1000):,.4g} thousand"
        if total.value >= 10_000
        else f"{total:,.4g}",
        "seen": f"{found.passed:,.0f}",
        "unseen": over(found.passed, total.value),
        "times": _count(total.value / seen) if (seen := each.switches.sum()) else NOT_TESTED,
        "straight-count": f"{straight.sum():,} of {len(straight):,}",
        "named-straight": f"{named.sum()} of {len(named)}",
        "named-brief": path.straightness(named),
        "straight-brief": path.straightness(straight),
        "gap": told(gap.map(lambda x: 1e5 * x), ",.2f"),
        **_extremes(each),
        "merged": over(found.of_large("gap_deviation", "merging"), gap.value),
        "by-program": over(found.of_large("gap_deviation", "program"), gap.value),
        "lag": f"{lag:,}" if lag else "none",
        "ratio": told(ratio, ".2f"),
        "ratio-word": in_words(ratio) if lag else NOT_TESTED,
        "check": f"{check:,.4g}",
        "known": f"{known:,.0f}",
        "check-word": "contains" if known in check else "does not contain",
        **_learned(found),
    }


def _extremes(each: pd.DataFrame) -> dict[str, str]:
    """The smallest and the largest deviation of gaps, and the windows that have them."""
    rows = each.dropna(subset="size").sort_values("size")
    ends = {"gap-least": rows.head(1), "gap-most": rows.tail(1)}
    return {
        name: " ".join(
            f"{1e5 * size:.2g} at t = {t:.3g}" for size, t in end[["size", "start"]].to_numpy()
        )
        or NOT_TESTED
        for name, end in ends.items()
    }


def _learned(found: Found) -> dict[str, str]:
    """What the last section says."""
    delta = found.gap.value * found.total.value**0.5 / 2
    off = {name: estimates(found)[f"{name}, program / exact"].dropna() for name in _MEASURES}
    ends = {name: [f"{x.min():.2f} to {x.max():.2f}"] * bool(len(x)) for name, x in off.items()}
    shares = found.layers.replace(0.0, np.nan).dropna(how="all")
    most = {
        name: f"{100 * shares[column].max():.0f} % at {shares[column].idxmax()}"
        if len(shares)
        else NOT_TESTED
        for name, column in (("most", "switches"), ("most-square", "squares"))
    }
    return {
        "walk": path.verdict(found.chances[found.largest], brief=True),
        "learn-merge": path.merging(found.gap, found.of_large("gap_deviation", "merging")),
        "learn-walk": "; ".join(f"{name}: {path.verdict(x)}" for name, x in found.chances.items()),
        "bend": over(found.of_large("mid_path_deflection", "merging"), delta),
        "bend-whole": f"{found.largest}: {path.shown(found.chances[found.largest], 'bend')}",
        "learn-bend": "".join(ends["bend in mid-path"]) or NOT_TESTED,
        "learn-gap": "".join(ends["gap deviation"]) or NOT_TESTED,
        **most,
    }


def program_figure(found: Found) -> Figure:
    """Figure 1 of the paper."""
    return path.figure_1(found.large, _named(found))


def own_figure(found: Found) -> Figure:
    """The same of the network that is trained here."""
    table = found.sampled[found.sampled.network == "here"]
    first, last = path.tops(table, 1)
    return path.figure_1(table, {k: path.label("here", k) for k in dict.fromkeys([*first, *last])})


def windows_figure(found: Found) -> Figure:
    """Switches in a step of the program, and gap deviations, of all windows."""
    each, mean = found.each, found.total.value / (found.p.points - 1)
    with style():
        fig, panels = plt.subplots(2, 1, figsize=(6.6, 4.6), sharex=True, layout="constrained")
        for i, (values, line, label) in enumerate(
            (
                (each.per_step, mean, "switches\nper step"),
                (each["size"], found.gap.value, "gap\ndeviation"),
            )
        ):
            panels[i].plot(each.start, values, "os"[i], color=CATEGORIES[i])
            panels[i].axhline(line, color=MUTED, linestyle="--")
            panels[i].set_ylabel(label)
            panels[i].set_ylim(bottom=0)
            panels[i].set_title("ab"[i], loc="left", fontweight="bold")
        panels[1].set_xlabel("position t")
    alt = (
        f"Dot plots over the position of {len(each)} windows. Switches per step lie between "
        f"{_count(each.per_step.min())} and {_count(each.per_step.max())}; the mean is "
        f"{_count(mean)}. The gap deviation of all windows together, per unit length: "
    )
    return show(fig, alt=f"{alt}{over(found.gap.value, 1.0, '.3g')}.")


def ratio_figure(found: Found) -> Figure:
    """The variance ratio of the slope against the lag."""
    p, lines = found.p, []
    with style():
        fig, panels = plt.subplots(1, 2, figsize=(6.6, 3.9), sharey=True, layout="constrained")
        for i, (name, chance) in enumerate(found.chances.items()):
            panel, ratio = panels[int(i >= len(p.whole_sides))], chance.dropna()
            ratio = ratio[ratio.measure == "variance_ratio"]
            panel.plot(
                ratio["at"], ratio.exact, marker="os^D"[i % 4], color=CATEGORIES[i], label=name
            )
            panel.fill_between(ratio["at"], ratio.low, ratio.high, color=CATEGORIES[i], alpha=0.15)
            lines += _last(name, ratio["at"], ratio.exact)
        seen = found.large[(found.large.measure == "square") & (found.large["at"] > 0)]
        # Switches, those included that are not seen.
        at = seen["at"].astype(float) * found.total.value / max(found.passed, 1)
        big = pd.Series({lag: x.value for lag, x in found.ratios.items()}, dtype=float)
        there = pd.Series((seen.number / at / found.gap.value**2).to_numpy(float), index=at)
        big = pd.concat([big, there]).dropna()
        panels[0].plot(big.index, big, "--", color=MUTED, label=f"{p.side} pixels, sampled")
        lines += _last(f"{p.side} pixels", big.index, big)
        panels[0].set_ylabel("variance ratio")
        for panel, letter in zip(panels, "ab", strict=True):
            if any(len(line.get_xdata()) for line in panel.lines):
                panel.set_xscale("log")
            panel.set_ylim(bottom=0)
            panel.set_xlabel("lag in switches")
            panel.set_title(letter, loc="left", fontweight="bold")
        fig.legend(loc="outside upper left", ncols=2)
    return show(
        fig, alt=f"Variance ratio against lag; at the largest {'; '.join(lines) or NOT_TESTED}."
    )


def _last(name: str, lags: pd.Series | pd.Index, ratios: pd.Series) -> list[str]:
    """The last point of a line, if there is one."""
    return [f"{name} {y:.2f} at {x:,.0f}" for x, y in zip(lags[-1:], ratios[-1:], strict=False)]


def layers_figure(found: Found) -> Figure:
    """Where switches and squared gaps come from."""
    shares = found.layers.fillna(0.0)
    with style():
        fig, panel = plt.subplots(figsize=(6.6, 3.4), layout="constrained")
        rows = range(len(shares))
        for i, column in enumerate(["switches", "squares"]):
            height = [row + 0.2 * (2 * i - 1) for row in rows]
            panel.barh(height, 100 * shares[column], 0.36, color=CATEGORIES[i], label=column)
        panel.set_yticks(rows, [f"{name} of the side" for name in shares.index])
        panel.invert_yaxis()
        panel.set_xlabel("share of all (%)")
        fig.legend(loc="outside upper left", ncols=2)
    alt = "; ".join(
        f"maps of {name}: {100 * row.switches:.0f} % of switches, "
        f"{100 * row.squares:.0f} % of squares"
        for name, row in shares.iterrows()
    )
    return show(fig, alt=f"Bars. {alt}.")


def walk_table(found: Found) -> pd.DataFrame:
    """Each whole path beside random orders of its own gaps."""
    rows = {
        name: {
            "switches": f"{path.number(found.paths[name], 'switches'):,.0f}",
            "variance over lags": path.verdict(chance),
            "bend in mid-path / δ": path.shown(chance, "bend"),
            "distance from the chord": path.shown(chance, "fluctuation"),
        }
        for name, chance in found.chances.items()
    }
    return pd.DataFrame(rows).T


def estimates(found: Found) -> pd.DataFrame:
    """What the program estimates of each whole path, beside the truth."""
    rows = {}
    for name, table in found.paths.items():
        outputs, true = path.by_output(table, "gap_deviation").index, path.number(table, "switches")
        row = {
            "switches per step": true / (found.p.points - 1),
            "seen": path.number(table, "switches seen", "program") / true if true else np.nan,
        }
        for words, measure in _MEASURES.items():
            truth = path.pooled(table, measure, "exact", outputs)
            row[f"{words}, exact"] = truth
            estimate = path.pooled(table, measure, "program", outputs)
            row[f"{words}, program / exact"] = estimate / truth if truth else np.nan
        rows[name] = row
    return pd.DataFrame(rows).T


def estimates_table(found: Found) -> pd.DataFrame:
    """The same in figures, a column for each path."""
    return estimates(found).T.map(lambda x: f"{x:,.3g}" if np.isfinite(x) else NOT_TESTED)


def verdicts(found: Found) -> dict[str, Verdict]:
    """None: one path is one observation."""
    return {}


FIGURES = {
    "program": program_figure,
    "windows": windows_figure,
    "ratio": ratio_figure,
    "layers": layers_figure,
    "own": own_figure,
}
TABLES = {"walk": walk_table, "estimates": estimates_table}
