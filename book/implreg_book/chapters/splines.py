"""Runs of the chapter "One dimension", and what they say of its hypotheses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.interpolate import CubicSpline

from implreg.theory.splines import Start, kernel_spline
from implreg_book.chapters.missing import mean
from implreg_book.evidence import rules
from implreg_book.evidence.hypotheses import Expectation
from implreg_book.evidence.rules import SAME, Outcome
from implreg_book.evidence.statistics import NONE, Estimate, power_law, ratio
from implreg_book.experiments import one_dimension as experiment
from implreg_book.parameters.one_dimension import Parameters
from implreg_book.runs.grids import Grid, Grids, tables_of

_FIXED = 10.0  # scale, where output weights alone are trained: of the steps' length, nothing else
_NAMES = {"uniform": "uniform", "gaussian": "Gaussian"}
STARTS = tuple(_NAMES.values())
DRAWN = ("uniform start", "Gaussian start", "small scale", "small scale, same sign", "large scale")
TESTS = 10  # expectations of all hypotheses together
NEAR = 0.9  # share of the variation near the samples, where the knots are these
_BENDS = {"alternating": "y", "same sign": "y_same"}


@dataclass(frozen=True)
class Found:
    """What the runs have found.

    Attributes:
        p: the parameters.
        output: one row for each network whose output weights alone were trained; `start` is
            "uniform", "Gaussian" or, with random output weights, "random".
        again: the same networks, but those with random output weights, solved.
        solved: other ones, solved.
        every: networks all of whose weights were trained; `bends` is "alternating" or "same sign".
        curves: some networks along the samples; `name` is that of their panel.
    """

    p: Parameters
    output: pd.DataFrame
    again: pd.DataFrame
    solved: pd.DataFrame
    every: pd.DataFrame
    curves: pd.DataFrame

    def of(self, start: str, width: int | None = None) -> pd.DataFrame:
        """Networks with a start whose loss is finite, at one width or at all."""
        rows = self.output[(self.output.start == start) & self.output.variation.notna()]
        return rows if width is None else rows[rows.width == width]

    def by_width(self, start: str, column: str) -> pd.DataFrame:
        """A measure by seed and width, of the seeds that have it above 0 at every width."""
        table = self.of(start).pivot(index="seed", columns="width", values=column)
        table = table.reindex(columns=sorted(self.p.widths))
        return table.where(table > 0).dropna()

    def exponent(self, start: str, column: str) -> Estimate:
        """Power of the width of a measure, of the seeds that have it at every width."""
        table = self.by_width(start, column)
        long = table.melt(ignore_index=False, value_name=column).reset_index()
        return power_law(long, "width", column) if len(table) else NONE

    def at(self, bends: str, scale: float) -> pd.DataFrame:
        """Networks all of whose weights were trained, on some data and from some scale."""
        return self.every[(self.every.bends == bends) & (self.every.scale == scale)]

    def solved_apart(self) -> pd.Series:
        """Of each trained network that arrived, how far its distance is from the solved one's."""
        both = self.output[self.output.reached].merge(
            self.again, on=["start", "width", "network"], suffixes=("", "_solved")
        )
        return (both.to_limit / both.to_limit_solved - 1).abs()


@dataclass(frozen=True)
class Hypothesis:
    """What is expected, and of which networks.

    Attributes:
        expected: of some numbers.
        networks: that they are measured on.
    """

    expected: Sequence[Expectation]
    networks: pd.DataFrame

    def outcomes(self) -> list[Outcome]:
        """Of each expectation; nothing is tested where training did not arrive."""
        if not arrived(self.networks):
            return [Outcome.NOT_TESTED] * len(self.expected)
        return [one.outcome(TESTS) for one in self.expected]

    def outcome(self) -> Outcome:
        """Of all of them together."""
        found = self.outcomes()
        return Outcome.NOT_TESTED if Outcome.NOT_TESTED in found else rules.together(found)


def starts(p: Parameters) -> dict[str, Start]:
    """The two distributions of hidden weights, by name."""
    return {"uniform": Start("uniform", p.reach), "Gaussian": Start("gaussian", p.spread)}


def limits(p: Parameters) -> pd.DataFrame:
    """How far the spline of each start leaves the natural cubic and the linear one, at most."""
    at = np.linspace(p.x[0], p.x[-1], 201)
    others = {
        "from natural cubic spline": CubicSpline(p.x, p.y, bc_type="natural")(at),
        "from linear spline": np.interp(at, p.x, p.y),
    }
    rows = {
        start: {to: float(np.abs(spline(at) - line).max()) for to, line in others.items()}
        for start, spline in ((s, kernel_spline(of, p.x, p.y)) for s, of in starts(p).items())
    }
    return pd.DataFrame(rows).T


def bend_of_limit(p: Parameters) -> float:
    """How far the spline of the uniform start leaves the linear one, at most."""
    return float(limits(p)["from linear spline"].to_numpy()[0])


def drawn(p: Parameters) -> int:
    """Networks of each kind that are drawn: as many as shown, if there are so many."""
    return min(p.shown, p.networks, p.scale_networks)


