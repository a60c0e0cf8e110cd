"""Chapter "Where it fails": trained networks on pairs of several kinds, and off the data."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pandas as pd

from implreg.figures import Figure
from implreg.training import SGD
from implreg_book import figures
from implreg_book.chapters.missing import NOT_TESTED, instead, mean, paired, told
from implreg_book.evidence import rules, words
from implreg_book.evidence.rules import Outcome
from implreg_book.evidence.statistics import Estimate
from implreg_book.experiments import limits
from implreg_book.parameters.where_it_fails import Parameters

Tests = dict[str, tuple[str, Estimate]]

KINDS = ("same", "different", "nearest", "farthest")
BRIDGE, MARGIN = "bridge estimate / gap deviation", "fluctuation / edge margin"
RELATIVE, CURVATURE = "fluctuation / output change", "curvature per unit length"
COMMON = f"{BRIDGE}, different without the common shape"
MIRROR, MIDDLE = "slope at the boundary over mirror image", "slope at the boundary over middle"
_MEASURES = {BRIDGE: "bridge_ratio", MARGIN: "straightness"}
_OFF = {RELATIVE: "relative", CURVATURE: "curvature"}
_ROLES = ("start", "end", "other")
_PLACES = {0.0: "boundary", 1.0: "middle", 2.0: "mirror"}


def groups(count: int, size: int = 5) -> list[tuple[int, ...]]:
    """Seeds 0, 1, ... in groups that train side by side.

    >>> groups(7)
    [(0, 1, 2, 3, 4), (5, 6)]
    """
    return [tuple(range(count))[i : i + size] for i in range(0, count, size)]


def configs(p: Parameters) -> list[limits.Config]:
    """The networks of the first two sections."""
    sgd = SGD(p.learning_rate, epochs=p.epochs, batch=p.batch, warmup_epochs=p.warmup_epochs)
    return [
        limits.Config(p.dataset, p.train, p.width, seeds, sgd, p.pairs) for seeds in groups(p.seeds)
    ]


@dataclass(frozen=True)
class Networks:
    """What the networks of the first two sections do.

    Attributes:
        p: the parameters.
        table: see `implreg_book.experiments.limits.run`.
    """

    p: Parameters
    table: pd.DataFrame

    @cached_property
    def why(self) -> str:
        """Why nothing is said of trained networks; "" if they have learned.

        Their edge margin tells: on the farthest pairs it becomes positive, as a mean, when some 20
        to 25 % of the training samples are still wrong.
        """
        kinds = self._phase("after").query("group == 'kind'")
        if kinds.empty:
            return "all networks diverged"
        lost = kinds[~(kinds.edge_margin > 0)].seed.nunique()
        networks = kinds.seed.nunique()
        of = words.how_many(lost, networks, "network" + "s" * (networks > 1))
        return f"the edge margin is 0 or less in {of}" if lost else ""

    @cached_property
    def before(self) -> pd.DataFrame:
        """The rows before training."""
        return self._phase("before")

    @cached_property
    def after(self) -> pd.DataFrame:
        """The rows after training, none if it was too little."""
        rows = self._phase("after")
        return rows[:0] if self.why else rows

    def _phase(self, phase: str) -> pd.DataFrame:
        rows = self.table[self.table.phase == phase]
        return rows.assign(
            straightness=rows.fluctuation / rows.edge_margin,
            relative=rows.fluctuation / rows.output_change,
        ).replace([np.inf, -np.inf], np.nan)

    def of(self, group: str, paths: str, column: str, phase: str = "after") -> pd.Series:
        """One quantity of one kind of paths, by seed."""
        rows = self.before if phase == "before" else self.after
        chosen = rows[(rows.group == group) & (rows.paths == paths)]
        return chosen.set_index("seed")[column].sort_index()

    def over(
        self, group: str, above: str, below: str, column: str, phase: str = "after"
    ) -> Estimate:
        """Ratio of two kinds of paths, paired by seed."""
        return paired(*(self.of(group, name, column, phase) for name in (above, below)))

    def kinds(self, column: str, phase: str = "after") -> dict[str, Estimate]:
        """The mean of a quantity for each kind of pairs."""
        return {kind: mean(self.of("kind", kind, column, phase)) for kind in KINDS}

    def angles(self, column: str) -> pd.DataFrame:
        """A positive quantity by seed and angle, a column for each class."""
        rows = self.after[(self.after.group == "angle") & (self.after[column] > 0)]
        wide = rows.pivot(index=["seed", "from_angle"], columns="paths", values=column)
        return wide.reindex(columns=["same", "different"])

    def at_equal_angles(self, column: str) -> pd.Series:
        """Different over same class, geometric mean over the bins that both have, by seed."""
        wide = self.angles(column)
        logs = (wide.different / wide.same).map(math.log).dropna()
        return logs.groupby("seed").mean().map(math.exp)

    @cached_property
    def steepness(self) -> pd.DataFrame:
        """Slopes of the difference of the two outputs in play, by place."""
        return self.after[self.after.group == "boundary"]

    @cached_property
    def slopes(self) -> pd.DataFrame:
        """The same at the boundary, in the middle and at the mirror image, by seed."""
        rows = self.steepness[self.steepness.place.isin(_PLACES)]
        wide = rows.pivot(index="seed", columns="place", values="steepness").rename(columns=_PLACES)
        return wide.reindex(columns=list(_PLACES.values()))

    def tests(self) -> Tests:
        """What we expected of pairs, then of paths off the data."""
        slope, found = self.slopes, dict[str, Estimate]()
        for name, column in _MEASURES.items():
            for above, below in (("different", "same"), ("farthest", "nearest")):
                found[f"{name}, {above} over {below}"] = self.over("kind", above, below, column)
        for name, column in _MEASURES.items():
            equal = f"{name}, different over same at equal angles"
            found[equal] = paired(self.at_equal_angles(column))
        found[COMMON] = paired(self.of("kind", "different", "residual_ratio"))
        found[MIRROR] = paired(slope.boundary, slope.mirror)
        found[MIDDLE] = paired(slope.boundary, slope.middle)
        for name, column in _OFF.items():
            for kind in limits.OFF:
                found[f"{name}, {kind}"] = self.over("off", kind, "between", column)
        return {name: ("near" if name == COMMON else "above", x) for name, x in found.items()}


def unsigned_zero(found: Estimate) -> Estimate:
    """Rounded to two digits, and zero without a minus."""
    return found.map(lambda x: round(x, 2) + 0.0)


def named(outcomes: Mapping[str, Outcome], outcome: Outcome) -> str:
    """Names of the tests with an outcome."""
    if set(outcomes.values()) == {Outcome.NOT_TESTED}:
        return NOT_TESTED
    return ", ".join(name for name, found in outcomes.items() if found is outcome) or "none"


def numbers(found: Networks, outcomes: Mapping[str, Outcome]) -> dict[str, object]:
    """What the prose says of pairs and of paths off the data."""
    p, lost = found.p, found.p.seeds - found.table[found.table.phase == "after"].seed.nunique()
    bridge, straight = found.kinds("bridge_ratio"), found.kinds("straightness")
    roles = {role: mean(found.of("kind", "different", f"{role}_mean")) for role in _ROLES}
    at_angles = found.angles("bridge_ratio").same.groupby("from_angle").mean()
    used, slopes = found.steepness.groupby("seed").used.first(), found.slopes
    return {
        "within": rules.WITHIN,
        "seeds": p.seeds,
        "diverged": f"{lost} of {p.seeds}",
        "why": f"Nothing is said of trained networks here: {found.why}." if found.why else "",
        "walk-before": _same(found.kinds("bridge_ratio", "before").values()),
        "walk-after": _same(bridge[kind] for kind in KINDS if kind != "different"),
        "same-most": f"{at_angles.max():.2f}" if len(at_angles.dropna()) else NOT_TESTED,
        "equal-angles": told(paired(found.at_equal_angles("bridge_ratio")), ".2f"),
        "straight-equal-angles": told(paired(found.at_equal_angles("straightness")), ".2f"),
        "straight-any-angle": told(found.over("kind", "different", "same", "straightness"), ".2f"),
        "below-margin": _count([rules.smaller(x) for x in straight.values() if x.n]),
        **{f"bridge-{kind}": told(x, ".2f") for kind, x in bridge.items()},
        **{f"straight-{kind}": told(x, ".3f") for kind, x in straight.items()},
        **{role: told(unsigned_zero(x), ".2f") for role, x in roles.items()},
        "residual": told(paired(found.of("kind", "different", "residual_ratio")), ".2f"),
        "near": str(outcomes[COMMON]),
        **{name: told(mean(slopes[name]), ".3f") for name in _PLACES.values()},
        "used": f"{used.sum() / max(1, found.after.seed.nunique()):.0f} of {8 * p.pairs:,}",
        "crossings": f"{found.steepness.crossings.mean():.2f}" if len(used) else NOT_TESTED,
        "boundary-mirror": str(outcomes[MIRROR]),
        "boundary-middle": str(outcomes[MIDDLE]),
        **_sentences(found, roles, outcomes),
        **_off(found, outcomes),
    }


def _count(found: list[bool]) -> str:
    kinds = f"kind{'s' * (len(found) > 1)} of pairs"
    return words.how_many(sum(found), len(found), kinds) if found else f"none ({NOT_TESTED})"


def _same(ratios: Iterable[Estimate]) -> str:
    """Of how many ratios it is shown that they are 1."""
    return _count([x.n > 1 and rules.same(x) for x in ratios if x.n])


def _sentences(
    found: Networks, roles: Mapping[str, Estimate], outcomes: Mapping[str, Outcome]
) -> dict[str, str]:
    """What is concluded of pairs."""
    far, near = (found.of("kind", kind, "bridge_ratio") for kind in ("farthest", "nearest"))
    distance = found.over("kind", "farthest", "nearest", "straightness")
    curved = rules.smaller(roles["start"], 0) and rules.larger(roles["end"], 0)
    walk = outcomes[COMMON] is Outcome.SUPPORTED
    shape = "a random walk around a curve that training has put there" if walk else "something else"
    towards = ", drawn towards the boundary" if outcomes[MIRROR] is Outcome.SUPPORTED else ""
    return {
        "matters": words.by_sign(
            paired(found.at_equal_angles("bridge_ratio"), far / near),
            of=1.0,
            above="So the class matters more than the distance.",
            below="So the distance matters more than the class.",
            unclear="Which matters more, the class or the distance, is not decided.",
        ),
        "grows": words.by_ratio(
            distance, larger="grows", smaller="falls", same="stays", unclear="may change"
        ),
        "curves": "On average, the output of the start's class falls fastest in the middle of the "
        "path, and that of the end's class rises fastest there: two S-shaped curves."
        if curved
        else "That these are two S-shaped curves is not shown.",
        "made-of": "So a coherent S for the two outputs in play, plus nearly a random walk, is "
        "what a path between classes is made of."
        if curved and walk
        else "",
        "bend-sits": words.by_outcome(
            outcomes[MIDDLE],
            yes="Here the slope is steeper there than in the middle of the path.",
            no=f"Here it is one around the middle of the path{towards}.",
            unclear="Whether it is one is not decided here.",
        ),
        "limit-walk": words.by_outcome(
            rules.equal(mean(found.of("kind", "different", "bridge_ratio"))),
            yes="Here it does one between classes, too.",
            no=f"Between classes it does {shape}. The bridge estimate is then no estimate of the "
            "gap deviation.",
            unclear="Whether it does one between classes is not decided here.",
        ),
    }


def _off(found: Networks, outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """What is said of paths off the data."""
    between, to_noise, noise = (
        found.of("off", kind, "curvature") for kind in ("between", "to noise", "noise")
    )
    change = [
        found.of("off", "between", "output_change", phase)
        / found.of("off", "noise", "output_change", phase)
        for phase in ("after", "before")
    ]
    tests = {
        m: {kind: outcomes[f"{name}, {kind}"] for kind in limits.OFF} for name, m in _OFF.items()
    }
    every = [outcome for of in tests.values() for outcome in of.values()]
    apart = {Outcome.SUPPORTED, Outcome.NOT_SUPPORTED}
    disagree = [kind for kind in limits.OFF if {of[kind] for of in tests.values()} == apart]
    return {
        **{
            f"off-{name}{word}": named(tests[measure], outcome)
            for name, measure in (("", "relative"), ("curvature-", "curvature"))
            for word, outcome in (("more", Outcome.SUPPORTED), ("less", Outcome.NOT_SUPPORTED))
        },
        "off-expected": words.by_outcome(
            rules.together(every),
            yes="So it is as we expected.",
            no="The expectation was too simple.",
            unclear="So the expectation is not decided.",
        ),
        "off-disagree": ", ".join(disagree) or "none",
        "off-noise": told(found.over("off", "noise", "between", "relative"), ".2f"),
        "off-beyond": told(found.over("off", "beyond", "between", "relative"), ".2f"),
        "off-noise-before": told(
            found.over("off", "noise", "between", "relative", "before"), ".2f"
        ),
        "curvature-to-noise": told(paired(to_noise, between), ".2f"),
        "curvature-noise": told(paired(noise, between), ".2f"),
        "kinks": words.by_ratio(
            paired((to_noise * noise) ** 0.5, between),
            same="Kinks hardly know the data: SGD has not made those near the samples fewer or "
            "smaller.",
            larger="Near the samples kinks are fewer or smaller.",
            smaller="Near the samples kinks are more, or larger.",
            unclear="Whether kinks near the samples are fewer or smaller is not decided here.",
        ),
        "change": words.by_sign(
            paired(*change),
            of=1.0,
            above="Training has made the outputs differ between samples, and not as much between "
            "noise.",
            below="Training has made the outputs differ more between noise than between samples.",
            unclear="Whether training has made the outputs differ more between samples than "
            "between noise is not decided here.",
        ),
    }


def angles_figure(found: Networks) -> Figure:
    """Both measures against the angle of the pair, for each class."""
    middles = {low: (low + high) / 2 for low, high in pairwise(configs(found.p)[0].angles)}
    columns = list(_MEASURES.values())
    rows = found.after[found.after.group == "angle"].dropna(subset=columns)
    if rows.empty:
        return instead("pairs by their angle")
    rows = rows.assign(angle=rows.from_angle.map(middles)).rename(columns={"paths": "class"})
    angle, labels = "angle of the pair (rad)", ["bridge / gap deviation", MARGIN]
    return figures.plot_against(rows, "angle", columns, by="class", xlabel=angle, ylabel=labels)


def boundary_figure(found: Networks) -> Figure:
    """The slope along paths between classes."""
    if found.steepness.empty:
        return instead("slopes near the decision boundary")
    place = "place u (0: boundary, 1: middle of the path, 2: mirror image)"
    slope = "slope / slope of the chord"
    return figures.plot_against(found.steepness, "place", "steepness", xlabel=place, ylabel=slope)


def off_figure(found: Networks) -> Figure:
    """Paths between samples and off the data."""
    columns = list(_OFF.values())
    rows = found.after[found.after.group == "off"].dropna(subset=columns)
    if rows.empty:
        return instead("paths off the data")
    return figures.plot_compare(rows, "paths", columns, ylabel=list(_OFF))


def _table(
    found: Networks, group: str, paths: tuple[str, ...], columns: Mapping[str, tuple[str, str, str]]
) -> pd.DataFrame:
    """A row for each kind of paths; of a column its quantity, phase and format are given."""

    def cell(kind: str, column: str, phase: str, spec: str) -> str:
        value = mean(found.of(group, kind, column, phase))
        plain = column in ("angle", "length", "switches") and value.n
        return f"{value.value:{spec}}" if plain else told(value, spec)

    return pd.DataFrame(
        {kind: {name: cell(kind, *of) for name, of in columns.items()} for kind in paths}
    ).T


def kinds_table(found: Networks) -> pd.DataFrame:
    """Measures of each kind of pairs, before and after training."""
    columns = {
        "angle, rad": ("angle", "before", ".2f"),
        "bridge / gap deviation, before": ("bridge_ratio", "before", ".2f"),
        "after": ("bridge_ratio", "after", ".2f"),
        f"{MARGIN}, after": ("straightness", "after", ".3f"),
    }
    return _table(found, "kind", KINDS, columns)


def shape_table(found: Networks) -> pd.DataFrame:
    """The mean bends between classes, and what is left without them."""
    roles = {"start": "output of the start's class", "end": "output of the end's class"}
    labels = {f"{role}_mean": f"mean, {words}" for role, words in roles.items()}
    labels |= {"other_mean": "mean, other outputs", "bridge_ratio": BRIDGE}
    labels |= {"residual_ratio": "the same without these means"}

    def cell(name: str, phase: str) -> str:
        return told(unsigned_zero(mean(found.of("kind", "different", name, phase))), ".2f")

    phases = ("before", "after")
    return pd.DataFrame({x: {of: cell(name, x) for name, of in labels.items()} for x in phases})


def off_table(found: Networks) -> pd.DataFrame:
    """Measures of each kind of paths off the data."""
    columns = {
        "length": ("length", "before", ".1f"),
        "switches": ("switches", "after", ".0f"),
        f"{RELATIVE}, before": ("relative", "before", ".3f"),
        "after": ("relative", "after", ".3f"),
        "curvature, after": ("curvature", "after", ".5f"),
        "bridge / gap deviation, after": ("bridge_ratio", "after", ".2f"),
    }
    return _table(found, "off", ("between", *limits.OFF), columns)