def grids(p: Parameters) -> Grids:
    """All runs, the longest first; networks are divided into groups, which share a process."""
    uniform, gaussian = (
        experiment.Config(p.x, p.y, start, "output", 1, 1, p.seed, _FIXED, 0.0, p.steps, p.loss)
        for start in starts(p).values()
    )
    loud = replace(uniform, output=1.0)
    free = replace(uniform, trained="all", width=p.units)
    widths, scales = sorted(p.widths, reverse=True), sorted(p.scales, reverse=True)

    def groups(one: experiment.Config, count: int) -> list[experiment.Config]:
        return [
            replace(one, networks=min(p.group, count - done), seed=one.seed + done)
            for done in range(0, count, p.group)
        ]

    kernel = [
        c
        for n in widths
        for one in (uniform, gaussian)
        for c in groups(replace(one, width=n), p.networks)
    ]
    random = [c for n in widths for c in groups(replace(loud, width=n), p.random_networks)]
    other = p.seed + p.networks
    solved = [
        c
        for n in sorted(p.solved_widths, reverse=True)
        for one in (uniform, gaussian)
        for c in groups(replace(one, width=n, seed=other), p.solved)
    ]
    every = {
        bends: [
            c
            for scale in scales
            for c in groups(replace(free, y=getattr(p, data), scale=scale), p.scale_networks)
        ]
        for bends, data in _BENDS.items()
    }
    widest, few = max(widths), drawn(p)
    small = replace(free, scale=p.adaptive_scale, networks=few)
    curves = [
        replace(uniform, width=widest, networks=few),
        replace(gaussian, width=widest, networks=few),
        small,
        replace(small, y=p.y_same),
        replace(small, scale=p.kernel_scale),
    ]
    return {
        "output": Grid(experiment.run, kernel + random, "output weights"),
        "again": Grid(experiment.solve, kernel, "the same, solved"),
        "solved": Grid(experiment.solve, solved, "solved"),
        **{bends: Grid(experiment.run, of, f"all, {bends}") for bends, of in every.items()},
        "curves": Grid(experiment.functions, curves, "curves"),
    }


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    tables = tables_of(grids(p))
    for name in ("output", "again", "solved"):
        start = tables[name].kind.map(_NAMES).mask(tables[name].output > 0, "random")
        tables[name] = tables[name].assign(start=start, seed=tables[name].network)
    every = pd.concat([tables.pop(bends).assign(bends=bends) for bends in _BENDS])
    curves = tables.pop("curves")
    curves["name"] = np.repeat(DRAWN, len(curves) // len(DRAWN))
    return Found(p, **tables, every=every.assign(seed=every.network), curves=curves)


def arrived(networks: pd.DataFrame) -> bool:
    """Whether enough networks reached the training loss for what is said of trained ones."""
    return rules.trained(~networks.reached)


def over(above: pd.Series, below: pd.Series) -> Estimate:
    """Ratio of two columns, by network, over those that have both above 0."""
    both = pd.concat([above, below], axis=1, keys=["above", "below"], join="inner")
    both = both[(both > 0).all(axis=1)]
    return ratio(both.above, both.below) if len(both) else NONE


def hypotheses(found: Found) -> dict[str, Hypothesis]:
    """What the chapter expects, by the names that it has there."""
    p = found.p
    lazy, rich = (found.at("alternating", s) for s in (p.kernel_scale, p.adaptive_scale))
    same = found.at("same sign", p.adaptive_scale)
    silent = found.output[found.output.start != "random"]
    chords = found.of("uniform", max(p.widths)).from_chords
    limit = pd.Series(bend_of_limit(p), chords.index)
    powers = [(f"exponent of the distance, {s}", found.exponent(s, "to_limit")) for s in STARTS]
    large, small = (
        (f"cubic / linear distance at scale {scale:g}", over(rows.to_limit, rows.to_linear))
        for scale, rows in ((p.kernel_scale, lazy), (p.adaptive_scale, rich))
    )
    (varies, near), (varies_same, near_same) = (
        (("total variation / least", mean(rows.variation_ratio)),
         ("share near samples", mean(rows.near)))
        for rows in (rich, same)
    )  # fmt: skip
    gaps = "exponent of the gap deviation", found.exponent("uniform", "gap_deviation")
    bent = "distance from chords / that of the limit", over(chords, limit)
    of = Expectation
    return {
        "H1": Hypothesis([of(*power, -0.6, -0.4) for power in powers], silent),
        "H2": Hypothesis(
            [of(*large, high=1, ratio=True), of(*small, low=1, ratio=True)],
            pd.concat([lazy, rich]),
        ),
        "H3": Hypothesis([of(*varies, 0.95, 1.05), of(*near, low=NEAR)], rich),
        "H4": Hypothesis([of(*varies_same, 0.95, 1.05), of(*near_same, high=NEAR)], same),
        "H5": Hypothesis(
            [of(*gaps, high=0), of(*bent, 1 / SAME, SAME, ratio=True)],
            silent[silent.start == "uniform"],
        ),
    }
